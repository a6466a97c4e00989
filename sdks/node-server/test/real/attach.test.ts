/** `attach` in front of a real server: what a client is told, and what becomes of its messages. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { after, before, test } from "node:test";

import express from "express";
import { attach } from "tidings-server-sdk";
import { WebSocket } from "ws";

import { ServerProcess } from "../../../../pages/test/servers.ts";
import { Client } from "../../../typescript/src/index.ts";

let dev: ServerProcess;
let application: Server;
let port: number;
before(async () => {
  dev = await ServerProcess.dev();
  const app = express();
  app.get("/page", (_request, response) => void response.send("the application"));
  application = createServer(app).listen(0, "127.0.0.1");
  await once(application, "listening");
  port = (application.address() as AddressInfo).port;
  attach(application, { url: `http://127.0.0.1:${dev.port}` });
});
after(async () => {
  application.closeAllConnections();
  application.close();
  await dev.end();
});

const clientOf = (user: string) =>
  new Client(`ws://127.0.0.1:${port}/ws`, { WebSocket: WebSocket as never, token: dev.devToken(user) });

/** All that is answered to a handshake, but what differs each time. */
async function handshake(
  at: number,
  query: string,
  upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
) {
  const socket = connect(at, "127.0.0.1");
  socket.write(`GET /ws${query} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${upgrade || "Connection: close\r\n"}\r\n`);
  let text = "";
  for await (const chunk of socket) {
    text += String(chunk);
    // Tidings keeps a refused connection for another request; the application's is closed.
    const [, length, body] = /content-length: (\d+)\r\n.*?\r\n\r\n(.*)$/is.exec(text) ?? [];
    if (length !== undefined && body!.length >= Number(length)) break;
  }
  socket.destroy();
  return text
    .split("\r\n")
    .filter((line) => !/^(date|connection):/i.test(line))
    .map((line) => line.replace(/^[\w-]+:/, (name) => name.toLowerCase()))
    .sort();
}

test("every refusal is Tidings' own, word for word", async () => {
  const good = `?token=${dev.devToken("ann")}`;
  for (const query of ["", "?token=nonsense", `${good}&last_event_id=nonsense`]) {
    const direct = await handshake(dev.port, query);
    assert.deepEqual(await handshake(port, query), direct);
    assert.match(direct.join(), /HTTP\/1.1 40[01] /);
    assert.deepEqual(await handshake(port, query, ""), await handshake(dev.port, query, ""));
  }
  assert.match((await handshake(port, good, "")).join(), /HTTP\/1.1 426 .*upgrade_required/);
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/page`)).text(), "the application");
});

test("a conversation: acks, presence, binary frames, and a large one", async () => {
  const [ann, bob] = [clientOf("ann"), clientOf("bob")];
  const [hers, his] = [await ann.join("chat:1"), await bob.join("chat:1")];
  const heard: unknown[] = [];
  const all = new Promise<void>((resolve) => {
    his.on("say", ({ data }) => {
      heard.push(data instanceof Uint8Array ? data.length : data);
      if (heard.length === 3) resolve();
    });
  });
  await hers.request("say", { hello: 1 });
  await hers.request("say", new Uint8Array(200_000));
  await hers.request("say", "x".repeat(60_000));
  await all;
  assert.deepEqual(heard, [{ hello: 1 }, 200_000, "x".repeat(60_000)]);
  ann.close();
  bob.close();
});

test("close codes pass both ways", async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${dev.devToken("ann")}`, "tidings.v1");
  await once(socket, "open");
  assert.equal(socket.protocol, "tidings.v1");
  socket.close(1000, "done");
  assert.deepEqual((await once(socket, "close"))[0], 1000);
  const wrong = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${dev.devToken("ann")}`);
  await once(wrong, "open");
  wrong.send(Buffer.alloc(10 * 1024 * 1024));
  assert.equal((await once(wrong, "close"))[0], 1009);
});

test("what was missed while Tidings was away is there, through the same port", async () => {
  const ann = clientOf("ann");
  const room = await ann.join("chat:2");
  await room.request("say", 1);
  await dev.kill();
  const lost = once(await refused(), "end");
  await lost;
  const reset = new Promise<void>((resolve) => void room.onReset(() => resolve()));
  const waiting = room.request("say", 2);
  await dev.start();
  await Promise.all([reset, waiting]);
  ann.close();
});

/** An upgrade that is answered while nobody is behind the application: 502. */
async function refused() {
  const socket = connect(port, "127.0.0.1");
  socket.write("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  const [answer] = (await once(socket, "data")) as [Buffer];
  assert.match(String(answer), /^HTTP\/1\.1 502 /);
  return socket.resume();
}
