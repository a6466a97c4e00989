/**
 * The hooks in React's StrictMode, over a simulated network. `package/` runs this file once more, with the packed
 * package and each version of React.
 */
import assert from "node:assert/strict";
import { before, beforeEach, test, type TestContext } from "node:test";

import { Window } from "happy-dom";
import {
  act,
  createElement,
  Fragment,
  startTransition,
  StrictMode,
  useLayoutEffect,
  useState,
  version,
  type ReactNode,
} from "react";
import type { Root } from "react-dom/client";
import { Client } from "tidings-client";
import {
  TidingsProvider,
  useClient,
  useConnection,
  usePresence,
  useRoom,
  type RoomOptions,
  type RoomView,
} from "tidings-client/react";

import { simulatedWorld } from "./world.ts";

const GRACE_MS = 1_000;

let createRoot: (container: HTMLElement) => Root;

before(async () => {
  const window = new Window();
  const { document, navigator } = window;
  for (const [name, value] of Object.entries({ window, document, navigator, IS_REACT_ACT_ENVIRONMENT: true }))
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  // It looks for a document when it is loaded.
  const dom = (await import("react-dom/client")) as typeof import("react-dom/client") & {
    default?: typeof import("react-dom/client");
  };
  createRoot = dom.createRoot ?? dom.default!.createRoot;
});

beforeEach((context) => (context as TestContext).diagnostic(`React ${version}`));

/** A page with a client whose connection is open, and how many listen to it; without a welcome it is still to be opened. */
async function page(context: TestContext, welcome: object | null = {}) {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const simulation = simulatedWorld();
  const client = new Client("ws://server/ws", { world: simulation.world });
  await simulation.clock.advance(0);
  if (welcome) simulation.socket.welcome(welcome);
  const root = createRoot(document.createElement("div"));
  context.after(() =>
    act(async () => {
      root.unmount();
      client.close();
    }),
  );
  const sent = () => simulation.socket.next() as { event: string; id: string; room?: string; data?: any } | undefined;
  /** Everything that was sent, as names of events. */
  const allSent = () => {
    const names: string[] = [];
    for (let message = sent(); message; message = sent()) names.push(message.event);
    return names;
  };
  const receive = (...messages: object[]) =>
    act(async () => messages.forEach((message) => simulation.socket.receive(message)));
  const joined = (offset: number, top = offset, recovery = "fresh") => ({
    recovery,
    last_event_id: `r@k3f9a1qz.${offset}`,
    top: `r@k3f9a1qz.${top}`,
    members: 1,
  });
  const ack = (id: string | undefined, data: unknown) => receive({ event: "ack", id, data });
  return {
    simulation,
    client,
    sent,
    allSent,
    receive,
    joined,
    ack,
    show: (element: ReactNode) =>
      act(async () => root.render(createElement(StrictMode, null, createElement(TidingsProvider, { client }, element)))),
    pass: (ms: number) =>
      act(async () => {
        context.mock.timers.tick(ms);
        await simulation.clock.advance(ms);
      }),
    /** The connection breaks, with this code, and another is made; `meanwhile` is looked at before it is welcomed. */
    cut: async (code = 1006, meanwhile = () => {}) => {
      const before = simulation.sockets.length;
      await act(async () => simulation.socket.cut(code));
      while (simulation.sockets.length === before) await act(() => simulation.clock.advance(500));
      meanwhile();
      await act(async () => simulation.socket.welcome());
    },
    /** Answers a join that is expected to have been sent, with no events behind it. */
    answerJoin: async (offset = 0) => {
      const join = sent();
      assert.deepEqual([join?.event, join?.room], ["room.join", "r"]);
      await ack(join?.id, joined(offset));
      await act(() => simulation.clock.advance(1));
      return join;
    },
  };
}

const event = (offset: number, rest: object = {}) => ({
  event: "e",
  room: "r",
  id: `r@k3f9a1qz.${offset}`,
  data: offset,
  ...rest,
});

/** A component that uses a room, and what it has shown last. */
function watcher(options?: RoomOptions) {
  const seen: { view?: RoomView; renders: number } = { renders: 0 };
  function Watcher() {
    seen.view = useRoom("r", options);
    seen.renders += 1;
    return null;
  }
  return { Watcher, seen, data: () => seen.view?.events.map(({ data }) => data) };
}

/** Counts who listens to what a client and a room tell. */
function countListeners(...tellers: object[]): () => number {
  let listening = 0;
  for (const teller of tellers as Record<string, (...args: unknown[]) => () => void>[]) {
    for (const name of ["on", "onEvent", "onReset", "onCaughtUp", "onLost", "onState", "onDegraded", "onChange"]) {
      const add = teller[name];
      if (!add) continue;
      teller[name] = (...args) => {
        listening += 1;
        const end = add.apply(teller, args);
        return () => {
          listening -= 1;
          end();
        };
      };
    }
  }
  return () => listening;
}

test("StrictMode: one connection, one join; a leave when the last component has gone, and nobody listens any more", async (context) => {
  const { simulation, client, show, sent, allSent, ack, pass, answerJoin } = await page(context);
  const room = client.room("r");
  const listening = countListeners(client, room, room.presence);
  const { Watcher, seen } = watcher();
  function People() {
    return createElement(Fragment, null, [...usePresence("r").members.keys()], useConnection().state);
  }
  await show([createElement(Watcher, { key: 1 }), createElement(People, { key: 2 }), createElement(Watcher, { key: 3 })]);
  await answerJoin();
  assert.equal(seen.view?.isLive, true);
  const list = sent();
  assert.equal(list?.event, "room.members");
  await ack(list?.id, { members: [], rev: 1 });
  assert.notEqual(listening(), 0);
  await show(createElement(Watcher));
  await pass(GRACE_MS);
  assert.deepEqual(allSent(), [], "one component is still there");
  await show(null);
  await pass(GRACE_MS - 1);
  assert.deepEqual(allSent(), []);
  await pass(1);
  assert.deepEqual(allSent(), ["room.leave"]);
  assert.deepEqual([simulation.sockets.length, listening()], [1, 0]);
});

test("a component that comes back within the grace finds the room as it was", async (context) => {
  const { show, allSent, receive, pass, answerJoin } = await page(context);
  const [first, second] = [watcher(), watcher()];
  await show(createElement(first.Watcher));
  await answerJoin();
  await receive(event(1));
  await show(null);
  await pass(GRACE_MS - 1);
  await receive(event(2));
  await show(createElement(second.Watcher));
  await pass(10 * GRACE_MS);
  assert.deepEqual([second.data(), second.seen.view?.isLive, allSent()], [[1, 2], true, []]);
});

test("another room: the old one is left, the new one joined", async (context) => {
  const { show, sent, ack, pass, answerJoin } = await page(context);
  const Named = ({ name }: { name: string }) => (useRoom(name), null);
  await show(createElement(Named, { name: "r" }));
  await answerJoin();
  await show(createElement(Named, { name: "q" }));
  const join = sent();
  assert.deepEqual([join?.event, join?.room], ["room.join", "q"]);
  await ack(join?.id, { recovery: "fresh", last_event_id: "q@k3f9a1qz.0", top: "q@k3f9a1qz.0", members: 1 });
  await pass(GRACE_MS);
  const leave = sent();
  assert.deepEqual([leave?.event, leave?.room], ["room.leave", "r"]);
});

test("events: the history that the most demanding component wants, then live ones, bounded; ephemeral ones are in no list", async (context) => {
  const { simulation, show, sent, receive, joined, ack } = await page(context);
  const [few, many] = [watcher({ history: 1, eventsMax: 4 }), watcher({ history: 2 })];
  await show([createElement(few.Watcher, { key: 1 }), createElement(many.Watcher, { key: 2 })]);
  const join = sent();
  assert.deepEqual(join?.data, { history: 2 });
  await ack(join?.id, joined(1, 3));
  await act(() => simulation.clock.advance(1));
  await receive(event(2));
  assert.deepEqual([many.data(), many.seen.view?.isLive], [[2], false]);
  await receive(event(3), { event: "typing", room: "r", data: "…" }, event(4), event(5), event(6));
  assert.deepEqual([few.data(), many.seen.view?.isLive], [[2, 3, 4, 5, 6], true]);
  const newest = Array.from({ length: 300 }, (_, index) => event(7 + index));
  await receive(...newest);
  assert.deepEqual([many.data()?.length, many.data()?.at(-1)], [200, 306]);
});

test("an event that came live and comes again in a replay, or with a page of the history, is shown once", async (context) => {
  const { simulation, client, show, sent, receive, joined, ack, cut } = await page(context);
  // The application has joined the room itself: the component asks for the page of what was before.
  const join = client.join("r");
  await ack(sent()?.id, joined(2));
  await simulation.clock.advance(1);
  await join;
  const { Watcher, seen, data } = watcher({ history: 3 });
  await show(createElement(Watcher));
  const asked = sent();
  assert.deepEqual([asked?.event, asked?.data], ["room.history", { limit: 3 }]);
  await receive(event(3), event(4));
  await ack(asked?.id, { events: [event(1), event(2), event(3)] });
  assert.deepEqual([data(), seen.view?.isLive], [[1, 2, 3, 4], true]);
  await cut(1006, () => assert.equal(seen.view?.isLive, false));
  await ack(sent()?.id, { rooms: { r: joined(2, 5, "complete") } });
  await receive(event(3), event(4), event(5));
  assert.deepEqual([data(), seen.view?.isLive], [[1, 2, 3, 4, 5], true]);
});

test("a room that the application has joined itself is not left for it", async (context) => {
  const { simulation, client, show, sent, allSent, joined, ack, pass } = await page(context);
  const join = client.join("r");
  await ack(sent()?.id, joined(0));
  await simulation.clock.advance(1);
  await join;
  await show(createElement(watcher().Watcher));
  await show(null);
  await pass(10 * GRACE_MS);
  assert.deepEqual(allSent(), []);
});

test("a room that the server joins by itself is not left, also where it is mounted before there is a connection", async (context) => {
  const { simulation, client, show, allSent, receive, pass } = await page(context, null);
  const told: string[] = [];
  client.onRoom(({ name }) => told.push(name));
  const { Watcher, seen, data } = watcher();
  await show(createElement(Watcher));
  await act(async () => simulation.socket.welcome({ rooms: ["r"], last_event_id: "r@k3f9a1qz.3" }));
  await receive(event(4));
  assert.deepEqual([told, seen.view?.isLive, data()], [["r"], true, [4]]);
  await show(null);
  await pass(GRACE_MS);
  assert.deepEqual([allSent(), client.room("r").isJoined], [[], true]);
});

test("a room that is mounted before there is a connection is joined with it, and left", async (context) => {
  const { simulation, show, sent, allSent, answerJoin, pass } = await page(context, null);
  const { Watcher, seen } = watcher({ history: 5 });
  await show(createElement(Watcher));
  await act(async () => simulation.socket.welcome());
  assert.deepEqual((await answerJoin())?.data, { history: 5 });
  assert.equal(seen.view?.isLive, true);
  await show(null);
  await pass(GRACE_MS);
  assert.deepEqual([sent()?.event, allSent()], ["room.leave", []]);
});

test("a client that is closed before there is a connection is an error of the view", async (context) => {
  const { client, show } = await page(context, null);
  const { Watcher, seen } = watcher();
  await show(createElement(Watcher));
  await act(async () => client.close());
  assert.equal(seen.view?.error?.code, "closed");
});

test("a reset begins the list anew, and a page that was asked for before it is not shown", async (context) => {
  const { show, sent, receive, ack, answerJoin } = await page(context);
  const [plain, late] = [watcher(), watcher({ history: 9 })];
  await show(createElement(plain.Watcher, { key: 1 }));
  await answerJoin();
  await receive(event(1), event(2));
  await show([createElement(plain.Watcher, { key: 1 }), createElement(late.Watcher, { key: 2 })]);
  const asked = sent();
  assert.equal(asked?.event, "room.history");
  await receive({
    event: "room.reset",
    room: "r",
    id: "r@zzzzzzzz.7",
    data: { reason: "forked", lost: null, state: { n: 7 } },
  });
  assert.deepEqual([plain.data(), plain.seen.view?.reset?.state], [[], { n: 7 }]);
  await ack(asked?.id, { events: [event(1), event(2)] });
  await receive({ ...event(8), id: "r@zzzzzzzz.8" });
  assert.deepEqual([plain.data(), late.data()], [[8], [8]]);
});

test("a refusal is shown, and who was asked for longest is asked for again", async (context) => {
  const { simulation, show, sent, receive, pass, cut, answerJoin } = await page(context);
  const { Watcher, seen } = watcher();
  await show(createElement(Watcher));
  assert.equal(sent()?.event, "room.join");
  // Nobody answers: the connection is lost by silence, and nothing comes back for two minutes.
  await pass(120_000);
  await act(() => simulation.clock.advance(30_000));
  assert.ok(seen.view?.error === null, "it is asked for again");
  await act(async () => simulation.socket.welcome());
  await answerJoin();
  assert.ok(seen.view.isLive, "it is live");
  await cut();
  await receive({ event: "ack", id: sent()?.id, data: { rooms: { r: { error: "forbidden" } } } });
  const view: RoomView = seen.view;
  assert.deepEqual([view.error?.code, view.isLive, view.events], ["forbidden", false, []]);
});

test("a join that is refused is an error of the view", async (context) => {
  const { show, sent, receive } = await page(context);
  const { Watcher, seen } = watcher();
  await show(createElement(Watcher));
  await receive({ event: "error", id: sent()?.id, data: { code: "unknown_room", message: "no rule" } });
  assert.deepEqual(
    [seen.view?.error?.code, seen.view?.error?.message, seen.view?.isLive],
    ["unknown_room", "no rule", false],
  );
});

test("the connection and the people, as they change", async (context) => {
  const { client, show, sent, receive, ack, cut, answerJoin } = await page(context);
  let shown: unknown;
  function Status() {
    const [{ state, fault, isDegraded }, { members, count }] = [useConnection(), usePresence("r")];
    shown = [state, fault?.status, isDegraded, [...members], count, useClient() === client];
    return null;
  }
  await show(createElement(Status));
  await answerJoin();
  await ack(sent()?.id, { members: [{ user: "ann", info: null }], rev: 1, count: 1 });
  await receive({ event: "presence.join", room: "r", data: { user: "bob", info: 7, rev: 2 } });
  await receive({ event: "session.degraded", data: { degraded: true } });
  assert.deepEqual(shown, [
    "connected",
    undefined,
    true,
    [
      ["ann", null],
      ["bob", 7],
    ],
    2,
    true,
  ]);
  await cut(4110, () => assert.deepEqual((shown as unknown[]).slice(0, 2), ["reconnecting", 4110]));
  assert.deepEqual((shown as unknown[]).slice(0, 3), ["connected", undefined, false]);
  await act(async () => client.close());
  assert.equal((shown as unknown[])[0], "closed");
});

test("why there is no connection is shown also while it goes on trying; who listens to the state hears that once", async (context) => {
  const { simulation, client, show } = await page(context);
  const states: string[] = [];
  client.onState((state) => states.push(state));
  let shown: unknown;
  function Status() {
    const { state, fault } = useConnection();
    shown = [state, fault?.status, fault?.code];
    return null;
  }
  await show(createElement(Status));
  const attempt = async () => {
    const before = simulation.sockets.length;
    while (simulation.sockets.length === before) await act(() => simulation.clock.advance(500));
    await act(async () => simulation.socket.cut());
  };
  await act(async () => simulation.socket.cut(1012));
  assert.deepEqual(shown, ["reconnecting", 1012, null]);
  for (const [status, code] of [
    [429, "connection_limit"],
    [503, "draining"],
  ] as const) {
    simulation.answers.push({ status, body: { code } });
    await attempt();
    assert.deepEqual(shown, ["reconnecting", status, code]);
  }
  assert.deepEqual(states, ["connected", "reconnecting"]);
});

test("no two components of one commit show different lists, also if an event comes while React renders", async (context) => {
  const { simulation, show, receive, answerJoin } = await page(context);
  context.mock.method(console, "error", () => {});
  const committed: [number, number][] = [];
  let rendered: number[] = [];
  let turn: (round: number) => void = () => {};
  let comesMeanwhile: object | null = null;
  const Length = ({ at }: { at: 0 | 1; round: number }) => {
    const length = useRoom("r").events.length;
    rendered[at] = length;
    useLayoutEffect(() => void (committed[committed.length] = [rendered[0]!, rendered[1]!]));
    return null;
  };
  const Between = ({ round }: { round: number }) => {
    if (comesMeanwhile && round > 0) simulation.socket.receive(comesMeanwhile);
    comesMeanwhile = null;
    return null;
  };
  function All() {
    const [round, setRound] = useState(0);
    turn = setRound;
    return [
      createElement(Length, { at: 0, round, key: 0 }),
      createElement(Between, { round, key: 1 }),
      createElement(Length, { at: 1, round, key: 2 }),
    ];
  }
  await show(createElement(All));
  await answerJoin();
  await receive(event(1));
  comesMeanwhile = event(2);
  await act(async () => startTransition(() => turn(1)));
  assert.equal(comesMeanwhile, null);
  assert.ok(committed.length > 2 && committed.every(([first, second]) => first === second), JSON.stringify(committed));
  assert.deepEqual(committed.at(-1), [2, 2]);
});

test("rendered on a server it shows what is known, which is nothing, and asks for nothing", async (context) => {
  const { client, allSent } = await page(context);
  const { renderToString } = await import("react-dom/server");
  const Shown = () => {
    const [{ events, isLive }, { count }, { state }] = [useRoom("r", { history: 5 }), usePresence("r"), useConnection()];
    return createElement("p", null, [events.length, isLive, count, state].join(" "));
  };
  assert.equal(renderToString(createElement(TidingsProvider, { client }, createElement(Shown))), "<p>0 false 0 connected</p>");
  assert.deepEqual(allSent(), []);
});

test("a hook without a provider says what is missing", async (context) => {
  await page(context);
  context.mock.method(console, "error", () => {});
  const root = createRoot(document.createElement("div"));
  const Orphan = () => (useConnection(), null);
  const render = async () => act(async () => root.render(createElement(Orphan)));
  await assert.rejects(render, /no <TidingsProvider client=/);
});
