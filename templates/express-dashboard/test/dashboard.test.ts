/** The dashboard as its viewers see it. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test, type TestContext } from "node:test";

import { RequestError } from "tidings-client";
import { WebSocket } from "ws";

import { start } from "./processes.ts";
import { RawSocket } from "./raw_socket.ts";
import { ROOM, Viewer } from "./viewer.ts";

async function viewer(context: TestContext, address: string, name: string): Promise<Viewer> {
  const viewer = new Viewer(address, name);
  assert.equal(await viewer.logIn(), 204);
  await viewer.connect();
  context.after(() => viewer.client.close());
  return viewer;
}

const isForbidden = (error: unknown) => error instanceof RequestError && error.code === "forbidden";

describe("the dashboard", { timeout: 60_000 }, () => {
  test("a viewer sees what is stored", async (context) => {
    const { address } = await start(context);
    const ann = await viewer(context, address, "ann");
    assert.equal(await new Viewer(address, "ann").logIn("another"), 401);
    assert.deepEqual((await ann.ask("/me")).body, { user: "ann", boards: [{ name: "machine", room: ROOM }] });
    await ann.until(() => ann.seen.length >= 9);
    assert.deepEqual(new Set(ann.seen.map(({ series }) => series)), new Set(["cpu", "memory", "load"]));
    assert.ok(ann.seen.every(({ unit, value }) => value >= 0 && (unit === "count" || value <= 1)));
    const stored = (await ann.stored()).map((sample) => JSON.stringify(sample));
    assert.ok(ann.seen.slice(0, 9).every((sample) => stored.includes(JSON.stringify(sample))));
  });

  test("connections that are cut lose nothing and repeat nothing", async (context) => {
    const { address, line } = await start(context);
    const ann = await viewer(context, address, "ann");
    const { connections } = line;
    for (let round = 1; round <= 3; round += 1) {
      line.cutInside();
      const count = ann.seen.length + 15;
      await ann.until(() => ann.seen.length >= count);
    }
    assert.ok(line.connections > connections, "she had not to connect again");
    const [first] = ann.seen;
    const stored = await ann.stored();
    const begin = stored.findIndex(({ series, at }) => series === first!.series && at === first!.at);
    assert.deepEqual(ann.seen.slice(0, 45), stored.slice(begin, begin + 45));
  });

  test("what is sampled while Tidings is away is stored, and viewers go on when it is back", async (context) => {
    const { address, endTidings, startTidings } = await start(context);
    const ann = await viewer(context, address, "ann");
    await ann.until(() => ann.seen.length >= 6);
    await endTidings();
    assert.equal((await fetch(`${address}/ws`)).status, 502);
    const { length } = await ann.stored();
    while ((await ann.stored()).length < length + 6);
    await startTidings();
    // Its history is gone with it: she is told to load what is stored, and sees what comes now.
    await ann.until(() => ann.resets === 1);
    const newest = ann.seen.at(-1)!.at;
    await ann.until(() => ann.seen.at(-1)!.at > newest);
  });

  test("nobody watches what is not his", async (context) => {
    const { address } = await start(context);
    const refused = new WebSocket(`${address.replace("http", "ws")}/ws`);
    const status = await new Promise((resolve) => {
      refused.once("unexpected-response", (_request, answer) => resolve(answer.statusCode));
    });
    assert.equal(status, 401);
    refused.on("error", () => {}).terminate();
    for (const path of ["/token", "/me", "/boards/machine/samples"])
      assert.equal((await fetch(address + path)).status, 401, path);
    assert.equal((await fetch(`${address}/tidings`, { method: "POST", body: "{}" })).status, 401);
    const ann = await viewer(context, address, "ann");
    const bob = await viewer(context, address, "bob");
    assert.equal((await ann.ask("/boards/secret/samples")).status, 403);
    await assert.rejects(ann.client.join("board:secret"), isForbidden);
    const published = ann.client.room(ROOM).request("sample", { series: "cpu", value: 1, unit: "ratio", at: 0 });
    await assert.rejects(published, (error) => error instanceof RequestError);
    // Who is taken out sees nothing more at once, and his next token does not name the board.
    const gone = new Promise((resolve) => ann.client.room(ROOM).onLost(resolve));
    assert.equal((await bob.ask("/boards/machine/watchers/ann", "DELETE")).status, 204);
    assert.equal(await gone, "removed");
    assert.equal((await ann.ask("/boards/machine/samples")).status, 403);
    assert.deepEqual((await ann.ask("/me")).body, { user: "ann", boards: [] });
    const { length } = ann.seen;
    assert.equal((await bob.ask("/boards/machine/watchers/nobody", "PUT")).status, 404);
    assert.equal((await bob.ask("/boards/machine/watchers/ann", "PUT")).status, 204);
    await ann.until(() => ann.seen.length > length);
  });

  test("a heartbeat that comes again under its id counts once", async (context) => {
    const { address } = await start(context);
    const ann = new Viewer(address, "ann");
    await ann.logIn();
    const socket = await RawSocket.of(ann);
    context.after(() => socket.close());
    await socket.first("session.welcome");
    socket.heartbeat();
    socket.heartbeat();
    const [first, second] = await socket.these("ack", 2);
    assert.ok(first!.data.seen_at <= Date.now());
    assert.deepEqual(first!.data, second!.data);
  });

  test("the page asks for nothing that is not there", async (context) => {
    const { address } = await start(context);
    const page = readFileSync(new URL("../page/index.html", import.meta.url), "utf8");
    const files = [...page.matchAll(/(?:href|src)="([\w.]+)"/g)].map(([, name]) => name);
    assert.deepEqual(files, ["dashboard.css", "dashboard.js"]);
    for (const name of [...files, "", "tidings-client/index.js"])
      assert.equal((await fetch(`${address}/${name}`)).status, 200, name);
  });
});
