/** Tidings and the application as processes on free ports, and a line to the application that a test can cut. */

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const PROJECT = path("..");
/** The program, if it is not `tidings` in the PATH. */
const TIDINGS = process.env.TIDINGS_BIN ?? "tidings";
const KEPT = process.env.TIDINGS_TEST_LOGS;
export const SECRET = "canary-bird of the tests of this dashboard";

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Program {
  readonly #command: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #process: ChildProcess | null = null;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#command = command;
    this.#env = env;
  }

  /** Starts it, and waits until this holds of what it has printed. */
  async start(isReady: (said: string) => boolean | Promise<boolean>): Promise<void> {
    const [program, ...args] = this.#command;
    const log = KEPT && program === TIDINGS ? openSync(join(KEPT, `server-template-${process.pid}.log`), "a") : "inherit";
    const child = spawn(program!, args, {
      cwd: PROJECT,
      env: { ...process.env, TIDINGS_LOG: KEPT ? "trace" : "warn", NO_COLOR: "1", ...this.#env },
      stdio: ["ignore", "pipe", log],
    });
    if (log !== "inherit") closeSync(log);
    this.#process = child;
    this.#ended = new Promise((resolve) => child.once("close", resolve).once("error", resolve));
    let said = "";
    let fault: Error | null = null;
    child.once("error", (error) => (fault = error));
    child.stdout!.on("data", (text) => (said += text));
    while (!(await isReady(said))) {
      if (fault !== null || child.exitCode !== null || child.signalCode !== null)
        throw new Error(`${this.#command.join(" ")} has ended: ${fault ?? said}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#process?.kill(signal);
    await this.#ended;
  }
}

/** A port that leads to another one, as long as nobody cuts it. */
export class Line {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cutsInside = false;
  /** How many connections were made through it. */
  connections = 0;

  constructor(port: number) {
    this.#server = createServer((client) => {
      this.connections += 1;
      const there = connect(port, "127.0.0.1");
      for (const [socket, other] of [
        [client, there],
        [there, client],
      ] as const) {
        this.#sockets.add(socket);
        socket.on("error", () => {}).once("close", () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
        socket.on("data", (data) => {
          if (!this.#cutsInside) return void other.write(data);
          this.#cutsInside = false;
          other.write(data.subarray(0, data.length / 2), () => this.cut());
        });
      }
    });
  }

  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Every connection through it is lost, without a goodbye. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Cuts as soon as something is under way, and in the middle of it. */
  cutInside(): void {
    this.#cutsInside = true;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A node of Tidings that asks this application. */
export function tidings(port: number, folder: string, application: string, options: readonly string[] = []): Program {
  const listen = ["--listen", `127.0.0.1:${port}`, "--drain-window", "0s"];
  return new Program([TIDINGS, "serve", "--config", join(PROJECT, "tidings.toml"), ...listen, ...options], {
    TIDINGS_AUTH__SECRET_FILE: join(folder, "tidings.secret"),
    TIDINGS_WEBHOOKS__URL: `${application}/tidings`,
    TIDINGS_WEBHOOKS__OUTBOX: join(folder, `outbox-${port}`),
  });
}

export const isReady = (url: string) => async () =>
  fetch(`${url}/health/ready`).then(
    (answer) => answer.ok,
    () => false,
  );

export interface Dashboard {
  /** Where the application is, by a line that can be cut. */
  readonly address: string;
  readonly line: Line;
  /** Where Tidings is. */
  readonly url: string;
  readonly folder: string;
  readonly database: string;
  endTidings(): Promise<void>;
  startTidings(): Promise<void>;
}

/** An application in a folder with this Tidings, which samples or does not; ended with the test. */
export async function application(context: TestContext, folder: string, url: string, PUMP = "on"): Promise<string> {
  const program = new Program([process.execPath, "--import", "tsx", path("../src/main.ts")], {
    PORT: "0",
    DATABASE: join(folder, "dashboard.db"),
    TIDINGS_SECRET_FILE: join(folder, "tidings.secret"),
    TIDINGS_URL: url,
    INTERVAL_S: "0.1",
    PUMP,
  });
  context.after(() => program.end("SIGKILL"));
  let address = "";
  await program.start((said) => (address = /http:\/\/[\d.:]+(?=\/\n)/.exec(said)?.[0] ?? "") !== "");
  return address;
}

/** A folder with a secret in it, which is gone after the test. */
export function folderOf(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "dashboard-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "tidings.secret"), `${SECRET}\n`);
  return folder;
}

/** All of it. */
export async function start(context: TestContext): Promise<Dashboard> {
  const folder = folderOf(context);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const direct = await application(context, folder, url);
  const node = tidings(port, folder, direct);
  context.after(() => node.end("SIGKILL"));
  await node.start(isReady(url));
  const line = new Line(Number(new URL(direct).port));
  const address = await line.open();
  context.after(() => line.close());
  return {
    address,
    line,
    url,
    folder,
    database: join(folder, "dashboard.db"),
    endTidings: () => node.end("SIGKILL"),
    startTidings: () => node.start(isReady(url)),
  };
}
