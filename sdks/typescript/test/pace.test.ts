/** A client keeps to the server's rate by itself: PROTOCOL.md §7. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../src/client.ts";
import { Pace } from "../src/pace.ts";
import { connected, URL_OF_SERVER } from "./connected.ts";
import { ModelServer } from "./model_server.ts";
import { randomFrom, simulatedWorld } from "./world.ts";

const RATE = { messages_per_second: 20, messages_burst: 40 };

test("half of the burst at once, then one by one; it is full again after a while, and never more", () => {
  const pace = new Pace(RATE);
  const sendable = (now: number) => {
    let messages = 0;
    for (; pace.readyAt(0) <= now; messages += 1) pace.sent(now);
    return messages;
  };
  assert.deepEqual([1_000, 1_049, 1_050, 1_150, 60_000].map(sendable), [20, 0, 1, 2, 20]);
  // What is not held back takes nothing from later when there is nothing.
  for (let sends = 0; sends < 100; sends += 1) pace.sent(60_000);
  assert.deepEqual([pace.readyAt(0), pace.readyAt(19), pace.readyAt(20)], [60_050, 60_050, Infinity]);
});

test("no limits, or none that are any, hold nothing back", () => {
  for (const limits of [{}, { messages_burst: 40 }, { messages_per_second: -1, messages_burst: 40 }, { ...RATE, messages_burst: 0 }]) {
    const pace = new Pace(limits);
    for (let messages = 0; messages < 1_000; messages += 1) pace.sent(5);
    assert.ok(pace.readyAt(1_000) <= 5);
  }
  const least = new Pace({ messages_per_second: 1, messages_burst: 1 });
  assert.deepEqual([least.readyAt(0) <= 5, least.readyAt(1)], [true, Infinity]);
});

test("256 requests at once: nothing is refused, all are answered in their order, at the server's rate", async (context) => {
  const simulation = simulatedWorld();
  const { clock } = simulation;
  const server = new ModelServer(clock, randomFrom(7), Infinity, RATE);
  const client = new Client(URL_OF_SERVER, { world: simulation.world });
  const serve = async (isOver: () => boolean) => {
    while (!isOver()) {
      await clock.advance(10);
      server.poll();
    }
  };
  await clock.advance(0);
  server.accept(simulation.socket);
  let isJoined = false;
  const joining = client.join("r");
  void joining.then(() => (isJoined = true));
  await serve(() => isJoined);
  const seen: unknown[] = [];
  const room = await joining;
  room.onEvent(({ data }) => seen.push(data));
  const began = clock.now();
  const answered: number[] = [];
  const numbers = Array.from({ length: 256 }, (_, number) => number);
  for (const number of numbers) room.request("say", number).then(() => answered.push(number), assert.fail);
  await serve(() => answered.length === numbers.length);
  const took = clock.now() - began;
  context.diagnostic(`${took} ms`);
  assert.equal(server.refused, 0);
  assert.deepEqual([answered, seen], [numbers, numbers]);
  assert.ok(took > 11_000 && took < 13_000, `${took} ms`);
  client.close();
});

test("one that is refused in the middle holds its room until it is answered, and another room goes on", async () => {
  const { simulation, clock, sent, ack, client, join } = await connected({}, { limits: RATE });
  const [room, other] = [await join("r"), await join("other")];
  await clock.advance(1_000);
  const ids = Array.from({ length: 4 }, (_, n) => room.request("say", n).id);
  assert.deepEqual([sent()?.id, sent()?.id, sent()?.id, sent()?.id], ids);
  const refused = (id: string | undefined) =>
    simulation.socket.receive({ event: "error", id, data: { code: "unavailable", message: "", retry_after_ms: 20 } });
  ack(ids[0], {});
  ids.slice(1).forEach(refused);
  const later = room.request("say", 4);
  const elsewhere = other.request("say");
  assert.equal(sent()?.id, elsewhere.id);
  await clock.advance(20);
  assert.equal(sent()?.id, ids[1]);
  await clock.advance(1_000);
  assert.equal(sent(), undefined, "nothing of the room before its answer");
  ack(ids[1], {});
  assert.deepEqual([sent()?.id, sent()], [ids[2], undefined]);
  ack(ids[2], {});
  ack(sent()?.id, {});
  assert.equal(sent()?.id, later.id);
  client.close();
  await Promise.allSettled([later, elsewhere]);
});

test("what is to be sent again, and can't be yet, is waited for without spinning", { timeout: 10_000 }, async () => {
  const { simulation, clock, sent, next, ack, client, join, joined } = await connected({}, { limits: { ...RATE, messages_burst: 2 } });
  const room = await join("r");
  await clock.advance(1_000);
  const asked = [room.request("say", 0), room.request("say", 1), client.request("order")];
  const refuse = (id: string | undefined) =>
    simulation.socket.receive({ event: "error", id, data: { code: "unavailable", message: "", retry_after_ms: 200 } });
  refuse(sent()?.id);
  await clock.advance(150);
  assert.equal(sent()?.id, asked[2]!.id, "one at a time, and this has no answer");
  await clock.advance(1_000);
  simulation.socket.cut();
  await clock.advance(0);
  await next();
  simulation.socket.welcome();
  const resume = sent();
  refuse(resume?.id);
  await clock.advance(1_000);
  ack(sent()?.id, { rooms: { r: joined("r", 0) } });
  assert.deepEqual([sent()?.id, sent()?.id], [asked[0]!.id, asked[2]!.id]);
  refuse(asked[0]!.id);
  simulation.socket.cut();
  await clock.advance(150);
  client.close();
  await Promise.allSettled(asked);
});

test("no more requests than the share are without an answer, a send is never held back, and nor is a resume", async () => {
  const { simulation, clock, sent, next, ack, client, join, joined } = await connected({}, { limits: { ...RATE, messages_burst: 6 } });
  const room = await join("r");
  await clock.advance(10_000);
  const asked = Array.from({ length: 8 }, (_, n) => room.request("say", n));
  const ids = asked.map(({ id }) => id);
  const allSent = () => {
    const all: string[] = [];
    for (let message = sent(); message; message = sent()) all.push(message.id ?? message.event);
    return all;
  };
  assert.deepEqual(allSent(), ids.slice(0, 3));
  await clock.advance(10_000);
  assert.deepEqual(allSent(), [], "three have no answer");
  for (let sends = 0; sends < 5; sends += 1) assert.equal(room.send("typing"), true);
  assert.equal(allSent().length, 5);
  ack(ids[0], {});
  assert.deepEqual(allSent(), [], "and the sends have used up what there was");
  await clock.advance(50);
  assert.deepEqual(allSent(), [ids[3]]);
  simulation.socket.cut();
  await next();
  simulation.socket.welcome({ limits: { messages_per_second: 1, messages_burst: 1 } });
  const resume = sent();
  assert.equal(resume?.event, "session.resume");
  ack(resume?.id, { rooms: { r: joined("r", 0) } });
  assert.deepEqual(allSent(), []);
  await clock.advance(1_000);
  assert.deepEqual(allSent(), [ids[1]], "the bucket was full at the welcome, and the resume took of it");
  client.close();
  await Promise.allSettled(asked);
});
