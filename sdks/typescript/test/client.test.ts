/** What a client owes, by values and moved time: PROTOCOL.md §1, §5, §6 and §7. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../src/backoff.ts";
import { Client, type ClientOptions } from "../src/client.ts";
import { randomFrom, simulatedWorld } from "./world.ts";

/** A client whose first connection is welcomed. */
async function connected(options: ClientOptions = {}, welcome: object = {}) {
  const simulation = simulatedWorld();
  const client = new Client("ws://server/ws", { ...options, world: simulation.world });
  await simulation.clock.advance(0);
  simulation.socket.welcome(welcome);
  const { clock } = simulation;
  const sent = () => simulation.socket.next() as { event: string; id: string; room?: string; data?: any } | undefined;
  const next = async () => {
    const before = simulation.sockets.length;
    while (simulation.sockets.length === before) await clock.advance(500);
  };
  const ack = (id: string | undefined, data: unknown = null) => simulation.socket.receive({ event: "ack", id, data });
  const joined = (room: string, offset: number) => ({
    recovery: "fresh",
    last_event_id: `${room}@k3f9a1qz.${offset}`,
    top: `${room}@k3f9a1qz.${offset}`,
    members: 1,
  });
  /** Joins a room and answers. */
  const join = async (name: string, offset = 0) => {
    const join = client.join(name);
    ack(sent()?.id, joined(name, offset));
    const room = await join;
    await clock.advance(1);
    return room;
  };
  return { simulation, clock, client, sent, next, ack, joined, join };
}

function memoryStorage(): Storage & { items: Map<string, string> } {
  const items = new Map<string, string>();
  return {
    items,
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  } as never;
}

test("backoff doubles to thirty seconds, and jitter is full", () => {
  const backoff = new Backoff(() => 0.5);
  const waits = Array.from({ length: 7 }, () => [backoff.boundMs / 1000, backoff.next() / 1000]);
  assert.deepEqual(waits.map(([bound]) => bound), [1, 2, 4, 8, 16, 30, 30]);
  assert.deepEqual(waits.map(([, wait]) => wait), [0.5, 1, 2, 4, 8, 15, 15]);
  backoff.reset();
  assert.equal(backoff.boundMs, 1000);
  const draws = Array.from({ length: 2000 }, ((random) => () => new Backoff(random).next())(randomFrom(7)));
  assert.ok(Math.min(...draws) < 10 && Math.max(...draws) > 990);
  assert.ok(Math.abs(draws.reduce((sum, draw) => sum + draw) / draws.length - 500) < 25);
});

test("a token is asked for at every connect, and is in no URL", async () => {
  const asks: boolean[] = [];
  const { simulation, next } = await connected({ token: ({ fresh }) => (asks.push(fresh), `t${asks.length}`) });
  assert.deepEqual(simulation.socket.protocols, ["tidings.v1", "tidings.token.t1"]);
  assert.equal(simulation.socket.url.href, "ws://server/ws");
  simulation.socket.cut(4300);
  await next();
  assert.deepEqual(simulation.socket.protocols, ["tidings.v1", "tidings.token.t2"]);
  assert.equal(simulation.socket.url.searchParams.get("session"), "s");
  assert.deepEqual(asks, [false, true]);
});

test("a refusal is learnt from the plain request: one fresh token, then refused until told to try", async () => {
  const asks: boolean[] = [];
  const { simulation, client, clock, next } = await connected({ token: ({ fresh }) => (asks.push(fresh), "t") });
  simulation.socket.cut();
  await next();
  simulation.answers.push({ status: 401, body: { code: "token_expired", detail: "the token has expired" } });
  simulation.socket.cut();
  await next();
  assert.equal(simulation.asked[0]?.href, "http://server/ws?token=t");
  simulation.answers.push({ status: 401, body: { code: "token_expired", detail: "it has expired", fix: "get another" } });
  simulation.socket.cut();
  await clock.advance(0);
  assert.equal(client.state, "refused");
  assert.deepEqual(client.fault, { status: 401, code: "token_expired", message: "it has expired; get another" });
  const before = simulation.sockets.length;
  await clock.advance(600_000);
  assert.equal(simulation.sockets.length, before);
  client.reconnect();
  await clock.advance(0);
  assert.equal(simulation.sockets.length, before + 1);
  assert.deepEqual(asks, [false, false, true, true]);
});

test("nobody logged in is a refusal, and a provider that fails is a lost network", async () => {
  const simulation = simulatedWorld();
  const tokens: (string | null | Error)[] = [new Error("offline"), null];
  const token = () => {
    const token = tokens.shift()!;
    if (token instanceof Error) throw token;
    return token;
  };
  const client = new Client("ws://server/ws", { token, world: simulation.world });
  await simulation.clock.advance(0);
  assert.equal(client.state, "connecting");
  await simulation.clock.advance(1000);
  assert.deepEqual([client.state, client.fault?.code], ["refused", "token_missing"]);
  assert.equal(simulation.sockets.length, 0);
});

test("too many connections: it waits for as long as it is told", async () => {
  const { simulation, clock, next } = await connected();
  simulation.socket.cut();
  await next();
  simulation.answers.push({ status: 429, body: { code: "connection_limit" }, retryAfter: 40 });
  const [before, began] = [simulation.sockets.length, clock.now()];
  simulation.socket.cut();
  while (simulation.sockets.length === before) await clock.advance(500);
  assert.ok(clock.now() - began >= 40_000);
});

test("silence ends a connection after 75 s; it says something itself every 25 s", async () => {
  const { simulation, client, clock, sent } = await connected();
  await clock.advance(25_000);
  assert.equal(sent()?.event, "presence.heartbeat");
  simulation.socket.receive({ event: "notice" });
  await clock.advance(74_000);
  assert.equal(client.state, "connected");
  await clock.advance(2_000);
  assert.equal(client.state, "reconnecting");
  assert.equal(simulation.sockets[0]!.closedWith, 4110);
});

test("a drain moves the client within the window; final codes end it", async () => {
  const { simulation, client, clock, next } = await connected();
  simulation.socket.receive({ event: "session.reconnect", data: { after_ms: 1000, within_ms: 30_000, reason: "draining" } });
  const began = clock.now();
  await next();
  assert.ok(clock.now() - began >= 1000 && clock.now() - began <= 30_500);
  simulation.socket.welcome();
  const request = client.request("order");
  simulation.socket.cut(4006);
  await assert.rejects(request, { code: "outcome_unknown" });
  assert.equal(client.state, "closed");
  await assert.rejects(client.request("order"), { code: "closed" });
});

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
  assert.deepEqual([sent()?.id, sent()?.id], [first.id, third.id]);
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  const resume = sent();
  assert.deepEqual([resume?.event, resume?.data], ["session.resume", { last_event_id: "r@k3f9a1qz.0" }]);
  assert.equal(sent(), undefined, "nothing is sent before the rooms are joined");
  ack(resume?.id, { rooms: { r: { recovery: "complete", last_event_id: "r@k3f9a1qz.0", top: "r@k3f9a1qz.0", members: 1 } } });
  assert.deepEqual([sent()?.id, sent()?.id], [first.id, third.id]);
  ack(first.id, "one");
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

test("what was under way is sent again after a reload, under its id, when the room is joined", async () => {
  const storage = memoryStorage();
  const outbox = { storage, key: "outbox:me" };
  const page = await connected({ outbox });
  const room = await page.join("r");
  const [text, image] = [room.request("say", { content: "hi" }), room.request("image", new Uint8Array([0, 255, 1]))];
  room.request("room.members").catch(() => {});
  assert.equal(JSON.parse(storage.items.get("outbox:me")!).length, 2, "what the page itself asks is not kept");

  const reloaded = await connected({ outbox });
  assert.deepEqual(reloaded.client.unsettled.map(({ id, data }) => [id, data]), [
    [text.id, { content: "hi" }],
    [image.id, new Uint8Array([0, 255, 1])],
  ]);
  assert.equal(reloaded.sent(), undefined, "the room is not joined yet");
  const answers = reloaded.client.unsettled.map(({ answer }) => answer);
  const join = reloaded.client.join("r");
  reloaded.ack(reloaded.sent()?.id, reloaded.joined("r", 1));
  await join;
  await reloaded.clock.advance(1);
  assert.equal(reloaded.sent()?.id, text.id);
  assert.ok(reloaded.simulation.socket.sent.shift() instanceof Uint8Array);
  reloaded.ack(text.id, { event_id: "r@k3f9a1qz.1", duplicate: true });
  reloaded.ack(image.id, { event_id: "r@k3f9a1qz.2", duplicate: false });
  assert.deepEqual((await Promise.all(answers)).length, 2);
  assert.equal(storage.items.size, 0);
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
