/**
 * A soak on a real server: 200 events a second in three rooms, for a client whose network is cut every one to five seconds.
 * A witness whose network is never cut says what there was to see.
 *
 * SOAK_SECONDS=1200 node --import tsx test/soak_real.ts
 */

import WebSocket from "ws";

import { Client, RequestError } from "../src/index.ts";
import { mint, Network, socketOf, startServer } from "./real/configured.ts";

const SECONDS = Number(process.env.SOAK_SECONDS ?? 20);
const EVENTS_PER_SECOND = 200;
/** One in so many events is the client's own, sent over the network that is cut. */
const OWN_EVERY = 10;
const ROOMS = ["chat:lobby", "chat:team", "news"];
/** One cut in so many is not followed by the news that the network is back: then the backoff's end is waited for. */
const UNNOTICED_EVERY = 20;
const SETTLE_MAX_MS = 60_000;

const between = (least: number, most: number) => least + Math.random() * (most - least);
const pass = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Follows all rooms, and notes what it is told, room by room. A reset begins a new slice. */
class Follower {
  readonly client: Client;
  readonly slices = new Map(ROOMS.map((room) => [room, [[]] as { offset: number; id: string; re: string | null }[][]]));
  resets = 0;

  constructor(url: string, user: string) {
    this.client = new Client(url, { WebSocket, token: () => mint({ sub: user }) });
  }

  async join(): Promise<void> {
    for (const name of ROOMS) {
      const slices = this.slices.get(name)!;
      const room = this.client.room(name);
      room.onEvent(({ id, re }) => {
        if (id !== null) slices.at(-1)!.push({ offset: Number(id.slice(id.lastIndexOf(".") + 1)), id, re });
      });
      room.onReset(() => {
        this.resets += 1;
        slices.push([]);
      });
      await room.join();
    }
  }

  seen(room: string) {
    return this.slices.get(room)!.flat();
  }
}

const server = await startServer();
const network = await Network.to(server);
const witness = new Follower(socketOf(server), "witness");
const soaked = new Follower(`${network.url.replace("http", "ws")}ws`, "soaked");
await Promise.all([witness.join(), soaked.join()]);

// The cuts: at once, or after what one of the two says has not arrived any more for a while.
let cuts = 0;
let isOver = false;
const cutting = (async () => {
  while (!isOver) {
    await pass(between(1_000, 5_000));
    const kind = Math.floor(between(0, 3));
    if (kind === 1) network.holdToServer();
    if (kind === 2) network.holdToBrowser();
    await pass(kind === 0 ? 0 : between(0, 500));
    network.cut();
    cuts += 1;
    await pass(between(0, 500));
    // As a browser says it.
    if (cuts % UNNOTICED_EVERY !== 0) soaked.client.reconnect();
  }
})();

// The events.
const outcomes = { acked: 0, unknown: 0, other: [] as string[] };
const began = Date.now();
let published = 0;
let own = 0;
while (Date.now() < began + SECONDS * 1000) {
  for (const due = ((Date.now() - began) / 1000) * EVENTS_PER_SECOND; published < due; published += 1) {
    const isOwn = published % OWN_EVERY === 0;
    if (isOwn) own += 1;
    const { client } = isOwn ? soaked : witness;
    client
      .room(ROOMS[published % ROOMS.length]!)
      .request("said", published)
      .then(
        () => (outcomes.acked += 1),
        (error: unknown) => {
          const code = error instanceof RequestError ? error.code : String(error);
          if (code === "outcome_unknown") outcomes.unknown += 1;
          else outcomes.other.push(code);
        },
      );
  }
  await pass(10);
}
isOver = true;
await cutting;
const settledBy = Date.now() + SETTLE_MAX_MS;
const isSettled = () =>
  outcomes.acked + outcomes.unknown + outcomes.other.length === published &&
  ROOMS.every((room) => soaked.seen(room).at(-1)?.id === witness.seen(room).at(-1)?.id);
while (!isSettled() && Date.now() < settledBy) await pass(50);

// What came of it.
let [events, lost, doubled, reordered, requestsDoubled] = [0, 0, 0, 0, 0];
for (const room of ROOMS) {
  const truth = witness.seen(room);
  const ids = soaked.seen(room).map(({ id }) => id);
  const seen = new Set(ids);
  events += truth.length;
  lost += truth.filter(({ id }) => !seen.has(id)).length;
  doubled += ids.length - seen.size;
  for (const slice of soaked.slices.get(room)!)
    reordered += slice.filter(({ offset }, index) => index > 0 && offset <= slice[index - 1]!.offset).length;
  const requests = truth.flatMap(({ re }) => (re === null ? [] : [re]));
  requestsDoubled += requests.length - new Set(requests).size;
}
for (const { client } of [witness, soaked]) client.close();
network.end();
await server.end();

console.log(`${SECONDS} s, ${cuts} cuts, ${events} events, ${own} of them the client's own; ${soaked.resets} resets`);
console.log(`${lost} lost, ${doubled} doubled, ${reordered} reordered; ${requestsDoubled} requests led to two events`);
const { acked, unknown, other } = outcomes;
console.log(`${acked} acked, ${unknown} unknown, ${other.length} otherwise ${[...new Set(other)].join(" ")}`);
const checks = {
  "nothing lost": lost === 0,
  "nothing doubled": doubled === 0,
  "nothing reordered": reordered === 0,
  "each request is one event": requestsDoubled === 0 && other.length === 0 && acked + unknown === published,
  "as many events as were acked": events >= acked && events <= published,
  "there were cuts": cuts >= SECONDS / 8,
};
const failed = Object.entries(checks).filter(([, holds]) => !holds);
for (const [name] of failed) console.log(`not so: ${name}`);
console.log(`${Object.keys(checks).length - failed.length} passed, ${failed.length} failed, 0 skipped`);
process.exit(failed.length > 0 ? 1 : 0);
