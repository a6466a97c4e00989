/** The waits between connections: PROTOCOL.md §7. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../src/backoff.ts";
import { Client } from "../src/client.ts";
import { URL_OF_SERVER } from "./connected.ts";
import { assertUniform } from "./statistics.ts";
import { randomFrom, simulatedWorld, SimulatedClock, type FakeSocket } from "./world.ts";

const BOUNDS_MS = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];

test("backoff doubles to thirty seconds, and starts anew after a reset", () => {
  const backoff = new Backoff(() => 0.5);
  const waits = BOUNDS_MS.map(() => backoff.next());
  assert.deepEqual(
    waits,
    BOUNDS_MS.map((bound) => bound / 2),
  );
  backoff.reset();
  assert.equal(backoff.next(), 500);
});

test("the draws are uniform on [0, bound], for every bound", (context) => {
  const draws = 5_000;
  BOUNDS_MS.forEach((bound, failures) => {
    const waits = Array.from({ length: draws }, (_, seed) => {
      const backoff = new Backoff(randomFrom(seed * 7919 + failures));
      for (let failed = 0; failed < failures; failed += 1) backoff.next();
      return backoff.next();
    });
    context.diagnostic(`bound ${bound / 1000} s: ${assertUniform(waits, 0, bound)}`);
    // The same test tells apart what is not uniform: half the jitter, and a bound that is a twentieth off.
    assert.throws(() =>
      assertUniform(
        waits.map((wait) => bound / 2 + wait / 2),
        0,
        bound,
      ),
    );
    assert.throws(() => assertUniform(waits, 0, bound * 1.05));
  });
});

/** So many clients lose one server at the same moment, for so long: when they tried to connect, and when they were back. */
async function outage(clients: number, awayMs: number, random: (seed: number) => () => number) {
  const clock = new SimulatedClock();
  const worlds = Array.from({ length: clients }, (_, seed) => simulatedWorld(seed, clock));
  const all = worlds.map(({ world }, seed) => new Client(URL_OF_SERVER, { world: { ...world, random: random(seed) } }));
  await clock.advance(0);
  for (const { socket } of worlds) socket.welcome();
  await clock.advance(60_000);
  const began = clock.now();
  for (const { socket } of worlds) socket.cut();
  while (all.some(({ state }) => state !== "connected")) {
    await clock.advance(10);
    all.forEach(({ state }, index) => {
      const { socket } = worlds[index]!;
      if (state === "connected" || socket.isCut) return;
      if (clock.now() < began + awayMs) socket.cut();
      else socket.welcome();
    });
  }
  for (const client of all) client.close();
  const since = (sockets: FakeSocket[]) => sockets.map(({ openedAt }) => openedAt - began);
  return {
    attempts: worlds.flatMap(({ sockets }) => since(sockets.slice(1))),
    back: since(worlds.map(({ socket }) => socket)),
  };
}

/** The most of these moments within a tenth of a second. */
function mostAtOnce(moments: readonly number[]): number {
  const sorted = [...moments].sort((a, b) => a - b);
  let [first, most] = [0, 0];
  sorted.forEach((moment, index) => {
    while (sorted[first]! < moment - 100) first += 1;
    most = Math.max(most, index - first + 1);
  });
  return most;
}

test("a thousand clients that lose one server do not come back in step", async (context) => {
  const clients = 1_000;
  const short = await outage(clients, 0, randomFrom);
  context.diagnostic(`a restart, spread over the first second: ${assertUniform(short.back, 0, 1_000)}`);
  const long = await outage(clients, 10_000, randomFrom);
  const [atOnce, atOnceBack] = [mostAtOnce(long.attempts), mostAtOnce(long.back)];
  const last = Math.max(...long.back) / 1000;
  const tries = `${long.attempts.length} attempts, ${atOnce} at most within 100 ms`;
  context.diagnostic(
    `away for 10 s: ${tries}; back: ${atOnceBack} at most within 100 ms, the last after ${last.toFixed(1)} s`,
  );
  // At the end of the first second 100 first tries are to be expected in a tenth of it, and 60 second and third ones.
  assert.ok(atOnce < 200 && atOnceBack < 40 && last < 10 + 30, tries);
  const inStep = await outage(clients, 10_000, () => () => 0.5);
  assert.equal(mostAtOnce(inStep.back), clients, "without chance all of them would be");
});
