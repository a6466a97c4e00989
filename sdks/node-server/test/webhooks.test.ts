import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";

import express from "express";
import { Tidings, type WebhookHandlers } from "tidings-server-sdk";

import { SECRET } from "./stand_in.ts";

const DERIVED = createHmac("sha256", SECRET).update("tidings webhook v1").digest();
const tidings = new Tidings({ url: "http://127.0.0.1:7777", secret: SECRET });
let count = 0;

interface Webhook {
  readonly type: string;
  readonly data: object;
  readonly id?: string;
  readonly agoS?: number;
  readonly key?: Buffer;
  readonly tamper?: boolean;
}

/** A webhook as Tidings sends it. */
function signed({ type, data, id = `msg_${(count += 1)}`, agoS = 0, key = DERIVED, tamper = false }: Webhook) {
  const timestamp = String(Math.floor(Date.now() / 1000) - agoS);
  const message = {
    specversion: "1.0",
    id,
    source: "/tidings",
    type: `dev.tidings.${type}`,
    time: "2026-11-28T12:00:00.000Z",
    datacontenttype: "application/json",
    data,
  };
  const body = JSON.stringify(message);
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return {
    headers: {
      "content-type": "application/cloudevents+json",
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": `v1a,abc v1,${signature}`,
    },
    body: tamper ? body.replace("ann", "eve") : body,
  };
}

const answered = async (handlers: WebhookHandlers, ...webhooks: Webhook[]) => {
  const hooks = tidings.webhooks(handlers);
  const answers = [];
  for (const webhook of webhooks) {
    const { headers, body } = signed(webhook);
    answers.push(await hooks.answer(headers, Buffer.from(body)).catch((error: Error) => error.message));
  }
  return answers;
};

test("the example of the Standard Webhooks' own libraries is good", async () => {
  const at = 1614265330;
  const hooks = tidings.webhooks({}, { secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" });
  const headers = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": String(at),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  };
  const { now } = Date;
  Date.now = () => at * 1000;
  try {
    assert.deepEqual(await hooks.answer(headers, Buffer.from('{"test": 2432232314}')), { status: 204, body: null });
  } finally {
    Date.now = now;
  }
});

test("what is asked is answered in the page's shapes", async () => {
  const asked = { user: "ann", claims: { role: "staff" } };
  const answers = await answered(
    {
      connect: ({ user, claims }) => ({ allow: claims.role === "staff", rooms: [`desk:${user}`] }),
      join: ({ room }) => room === "chat:1",
      event: async ({ event, room, id, data, user }) => {
        // @ts-expect-error: null, where the client has sent none; who forgets it is told before it runs.
        void (room satisfies string);
        // @ts-expect-error
        void (id satisfies string);
        if (event === "fail") return { error: { code: "forbidden", message: "not you" } };
        if (event === "nothing") return;
        return { ack: { seq: 1 }, broadcast: [{ event, data: { by: user, data }, to_others: true }] };
      },
    },
    { type: "connect", data: asked },
    { type: "join", data: { ...asked, room: "chat:1" } },
    { type: "join", data: { ...asked, room: "chat:2" } },
    { type: "event", data: { ...asked, event: "say", data: 1 } },
    { type: "event", data: { ...asked, event: "fail", data: 1 } },
    { type: "event", data: { ...asked, event: "nothing", data: 1 } },
  );
  assert.deepEqual(answers, [
    { status: 200, body: { allow: true, rooms: ["desk:ann"] } },
    { status: 200, body: { allow: true } },
    { status: 200, body: { allow: false } },
    {
      status: 200,
      body: { ack: { seq: 1 }, broadcast: [{ event: "say", data: { by: "ann", data: 1 }, to_others: true }] },
    },
    { status: 200, body: { error: { code: "forbidden", message: "not you" } } },
    { status: 200, body: { ack: null, broadcast: [] } },
  ]);
});

test("whoever has no handler, or one that throws, lets nobody in", async () => {
  const answers = await answered(
    {
      join: () => {
        throw new Error("the database is away");
      },
      connect: async () => undefined as never,
    },
    { type: "join", data: { room: "chat:1" } },
    { type: "event", data: {} },
    { type: "connect", data: {} },
    { type: "constructor", data: {} },
  );
  assert.deepEqual(answers[0], "the database is away");
  assert.deepEqual(
    [answers[1], answers[3]].map((answer) => (answer as { status: number }).status),
    [501, 204],
  );
  assert.deepEqual(answers[2], { status: 200, body: { allow: false } });
});

test("nothing that is not signed, is old, or was asked before is looked at", async () => {
  let calls = 0;
  const handlers: WebhookHandlers = { join: () => ((calls += 1), true), "room.occupied": () => void (calls += 1) };
  const join = { type: "join", data: { user: "ann" } };
  const refused = await answered(
    handlers,
    { ...join, tamper: true },
    { ...join, key: Buffer.from(SECRET) },
    { ...join, agoS: 301 },
    { ...join, agoS: -301 },
  );
  assert.deepEqual([refused.map((answer) => (answer as { status: number }).status), calls], [[401, 401, 401, 401], 0]);
  const hooks = tidings.webhooks(handlers);
  const none = await hooks.answer({}, Buffer.from("{}"));
  assert.match(JSON.stringify(none), /signature_invalid.*have to be there/);
  for (const timestamp of ["soon", "\xb2", "\u0661", "9".repeat(5000), "-1"]) {
    const { headers, body } = signed(join);
    const answer = await hooks.answer({ ...headers, "webhook-timestamp": timestamp }, Buffer.from(body));
    assert.match(JSON.stringify(answer), /signature_invalid.*the timestamp is/, timestamp);
  }
  const once = signed({ ...join, agoS: 299 });
  assert.equal((await hooks.answer(once.headers, Buffer.from(once.body))).status, 200);
  assert.equal((await hooks.answer(once.headers, Buffer.from(once.body))).status, 409);
  assert.equal(calls, 1);
});

test("what is told again is taken, and handled once; what failed is handled again", async () => {
  let calls = 0;
  const hooks = tidings.webhooks({
    async disconnect() {
      calls += 1;
      if (calls === 1) throw new Error("a full disk");
    },
  });
  const tell = () => {
    const { headers, body } = signed({ type: "disconnect", data: { user: "ann" }, id: "msg_same" });
    return hooks.answer(headers, Buffer.from(body));
  };
  await assert.rejects(tell(), /a full disk/);
  assert.deepEqual(
    (await Promise.all([tell(), tell()])).map(({ status }) => status),
    [204, 204],
  );
  assert.equal((await tell()).status, 204);
  assert.equal(calls, 2);
});

async function serve(context: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  context.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/tidings`;
}

async function post(url: string, webhook: Webhook) {
  const answer = await fetch(url, { method: "POST", ...signed(webhook) });
  return [answer.status, answer.headers.get("content-type"), await answer.text()];
}

test("with Express, whose parser of JSON stands before it, and whose error handler is told", async (context) => {
  const app = express();
  app.use(express.json());
  const hooks = tidings.webhooks({
    join: ({ room }) => {
      if (room === "chat:error") throw new Error("the database is away");
      return true;
    },
  });
  app.post("/tidings", hooks.handler);
  app.use(
    ((error, _request, response, _next) =>
      void response.status(500).send(`told: ${error.message}`)) as express.ErrorRequestHandler,
  );
  const url = await serve(context, app);
  const join = { type: "join", data: { room: "chat:1" } };
  assert.deepEqual(await post(url, join), [200, "application/json", '{"allow":true}']);
  assert.deepEqual((await post(url, { type: "join", data: { room: "chat:error" } })).slice(0, 3), [
    500,
    "text/html; charset=utf-8",
    "told: the database is away",
  ]);
  assert.deepEqual((await post(url, { ...join, agoS: 900 })).slice(0, 2), [401, "application/problem+json"]);
});

test("with Express, whose parser of raw bodies or of anything stands before it", async (context) => {
  const app = express();
  const hooks = tidings.webhooks({ join: () => true });
  app.use("/tidings/raw", express.raw({ type: "*/*" }), hooks.handler);
  app.use("/tidings/any", express.json({ type: "*/*" }), hooks.handler);
  app.use(
    ((error, _request, response, _next) =>
      void response.status(500).send(error.message)) as express.ErrorRequestHandler,
  );
  const url = await serve(context, app);
  const join = { type: "join", data: { room: "chat:1" } };
  assert.equal((await post(`${url}/raw`, join))[0], 200);
  assert.match(String((await post(`${url}/any`, join))[2]), /put webhooks.handler before that parser/);
});

test("with node:http alone, where somebody is told of what a handler threw", async (context) => {
  const errors: unknown[] = [];
  const hooks = tidings.webhooks(
    {
      "room.vacated": ({ room }) => {
        if (room === "chat:2") throw new Error("a full disk");
      },
    },
    { onError: (error) => errors.push(error) },
  );
  const url = await serve(context, hooks.handler);
  assert.deepEqual(await post(url, { type: "room.vacated", data: { room: "chat:1" } }), [204, null, ""]);
  assert.equal((await post(url, { type: "room.vacated", data: { room: "chat:2" } }))[0], 500);
  assert.match(String(errors), /a full disk/);
});
