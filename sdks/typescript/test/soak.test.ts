/** Two hours of random cuts, in a clock that the test moves: nothing lost, nothing doubled, nothing out of order. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../src/client.ts";
import { ModelServer } from "./model_server.ts";
import { randomFrom, simulatedWorld } from "./world.ts";

const DURATION_MS = 2 * 60 * 60 * 1000;
const STEP_MS = 50;
const ROOMS = ["chat:lobby", "chat:team", "news"];

for (const seed of [1, 2, 3]) {
  test(`two hours of cuts, seed ${seed}`, { timeout: 120_000 }, async (context) => {
    const simulation = simulatedWorld(seed);
    const { clock } = simulation;
    const random = randomFrom(seed + 1000);
    const server = new ModelServer(clock, random);
    const client = new Client("ws://server/ws", { world: simulation.world });
    const applied = new Map(ROOMS.map((room) => [room, [] as (string | null)[]]));
    let [resets, caughtUp, joined] = [0, 0, 0];
    for (const name of ROOMS) {
      const room = client.room(name);
      room.onEvent(({ id }) => applied.get(name)!.push(id));
      room.onReset(() => (resets += 1));
      room.onCaughtUp(() => (caughtUp += 1));
      // A first join starts at the newest event: what comes before it is not this client's.
      room.join().then(() => (joined += 1), assert.fail);
    }
    let [cuts, requests, nextCutAt, accepted] = [0, 0, 0, 0];
    const outcomes = { acked: 0, unknown: 0, other: [] as unknown[] };
    const ids = new Set<string>();
    const end = clock.now() + DURATION_MS;
    const isBusy = () => joined === ROOMS.length && clock.now() < end;
    while (joined < ROOMS.length || isBusy() || client.unsettled.length > 0) {
      await clock.advance(STEP_MS);
      if (simulation.sockets.length > accepted) {
        accepted = simulation.sockets.length;
        // One handshake in five comes to nothing.
        if (random() < 0.2 && isBusy()) simulation.socket.cut();
        else server.accept(simulation.socket);
        nextCutAt = clock.now() + 100 + random() * 5000;
      }
      if (isBusy() && random() < 0.2) server.publish(ROOMS[Math.floor(random() * 3)]!, {});
      if (isBusy() && random() < 0.05) {
        requests += 1;
        const request = client.room(ROOMS[Math.floor(random() * 3)]!).request("said", requests);
        ids.add(request.id);
        request.then(
          () => (outcomes.acked += 1),
          (error) => (error.code === "outcome_unknown" ? (outcomes.unknown += 1) : outcomes.other.push(error)),
        );
      }
      server.poll();
      if (isBusy() && server.hasConnection && clock.now() >= nextCutAt) {
        server.cut();
        cuts += 1;
      }
    }
    await clock.advance(5000);
    server.poll();
    await clock.advance(5000);
    let [events, fromUs] = [0, 0];
    for (const name of ROOMS) {
      const log = server.logs.get(name) as { id: string; re?: string }[];
      assert.deepEqual(applied.get(name), log.map(({ id }) => id), `${name}: every event, once, in order`);
      const own = log.flatMap(({ re }) => (re === undefined ? [] : [re]));
      assert.equal(new Set(own).size, own.length, "each request led to one event");
      events += log.length;
      fromUs += own.length;
    }
    context.diagnostic(`${cuts} cuts, ${events} events, ${requests} requests, ${caughtUp} times caught up`);
    assert.deepEqual(outcomes.other, []);
    assert.equal(outcomes.acked + outcomes.unknown, requests);
    assert.ok(fromUs >= outcomes.acked, `${fromUs} events of ${outcomes.acked} acked requests`);
    assert.equal(resets, 0);
    assert.ok(cuts > 300 && events > 10_000 && requests > 3000 && caughtUp > cuts, "it was a soak");
    client.close();
  });
}

test("what is not stored any more is a reset, and no event is applied that is not above it", async () => {
  const simulation = simulatedWorld(9);
  const server = new ModelServer(simulation.clock, randomFrom(9), 5);
  const client = new Client("ws://server/ws", { world: simulation.world });
  const seen: unknown[] = [];
  const room = client.room("r");
  room.onEvent(({ data }) => seen.push(data));
  room.onReset(({ lost }) => seen.push(lost));
  const joined = room.join();
  await simulation.clock.advance(10);
  server.accept(simulation.socket);
  for (let turn = 0; turn < 10; turn += 1) {
    await simulation.clock.advance(100);
    server.poll();
  }
  await joined;
  server.publish("r", {});
  await simulation.clock.advance(200);
  server.cut();
  for (let missed = 0; missed < 8; missed += 1) server.publish("r", {});
  while (simulation.sockets.length < 2) await simulation.clock.advance(100);
  server.accept(simulation.socket);
  for (let turn = 0; turn < 10; turn += 1) {
    await simulation.clock.advance(100);
    server.poll();
  }
  assert.deepEqual(seen, [1, { from: 2, to: 4 }, 5, 6, 7, 8, 9]);
});
