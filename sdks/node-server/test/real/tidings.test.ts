/** Everything of the SDK with a real server, and what clients see of it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { once } from "node:events";
import { after, before, test } from "node:test";

import { Tidings, TidingsError } from "tidings-server-sdk";
import { WebSocket } from "ws";

import { DEV_SECRET, ServerProcess } from "../../../../pages/test/servers.ts";
import { Client, type Event } from "../../../typescript/src/index.ts";

let dev: ServerProcess;
let tidings: Tidings;
before(async () => {
  dev = await ServerProcess.dev();
  tidings = new Tidings({ url: `http://127.0.0.1:${dev.port}`, secret: DEV_SECRET });
});
after(async () => {
  tidings.close();
  await dev.end();
});

const clientOf = (user: string) =>
  new Client(`ws://127.0.0.1:${dev.port}/ws`, {
    WebSocket: WebSocket as never,
    token: async () => tidings.mintToken({ user }),
  });

/** The next so many events of a room, once they are there. */
function heard(
  room: { onEvent(listener: (event: Event<unknown>) => void): unknown },
  count: number,
): Promise<Event<unknown>[]> {
  const events: Event<unknown>[] = [];
  return new Promise((resolve) =>
    room.onEvent((event) => {
      events.push(event);
      if (events.length === count) resolve(events);
    }),
  );
}

const hasCode = (code: string) => (error: unknown) => error instanceof TidingsError && error.code === code;

test("what is published is heard, stored, and one event for one key", async () => {
  const ann = clientOf("ann");
  const room = await ann.join("chat:1");
  const events = heard(room, 3);
  const first = await tidings.publish("chat:1", "news", { hi: 1 }, { idempotencyKey: "key-1" });
  assert.equal(first.duplicate, false);
  assert.deepEqual(await tidings.publish("chat:1", "news", { hi: 1 }, { idempotencyKey: "key-1" }), {
    ...first,
    duplicate: true,
  });
  await assert.rejects(
    tidings.publish("chat:1", "news", 2, { idempotencyKey: "key-1" }),
    hasCode("idempotency_conflict"),
  );
  await tidings.publish("chat:1", "image", new Uint8Array([0, 255]));
  assert.deepEqual(await tidings.publish("chat:1", "typing.start", null, { ephemeral: true }), {
    event_id: null,
    duplicate: false,
  });
  assert.deepEqual(
    (await events).map(({ event, data }) => [event, data]),
    [
      ["news", { hi: 1 }],
      ["image", new Uint8Array([0, 255])],
      ["typing.start", null],
    ],
  );
  const { events: stored } = await tidings.history("chat:1", { limit: 10 });
  assert.deepEqual(stored.map(({ id, event }) => [id, event])[0], [first.event_id, "news"]);
  assert.equal(stored.length, 2);
  assert.deepEqual(
    (await tidings.members("chat:1")).members.map(({ user }) => user),
    ["ann"],
  );
  assert.equal((await tidings.room("chat:1")).members, 1);
  await tidings.redact("chat:1", first.event_id!);
  assert.deepEqual(
    (await tidings.history("chat:1")).events.filter(({ event }) => event === "news"),
    [],
  );
  ann.close();
});

test("a batch to rooms and users: each has its own result", async () => {
  const bob = clientOf("bob");
  const own = bob.room("user:bob");
  const events = heard(own, 2);
  await bob.join("chat:2");
  const results = await tidings.batch([
    { user: "bob", event: "mail", data: 1 },
    { room: "no room's name", event: "mail", data: 2 },
    { user: "bob", event: "mail", data: 3 },
  ]);
  assert.deepEqual(
    results.map((result) => "error" in result),
    [false, true, false],
  );
  assert.deepEqual(
    (await events).map(({ data }) => data),
    [1, 3],
  );
  assert.equal((await tidings.publishToUser("bob", "mail", 4)).duplicate, false);
  bob.close();
});

test("a user who is called like a step in a path is one", async () => {
  for (const user of [".", ".."]) {
    const client = clientOf(user);
    await client.join("chat:5");
    assert.ok((await tidings.userRooms(user)).includes("chat:5"));
    const { user: found, online } = await tidings.presence(user);
    assert.deepEqual([found, online], [user, true]);
    assert.equal(await tidings.leave(user, "chat:5"), 1);
    assert.equal(await tidings.revoke(user), 1);
    client.close();
  }
});

test("users: their rooms, joined, taken out, sent away", async () => {
  const ann = clientOf("cleo");
  await ann.join("chat:3");
  assert.deepEqual(
    (await tidings.userRooms("cleo")).filter((room) => room !== "user:cleo"),
    ["chat:3"],
  );
  assert.equal(await tidings.join("cleo", "chat:4"), 1);
  assert.equal(await tidings.leave("cleo", "chat:3"), 1);
  assert.deepEqual(
    (await tidings.userRooms("cleo")).filter((room) => room !== "user:cleo"),
    ["chat:4"],
  );
  const { online, connections } = await tidings.presence("cleo");
  assert.deepEqual([online, connections], [true, 1]);
  assert.equal((await tidings.sessions("cleo")).length, 1);
  const closed = new Promise<number | null>((resolve) =>
    ann.onState((state) => state === "closed" && resolve(ann.fault!.status)),
  );
  assert.equal(await tidings.disconnect("cleo"), 1);
  assert.equal(await closed, 4006);
  const token = tidings.mintToken({ user: "cleo" });
  await tidings.revoke("cleo");
  const refused = new WebSocket(`ws://127.0.0.1:${dev.port}/ws?token=${token}`);
  assert.match(String((await once(refused, "error"))[0]), /401/);
  const { jti } = JSON.parse(
    Buffer.from(tidings.mintToken({ user: "dan" }).split(".")[1]!, "base64url").toString(),
  ) as { jti: string };
  await tidings.revokeToken(jti);
  assert.equal((await tidings.nodes()).length, 1);
});

test("errors have the server's code, its fix and the request's name", async () => {
  const stranger = new Tidings({ url: `http://127.0.0.1:${dev.port}`, key: "0".repeat(64) });
  await assert.rejects(stranger.userRooms("ann"), (error) => {
    assert.ok(error instanceof TidingsError);
    assert.deepEqual(
      [error.code, error.status, typeof error.fix, typeof error.requestId],
      ["key_unknown", 401, "string", "string"],
    );
    return true;
  });
  stranger.close();
  await assert.rejects(tidings.publish("chat:1", "room.reset", {}), hasCode("invalid"));
});

test("the README's ten lines, beside `tidings dev`", async () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const [, code] = /^```js\n(.*?)^```$/ms.exec(readme)!;
  assert.ok(code!.split("\n").filter(Boolean).length <= 10, "ten lines");
  const said: unknown[][] = [];
  const body = code!.replace(/^import .*$/gm, "").replace("127.0.0.1:7777", `127.0.0.1:${dev.port}`);
  const run = new Function("Tidings", "process", "console", `return (async () => {${body}})()`);
  await run(Tidings, { env: { TIDINGS_SECRET: DEV_SECRET } }, { log: (...words: unknown[]) => said.push(words) });
  assert.match(said.join("\n"), /stored as,chat:lobby@\w{8}\.1/);
});
