/** Two nodes of Tidings that share a Redis, each with an application of its own: one chat. */

import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";

import { Person } from "./person.ts";
import { application, folderOf, freePort, isReady, Line, Program, tidings } from "./processes.ts";

const accepts = (port: number) => () =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

test("people at two nodes are in one room, and a node that dies loses nothing", { timeout: 60_000 }, async (context) => {
  const folder = folderOf(context);
  const redis = await freePort();
  const server = new Program(["redis-server", "--port", String(redis), "--bind", "127.0.0.1", "--save", "", "--dir", folder]);
  context.after(() => server.end("SIGKILL"));
  await server.start(accepts(redis));
  const nodes = await Promise.all(
    [1, 2].map(async () => {
      const port = await freePort();
      const url = `http://127.0.0.1:${port}`;
      const address = await application(context, folder, url);
      const node = tidings(port, folder, address, ["--broker", `redis://127.0.0.1:${redis}`]);
      context.after(() => node.end("SIGKILL"));
      await node.start(isReady(url));
      const line = new Line(Number(new URL(address).port));
      context.after(() => line.close());
      return { address: await line.open(), node, url, line };
    }),
  );
  const [ann, bob] = nodes.map(({ address }, index) => new Person(address, ["ann", "bob"][index]!)) as [Person, Person];
  for (const person of [ann, bob]) {
    await person.logIn();
    await person.connect("ch_1");
    context.after(() => person.client.close());
  }
  await ann.say("hello");
  await bob.say("hi");
  await Promise.all([ann.hears("bob: hi"), bob.hears("bob: hi")]);
  // Said while Bob's node is away: when it is back, he has it.
  await nodes[1]!.node.end("SIGKILL");
  await ann.say("still there?");
  await nodes[1]!.node.start(isReady(nodes[1]!.url));
  nodes[1]!.line.cut();
  await bob.hears("ann: still there?");
  assert.deepEqual(bob.heard, ["ann: hello", "bob: hi", "ann: still there?"]);
  assert.deepEqual(await bob.stored(), bob.heard);
});
