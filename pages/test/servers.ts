/**
 * The servers of a test, and a network between them and a browser that can be broken at will.
 *
 * What servers and pages log is kept for the gate (`tests/canary/`), which looks in it for tokens and secrets: `./test`
 * says where by `TIDINGS_TEST_LOGS`; without it nothing is kept. The servers' stdout is not kept: a token that is asked for
 * stands there.
 */

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { appendFileSync, closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const TARGET = process.env.TIDINGS_TARGET ?? fileURLToPath(new URL("../../target/debug/", import.meta.url));

const KEPT = process.env.TIDINGS_TEST_LOGS;
/** The canary in all secrets of tests is in it. */
export const SECRET = "canary-bird of the pages' tests!";
/** As `tidings dev` has it. */
export const DEV_SECRET = Buffer.from(SECRET).toString("hex");

function keptFile(kind: string, of: string): string | undefined {
  return KEPT && join(KEPT, `${kind}-${of}-${process.pid}.log`);
}

/** Keeps a text of this kind. */
export function keep(kind: string, of: string, text: string): void {
  const file = keptFile(kind, of);
  if (file) appendFileSync(file, `${text}\n`);
}

/** A free port of this machine; it is free again when this returns. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A token that a `ServerProcess.configured` believes, good for an hour. */
export function mint(claims: { sub: string; exp?: number; rooms?: string[] }): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ exp, aud: "tidings", note: "canary-bird of the claims", ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** Whether a server answers at this port, be it that it speaks TLS alone; while it is still starting, nobody does. */
async function answers(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/health/live`);
    return true;
  } catch {
    return false;
  }
}

/** A server process that can be killed and started again on the same port with the same files. */
export class ServerProcess {
  readonly port: number;
  readonly #command: readonly string[];
  readonly #folder: string;
  #process: ChildProcess | null = null;

  private constructor(port: number, command: readonly string[], folder: string) {
    this.port = port;
    this.#command = command;
    this.#folder = folder;
  }

  /** `tidings dev` */
  static dev(): Promise<ServerProcess> {
    return ServerProcess.#start((port) => ["tidings", "dev", "--listen", `127.0.0.1:${port}`]);
  }

  /** `tidings serve` with this configuration, whose secret is the file `secret`. */
  static configured(config: string, ...options: string[]): Promise<ServerProcess> {
    return ServerProcess.#start((port, folder) => {
      writeFileSync(join(folder, "tidings.toml"), config);
      writeFileSync(join(folder, "secret"), SECRET);
      return ["tidings", "serve", "--config", join(folder, "tidings.toml"), "--listen", `127.0.0.1:${port}`, ...options];
    });
  }

  /** `examples/chat` on a database of its own. */
  static chatExample(): Promise<ServerProcess> {
    return ServerProcess.#start((port, folder) => [
      "chat-example",
      "--listen",
      `127.0.0.1:${port}`,
      "--database",
      join(folder, "chat.db"),
    ]);
  }

  /** `examples/dashboard`, a sample of everything every 200 ms. */
  static dashboardExample(): Promise<ServerProcess> {
    return ServerProcess.#start((port) => ["dashboard-example", "--listen", `127.0.0.1:${port}`, "--interval-ms", "200"]);
  }

  /** `examples/redis-cluster`: three nodes and a Redis of its own. */
  static nodesExample(): Promise<ServerProcess> {
    return ServerProcess.#start((port) => ["redis-cluster-example", "--listen", `127.0.0.1:${port}`]);
  }

  static async #start(command: (port: number, folder: string) => string[]): Promise<ServerProcess> {
    const folder = mkdtempSync(join(tmpdir(), "tidings-pages-"));
    const port = await freePort();
    writeFileSync(join(folder, "dev-secret"), DEV_SECRET);
    const server = new ServerProcess(port, command(port, folder), folder);
    await server.start();
    return server;
  }

  /** Starts it, and waits until it says where it is. */
  async start(): Promise<void> {
    const [program, ...args] = this.#command;
    const level = KEPT ? "trace" : "warn";
    const env = { ...process.env, TIDINGS_HOME: this.#folder, TIDINGS_LOG: level, RUST_LOG: level, NO_COLOR: "1" };
    const file = keptFile("server", program!);
    const log = file ? openSync(file, "a") : "inherit";
    const child = spawn(join(TARGET, program!), args, { env, stdio: ["ignore", "pipe", log] });
    if (log !== "inherit") closeSync(log);
    this.#process = child;
    const ended = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => {
        // Nobody is to wait for its answer any more.
        if (this.#process === child) this.#process = null;
        reject(new Error(`${program} ended with ${code}; is it built?`));
      });
    });
    // That it ends later is no news to anybody.
    ended.catch(() => {});
    const greeting = new Promise<void>((resolve) => {
      child.stdout!.on("data", (text: Buffer) => text.includes("http://") && resolve());
    });
    await Promise.race([ended, args[0] === "serve" ? this.#answers() : greeting]);
  }

  async #answers(): Promise<void> {
    while (this.#process && !(await answers(this.port))) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  /** What `tidings token` prints for a user of `tidings dev`. */
  devToken(user: string): string {
    const env = { ...process.env, TIDINGS_HOME: this.#folder };
    return execFileSync(join(TARGET, "tidings"), ["token", "--user", user], { env, encoding: "utf8" }).trim();
  }

  /** The applications of the examples have no page of metrics. */
  async #keepMetrics(): Promise<void> {
    const [program, command] = this.#command;
    if (!KEPT || program !== "tidings" || command !== "dev" || !this.#process) return;
    const answer = await fetch(`http://127.0.0.1:${this.port}/metrics`);
    keep("metrics", program, await answer.text());
  }

  /** `kill -9`, or the signal by which an operator ends it. */
  async kill(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async end(): Promise<void> {
    await this.#keepMetrics();
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }
}

/** A TCP proxy between one browser window and a server. */
export class Network {
  readonly #server: Server;
  readonly #targetPort: number;
  readonly #links = new Set<{ browser: Socket; server: Socket; isWebSocket: boolean }>();
  #isDown = false;

  private constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = createServer((browser) => this.#connected(browser));
    // A test that failed before it closed its window must still end.
    this.#server.unref();
  }

  static async to({ port }: ServerProcess): Promise<Network> {
    const network = new Network(port);
    network.#server.listen(0, "127.0.0.1");
    await new Promise((resolve) => network.#server.once("listening", resolve));
    return network;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  #connected(browser: Socket): void {
    if (this.#isDown) {
      browser.destroy();
      return;
    }
    const server = connect(this.#targetPort, "127.0.0.1");
    const link = { browser, server, isWebSocket: false };
    this.#links.add(link);
    browser.once("data", (head: Buffer) => (link.isWebSocket = head.includes("GET /ws")));
    for (const [from, to] of [
      [browser, server],
      [server, browser],
    ] as const) {
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        to.destroy();
        this.#links.delete(link);
      });
    }
  }

  #webSockets() {
    return [...this.#links].filter(({ isWebSocket }) => isWebSocket);
  }

  /** What the page sends over its WebSocket does not arrive any more. */
  holdToServer(): void {
    for (const { browser, server } of this.#webSockets()) browser.unpipe(server).pause();
  }

  /** What the server sends over the WebSocket does not arrive any more. */
  holdToBrowser(): void {
    for (const { browser, server } of this.#webSockets()) server.unpipe(browser).pause();
  }

  /** Breaks the WebSocket; the next connection works again. */
  cut(): void {
    for (const { browser, server } of this.#webSockets()) {
      browser.destroy();
      server.destroy();
    }
  }

  /** Breaks everything, and refuses what is new, until `up`. */
  down(): void {
    this.#isDown = true;
    for (const { browser, server } of this.#links) {
      browser.destroy();
      server.destroy();
    }
  }

  up(): void {
    this.#isDown = false;
  }

  end(): void {
    this.down();
    this.#server.close();
  }
}
