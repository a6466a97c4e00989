/**
 * The driver of the scenario that all SDKs play: one client, commands as JSON lines on stdin, what the application sees as
 * JSON lines on stdout. It uses what the package exports and nothing else.
 *
 * node --import tsx test/driver.ts
 */

import { createInterface } from "node:readline";

import WebSocket from "ws";

import { Client, RequestError, type Room } from "../src/index.ts";

interface Command {
  readonly do: "connect" | "token" | "join" | "leave" | "request" | "send" | "members" | "close";
  readonly url: string;
  readonly token: string;
  readonly room: string;
  readonly event: string;
  readonly history?: number;
  readonly data?: unknown;
  readonly base64?: string;
  readonly as: string;
}

/** Bytes stand as `base64` in the place of `data`. */
const fromLine = ({ data, base64 }: Command) =>
  base64 === undefined ? data : new Uint8Array(Buffer.from(base64, "base64"));
const toLine = (data: unknown) => (data instanceof Uint8Array ? { base64: Buffer.from(data).toString("base64") } : { data });

/** One message a turn, as in browsers, so that an answer and the event behind it are seen in their order. */
class InTurns extends WebSocket {
  constructor(url: string, protocols: string[]) {
    super(url, protocols, { allowSynchronousEvents: false });
  }
}

let client: Client;
let token = "";
const watched = new Set<Room>();

function saw(saw: string, rest: object): void {
  process.stdout.write(`${JSON.stringify({ saw, ...rest })}\n`);
}

function connect(url: string): void {
  client = new Client(url, { WebSocket: InTurns, token: () => token });
  client.onState((state) => {
    const { code = null, status = null } = client.fault ?? {};
    saw("state", state === "refused" ? { state, code, status } : { state });
  });
  client.onDegraded((degraded) => saw("degraded", { degraded }));
}

/** The room, with a listener for all that it tells. */
function watch(name: string): Room {
  const room = client.room(name);
  if (watched.has(room)) return room;
  watched.add(room);
  room.onEvent(({ event, id, from, data }) => saw("event", { room: name, event, id, from, ...toLine(data) }));
  room.onReset(({ reason, id, state }) => saw("reset", { room: name, reason, id, state }));
  room.onCaughtUp((caughtUp) => saw("caught_up", { room: name, ...caughtUp }));
  room.onLost((code) => saw("lost", { room: name, code }));
  return room;
}

/** Says how something ended that was asked `as` this. */
function answer(as: string, asked: Promise<unknown>, shown: (result: unknown) => object = () => ({})): void {
  asked.then(
    (result) => saw("answer", { as, ...shown(result) }),
    (error: unknown) => saw("answer", { as, error: error instanceof RequestError ? error.code : String(error) }),
  );
}

/** The result of a publish; one that its own event has answered may not say whether it was the first. */
function published(result: unknown): object {
  const { event_id, duplicate = false } = (result ?? {}) as { event_id?: string; duplicate?: boolean };
  return { event_id, duplicate };
}

function obey(command: Command): void {
  const { room, event } = command;
  switch (command.do) {
    case "connect":
      token = command.token;
      return connect(command.url);
    case "token":
      token = command.token;
      return;
    case "join":
      return answer(command.as, watch(room).join(command.history === undefined ? {} : { history: command.history }));
    case "leave":
      return answer(command.as, watch(room).leave());
    case "request":
      return answer(command.as, watch(room).request(event, fromLine(command)), published);
    case "send":
      watch(room).send(event, fromLine(command));
      return;
    case "members":
      watch(room).presence.onChange((members) => saw("members", { room, users: [...members.keys()].sort() }));
      return;
    case "close":
      client.close();
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => obey(JSON.parse(line) as Command));
lines.on("close", () => {
  client?.close();
  // When what was still asked for has been told of its end. A network that is dead must not keep the process.
  setImmediate(() => process.exit(0));
});
