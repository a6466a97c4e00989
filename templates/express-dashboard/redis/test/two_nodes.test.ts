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
  const start = async (name: string, pump: string) => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const direct = await application(context, folder, url, pump);
    const node = tidings(port, folder, direct, ["--broker", `redis://127.0.0.1:${redis}`]);
    context.after(() => node.end("SIGKILL"));
    await node.start(isReady(url));
    const line = new Line(Number(new URL(direct).port));
    context.after(() => line.close());
    const viewer = new Viewer(await line.open(), name);
    await viewer.logIn();
    await viewer.connect();
    context.after(() => viewer.client.close());
    return { viewer, line, end: () => node.end("SIGKILL"), begin: () => node.start(isReady(url)) };
  };
  const quiet = await start("bob", "off");
  const { viewer: bob } = quiet;
  const since = Date.now() / 1000;
  const { viewer: ann } = await start("ann", "on");
  await Promise.all([ann, bob].map((viewer) => viewer.until(() => viewer.seen.length >= 9)));
  // Sampled while Bob's node is away: when it is back, he has it.
  await quiet.end();
  const { length } = ann.seen;
  await ann.until(() => ann.seen.length >= length + 6);
  await quiet.begin();
  quiet.line.cut();
  const newest = ann.seen.at(-1)!;
  await bob.until(() => bob.seen.some(({ at }) => at > newest.at));
  const first = Math.max(ann.seen[2]!.at, bob.seen[2]!.at);
  const live = (viewer: Viewer) => viewer.seen.filter(({ at }) => at > first && at <= newest.at);
  assert.deepEqual(live(bob), live(ann));
  assert.equal(bob.resets, 0);
  // His application has sampled nothing.
  assert.ok((await bob.stored()).every(({ at }) => at > since));
});
