/** Rooms, requests and presence of one client, by values and moved time: PROTOCOL.md §2, §3 and §7. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { connected } from "./connected.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

test("a request is sent again with its id: after a cut, and when the server says later", async () => {
  const { simulation, clock, sent, next, ack, client, join } = await connected();
  const room = await join("r");
  const [first, second] = [room.request("e", 1), room.request("e", 2)];
  assert.deepEqual([sent()?.id, sent()?.id], [first.id, second.id]);
  simulation.socket.receive({ event: "error", id: first.id, data: { code: "rate_limited", message: "", retry_after_ms: 350 } });
  ack(second.id, "two");
  const third = room.request("e", 3);
  assert.equal(sent(), undefined, "nothing overtakes the one that waits");
  await clock.advance(350);
  assert.deepEqual([sent()?.id, sent()?.id], [first.id, undefined], "nor before it is answered");
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  const resume = sent();
  assert.deepEqual([resume?.event, resume?.data], ["session.resume", { last_event_id: "r@k3f9a1qz.0" }]);
  assert.equal(sent(), undefined, "nothing is sent before the rooms are joined");
  ack(resume?.id, { rooms: { r: { recovery: "complete", last_event_id: "r@k3f9a1qz.0", top: "r@k3f9a1qz.0", members: 1 } } });
  assert.equal(sent()?.id, first.id);
  ack(first.id, "one");
  assert.equal(sent()?.id, third.id);
  simulation.socket.receive({ event: "error", id: third.id, data: { code: "schema", message: "no", pointer: "/x" } });
  assert.deepEqual([await first, await second], ["one", "two"]);
  await assert.rejects(third, { code: "schema", pointer: "/x" });
  assert.equal(client.unsettled.length, 0);
});

test("its own event answers a request whose ack was lost", async () => {
  const { simulation, sent, join, client } = await connected();
  const room = await join("r");
  const request = room.request("e");
  sent();
  simulation.socket.receive({ event: "e", room: "r", id: "r@k3f9a1qz.1", from: "me", re: request.id });
  assert.equal(client.unsettled.length, 1, "the ack may say more");
  simulation.socket.cut();
  assert.deepEqual(await request, { event_id: "r@k3f9a1qz.1" });
});

test("two minutes without an answer: the outcome is unknown", async () => {
  const { clock, client } = await connected();
  const rejected = assert.rejects(client.request("order"), { code: "outcome_unknown" });
  await clock.advance(119_000);
  assert.equal(client.unsettled.length, 1);
  await clock.advance(1_000);
  await rejected;
});

test("what came at once with a join's ack waits for who joined", async () => {
  const { simulation, client, clock, sent, ack, joined } = await connected();
  const seen: unknown[] = [];
  const done = client.join("r").then((room) => room.on("e", ({ data }) => seen.push(data)));
  ack(sent()?.id, joined("r", 0));
  simulation.socket.receive({ event: "e", room: "r", id: "r@k3f9a1qz.1", data: 1 });
  simulation.socket.receive({ event: "e", room: "r", id: "r@k3f9a1qz.2", data: 2 });
  await done;
  await clock.advance(0);
  assert.deepEqual(seen, [1, 2]);
});

test("a join whose answer was lost is sent again, and the room is joined by it", async () => {
  const { simulation, client, clock, sent, next, ack, joined } = await connected();
  const seen: unknown[] = [];
  client.room("r").onEvent(({ data }) => seen.push(data));
  const join = client.join("r", { history: 10 });
  const first = sent();
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  const again = sent();
  assert.deepEqual([again?.id, again?.data], [first?.id, { history: 10 }]);
  ack(again?.id, joined("r", 3));
  assert.equal((await join).isJoined, true);
  await clock.advance(1);
  simulation.socket.receive({ event: "e", room: "r", id: "r@k3f9a1qz.4", data: 4 });
  assert.deepEqual([seen, sent()], [[4], undefined]);
});

test("what was asked of a room while away, before it is joined again, goes behind that join", async () => {
  const { simulation, client, sent, next, ack, join, joined } = await connected();
  const room = await join("r");
  simulation.socket.cut();
  const said = room.request("say");
  const joining = client.join("r");
  const more = room.request("say");
  await next();
  simulation.socket.welcome();
  const again = sent();
  assert.deepEqual([again?.event, sent()], ["room.join", undefined]);
  ack(again?.id, { ...joined("r", 0), recovery: "complete" });
  await joining;
  assert.deepEqual([sent()?.id, sent()?.id], [said.id, more.id]);
  [said, more].forEach(({ id }) => ack(id, {}));
  await new Promise((resolve) => setTimeout(resolve, 0));
});

test("what a listener asks while a welcome is handled goes behind the resume, and so does all that waited", async () => {
  const { simulation, client, sent, next, ack, join, joined } = await connected();
  const room = await join("r");
  simulation.socket.receive({ event: "session.degraded", data: { degraded: true } });
  simulation.socket.cut();
  const said = [room.request("say")];
  const typed: boolean[] = [];
  const ask = () => {
    typed.push(room.send("typing"));
    said.push(room.request("say"));
  };
  client.onState((state) => state === "connected" && ask());
  client.onDegraded(ask);
  client.onRoom(ask);
  await next();
  simulation.socket.welcome({ rooms: ["auto"], last_event_id: "auto@k3f9a1qz.0" });
  const resume = sent();
  assert.deepEqual([resume?.event, sent(), typed], ["session.resume", undefined, [false, false, false]]);
  ack(resume?.id, { rooms: { r: { ...joined("r", 0), recovery: "complete" } } });
  assert.deepEqual(said.map(() => sent()?.id), said.map(({ id }) => id));
  for (const { id } of said) ack(id);
  await Promise.all(said);
});

test("of two joins of a room the first is overdue: the second still joins it", async () => {
  const { simulation, client, clock, sent, next, ack, joined } = await connected();
  const away = async (ms: number) => {
    for (const end = clock.now() + ms; clock.now() < end; await clock.advance(500)) simulation.socket.cut();
  };
  const first = assert.rejects(client.join("r"), { code: "outcome_unknown" });
  await away(60_000);
  const second = client.join("r");
  await away(62_000);
  await first;
  if (simulation.socket.isCut) await next();
  simulation.socket.welcome();
  ack(sent()?.id, joined("r", 5));
  assert.equal((await second).isJoined, true);
});

test("a room whose leave has no answer yet is left, also where the next connection joins it by itself", async () => {
  const auto = { rooms: ["auto"], last_event_id: "auto@k3f9a1qz.1" };
  const { simulation, client, sent, next, ack } = await connected({}, auto);
  const room = client.room("auto");
  const left = room.leave();
  simulation.socket.cut();
  const told: string[] = [];
  client.onRoom(({ name }) => told.push(name));
  await next();
  simulation.socket.welcome(auto);
  const leave = sent();
  assert.deepEqual([leave?.event, room.isJoined], ["room.leave", false]);
  ack(leave?.id);
  await left;
  assert.deepEqual([room.isJoined, told, sent()], [false, [], undefined]);
});

test("presence: the list, then deltas; a hole asks again; a reconnect too", async () => {
  const { simulation, sent, ack, join, next } = await connected();
  const room = await join("r");
  const seen: string[] = [];
  room.presence.onChange((members) => seen.push([...members.keys()].join()));
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  const delta = (change: string, user: string, rev: number) =>
    simulation.socket.receive({ event: `presence.${change}`, room: "r", data: { user, info: null, rev } });
  const list = sent();
  assert.equal(list?.event, "room.members");
  delta("join", "cid", 8);
  ack(list?.id, { members: [{ user: "ann", info: null }], rev: 7, next: "ann" });
  await settle();
  const page = sent();
  assert.deepEqual(page?.data, { after: "ann", limit: 1000 });
  ack(page?.id, { members: [{ user: "bob", info: 1 }], rev: 7 });
  await settle();
  assert.deepEqual(seen, ["ann,bob,cid"]);
  delta("leave", "ann", 9);
  delta("leave", "ann", 9);
  delta("join", "dan", 11);
  assert.deepEqual(seen, ["ann,bob,cid", "bob,cid"]);
  const again = sent();
  assert.equal(again?.event, "room.members", "something was missed");
  ack(again?.id, { members: [{ user: "dan", info: null }], rev: 11 });
  await settle();
  assert.equal(seen.at(-1), "dan");
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  ack(sent()?.id, { rooms: { r: { recovery: "complete", last_event_id: "r@k3f9a1qz.0", top: "r@k3f9a1qz.0", members: 1 } } });
  const after = sent();
  assert.equal(after?.event, "room.members");
  ack(after?.id, { members: [], rev: 1 });
  await settle();
  assert.equal(seen.at(-1), "");
});

test("presence goes on behind a full queue: the client's own question is none of the application's 256", async () => {
  const { simulation, clock, sent, ack, client, join, joined, next } = await connected();
  const room = await join("r");
  const seen: string[] = [];
  room.presence.onChange((members) => seen.push([...members.keys()].join()));
  ack(sent()?.id, { members: [{ user: "ann", info: null }], rev: 1 });
  await clock.advance(1);
  simulation.socket.cut();
  await clock.advance(0);
  const asked = Array.from({ length: 256 }, () => room.request("say"));
  await assert.rejects(room.request("say"), { code: "queue_full" });
  await next();
  simulation.socket.welcome();
  ack(sent()?.id, { rooms: { r: { ...joined("r", 0), recovery: "complete" } } });
  const question = sent();
  assert.equal(question?.event, "room.members");
  ack(question?.id, { members: [{ user: "bob", info: null }], rev: 1 });
  await clock.advance(1);
  assert.deepEqual(seen, ["ann", "bob"]);
  client.close();
  await Promise.allSettled(asked);
});

test("presence asks again, after a moment, when its question fails; not in a room that was left", async () => {
  const { simulation, clock, sent, ack, join } = await connected();
  const room = await join("r");
  const seen: string[] = [];
  room.presence.onChange((members) => seen.push([...members.keys()].join()));
  const fail = async () => {
    const question = sent();
    assert.equal(question?.event, "room.members");
    simulation.socket.receive({ event: "error", id: question?.id, data: { code: "invalid", message: "" } });
    await clock.advance(500);
    assert.equal(sent(), undefined);
  };
  await fail();
  await clock.advance(1_000);
  ack(sent()?.id, { members: [{ user: "ann", info: null }], rev: 1 });
  await clock.advance(1);
  assert.deepEqual(seen, ["ann"]);
  simulation.socket.receive({ event: "presence.join", room: "r", data: { user: "bob", info: null, rev: 9 } });
  await fail();
  simulation.socket.receive({ event: "room.left", room: "r", data: { reason: "removed" } });
  await clock.advance(60_000);
  const others = [];
  for (let message = sent(); message; message = sent()) if (message.event !== "presence.heartbeat") others.push(message);
  assert.deepEqual(others, []);
});

test("presence that is refused asks again after 1 s, 2 s, 3 s … 30 s, and is in nobody's way", async () => {
  const { simulation, clock, sent, ack, join } = await connected();
  const room = await join("r");
  const seen: number[] = [];
  room.presence.onChange((members) => seen.push(members.size));
  const waits: number[] = [];
  let question = sent();
  for (let asked = clock.now(); waits.length < 32; asked = clock.now()) {
    simulation.socket.receive({ event: "error", id: question?.id, data: { code: "forbidden", message: "" } });
    for (question = undefined; question?.event !== "room.members"; question = sent()) {
      if (question?.event === "presence.heartbeat") ack(question.id);
      if (!question) await clock.advance(100);
    }
    waits.push((clock.now() - asked) / 1000);
  }
  assert.deepEqual(waits, Array.from({ length: 32 }, (_, refusals) => Math.min(refusals + 1, 30)));
  simulation.socket.receive({ event: "error", id: question?.id, data: { code: "unavailable", message: "" } });
  const said = room.request("say");
  assert.equal(sent()?.id, said.id);
  ack(said.id);
  await said;
  while ((question = sent())?.event !== "room.members") await clock.advance(1_000);
  ack(question?.id, { members: [{ user: "ann", info: null }], rev: 1 });
  await clock.advance(1);
  assert.deepEqual(seen, [1]);
});

test("presence that is answered without a list is not known, and nothing is thrown", async () => {
  const { simulation, clock, sent, ack, join, joined, next } = await connected();
  const room = await join("r");
  const seen: number[] = [];
  room.presence.onChange((members) => seen.push(members.size));
  ack(sent()?.id, null);
  await clock.advance(1);
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  ack(sent()?.id, { rooms: { r: { ...joined("r", 0), recovery: "complete" } } });
  ack(sent()?.id, { members: [{ user: "ann", info: null }], rev: 1 });
  await clock.advance(1);
  assert.deepEqual(seen, [1]);
});

test("a question that nobody wants answered any more is taken back", async () => {
  const limits = { messages_per_second: 20, messages_burst: 40 };
  const { clock, sent, join } = await connected({}, { limits });
  const room = await join("r");
  for (let times = 0; times < 300; times += 1) room.presence.onChange(() => {})();
  const said = room.request("say");
  said.catch(() => {});
  const began = clock.now();
  for (let message = sent(); message?.id !== said.id; message = sent()) {
    assert.ok(clock.now() - began <= 1_000, `not within ${clock.now() - began} ms`);
    if (!message) await clock.advance(50);
  }
});

test("presence keeps no more than 4,096 changes for a list that does not come: it asks anew", async () => {
  const { simulation, clock, sent, ack, join } = await connected();
  const room = await join("r");
  const seen: number[] = [];
  room.presence.onChange((members) => seen.push(members.size));
  const first = sent();
  const joins = (rev: number) =>
    simulation.socket.receive({ event: "presence.join", room: "r", data: { user: `u${rev}`, info: null, rev } });
  for (let rev = 2; rev <= 4_098; rev += 1) joins(rev);
  const anew = sent();
  assert.deepEqual([anew?.event, sent()], ["room.members", undefined]);
  joins(4_099);
  ack(first?.id, { members: [], rev: 1 });
  ack(anew?.id, { members: [{ user: "ann", info: null }], rev: 4_098 });
  await clock.advance(1);
  assert.deepEqual(seen, [2]);
});

test("presence of a large room: several changes in one message, in any order; a hole asks again", async () => {
  const { simulation, sent, ack, join } = await connected();
  const room = await join("r");
  const seen: string[] = [];
  room.presence.onChange((members) => seen.push([...members].map(([user, info]) => user + (info ?? "")).sort().join()));
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  const changes = (from: number, rev: number, data: object) =>
    simulation.socket.receive({ event: "presence.changes", room: "r", data: { ...data, from, rev } });
  const members = (...users: string[]) => users.map((user) => ({ user, info: null }));
  // While the pages come, ann goes and dan comes behind them, eve comes and goes.
  ack(sent()?.id, { members: members("ann", "bob"), rev: 7, next: "bob", count: 3 });
  await settle();
  changes(6, 9, { joins: members("dan"), leaves: ["ann"] });
  ack(sent()?.id, { members: members("cid", "dan", "eve"), rev: 10, count: 4 });
  await settle();
  assert.deepEqual(seen, ["bob,cid,dan,eve"], "where the first page was, the changes go on");
  changes(10, 12, { leaves: ["eve", "nobody"], updates: [{ user: "bob", info: 1 }] });
  changes(9, 12, { leaves: ["bob"] });
  assert.deepEqual([seen.at(-1), room.presence.count, sent()], ["bob1,cid,dan", 3, undefined]);
  changes(13, 13, { joins: [{ user: "me", info: 2 }] });
  assert.equal(seen.at(-1), "bob1,cid,dan,me2", "one's own change is one like any other");
  changes(15, 18, { leaves: ["bob"] });
  const again = sent();
  assert.equal(again?.event, "room.members", "14 was missed");
  changes(19, 19, { joins: members("fay") });
  changes(22, 22, { joins: members("gus") });
  ack(again?.id, { members: members("cid"), rev: 18 });
  await settle();
  assert.equal(seen.at(-1), "cid,fay");
  const third = sent();
  assert.equal(third?.event, "room.members", "and 20 while it was asked for");
  ack(third?.id, { members: members("cid", "gus"), rev: 22 });
  await settle();
  assert.equal(seen.at(-1), "cid,gus");
});

test("presence of a room that tells only how many: a number, no list, no question", async () => {
  const { simulation, sent, ack, join } = await connected();
  const room = await join("r");
  const seen: [number, number][] = [];
  room.presence.onChange((members) => seen.push([members.size, room.presence.count]));
  const count = (members: number, rev: number) =>
    simulation.socket.receive({ event: "presence.count", room: "r", data: { members, rev } });
  count(5, 3);
  count(9, 7);
  ack(sent()?.id, { members: [], rev: 5, count: 6 });
  await new Promise((resolve) => setImmediate(resolve));
  count(8, 6);
  count(4000, 90);
  assert.deepEqual([seen, sent()], [[[0, 9], [0, 4000]], undefined]);
});

test("rooms that the server joins by itself are followed, and a listener that throws costs nobody else", async (context) => {
  const { simulation, client } = await connected({}, { rooms: ["ch_1"], last_event_id: "ch_1@k3f9a1qz.4" });
  const room = client.room("ch_1");
  assert.deepEqual([room.isJoined, room.lastEventId, client.user], [true, "ch_1@k3f9a1qz.4", "me"]);
  const reported = context.mock.method(console, "error", () => {});
  const seen: unknown[] = [];
  room.on("e", () => {
    throw new Error("a fault of the page");
  });
  room.on("e", ({ data }) => seen.push(data));
  simulation.socket.receive({ event: "e", room: "ch_1", id: "ch_1@k3f9a1qz.5", data: 5 });
  assert.deepEqual([seen, reported.mock.callCount()], [[5], 1]);
});

test("an event that was seen live and comes again in a replay is applied once", async () => {
  const { simulation, client, sent, ack, next, join } = await connected();
  const room = await join("r", 2);
  const seen: (string | null)[] = [];
  room.onEvent(({ id }) => seen.push(id));
  const event = (offset: number) => simulation.socket.receive({ event: "e", room: "r", id: `r@k3f9a1qz.${offset}` });
  [3, 4].forEach(event);
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  // A server may begin a replay before where it was asked to.
  ack(sent()?.id, { rooms: { r: { recovery: "complete", last_event_id: "r@k3f9a1qz.2", top: "r@k3f9a1qz.5", members: 1 } } });
  [3, 4, 5].forEach(event);
  const again = client.join("r");
  assert.deepEqual(sent()?.data, { last_event_id: "r@k3f9a1qz.5" });
  [4, 5].forEach(event);
  assert.deepEqual(seen, [3, 4, 5].map((offset) => `r@k3f9a1qz.${offset}`));
  client.close();
  await assert.rejects(again, { code: "outcome_unknown" });
});

test("the server tells when what rooms are stored in is out of reach; a new connection starts as not", async () => {
  const { simulation, client, next } = await connected();
  const seen: boolean[] = [];
  client.onDegraded((isDegraded) => seen.push(isDegraded));
  const tell = (degraded: unknown) => simulation.socket.receive({ event: "session.degraded", data: { degraded } });
  assert.equal(client.isDegraded, false);
  [true, true, "no", false, true].forEach(tell);
  assert.deepEqual([seen, client.isDegraded], [[true, false, true], true]);
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  assert.deepEqual([seen, client.isDegraded], [[true, false, true, false], false]);
});

test("a page of history has the events as they come over the wire, bytes as bytes", async () => {
  const { sent, ack, join } = await connected();
  const room = await join("r");
  const asked = room.history({ limit: 2 });
  const stored = (offset: number, data: object) => ({ event: "e", room: "r", id: `r@k3f9a1qz.${offset}`, at: 7, ...data });
  const bytes = stored(2, { data: "AP8B", encoding: "base64" });
  const none = [{ event: "e", room: "r", id: "nonsense" }, 3];
  ack(sent()?.id, { events: [stored(1, { data: 1 }), bytes, ...none], next: "r@k3f9a1qz.1" });
  const event = (offset: number, data: unknown) => ({ kind: "event", ...stored(offset, { data }), from: null, re: null });
  assert.deepEqual(await asked, { events: [event(1, 1), event(2, new Uint8Array([0, 255, 1]))], next: "r@k3f9a1qz.1" });
});

test("a network that takes nothing: what nobody waits for is not sent, and not kept", async () => {
  const { simulation, client, join } = await connected();
  const room = await join("r");
  assert.deepEqual([room.send("typing"), client.send("typing")], [true, true]);
  simulation.socket.bufferedAmount = 1024 * 1024 + 1;
  assert.deepEqual([room.send("typing"), client.send("typing"), simulation.socket.sent.length], [false, false, 2]);
  simulation.socket.bufferedAmount = 0;
  assert.equal(room.send("typing"), true);
});

test("what is larger than the server takes is refused here: sent, it would end this connection and the next", async () => {
  const { simulation, client, join, joined, sent, next, ack } = await connected({}, { limits: { text_message_bytes: 120, binary_message_bytes: 120 } });
  const room = await join("r");
  for (const data of ["€".repeat(40), new Uint8Array(120)]) {
    assert.equal(room.send("say", data), false);
    await assert.rejects(room.request("say", data), { code: "too_large" });
  }
  const small = room.request("say", "€".repeat(10));
  assert.equal(sent()?.id, small.id, "and nothing else was sent");
  ack(small.id, 7);
  assert.equal(await small, 7);
  // Nor is what was asked for while there was no connection to know it by.
  simulation.socket.cut();
  const answer = assert.rejects(client.request("order", "x".repeat(120)), { code: "too_large" });
  await next();
  simulation.socket.welcome({ limits: { text_message_bytes: 120 } });
  ack(sent()?.id, { rooms: { r: joined("r", 0) } });
  await answer;
  assert.equal(sent(), undefined);
});

test("rooms whose resume is larger than the server takes are joined again one by one", async () => {
  const { simulation, join, sent, next } = await connected();
  for (const name of ["a", "b", "c", "d"]) await join(name.repeat(40));
  simulation.socket.cut();
  await next();
  simulation.socket.welcome({ limits: { text_message_bytes: 240 } });
  const asked = Array.from({ length: 5 }, () => sent()?.event);
  assert.deepEqual(asked, ["room.join", "room.join", "room.join", "room.join", undefined]);
});

test("a room that was left, and that nobody holds or listens to, is gone; others are the same as before", async () => {
  const { client, clock, sent, ack, joined } = await connected();
  const names = ["gone", "listened", "held", "followed"];
  const seen: string[] = [];
  const held = client.room("held");
  client.room("listened").onEvent(({ event }) => seen.push(event));
  const offs = [client.room("gone").onEvent(() => {})];
  for (const name of names) {
    const joining = client.join(name);
    ack(sent()?.id, joined(name, 0));
    await joining;
    await clock.advance(1);
    if (name === "followed") continue;
    const leaving = client.room(name).leave();
    ack(sent()?.id, {});
    await leaving;
  }
  offs.pop()!();
  const rooms = names.map((name) => new WeakRef(client.room(name)));
  // What a turn has looked at stays for the rest of it.
  await new Promise((resolve) => setTimeout(resolve, 0));
  collectGarbage();
  assert.deepEqual(rooms.map((room) => room.deref()?.name), [undefined, "listened", "held", "followed"]);
  assert.equal(client.room("held"), held);
  assert.equal(client.room("gone").lastEventId, null);
});

test("presence that nobody listens to is not kept: who listens later asks again", async () => {
  const { simulation, sent, ack, join } = await connected();
  const room = await join("r");
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  const off = room.presence.onChange(() => {});
  ack(sent()?.id, { members: [{ user: "ann", info: null }], rev: 1 });
  await settle();
  off();
  simulation.socket.receive({ event: "presence.join", room: "r", data: { user: "bob", info: null, rev: 2 } });
  const seen: string[] = [];
  room.presence.onChange((members) => seen.push([...members.keys()].join()));
  ack(sent()?.id, { members: ["ann", "bob"].map((user) => ({ user, info: null })), rev: 2 });
  await settle();
  assert.deepEqual(seen, ["ann,bob"]);
});

test("a room that the application joins is told and delivered, and one that it takes the client out of is lost", async () => {
  const { simulation, client, sent, ack, joined, next } = await connected({}, { rooms: ["auto"], last_event_id: "auto@k3f9a1qz.4" });
  const rooms: string[] = [];
  const seen: unknown[] = [];
  const lost: string[] = [];
  client.onRoom((room) => {
    rooms.push(room.name);
    room.on("e", ({ data }) => seen.push(data));
    room.onLost((code) => lost.push(code));
  });
  const event = (offset: number) =>
    simulation.socket.receive({ event: "e", room: "r", id: `r@k3f9a1qz.${offset}`, data: offset });
  const told = (event: string, data: object) => simulation.socket.receive({ event, room: "r", data });
  event(7);
  told("room.joined", joined("r", 7));
  event(8);
  assert.deepEqual([rooms, seen, client.room("r").isJoined, client.room("r").lastEventId], [["r"], [8], true, "r@k3f9a1qz.8"]);
  // It is resumed like another, and not told again.
  simulation.socket.cut();
  await next();
  simulation.socket.welcome({ rooms: ["auto"], last_event_id: "auto@k3f9a1qz.4" });
  const resume = sent();
  assert.deepEqual(resume?.data.last_event_id.split(",").sort(), ["auto@k3f9a1qz.4", "r@k3f9a1qz.8"]);
  const again = (room: string, offset: number) => ({ ...joined(room, offset), recovery: "complete" });
  ack(resume?.id, { rooms: { auto: again("auto", 4), r: again("r", 8) } });
  event(9);
  told("room.left", { reason: "removed" });
  event(10);
  assert.deepEqual([rooms, seen, lost, client.room("r").isJoined], [["r"], [8, 9], ["removed"], false]);
  told("room.joined", joined("r", 12));
  event(13);
  assert.deepEqual([rooms, seen], [["r", "r"], [8, 9, 13, 13]], "listeners stay, and onRoom has added others");
  assert.equal(sent(), undefined);
});

test("a leave that has no answer yet is behind what the application did before", async () => {
  const { simulation, client, sent, ack, joined, join } = await connected();
  const room = await join("r");
  const left = room.leave();
  const leave = sent();
  assert.equal(leave?.event, "room.leave");
  simulation.socket.receive({ event: "room.left", room: "r", data: { reason: "removed" } });
  simulation.socket.receive({ event: "room.joined", room: "r", data: joined("r", 5) });
  assert.equal(room.isJoined, false);
  ack(leave?.id, {});
  await left;
  simulation.socket.receive({ event: "room.joined", room: "r", data: joined("r", 6) });
  assert.deepEqual([room.isJoined, client.room("r").lastEventId, sent()], [true, "r@k3f9a1qz.6", undefined]);
});
