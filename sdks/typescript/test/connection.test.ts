/** When a client connects, and when it stops: PROTOCOL.md §1, §5, §6 and §7. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { Client } from "../src/client.ts";
import { connected, URL_OF_SERVER } from "./connected.ts";
import { assertUniform } from "./statistics.ts";
import { FakeSocket, simulatedWorld } from "./world.ts";

/** What a page has and Node does not: a window whose network comes back, and that is looked at or not. */
function inAPage(context: TestContext) {
  const page = new EventTarget();
  const document = { hidden: false };
  const { addEventListener, removeEventListener } = globalThis;
  Object.assign(globalThis, {
    addEventListener: page.addEventListener.bind(page),
    removeEventListener: page.removeEventListener.bind(page),
    document,
  });
  context.after(() => {
    Object.assign(globalThis, { addEventListener, removeEventListener });
    delete (globalThis as { document?: unknown }).document;
  });
  const tell = (event: string) => page.dispatchEvent(new Event(event));
  return {
    online: () => tell("online"),
    turn: (to: "visible" | "hidden") => {
      document.hidden = to === "hidden";
      tell("visibilitychange");
    },
  };
}

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

test("a handshake that failed is asked about once, whether a close follows its error or, as in Node 22, none", async () => {
  for (const closes of [true, false]) {
    const simulation = simulatedWorld();
    const client = new Client(URL_OF_SERVER, { token: () => "t", world: simulation.world });
    await simulation.clock.advance(0);
    simulation.answers.push({ status: 403, body: { code: "forbidden" } });
    simulation.socket.onerror?.({});
    if (closes) simulation.socket.cut();
    await simulation.clock.advance(0);
    assert.deepEqual([client.state, client.fault?.code, simulation.asked.length], ["refused", "forbidden", 1]);
  }
});

test("an answer to why that never comes, or never ends, is waited for 20 s after the attempt began; late it is nothing", async () => {
  for (const hasHead of [false, true]) {
    const simulation = simulatedWorld();
    const late: ((answer: object) => void)[] = [];
    const answer = { status: 403, headers: new Headers(), json: () => new Promise((resolve) => late.push(resolve)) };
    const fetch = () => (hasHead ? Promise.resolve(answer) : new Promise<any>((resolve) => late.push(resolve)));
    const client = new Client(URL_OF_SERVER, { token: "t", world: { ...simulation.world, fetch } });
    await simulation.clock.advance(5_000);
    simulation.socket.cut();
    await simulation.clock.advance(14_999);
    assert.deepEqual([client.fault, late.length, simulation.sockets.length], [null, 1, 1]);
    await simulation.clock.advance(1);
    assert.deepEqual([client.state, client.fault?.message], ["connecting", "no answer came"]);
    await simulation.clock.advance(1_000);
    assert.equal(simulation.sockets.length, 2);
    late[0]!(hasHead ? { code: "forbidden" } : { ...answer, json: () => Promise.resolve({ code: "forbidden" }) });
    await simulation.clock.advance(0);
    simulation.socket.welcome();
    assert.equal(client.state, "connected");
  }
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
  assert.ok(clock.now() - began >= 40_000, `after ${clock.now() - began} ms`);
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

test("a quiet room is no silence: a heartbeat is answered, which a browser can hear", async () => {
  const { simulation, client, clock, sent } = await connected();
  for (let minutes = 0; minutes < 60; minutes += 0.5) {
    await clock.advance(30_000);
    for (let message = sent(); message; message = sent()) {
      assert.equal(message.event, "presence.heartbeat");
      // As the server does: what has no id gets no answer.
      if (message.id !== undefined) simulation.socket.receive({ event: "ack", id: message.id, data: {} });
    }
  }
  assert.equal(client.state, "connected");
  assert.equal(simulation.sockets.length, 1);
});

test("a drain moves the client within the window; final codes end it", async () => {
  const { simulation, client, clock, next } = await connected();
  simulation.socket.receive({ event: "session.reconnect", data: { after_ms: 1000, within_ms: 30_000, reason: "draining" } });
  const began = clock.now();
  await next();
  assert.ok(clock.now() - began >= 1000 && clock.now() - began <= 30_500, `after ${clock.now() - began} ms`);
  simulation.socket.welcome();
  const request = client.request("order");
  simulation.socket.cut(4006);
  await assert.rejects(request, { code: "outcome_unknown" });
  assert.equal(client.state, "closed");
  await assert.rejects(client.request("order"), { code: "closed" });
});

test("the moments of a drain are spread over the window, and hold if the close comes before", async () => {
  const [afterMs, withinMs, clients] = [1_000, 31_000, 300];
  const moments: number[] = [];
  for (let seed = 0; seed < clients; seed += 1) {
    const simulation = simulatedWorld(seed);
    new Client(URL_OF_SERVER, { world: simulation.world });
    await simulation.clock.advance(0);
    simulation.socket.welcome();
    const [first, began] = [simulation.socket, simulation.clock.now()];
    first.receive({ event: "session.reconnect", data: { after_ms: afterMs, within_ms: withinMs, reason: "draining" } });
    if (seed % 2 === 0) first.cut(4200);
    await simulation.clock.advance(withinMs);
    if (seed % 2 === 1) assert.equal(first.closedWith, 4200, "who is only moving away has the grace");
    moments.push(simulation.sockets[1]!.openedAt - began);
  }
  assertUniform(moments, afterMs, withinMs);
});

test("it connects at once when the network is back, and when the page is looked at again", async (context) => {
  const page = inAPage(context);
  const { simulation, client, clock } = await connected();
  for (const [wake, connects] of [
    [() => page.online(), true],
    [() => page.turn("hidden"), false],
    [() => page.turn("visible"), true],
  ] as const) {
    // The server is away: the waits grow.
    for (let failures = 0; failures < 5; failures += 1) {
      simulation.socket.cut();
      await clock.advance(0);
      const [before, failed] = [simulation.sockets.length, clock.now()];
      while (failures < 4 && simulation.sockets.length === before && clock.now() < failed + 60_000) await clock.advance(100);
    }
    const before = simulation.sockets.length;
    assert.equal(client.state, "reconnecting");
    wake();
    await clock.advance(0);
    assert.equal(simulation.sockets.length - before, connects ? 1 : 0);
    if (!connects) client.reconnect();
    await clock.advance(0);
    simulation.socket.welcome();
  }
  const before = simulation.sockets.length;
  page.online();
  page.turn("visible");
  await clock.advance(1000);
  assert.deepEqual([simulation.sockets.length, client.state], [before, "connected"], "a connection that is there stays");
});

test("a refusal is not asked about again because somebody looks", async (context) => {
  const page = inAPage(context);
  const simulation = simulatedWorld();
  let asked = 0;
  const client = new Client(URL_OF_SERVER, { token: () => ((asked += 1), null), world: simulation.world });
  await simulation.clock.advance(0);
  page.turn("visible");
  page.online();
  await simulation.clock.advance(1000);
  assert.deepEqual([client.state, asked], ["refused", 1]);
});

test("a close is final", async (context) => {
  const page = inAPage(context);
  const { simulation, client, clock, join } = await connected();
  const room = await join("r");
  const states: string[] = [];
  client.onState((state) => states.push(state));
  const [request, joining] = [room.request("say"), client.join("other")];
  client.close();
  assert.equal(simulation.socket.closedWith, 1000);
  await assert.rejects(request, { code: "outcome_unknown" });
  await assert.rejects(joining, { code: "outcome_unknown" });
  client.close();
  client.reconnect();
  page.online();
  page.turn("visible");
  simulation.socket.receive({ event: "e", room: "r", id: "r@k3f9a1qz.1" });
  simulation.socket.cut();
  await clock.advance(600_000);
  assert.deepEqual([states, simulation.sockets.length], [["connected", "closed"], 1]);
  await assert.rejects(client.request("say"), { code: "closed" });
  await assert.rejects(client.join("r"), { code: "closed" });
  assert.deepEqual([room.send("typing"), room.lastEventId, room.isJoined], [false, "r@k3f9a1qz.0", false]);
});

test("a close in a listener is the last word, and nothing more is heard or thrown", async () => {
  const { simulation, client, clock, next, join } = await connected();
  const room = await join("r");
  const states: string[] = [];
  const told = [(state: string) => state === "connected" && client.close(), (state: string) => states.push(state)];
  const [first, second] = told.map((listener) => () => client.onState(listener));
  simulation.socket.cut();
  await next();
  first!();
  second!();
  simulation.socket.welcome();
  assert.deepEqual([states, client.state, room.isJoined], [["reconnecting", "connected", "closed"], "closed", false]);
  // The resume went before anybody heard of the connection.
  const sent = simulation.socket.sent.map((frame) => JSON.parse(String(frame)).event);
  assert.deepEqual([simulation.socket.closedWith, sent, clock.timers], [1000, ["session.resume"], 0]);
});

test("whoever hears that it is connected knows who he is, and can send", async () => {
  const simulation = simulatedWorld();
  const client = new Client(URL_OF_SERVER, { world: simulation.world });
  const heard: unknown[] = [];
  client.onRoom(() => heard.push([client.state, client.user]));
  client.onState((state) => state === "connected" && heard.push([client.user, client.limits.rooms, client.send("hello")]));
  await simulation.clock.advance(0);
  simulation.socket.welcome({ rooms: ["r"], limits: { rooms: 100 } });
  assert.deepEqual(heard, [["connected", "me"], ["me", 100, true]]);
});

test("who listens to the state while others are told of an earlier one hears each state once, and in order", async () => {
  const { simulation, client } = await connected();
  const states: string[] = [];
  client.onState((state) => {
    if (state !== "reconnecting") return;
    client.close();
    client.onState((state) => states.push(state));
  });
  simulation.socket.cut();
  assert.deepEqual(states, ["reconnecting", "closed"]);
});

test("a server that says nothing is a fault: on a connection, and where the welcome does not come", async () => {
  const { client, clock } = await connected();
  const fault = { status: null, code: null, message: "no answer came" };
  const faults: unknown[] = [];
  client.onState((state) => faults.push([state, client.fault]));
  await clock.advance(80_000);
  assert.deepEqual(faults, [["connected", null], ["reconnecting", fault]]);
  const other = new Client(URL_OF_SERVER, { world: simulatedWorld(1, clock).world });
  await clock.advance(20_000);
  assert.deepEqual([other.state, other.fault], ["connecting", fault]);
});

test("a close in the listener of a room that the server joins: no other room is told, and nothing is asked for", async () => {
  const { simulation, client, clock, next, join } = await connected();
  await join("r");
  simulation.socket.cut();
  await next();
  const rooms: string[] = [];
  client.onRoom(({ name }) => {
    rooms.push(name);
    client.close();
  });
  simulation.socket.welcome({ rooms: ["a", "b"], last_event_id: "a@k3f9a1qz.1,b@k3f9a1qz.1" });
  assert.deepEqual([rooms, simulation.socket.sent, clock.timers], [["a"], [], 0]);
  assert.deepEqual(["a", "b", "r"].map((name) => client.room(name).isJoined), [false, false, false]);
});

test("a close when one room has caught up: the others are not told, and are not joined", async () => {
  const { simulation, client, clock, sent, ack, next, join, joined } = await connected();
  const told: string[] = [];
  for (const name of ["a", "b"])
    (await join(name)).onCaughtUp(() => {
      told.push(name);
      client.close();
    });
  simulation.socket.cut();
  await next();
  simulation.socket.welcome();
  const again = (room: string) => ({ ...joined(room, 0), recovery: "complete" });
  ack(sent()?.id, { rooms: { a: again("a"), b: again("b") } });
  assert.deepEqual([told, client.room("b").isJoined, simulation.socket.sent, clock.timers], [["a"], false, [], 0]);
});

test("a reconnect in the listener of a refusal: everybody hears the refusal first", async () => {
  let token: string | null = null;
  const simulation = simulatedWorld();
  const client = new Client(URL_OF_SERVER, { token: () => token, world: simulation.world });
  const states: string[] = [];
  client.onState((state) => {
    if (state !== "refused") return;
    token = "t";
    client.reconnect();
  });
  client.onState((state) => states.push(state));
  await simulation.clock.advance(0);
  assert.deepEqual([states, simulation.sockets.length], [["connecting", "refused", "reconnecting"], 1]);
});

test("a close in the listener of an event: what was held back behind it is for nobody", async () => {
  const { simulation, client, clock, sent, ack, joined } = await connected();
  const seen: unknown[] = [];
  client.room("r").onEvent(({ data }) => {
    seen.push(data);
    client.close();
  });
  const joining = client.join("r");
  ack(sent()?.id, joined("r", 0));
  for (const offset of [1, 2, 3])
    simulation.socket.receive({ event: "e", room: "r", id: `r@k3f9a1qz.${offset}`, data: offset });
  await joining;
  await clock.advance(1);
  assert.deepEqual([seen, client.state, clock.timers], [[1], "closed", 0]);
});

test("closed for good while something is held back that shows a hole: it is heard, and nothing is thrown", async () => {
  const { simulation, client, sent, ack, joined } = await connected();
  const seen: unknown[] = [];
  client.room("r").onEvent(({ data }) => seen.push(data));
  void client.join("r");
  ack(sent()?.id, joined("r", 0));
  for (const offset of [1, 3]) simulation.socket.receive({ event: "e", room: "r", id: `r@k3f9a1qz.${offset}`, data: offset });
  simulation.socket.cut(4006);
  assert.deepEqual([seen, client.state], [[1], "closed"]);
});

test("closed for good: what is known to be published is answered, and the rest is unknown", async () => {
  for (const close of ["by the server", "by the application"]) {
    const { simulation, client, join } = await connected();
    const room = await join("r");
    const [first, second] = [room.request("say"), room.request("say")];
    simulation.socket.receive({ event: "say", room: "r", id: "r@k3f9a1qz.1", from: "me", re: first.id });
    if (close === "by the server") simulation.socket.cut(4006);
    else client.close();
    assert.deepEqual(await first, { event_id: "r@k3f9a1qz.1" }, close);
    await assert.rejects(second, { code: "outcome_unknown" });
  }
});

test("a closed client leaves no timer behind, which would keep a process", async () => {
  const { simulation, client, clock, join } = await connected();
  const room = await join("r");
  const asked = [room.request("say"), room.request("say"), client.join("other")];
  const { id } = asked[1] as { id?: string };
  simulation.socket.receive({ event: "error", id, data: { code: "unavailable", message: "" } });
  client.close();
  assert.equal(clock.timers, 0);
  await Promise.allSettled(asked);
});

test("why there is no connection is told also while it goes on trying", async () => {
  const tokens = [new Error("offline"), "t"];
  const simulation = simulatedWorld();
  const { clock, answers } = simulation;
  const token = () => {
    const token = tokens.shift() ?? "t";
    if (token instanceof Error) throw token;
    return token;
  };
  const client = new Client(URL_OF_SERVER, { token, world: simulation.world });
  const next = async () => {
    const before = simulation.sockets.length;
    while (simulation.sockets.length === before) await clock.advance(500);
  };
  await clock.advance(0);
  assert.deepEqual(client.fault, { status: null, code: null, message: "no token: Error: offline" });
  await next();
  simulation.socket.cut();
  await clock.advance(0);
  assert.deepEqual(client.fault, { status: null, code: null, message: "TypeError: nobody listens" });
  await next();
  const limit = { code: "connection_limit", detail: "five connections are open", fix: "close one" };
  answers.push({ status: 429, body: limit, retryAfter: 1 });
  simulation.socket.cut();
  await clock.advance(0);
  const words = "five connections are open; close one";
  assert.deepEqual([client.state, client.fault], ["connecting", { status: 429, code: "connection_limit", message: words }]);
  await next();
  answers.push({ status: 503 });
  simulation.socket.cut();
  await clock.advance(0);
  assert.deepEqual(client.fault, { status: 503, code: null, message: "" });
  await next();
  simulation.socket.welcome();
  assert.deepEqual([client.state, client.fault], ["connected", null]);
});

test("a clock that is set back delays nothing: not a reconnect, not a retry, not the end of a silence", async () => {
  const HOUR_MS = 3_600_000;
  const { simulation, client, clock, sent } = await connected();
  const within = async (seconds: number, isOver: () => boolean) => {
    for (let ms = 0; !isOver(); ms += 100) {
      assert.ok(ms <= seconds * 1000, `after ${seconds} s`);
      await clock.advance(100);
    }
  };
  const later = client.request("order");
  sent();
  simulation.socket.receive({ event: "error", id: later.id, data: { code: "unavailable", message: "", retry_after_ms: 2_000 } });
  clock.setBack(HOUR_MS);
  void client.request("other").catch(() => {});
  await within(4, () => sent()?.id === later.id);
  clock.setBack(HOUR_MS);
  await within(80, () => client.state === "reconnecting");
  clock.setBack(HOUR_MS);
  await within(3, () => simulation.sockets.length === 2);
  client.close();
  await assert.rejects(later, { code: "outcome_unknown" });
});

test("a close while a token is fetched opens nothing", async () => {
  const simulation = simulatedWorld();
  let give: (token: string) => void = () => {};
  const token = () => new Promise<string>((resolve) => (give = resolve));
  const client = new Client(URL_OF_SERVER, { token, world: simulation.world });
  await simulation.clock.advance(0);
  client.close();
  give("t");
  await simulation.clock.advance(60_000);
  assert.deepEqual([client.state, simulation.sockets.length], ["closed", 0]);
});

test("where there is no WebSocket it says what to do, and takes the one that it is given", async (context) => {
  const own = globalThis.WebSocket;
  Object.assign(globalThis, { WebSocket: undefined });
  context.after(() => Object.assign(globalThis, { WebSocket: own }));
  assert.throws(() => new Client(URL_OF_SERVER), /no WebSocket: npm install ws.*new Client\(url, \{ WebSocket \}\)/);
  const { world, clock } = simulatedWorld();
  const opened: FakeSocket[] = [];
  class Given extends FakeSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols, clock.now());
      opened.push(this);
    }
  }
  const { WebSocket: _, ...rest } = world;
  new Client(URL_OF_SERVER, { WebSocket: Given, world: rest });
  await clock.advance(0);
  assert.equal(opened.length, 1);
});
