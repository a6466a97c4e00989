/** The example as its users see it, both ways to have one port. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterEach, describe, test } from "node:test";

import { Client, RequestError } from "tidings-client";
import { WebSocket } from "ws";

import { start } from "./processes.js";

const people = [];

// Also those of a test that has failed: they would come back for ever.
afterEach(() => {
  for (const person of people.splice(0)) person.client?.close();
});

/** Somebody with a browser: he is logged in, asks the application, and hears what is said. */
class Person {
  constructor(address, name) {
    this.address = address;
    this.name = name;
    this.heard = [];
    this.seen = new Set();
    this.memory = new Map();
    people.push(this);
  }

  async logIn(password = "canary-bird password") {
    const body = JSON.stringify({ name: this.name, password });
    const answer = await fetch(`${this.address}/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    this.cookie = answer.headers.get("set-cookie")?.split(";")[0];
    return answer.status;
  }

  async ask(path, method = "GET", body = undefined) {
    const headers = { "content-type": "application/json", cookie: this.cookie };
    const answer = await fetch(this.address + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    return { status: answer.status, body: text.startsWith("{") ? JSON.parse(text) : text };
  }

  say(content, channel = 1, id = randomUUID()) {
    return this.ask(`/channels/${channel}/messages`, "POST", { content, id });
  }

  async stored(channel = 1) {
    return (await this.ask(`/channels/${channel}/messages`)).body.messages.map(
      ({ user, content }) => `${user}: ${content}`,
    );
  }

  /** Connects, and has everything of the channels from here on: what he missed too, if he was connected before. */
  async connect(...rooms) {
    const storage = {
      getItem: (key) => this.memory.get(key) ?? null,
      setItem: (key, value) => this.memory.set(key, value),
      removeItem: (key) => this.memory.delete(key),
    };
    const token = async () => (await this.ask("/token")).body.token;
    this.client = new Client(`${this.address.replace("http", "ws")}/ws`, {
      WebSocket,
      token,
      cursor: { storage, key: "cursor" },
    });
    for (const name of rooms) {
      this.client.room(name).on("message", ({ data }) => {
        // As the page: what Tidings forgets with its process may be published again.
        if (this.seen.has(data.seq)) return;
        this.seen.add(data.seq);
        this.heard.push(`${data.user}: ${data.content}`);
        this.changed?.();
      });
      this.client.room(name).onReset(() => this.reset?.());
    }
    await Promise.all(rooms.map((name) => this.client.join(name)));
  }

  /** Resolves when he has heard this. */
  async hears(words) {
    while (!this.heard.includes(words)) await new Promise((resolve) => (this.changed = resolve));
  }
}

for (const way of ["attach", "upstream"]) {
  describe(`one port by ${way}`, { timeout: 30_000 }, () => {
    test("two people talk, and each message is there once", async (context) => {
      const { address, endApplication } = await start(context, way);
      const [ann, bob] = [new Person(address, "ann"), new Person(address, "bob")];
      assert.deepEqual([await ann.logIn(), await bob.logIn(), await ann.logIn("another")], [204, 204, 401]);
      await ann.logIn();
      await Promise.all([ann.connect("ch_1"), bob.connect("ch_1")]);
      assert.equal((await ann.say("hello", 1, "m-1")).status, 201);
      assert.equal((await ann.say("hello", 1, "m-1")).status, 201);
      await bob.say("hi");
      await Promise.all([ann.hears("bob: hi"), bob.hears("bob: hi")]);
      assert.deepEqual([ann.heard, bob.heard, await ann.stored()], Array(3).fill(["ann: hello", "bob: hi"]));
      ann.client.close();
      bob.client.close();
      if (way === "attach") await endApplication();
    });

    test("a foreign channel is refused, by the application and by Tidings; an invitation is told, and so is its end", async (context) => {
      const { address } = await start(context, way);
      const [ann, bob] = [new Person(address, "ann"), new Person(address, "bob")];
      await Promise.all([ann.logIn(), bob.logIn()]);
      await Promise.all([ann.connect("ch_1"), bob.connect("ch_1")]);
      const { body: channel } = await ann.ask("/channels", "POST", { name: "Secret" });
      assert.equal(channel.room, "ch_2");
      await assert.rejects(
        bob.client.join("ch_2"),
        (error) => error instanceof RequestError && error.code === "forbidden",
      );
      assert.deepEqual(
        [(await bob.say("let me in", 2)).status, (await bob.ask("/channels/2/messages")).status],
        [403, 403],
      );
      await assert.rejects(ann.client.room("ch_1").request("message", {}), (error) =>
        ["forbidden", "unknown_event"].includes(error.code),
      );
      const told = new Promise((resolve) => bob.client.room("user:bob").on("channels.changed", resolve));
      await ann.ask("/channels/2/members/bob", "PUT");
      await told;
      bob.client.close();
      await bob.connect("ch_1", "ch_2");
      await ann.say("welcome", 2);
      await bob.hears("ann: welcome");
      const gone = new Promise((resolve) => bob.client.room("user:bob").on("channels.changed", resolve));
      await ann.ask("/channels/2/members/bob", "DELETE");
      await gone;
      await ann.say("he is gone", 2);
      await ann.say("and this is for all");
      await bob.hears("ann: and this is for all");
      assert.ok(!bob.heard.includes("ann: he is gone"));
      // The token that he has already lets him in again; the next does not.
      await bob.client.join("ch_2");
      bob.client.close();
      await bob.connect("ch_1");
      await assert.rejects(bob.client.join("ch_2"), (error) => error.code === "forbidden");
      ann.client.close();
      bob.client.close();
    });

    test("who was away has what he missed, once, when he is back", async (context) => {
      const { address } = await start(context, way);
      const [ann, bob] = [new Person(address, "ann"), new Person(address, "bob")];
      await Promise.all([ann.logIn(), bob.logIn()]);
      await bob.connect("ch_1");
      await ann.say("one");
      await bob.hears("ann: one");
      bob.client.close();
      await ann.say("two");
      await ann.say("three");
      await bob.connect("ch_1");
      await bob.hears("ann: three");
      assert.deepEqual(bob.heard, ["ann: one", "ann: two", "ann: three"]);
      bob.client.close();
    });

    if (way === "upstream") return;
    test("what is said while Tidings is away is stored, and published when it is back", async (context) => {
      const { address, killTidings, startTidings } = await start(context, way);
      const [ann, bob] = [new Person(address, "ann"), new Person(address, "bob")];
      await Promise.all([ann.logIn(), bob.logIn()]);
      await bob.connect("ch_1");
      await ann.say("before");
      await bob.hears("ann: before");
      const reset = new Promise((resolve) => (bob.reset = resolve));
      await killTidings();
      assert.equal((await ann.say("meanwhile")).status, 201);
      assert.equal((await fetch(`${address}/ws`)).status, 502);
      await startTidings();
      await Promise.all([reset, bob.hears("ann: meanwhile")]);
      assert.deepEqual([bob.heard, await bob.stored()], Array(2).fill(["ann: before", "ann: meanwhile"]));
      bob.client.close();
    });
  });
}

test("a cookie that is none is as if there were none", async (context) => {
  const { address } = await start(context, "attach");
  for (const cookie of ["chat=%", "chat=%E0%A4%A", "chat=a~b~c", "chat=", "a=1"]) {
    const answer = await fetch(`${address}/me`, { headers: { cookie } });
    assert.deepEqual([answer.status, await answer.text()], [401, "log in first"], cookie);
  }
});

test("the page asks for nothing that is not there", async (context) => {
  const { address } = await start(context, "attach");
  const page = readFileSync(new URL("../page/index.html", import.meta.url), "utf8");
  const files = [...page.matchAll(/(?:href|src)="([\w.]+)"/g)].map(([, name]) => name);
  assert.deepEqual(files, ["chat.css", "chat.js"]);
  for (const name of [...files, "", "tidings-client/index.js"])
    assert.equal((await fetch(`${address}/${name}`)).status, 200, name);
});
