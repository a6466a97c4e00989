/** Two nodes of Tidings that share a Redis, each with an application of its own, one of which samples: one board. */

import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";

import { application, folderOf, freePort, isReady, Line, Program, tidings } from "./processes.ts";
import { Viewer } from "./viewer.ts";

const accepts = (port: number) => () =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

test("viewers at two nodes see the same once, and a node that dies loses nothing", { timeout: 60_000 }, async (context) => {
  const folder = folderOf(context);
  const redis = await freePort();
  const server = new Program(["redis-server", "--port", String(redis), "--bind", "127.0.0.1", "--save", "", "--dir", folder]);
  context.after(() => server.end("SIGKILL"));
  await server.start(accepts(redis));
  const nodes = await Promise.all(
    ["on", "off"].map(async (pump) => {
      const port = await freePort();
      const url = `http://127.0.0.1:${port}`;
      const address = await application(context, folder, url, pump);
      const node = tidings(port, folder, address, ["--broker", `redis://127.0.0.1:${redis}`]);
      context.after(() => node.end("SIGKILL"));
      await node.start(isReady(url));
      const line = new Line(Number(new URL(address).port));
      context.after(() => line.close());
      return { address: await line.open(), node, url, line };
    }),
  );
  const [ann, bob] = nodes.map(({ address }, index) => new Viewer(address, ["ann", "bob"][index]!)) as [Viewer, Viewer];
  for (const viewer of [ann, bob]) {
    await viewer.logIn();
    await viewer.connect();
    context.after(() => viewer.client.close());
  }
  await Promise.all([ann, bob].map((viewer) => viewer.until(() => viewer.seen.length >= 9)));
  // Sampled while Bob's node is away: when it is back, he has it.
  await nodes[1]!.node.end("SIGKILL");
  const { length } = ann.seen;
  await ann.until(() => ann.seen.length >= length + 6);
  await nodes[1]!.node.start(isReady(nodes[1]!.url));
  nodes[1]!.line.cut();
  const newest = ann.seen.at(-1)!;
  await bob.until(() => bob.seen.some(({ at }) => at > newest.at));
  const live = (viewer: Viewer) => viewer.seen.filter(({ at }) => at > bob.seen[2]!.at && at <= newest.at);
  assert.deepEqual(live(bob), live(ann));
  assert.equal(bob.resets, 0);
});
