/** A server with the limits that it has by itself: what is asked for at once is neither refused nor out of order. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import WebSocket from "ws";

import { Client } from "../../src/index.ts";
import { mint, socketOf, startServer, type ServerProcess } from "./configured.ts";

const REQUESTS = 256;

let server: ServerProcess;
before(async () => (server = await startServer({ limits: "" })));
after(() => server.end());

/** Counts what is sent and what is refused. */
class Counting extends WebSocket {
  static sent = 0;
  static refused: string[] = [];

  constructor(url: string, protocols: string[]) {
    super(url, protocols);
    this.on("message", (frame) => {
      const text = String(frame);
      if (text.startsWith('{"event":"error"')) Counting.refused.push(text);
    });
  }

  override send(frame: Parameters<WebSocket["send"]>[0]): void {
    Counting.sent += 1;
    super.send(frame);
  }
}

test("256 requests at once arrive in their order at another client, and none is refused", { timeout: 60_000 }, async () => {
  const writer = new Client(socketOf(server), { WebSocket: Counting, token: mint({ sub: "ann" }) });
  const reader = new Client(socketOf(server), { WebSocket, token: mint({ sub: "bob" }) });
  const numbers = Array.from({ length: REQUESTS }, (_, number) => number);
  const seen: unknown[] = [];
  const room = await reader.join("r");
  const all = new Promise<void>((resolve) => room.on("say", ({ data }) => seen.push(data) === REQUESTS && resolve()));
  const own = await writer.join("r");
  await Promise.all(numbers.map((number) => own.request("say", number)));
  await all;
  assert.deepEqual(seen, numbers);
  assert.deepEqual(Counting.refused, []);
  assert.equal(Counting.sent, REQUESTS + 1, "each once, and the join");
  for (const client of [writer, reader]) client.close();
});
