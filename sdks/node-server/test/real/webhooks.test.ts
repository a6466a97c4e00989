/** Webhooks of a real server, at an Express application: what is asked decides, and what is told arrives. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import express from "express";
import { Tidings } from "tidings-server-sdk";
import { WebSocket } from "ws";

import { SECRET, ServerProcess } from "../../../../pages/test/servers.ts";
import { Client, RequestError } from "../../../typescript/src/index.ts";

const config = (url: string) => `
[auth]
secret_file = "secret"

[[rooms]]
pattern = "desk:*"
join = "webhook"
publish = "anyone"

[[rooms]]
pattern = "home:*"
join = "members"

[[events]]
name = "order"
webhook = true

[webhooks]
url = "${url}"
events = ["connect", "join", "event", "disconnect", "room.occupied", "room.vacated"]

[limits]
presence_grace_seconds = 0
`;

test("the application is asked at every step, and told what has happened", { timeout: 60_000 }, async (context) => {
  const tidings = new Tidings({ url: "http://127.0.0.1:7777", secret: SECRET });
  const told: string[] = [];
  let changed = () => {};
  const tell = (words: string) => {
    told.push(words);
    changed();
  };
  const hooks = tidings.webhooks({
    connect: ({ user, claims }) =>
      claims.banned ? { allow: false, reason: "banned" } : { allow: true, rooms: [`home:${user}`] },
    join: ({ room }) => room === "desk:all",
    event: ({ user, data }) => {
      const { amount } = data as { amount: number };
      if (amount < 0) return { error: { code: "forbidden", message: "less than nothing" } };
      return { ack: { order: amount * 10 }, broadcast: [{ event: "ordered", data: { user, amount } }] };
    },
    disconnect: ({ user, code }) => tell(`${user} left with ${code}`),
    "room.occupied": ({ room }) => tell(`${room} is occupied`),
    "room.vacated": ({ room }) => tell(`${room} is vacated`),
  });
  const app = express();
  app.post("/tidings", hooks.handler);
  const application = createServer(app).listen(0, "127.0.0.1");
  await once(application, "listening");
  context.after(() => {
    application.closeAllConnections();
    application.close();
  });
  const server = await ServerProcess.configured(
    config(`http://127.0.0.1:${(application.address() as AddressInfo).port}/tidings`),
  );
  context.after(() => server.end());
  const clientOf = (user: string, claims = {}) =>
    new Client(`ws://127.0.0.1:${server.port}/ws`, {
      WebSocket: WebSocket as never,
      token: tidings.mintToken({ user, claims }),
    });

  const banned = clientOf("eve", { banned: true });
  await new Promise<void>((resolve) => banned.onState((state) => state === "refused" && resolve()));
  assert.deepEqual([banned.fault?.status, banned.fault?.code], [403, "forbidden"]);
  banned.close();

  const ann = clientOf("ann");
  const heard = new Promise((resolve) => ann.room("desk:all").on("ordered", ({ data }) => resolve(data)));
  const all = await ann.join("desk:all");
  await assert.rejects(ann.join("desk:bob"), (error) => error instanceof RequestError && error.code === "forbidden");
  assert.deepEqual(await all.request("order", { amount: 4 }), { order: 40 });
  assert.deepEqual(await heard, { user: "ann", amount: 4 });
  await assert.rejects(
    all.request("order", { amount: -4 }),
    (error) => error instanceof RequestError && error.message.includes("less than nothing"),
  );
  ann.close();
  const expected = [
    "ann left with 1000",
    "desk:all is occupied",
    "desk:all is vacated",
    "home:ann is occupied",
    "home:ann is vacated",
  ];
  while (told.length < expected.length) await new Promise<void>((resolve) => (changed = resolve));
  assert.deepEqual([...told].sort(), expected);
});
