import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { afterEach, beforeEach, test } from "node:test";
import { inspect } from "node:util";

import { Tidings, TidingsError } from "tidings-server-sdk";

import { SECRET, StandIn } from "./stand_in.ts";

let server: StandIn;
let tidings: Tidings;
beforeEach(async () => {
  server = await StandIn.start();
  tidings = new Tidings({ url: server.url, secret: SECRET });
});
afterEach(async () => {
  tidings.close();
  await server.end();
});

const fails = (about: Partial<TidingsError>) => (error: unknown) => {
  assert.ok(error instanceof TidingsError);
  for (const [name, value] of Object.entries(about))
    assert.equal(error[name as keyof TidingsError], value, `${name} of ${error}`);
  return true;
};

test("a token is signed with the secret, and says what it was told to", () => {
  const part = (token: string, index: number) => Buffer.from(token.split(".")[index]!, "base64url").toString();
  const token = tidings.mintToken({
    user: "ann",
    rooms: ["chat:1"],
    claims: { role: "staff", sub: "eve", exp: 1 },
    expiresIn: 60,
  });
  const { sub, aud, iat, exp, jti, rooms, role } = JSON.parse(part(token, 1));
  assert.deepEqual([sub, aud, exp - iat, rooms, role], ["ann", "tidings", 60, ["chat:1"], "staff"]);
  assert.match(jti, /^[0-9a-f-]{36}$/);
  assert.deepEqual(JSON.parse(part(token, 0)), { alg: "HS256", typ: "JWT" });
  const signed = token.slice(0, token.lastIndexOf("."));
  assert.equal(token.split(".")[2], createHmac("sha256", SECRET).update(signed).digest("base64url"));
  assert.equal(JSON.parse(part(tidings.mintToken({ user: "ann", claims: { aud: "app" } }), 1)).aud, "app");
});

test("what can't work is said at once, with what to do, and no secret is shown", () => {
  assert.throws(() => new Tidings({ url: server.url, secret: "short" }), /openssl rand -hex 32/);
  assert.throws(() => new Tidings({ url: server.url }), /needs the secret/);
  assert.throws(() => new Tidings({ url: "ws://127.0.0.1", secret: SECRET }), /not http/);
  assert.throws(() => tidings.mintToken({ user: "" }), /for a user/);
  for (const expiresIn of [0, Infinity, NaN])
    assert.throws(() => tidings.mintToken({ user: "ann", expiresIn }), new RegExp(`expires in ${expiresIn} seconds`));
  assert.throws(
    () => new Tidings({ url: server.url, key: "k" }).mintToken({ user: "ann" }),
    fails({ code: "secret_missing" }),
  );
  assert.ok(!inspect(tidings, { depth: 9, showHidden: true }).includes("canary"));
});

test("the line break at the end of a secret's file does not count", async () => {
  const fromFile = new Tidings({ url: server.url, secret: `${SECRET}\n` });
  assert.deepEqual(await fromFile.userRooms("ann"), ["chat:lobby"]);
  fromFile.close();
});

test("every call is the request of the page", async () => {
  assert.deepEqual(await tidings.publish("chat:a/b", "news", { hi: 1 }, { excludeSession: "s1", excludeUser: "ann" }), {
    event_id: "chat:a/b@k3f9a1qz.1",
    duplicate: false,
  });
  assert.deepEqual(await tidings.publishToUser("ann", "typing", undefined, { ephemeral: true }), {
    event_id: null,
    duplicate: false,
  });
  await tidings.publish("chat:1", "image", new Uint8Array([0, 255]));
  assert.deepEqual(
    server.events.map(({ room, body }) => [room, body]),
    [
      ["chat:a/b", { event: "news", data: { hi: 1 }, exclude_session: "s1", exclude_user: "ann" }],
      ["user:ann", { event: "typing", data: null, ephemeral: true }],
      ["chat:1", { event: "image", data: "AP8=", encoding: "base64" }],
    ],
  );
  server.asked.length = 0;
  assert.deepEqual(await tidings.members("chat:1", { after: "a&b", limit: 5 }), {
    members: [{ user: "ann", info: null }],
    next: "chat:1?after=a%26b&limit=5",
  });
  assert.equal((await tidings.history("chat:1", { limit: 5 })).events.length, 1);
  assert.deepEqual(await tidings.userRooms("ann@home"), ["chat:lobby"]);
  assert.deepEqual(
    [
      await tidings.join("ann", "chat:1"),
      await tidings.leave("ann", "chat:1"),
      await tidings.disconnect("ann"),
      await tidings.revoke("ann"),
    ],
    [1, 1, 2, 2],
  );
  assert.deepEqual(server.asked, [
    "GET /v1/rooms/chat%3A1/members?after=a%26b&limit=5",
    "GET /v1/rooms/chat%3A1/events?limit=5",
    "GET /v1/users/ann%40home/rooms",
    "PUT /v1/users/ann/rooms/chat%3A1",
    "DELETE /v1/users/ann/rooms/chat%3A1",
    "POST /v1/users/ann/disconnect",
    "POST /v1/users/ann/revoke",
  ]);
});

test("a publish is one event, whatever became of its answer", async () => {
  server.faults.push("lost before", "lost after", { status: 503 }, { status: 429, retryAfter: "0" });
  assert.deepEqual(await tidings.publish("chat:1", "news", 1), { event_id: "chat:1@k3f9a1qz.1", duplicate: true });
  assert.deepEqual([server.asked.length, server.events.length], [5, 1]);
  await tidings.publish("chat:1", "news", 1);
  assert.equal(server.events.length, 2, "another call is another event");
  await tidings.publish("chat:1", "order", 1, { idempotencyKey: "order-7" });
  assert.equal((await tidings.publish("chat:1", "order", 1, { idempotencyKey: "order-7" })).duplicate, true);
  await assert.rejects(
    tidings.publish("chat:1", "order", 2, { idempotencyKey: "order-7" }),
    fails({ code: "idempotency_conflict", status: 409 }),
  );
});

test("a batch that was lost is published once, and says what became of each event", async () => {
  server.faults.push("lost after");
  const results = await tidings.batch([
    { room: "chat:1", event: "a", data: 1, idempotencyKey: "k" },
    { user: "ann", event: "b", data: new Uint8Array([1]) },
    { room: "chat:1", event: "c", idempotencyKey: "k" },
  ]);
  assert.deepEqual(
    results.map((result) => ("error" in result ? result.error.code : result.duplicate)),
    [true, true, "idempotency_conflict"],
  );
  assert.deepEqual(
    server.events.map(({ room }) => room),
    ["chat:1", "user:ann"],
  );
  assert.deepEqual(await tidings.batch([]), []);
});

test("an error has what the server says; what does not pass is not tried again", async () => {
  await assert.rejects(
    tidings.publish("nowhere", "news"),
    fails({
      code: "unknown_room",
      status: 404,
      fix: "name it in [[rooms]]",
      requestId: "req-1",
      message: "it is unknown_room",
      isPassing: false,
    }),
  );
  assert.equal(server.asked.length, 1);
  server.faults.push({ status: 200, body: "<h1>a page</h1>" });
  await assert.rejects(tidings.userRooms("ann"), fails({ code: "no_api", status: 200 }));
  const other = new Tidings({ url: server.url, key: "another key" });
  await assert.rejects(other.userRooms("ann"), fails({ code: "key_unknown", status: 401 }));
  other.close();
});

test("it gives up: after five tries, and at once if the server wants a long pause", async () => {
  server.faults.push({ status: 429, retryAfter: "60" });
  await assert.rejects(
    tidings.userRooms("ann"),
    fails({ code: "rate_limited", retryAfterMs: 60_000, isPassing: true }),
  );
  assert.equal(server.asked.length, 1);
  server.faults.push(...Array<"lost before">(5).fill("lost before"));
  await assert.rejects(tidings.publish("chat:1", "news"), fails({ code: "unreachable", status: null }));
  assert.equal(server.asked.length, 6);
  server.faults.push("silence");
  const hasty = new Tidings({ url: server.url, secret: SECRET, timeoutMs: 50 });
  assert.deepEqual(await hasty.userRooms("ann"), ["chat:lobby"]);
  hasty.close();
  await assert.rejects(hasty.userRooms("ann"), fails({ code: "closed" }));
});

test("connections are kept and bounded, and so are the requests that wait", async () => {
  for (let count = 0; count < 20; count += 1) await tidings.userRooms("ann");
  assert.equal(server.sockets.size, 1);
  let open!: (value: unknown) => void;
  server.gate = new Promise((resolve) => (open = resolve));
  const waiting = Array.from({ length: 1024 }, () => tidings.userRooms("ann"));
  await assert.rejects(tidings.userRooms("ann"), fails({ code: "queue_full" }));
  open(undefined);
  await Promise.all(waiting);
  assert.equal(server.socketsMax, 16);
});
