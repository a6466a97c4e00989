import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from "node:net";
import type { Duplex, Readable } from "node:stream";
import { test, type TestContext } from "node:test";

import { attach, type Attached } from "tidings-server-sdk";
import { WebSocketServer } from "ws";

const portOf = (server: Server) => (server.address() as AddressInfo).port;

async function listening(context: TestContext, listener?: RequestListener): Promise<Server> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return server;
}

/** A stand-in for Tidings that takes every upgrade, and what it was asked. */
class Upstream {
  readonly asked: IncomingMessage[] = [];
  readonly sockets: Duplex[] = [];
  readonly server: Server;
  #arrived = () => {};

  constructor(server: Server) {
    this.server = server;
    server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.asked.push(request);
      this.sockets.push(socket);
      socket.on("error", () => {});
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Said: by Tidings\r\n\r\nfirst",
      );
      if (head.length) socket.unshift(head);
      this.#arrived();
    });
  }

  /** The next socket that is upgraded. */
  async socket(): Promise<Duplex> {
    if (!this.sockets.length) await new Promise<void>((resolve) => (this.#arrived = resolve));
    return this.sockets.shift()!;
  }
}

async function attached(context: TestContext, application?: RequestListener) {
  const upstream = new Upstream(await listening(context));
  const server = await listening(context, application ?? ((_, response) => void response.end("the application")));
  const relay = attach(server, { url: `http://127.0.0.1:${portOf(upstream.server)}` });
  context.after(() => relay.close());
  return { upstream, server, relay };
}

const UPGRADE =
  "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

function client(context: TestContext, server: Server, text: string): Socket {
  const socket = connect(portOf(server), "127.0.0.1");
  context.after(() => socket.destroy());
  socket.on("error", () => {});
  socket.write(text);
  return socket;
}

/** Reads until it has these words. */
async function reads(socket: Duplex, words: string): Promise<string> {
  let text = "";
  while (!text.includes(words)) {
    const chunk = socket.read() as Buffer | null;
    if (chunk) text += chunk.toString("latin1");
    else await once(socket, "readable");
    assert.ok(!socket.readableEnded || text.includes(words), `it ended after: ${text}`);
  }
  return text;
}

/** Reads to the end. */
async function all(socket: Readable): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

test("an upgrade arrives as it was sent, with who sent it, and its 101 as it was answered; then bytes go both ways", async (context) => {
  const { upstream, server, relay } = await attached(context);
  const socket = client(
    context,
    server,
    `GET /ws?token=a%2Fb&x HTTP/1.1\r\nHost: example.com\r\nCookie: a=1\r\nCookie: b=2\r\nX-Forwarded-For: 9.9.9.9\r\nOrigin: http://example.com\r\n${UPGRADE}\r\nearly`,
  );
  assert.equal(
    await reads(socket, "first"),
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Said: by Tidings\r\n\r\nfirst",
  );
  const tidings = await upstream.socket();
  await reads(tidings, "early");
  const [{ url, headers }] = upstream.asked as [IncomingMessage];
  assert.equal(url, "/ws?token=a%2Fb&x");
  assert.deepEqual(
    [
      headers.host,
      headers["x-forwarded-for"],
      headers.cookie,
      headers.origin,
      headers.connection,
      headers["sec-websocket-key"],
    ],
    ["example.com", "9.9.9.9, 127.0.0.1", "a=1; b=2", "http://example.com", "Upgrade", "dGhlIHNhbXBsZSBub25jZQ=="],
  );
  socket.write("up");
  await reads(tidings, "up");
  tidings.write("down");
  await reads(socket, "down");
  assert.equal(relay.connections, 1);
});

test("a refusal arrives unchanged, to an upgrade and to a plain request; nothing gets through behind it", async (context) => {
  const asked: string[] = [];
  // Without a listener for upgrades Node takes each for a plain request, and goes on reading behind it.
  const upstream = await listening(context, (request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers["x-forwarded-for"]}`);
    response.sendDate = false;
    response
      .writeHead(401, "Nobody", ["WWW-Authenticate", "Bearer", "X-Two", "1", "X-Two", "2", "Content-Length", "4"])
      .end("told");
  });
  const server = await listening(context, (_, response) => void response.end("the application"));
  attach(server, { url: `http://127.0.0.1:${portOf(upstream)}` });
  const head = "HTTP/1.1 401 Nobody\r\nWWW-Authenticate: Bearer\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 4\r\n";
  const behind = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
  const lengths = ["", `Content-Length: ${behind.length}\r\n`, "Transfer-Encoding: chunked\r\n"];
  for (const length of lengths) {
    const refused = client(context, server, `GET /ws HTTP/1.1\r\nHost: a\r\n${length}${UPGRADE}\r\n${behind}`);
    assert.equal(await all(refused), `${head}Connection: close\r\n\r\ntold`);
  }
  const plain = client(context, server, "GET /ws?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  assert.equal(await all(plain), `${head}Connection: close\r\n\r\ntold`);
  assert.deepEqual(asked, [...lengths.map(() => "GET /ws 127.0.0.1"), "GET /ws?x=1 127.0.0.1"]);
});

test("the body of a plain request goes nowhere, however it came, and the next request of its connection is looked at", async (context) => {
  // What Tidings gets, byte for byte: a parser would already have its own idea of it.
  let got = "";
  const upstream = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
      if (got.endsWith("\r\n\r\n")) socket.end("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\n\r\ntold");
    });
  }).listen(0, "127.0.0.1");
  await once(upstream, "listening");
  context.after(() => upstream.close());
  const server = await listening(context, (_, response) => void response.end("the application"));
  attach(server, { url: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}` });
  const behind = "GET /metrics HTTP/1.1\r\nHost: smuggled\r\n\r\n";
  const framings = [
    [`Content-Length: ${behind.length}\r\nConnection: content-length\r\n`, behind],
    [`Content-Length: ${behind.length}\r\n`, behind],
    ["Transfer-Encoding: chunked\r\n", `${behind.length.toString(16)}\r\n${behind}\r\n0\r\n\r\n`],
    [`Content-Length: ${behind.length}\r\nExpect: 100-continue\r\n`, behind],
  ];
  for (const method of ["GET", "POST", "DELETE", "OPTIONS"])
    for (const [framing, body] of framings) {
      got = "";
      const socket = client(context, server, `${method} /ws HTTP/1.1\r\nHost: a\r\n${framing}\r\n${body}`);
      assert.match(await reads(socket, "told"), / 426 Upgrade Required\r\n/);
      socket.write("GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      assert.match(await all(socket), /^HTTP\/1\.1 200 OK\r\n.*the application/s);
      assert.match(got, new RegExp(`^${method} /ws HTTP/1\\.1\\r\\n(?:[^\\r\\n]+\\r\\n)+\\r\\n$`));
      assert.doesNotMatch(got, /smuggled|transfer-encoding|expect|content-length: [1-9]/i);
    }
});

test("other paths are the application's, and so are upgrades that nobody else takes", async (context) => {
  const { upstream, server } = await attached(
    context,
    (request, response) => void response.end(`application ${request.url}`),
  );
  const url = `http://127.0.0.1:${portOf(server)}`;
  assert.equal(await (await fetch(`${url}/wsx`)).text(), "application /wsx");
  assert.match(
    await reads(
      client(context, server, `GET /page HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n`),
      "application /page",
    ),
    /^HTTP\/1\.1 200 OK\r\n/,
  );
  server.on("upgrade", (request: IncomingMessage, socket: Duplex) => {
    if (request.url === "/other") socket.end("HTTP/1.1 101 Other\r\n\r\nother");
  });
  assert.equal(
    await all(client(context, server, `GET /other HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`)),
    "HTTP/1.1 101 Other\r\n\r\nother",
  );
  assert.equal(upstream.asked.length, 0);
});

test("a request with a body that offers an upgrade nobody takes comes with its body, and so does the next of its connection", async (context) => {
  const { upstream, server } = await attached(context, async (request, response) => {
    const { upgrade, connection, "http2-settings": settings } = request.headers;
    response.end(JSON.stringify([request.method, request.url, await all(request), upgrade, settings, connection]));
  });
  // As curl --http2 and Java's client ask.
  const offer = "Connection: keep-alive, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
  const socket = client(context, server, `POST /a HTTP/1.1\r\nHost: a\r\n${offer}Content-Length: 9\r\n\r\nhalf`);
  socket.write("-half");
  assert.match(await reads(socket, "]"), /\["POST","\/a","half-half",null,null,"keep-alive,\s*"\]/);
  socket.write(`PUT /b HTTP/1.1\r\nHost: a\r\n${offer}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`);
  assert.match(await reads(socket, "]"), /\["PUT","\/b","abc",null,null/);
  assert.equal(upstream.asked.length, 0);
});

test("what offers an upgrade behind a request that is still being answered waits for that answer, whoever gives it", async (context) => {
  const answer: (() => void)[] = [];
  const { server } = await attached(context, (request, response) => {
    if (request.url === "/slow") answer.push(() => response.end("slow"));
    else response.end(`application ${request.url}`);
  });
  const refusing = await listening(context, (_, response) => void response.writeHead(401).end("refused"));
  const refused = await listening(context, server.listeners("request")[0] as RequestListener);
  context.after(attach(refused, { url: `http://127.0.0.1:${portOf(refusing)}` }).close);
  // As socket.io puts itself before the listeners that it finds.
  const [application] = refused.listeners("request") as RequestListener[];
  refused.removeAllListeners("request");
  refused.on("request", application!);
  for (const [to, offer, words] of [
    [server, `GET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`, "X-Said: by Tidings"],
    [refused, `GET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`, "refused"],
    [server, "GET /page HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "application /page"],
  ] as const) {
    const socket = client(context, to, `GET /slow HTTP/1.1\r\nHost: a\r\n\r\n${offer}`);
    while (!answer.length) await new Promise((resolve) => setImmediate(resolve));
    answer.pop()!();
    assert.match(await reads(socket, words), /^HTTP\/1\.1 200 OK\r\n.*slow.*HTTP\/1\.1 /s);
  }
});

test("a client that is gone before the answer in front of its upgrade leaves nothing behind", async (context) => {
  const { server, upstream } = await attached(context, (_, response) => void response.write("slow"));
  const socket = client(context, server, `GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`);
  const [{ socket: accepted }] = (await once(server, "request")) as [IncomingMessage];
  await reads(socket, "slow");
  const closed = new Promise((resolve) => accepted.once("close", resolve));
  socket.resetAndDestroy();
  await closed;
  assert.equal(upstream.asked.length, 0);
});

test("a server of WebSockets beside it, which refuses every path but its own, keeps that and no more", async (context) => {
  for (const isFirst of [true, false]) {
    const upstream = new Upstream(await listening(context));
    const server = await listening(context);
    const beside = () => new WebSocketServer({ server, path: "/other" });
    const first = isFirst && beside();
    const relay = attach(server, { url: `http://127.0.0.1:${portOf(upstream.server)}` });
    const others = first || beside();
    others.on("connection", (socket) => socket.send("hello"));
    context.after(() => (relay.close(), others.clients.forEach((socket) => socket.terminate())));
    await reads(client(context, server, `GET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`), "X-Said: by Tidings");
    await reads(client(context, server, `GET /other HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`), "hello");
    assert.match(
      await all(client(context, server, `GET /nobody HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`)),
      /^HTTP\/1\.1 400 /,
    );
  }
});

test("clients have a path of the application's; Tidings is asked at its own", async (context) => {
  const upstream = new Upstream(await listening(context));
  const url = `http://127.0.0.1:${portOf(upstream.server)}`;
  for (const [at, asked] of [
    [url, "/ws?token=a"],
    [`${url}/own`, "/own?token=a"],
  ]) {
    const server = await listening(context);
    const relay = attach(server, { path: "/realtime", url: at! });
    context.after(() => relay.close());
    await reads(client(context, server, `GET /realtime?token=a HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`), "X-Said: by Tidings");
    assert.equal(upstream.asked.pop()?.url, asked);
  }
});

test("over TLS it is Tidings' own name that is asked for and checked, whatever name the client used", async (context) => {
  for (const host of ["localhost", "127.0.0.1"]) {
    // The name that is asked for stands in the first bytes, which nobody has encrypted yet.
    let hello = "";
    const upstream = createTcpServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (bytes) => {
        hello = bytes.toString("latin1");
        socket.destroy();
      });
    }).listen(0, "127.0.0.1");
    await once(upstream, "listening");
    context.after(() => upstream.close());
    const server = await listening(context);
    context.after(attach(server, { url: `https://${host}:${(upstream.address() as AddressInfo).port}` }).close);
    const answer = await all(client(context, server, "GET /ws HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n"));
    assert.match(answer, /^HTTP\/1\.1 502 /);
    assert.deepEqual([hello.includes("app.example.com"), hello.includes("localhost")], [false, host === "localhost"]);
  }
});

test("without Tidings the answer is 502 with what to do, for both kinds of requests", async (context) => {
  const { upstream, server } = await attached(context);
  upstream.server.close();
  const url = `http://127.0.0.1:${portOf(server)}`;
  const plain = await fetch(`${url}/ws`);
  assert.deepEqual([plain.status, plain.headers.get("content-type")], [502, "application/problem+json"]);
  const { code, fix, detail } = (await plain.json()) as { code: string; fix: string; detail: string };
  assert.equal(code, "upstream_unreachable");
  assert.match(`${detail} ${fix}`, /ECONNREFUSED.*attach\(\)/);
  const upgrade = await all(client(context, server, `GET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`));
  assert.match(
    upgrade,
    /^HTTP\/1\.1 502 Bad Gateway\r\ncontent-type: application\/problem\+json\r\n.*upstream_unreachable/is,
  );
  assert.equal(await (await fetch(url)).text(), "the application");
});

test("an answer that breaks off is the end of that client's connection, and of nothing else", async (context) => {
  const upstream = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nhalf"));
    cut.push(() => socket.resetAndDestroy());
  }).listen(0, "127.0.0.1");
  const cut: (() => void)[] = [];
  await once(upstream, "listening");
  context.after(() => upstream.close());
  const server = await listening(context, (_, response) => void response.end("the application"));
  const relay = attach(server, { url: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}` });
  context.after(() => relay.close());
  for (const kind of [UPGRADE, ""]) {
    const socket = client(context, server, `GET /ws HTTP/1.1\r\nHost: a\r\n${kind}\r\n`);
    await reads(socket, "half");
    cut.pop()!();
    await once(socket, "close");
  }
  assert.equal(await (await fetch(`http://127.0.0.1:${portOf(server)}`)).text(), "the application");
});

async function joined(context: TestContext) {
  const { upstream, server, relay } = await attached(context);
  const socket = client(context, server, `GET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`);
  await reads(socket, "first");
  return { socket, tidings: await upstream.socket(), relay, server };
}

/** Waits until nothing is relayed any more. */
async function none(relay: Attached): Promise<void> {
  while (relay.connections) await new Promise((resolve) => setImmediate(resolve));
}

test("the end of either side is the other's, after its last words", async (context) => {
  const first = await joined(context);
  first.tidings.end("goodbye");
  assert.equal(await all(first.socket), "goodbye");
  first.socket.end();
  await none(first.relay);
  const second = await joined(context);
  second.socket.end("goodbye");
  assert.equal(await all(second.tidings), "goodbye");
  second.tidings.end();
  await none(second.relay);
});

test("a cut of either side is the other's", async (context) => {
  const first = await joined(context);
  first.socket.resetAndDestroy();
  assert.equal(await all(first.tidings), "");
  const second = await joined(context);
  (second.tidings as Socket).resetAndDestroy();
  assert.equal(await all(second.socket), "");
  await Promise.all([none(first.relay), none(second.relay)]);
});

test("a client that is gone before Tidings has answered leaves nothing behind", async (context) => {
  const upstream = await listening(context);
  const server = await listening(context);
  const relay = attach(server, { url: `http://127.0.0.1:${portOf(upstream)}` });
  const socket = client(context, server, `GET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`);
  const [, tidings] = (await once(upstream, "upgrade")) as [IncomingMessage, Duplex];
  tidings.on("error", () => {});
  socket.destroy();
  tidings.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst");
  assert.equal(await all(tidings), "");
  tidings.end();
  await none(relay);
});

test("who does not read holds the other up, and nothing piles up in between", async (context) => {
  for (const from of ["tidings", "socket"] as const) {
    const both = await joined(context);
    const [writer, reader] = from === "tidings" ? [both.tidings, both.socket] : [both.socket, both.tidings];
    reader.pause();
    const before = process.memoryUsage().arrayBuffers;
    let sent = 0;
    const piece = Buffer.alloc(64 * 1024);
    // Until the kernel's own buffers are full too: it takes no more.
    while (sent < 512 * 1024 * 1024) {
      sent += piece.length;
      if (writer.write(piece)) continue;
      const drained = await Promise.race([once(writer, "drain").then(() => true), stalled(writer)]);
      if (!drained) break;
    }
    assert.ok(sent < 64 * 1024 * 1024, `${sent} bytes went to nobody`);
    assert.ok(process.memoryUsage().arrayBuffers - before < 16 * 1024 * 1024);
    writer.end();
    let read = 0;
    for await (const chunk of reader) read += (chunk as Buffer).length;
    assert.equal(read, sent);
  }
});

/** False once this socket has taken nothing for a hundred turns of the loop in a row. */
async function stalled(socket: Duplex): Promise<false> {
  let last = -1;
  for (let turns = 0; turns < 100; turns += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    if ((socket as Socket).bytesWritten - socket.writableLength === last) continue;
    last = (socket as Socket).bytesWritten - socket.writableLength;
    turns = 0;
  }
  return false;
}

test("close() gives the server back, and ends what is open", async (context) => {
  const { socket, tidings, relay, server } = await joined(context);
  relay.close();
  assert.equal(await all(socket), "");
  assert.equal(await all(tidings), "");
  assert.equal(await (await fetch(`http://127.0.0.1:${portOf(server)}/ws`)).text(), "the application");
});

test("close() gives a request to the application once, also where others have wrapped its listener since", async (context) => {
  let served = 0;
  const { server, relay } = await attached(context, (_, response) => void response.end(`served ${(served += 1)}`));
  // As socket.io does.
  const wrapped = server.listeners("request");
  server.removeAllListeners("request");
  server.on("request", (...args) => wrapped.forEach((listener) => listener.call(server, ...args)));
  relay.close();
  for (const [path, text] of [
    ["/", "served 1"],
    ["/ws", "served 2"],
  ])
    assert.equal(await (await fetch(`http://127.0.0.1:${portOf(server)}${path}`)).text(), text);
});

test("an upgrade that Tidings answers after close() stays with nobody", async (context) => {
  const upstream = await listening(context);
  const server = await listening(context);
  const relay = attach(server, { url: `http://127.0.0.1:${portOf(upstream)}` });
  const socket = client(context, server, `GET /ws HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`);
  const [, tidings] = (await once(upstream, "upgrade")) as [IncomingMessage, Duplex];
  tidings.on("error", () => {});
  relay.close();
  const closed = new Promise((resolve) => server.close(resolve));
  tidings.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst");
  assert.equal(await all(socket), "");
  assert.equal(await all(tidings), "");
  await closed;
  assert.equal(relay.connections, 0);
});
