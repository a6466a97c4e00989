/** The chat as its users see it. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test, type TestContext } from "node:test";

import { RequestError } from "tidings-client";
import { WebSocket } from "ws";

import type { Message } from "../src/database.ts";
import { Person } from "./person.ts";
import { start } from "./processes.ts";

async function people(context: TestContext, address: string): Promise<[Person, Person]> {
  const both: [Person, Person] = [new Person(address, "ann"), new Person(address, "bob")];
  for (const person of both) {
    assert.equal(await person.logIn(), 204);
    await person.connect("ch_1");
    context.after(() => person.client.close());
  }
  return both;
}

const isForbidden = (error: unknown) => error instanceof RequestError && error.code === "forbidden";

describe("the chat", { timeout: 60_000 }, () => {
  test("two people talk, edit and type; what is stored is what was said", async (context) => {
    const { address } = await start(context);
    const [ann, bob] = await people(context, address);
    assert.equal(await new Person(address, "ann").logIn("another"), 401);
    await ann.say("hello");
    await bob.hears("ann: hello");
    bob.client.room("ch_1").send("typing.start");
    await ann.hears("bob types");
    const { seq } = (await bob.say("hi")) as Message;
    await bob.client.room("ch_1").request("message.edit", { seq, content: "hi, ann" });
    await Promise.all([ann.hears("bob edits: hi, ann"), bob.hears("bob edits: hi, ann")]);
    assert.deepEqual(bob.heard, ["ann: hello", "bob: hi", "bob edits: hi, ann"]);
    assert.deepEqual(await ann.stored(), ["ann: hello", "bob: hi, ann"]);
    await assert.rejects(ann.client.room("ch_1").request("message.edit", { seq, content: "mine" }), isForbidden);
    for (const own of [ann.client.room("user:ann"), ann.client])
      for (const [event, data] of [
        ["message.send", { content: "to nobody" }],
        ["message.edit", { seq, content: "to nobody" }],
        ["typing.start", null],
      ] as const)
        await assert.rejects(own.request(event, data), { code: "invalid", message: "this room is no channel's" });
    const heartbeat = (await ann.client.room("ch_1").request("presence.heartbeat")) as { seen_at: number };
    assert.ok(heartbeat.seen_at <= Date.now());
  });

  test("a message without an id is not stored, and so nobody hears it", async (context) => {
    const { address } = await start(context);
    const [ann, bob] = await people(context, address);
    const came: unknown[] = [];
    bob.client.room("ch_1").on("message.send", ({ data }) => came.push(data?.content));
    ann.client.room("ch_1").send("message.send", { content: "without" });
    await ann.say("with");
    await bob.hears("ann: with");
    assert.deepEqual([came, await bob.stored()], [["with"], ["ann: with"]]);
  });

  test("connections that are cut lose nothing and repeat nothing", async (context) => {
    const { address, line } = await start(context);
    const [ann, bob] = await people(context, address);
    const expected: string[] = [];
    for (let round = 1; round <= 3; round += 1) {
      // Cut while a message is under way: it is sent again under its id, and what was missed is replayed.
      const said = [1, 2, 3].map((number) => ann.say(`${round}.${number}`));
      line.cut();
      await Promise.all(said);
      expected.push(...[1, 2, 3].map((number) => `ann: ${round}.${number}`));
      await Promise.all([ann, bob].map((person) => person.hears(expected.at(-1)!)));
    }
    assert.deepEqual([bob.heard, ann.heard, await ann.stored()], [expected, expected, expected]);
    assert.ok(line.connections > 2, "nobody had to connect again");
  });

  test("what is said while Tidings is away waits, and comes when it is back", async (context) => {
    const { address, endTidings, startTidings } = await start(context);
    const [ann, bob] = await people(context, address);
    await ann.say("before");
    await bob.hears("ann: before");
    await endTidings();
    const said = ann.say("meanwhile");
    assert.equal((await fetch(`${address}/ws`)).status, 502);
    await startTidings();
    await Promise.all([said, bob.hears("ann: meanwhile")]);
    assert.deepEqual(await bob.stored(), ["ann: before", "ann: meanwhile"]);
  });

  test("nobody gets in without a token, into a foreign channel, or past a schema", async (context) => {
    const { address } = await start(context);
    const [ann, bob] = await people(context, address);
    const refused = new WebSocket(`${address.replace("http", "ws")}/ws`);
    const status = await new Promise((resolve) => {
      refused.once("unexpected-response", (_request, answer) => resolve(answer.statusCode));
    });
    assert.equal(status, 401);
    refused.on("error", () => {}).terminate();
    assert.equal((await fetch(`${address}/tidings`, { method: "POST", body: "{}" })).status, 401);
    const { body: channel } = await ann.ask<{ room: string }>("/channels", "POST", { name: "Secret" });
    assert.equal(channel.room, "ch_2");
    await assert.rejects(bob.client.join("ch_2"), isForbidden);
    assert.equal((await bob.ask("/channels/2/messages")).status, 403);
    const invalid = bob.client.room("ch_1").request("message.send", { content: 7 });
    await assert.rejects(invalid, (error) => error instanceof RequestError && error.code === "schema");
  });

  test("an invitation is told, and its end counts at once", async (context) => {
    const { address } = await start(context);
    const [ann, bob] = await people(context, address);
    await ann.ask("/channels", "POST", { name: "Secret" });
    const told = () => new Promise((resolve) => bob.client.room("user:bob").on("channels.changed", resolve));
    const invited = told();
    assert.equal((await ann.ask("/channels/2/members/bob", "PUT")).status, 204);
    await invited;
    bob.client.close();
    await bob.connect("ch_1", "ch_2");
    context.after(() => bob.client.close());
    await ann.say("welcome", "ch_2");
    await bob.hears("ann: welcome");
    const gone = told();
    assert.equal((await ann.ask("/channels/2/members/bob", "DELETE")).status, 204);
    await gone;
    await ann.say("he is gone", "ch_2");
    await ann.say("and this is for all");
    await bob.hears("ann: and this is for all");
    assert.ok(!bob.heard.includes("ann: he is gone"));
  });

  test("the page asks for nothing that is not there", async (context) => {
    const { address } = await start(context);
    const page = readFileSync(new URL("../page/index.html", import.meta.url), "utf8");
    const files = [...page.matchAll(/(?:href|src)="([\w.]+)"/g)].map(([, name]) => name);
    assert.deepEqual(files, ["chat.css", "chat.js"]);
    for (const name of [...files, "", "tidings-client/index.js"])
      assert.equal((await fetch(`${address}/${name}`)).status, 200, name);
  });
});
