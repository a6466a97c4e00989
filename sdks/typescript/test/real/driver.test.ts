/** The scenario's driver against a real server, over a network that breaks: what the client does on real sockets. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { mint, Network, startServer, type ServerProcess } from "./configured.ts";

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
const WAIT_MAX_MS = 30_000;

type Line = { saw: string; [field: string]: unknown };

/** A driver that is told what to do, and waited for. */
class Driver {
  readonly #process = spawn(process.execPath, ["--import", "tsx", "test/driver.ts"], {
    cwd: PACKAGE,
    stdio: ["pipe", "pipe", "inherit"],
  });
  /** What it has said, and nobody has waited for. */
  readonly #lines: Line[] = [];
  #changed = () => {};
  readonly ended: Promise<number | null>;

  constructor(context: TestContext) {
    createInterface({ input: this.#process.stdout }).on("line", (line) => {
      this.#lines.push(JSON.parse(line) as Line);
      this.#changed();
    });
    this.ended = new Promise((resolve) => this.#process.once("exit", resolve));
    context.after(() => void this.#process.kill());
  }

  tell(...commands: object[]): void {
    for (const command of commands) this.#process.stdin.write(`${JSON.stringify(command)}\n`);
  }

  end(): void {
    this.#process.stdin.end();
  }

  /** The next line that has these fields; those before it are dropped. */
  async sees(wanted: Line): Promise<Line> {
    const end = Date.now() + WAIT_MAX_MS;
    for (;;) {
      for (let line = this.#lines.shift(); line; line = this.#lines.shift())
        if (Object.entries(wanted).every(([field, value]) => line[field] === value)) return line;
      if (Date.now() > end) throw new Error(`waited in vain for ${JSON.stringify(wanted)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, end - Date.now());
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

let server: ServerProcess;
before(async () => (server = await startServer()));
after(() => server.end());

test("a conversation: acks, history, presence, bytes, a cut, a restart of the server, a close", async (context) => {
  const network = await Network.to(server);
  context.after(() => network.end());
  const url = `${network.url.replace("http", "ws")}ws`;
  const [ann, bob] = [new Driver(context), new Driver(context)];
  bob.tell({ do: "connect", url: `ws://127.0.0.1:${server.port}/ws`, token: mint({ sub: "bob" }) });
  bob.tell({ do: "join", room: "r", as: "j" }, { do: "request", room: "r", event: "say", data: { n: 1 }, as: "q" });
  assert.equal((await bob.sees({ saw: "answer", as: "q" })).duplicate, false);
  ann.tell({ do: "connect", url, token: mint({ sub: "ann" }) });
  await ann.sees({ saw: "state", state: "connecting" });
  ann.tell({ do: "join", room: "r", history: 3, as: "j" }, { do: "members", room: "r" });
  await ann.sees({ saw: "state", state: "connected" });
  assert.deepEqual(await ann.sees({ saw: "answer" }), { saw: "answer", as: "j" });
  const first = await ann.sees({ saw: "event" });
  assert.deepEqual([first.room, first.event, first.from, first.data], ["r", "say", "bob", { n: 1 }]);
  assert.deepEqual(await ann.sees({ saw: "caught_up" }), { saw: "caught_up", room: "r", events: 1, recovery: "fresh" });
  assert.deepEqual((await ann.sees({ saw: "members" })).users, ["ann", "bob"]);

  bob.tell({ do: "send", room: "r", event: "typing", data: "…" });
  assert.equal((await ann.sees({ saw: "event", event: "typing" })).id, null);
  bob.tell({ do: "request", room: "r", event: "image", base64: "AP8B", as: "bytes" });
  assert.equal((await ann.sees({ saw: "event", event: "image" })).base64, "AP8B");

  network.down();
  await ann.sees({ saw: "state", state: "reconnecting" });
  bob.tell({ do: "request", room: "r", event: "say", data: { n: 2 }, as: "q" });
  await bob.sees({ saw: "answer", as: "q" });
  ann.tell({ do: "request", room: "r", event: "say", data: { n: 3 }, as: "meanwhile" });
  network.up();
  assert.deepEqual((await ann.sees({ saw: "event" })).data, { n: 2 });
  assert.equal((await ann.sees({ saw: "caught_up" })).recovery, "complete");
  assert.deepEqual((await ann.sees({ saw: "event" })).data, { n: 3 });
  await ann.sees({ saw: "answer", as: "meanwhile" });

  await server.kill("SIGTERM");
  await server.start();
  assert.equal((await ann.sees({ saw: "reset" })).reason, "unknown_epoch");
  ann.tell({ do: "leave", room: "r", as: "l" }, { do: "request", room: "r", event: "say", as: "late" });
  assert.deepEqual(await ann.sees({ saw: "answer" }), { saw: "answer", as: "l" });
  assert.equal((await ann.sees({ saw: "answer" })).error, "not_joined");
  ann.tell({ do: "close" });
  await ann.sees({ saw: "state", state: "closed" });
  ann.tell({ do: "request", room: "r", event: "say", as: "after" });
  assert.equal((await ann.sees({ saw: "answer", as: "after" })).error, "closed");
  for (const driver of [ann, bob]) driver.end();
  assert.deepEqual(await Promise.all([ann.ended, bob.ended]), [0, 0]);
});

test("a refusal is told with its code, and one for an expired token is asked about once with a fresh one", async (context) => {
  const driver = new Driver(context);
  driver.tell({ do: "connect", url: `ws://127.0.0.1:${server.port}/ws`, token: mint({ sub: "ann", exp: 1 }) });
  const refused = { saw: "state", state: "refused", code: "token_expired", status: 401 };
  assert.deepEqual(await driver.sees({ saw: "state", state: "refused" }), refused);
  driver.end();
  assert.equal(await driver.ended, 0);
});
