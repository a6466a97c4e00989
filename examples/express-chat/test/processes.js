/** Tidings and the application, as their own processes on free ports; what they log is kept where `./test` says. */

import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const TIDINGS = process.env.TIDINGS_BIN ?? path("../../../target/debug/tidings");
const KEPT = process.env.TIDINGS_TEST_LOGS;
const SECRET = "canary-bird of the tests of the Express chat";

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

class Program {
  #command;
  #process = null;
  ended = Promise.resolve();

  constructor(...command) {
    this.#command = command;
  }

  /** Starts it, and waits until this holds. */
  async start(isReady) {
    const [program, ...args] = this.#command;
    const log = KEPT ? openSync(join(KEPT, `server-express-chat-${process.pid}.log`), "a") : "inherit";
    const env = { ...process.env, TIDINGS_LOG: KEPT ? "trace" : "warn", NO_COLOR: "1" };
    const child = spawn(program, args, { env, stdio: ["ignore", "pipe", program === TIDINGS ? log : "inherit"] });
    if (log !== "inherit") closeSync(log);
    this.#process = child;
    let said = "";
    child.stdout.on("data", (text) => (said += text));
    this.ended = new Promise((resolve) => child.once("exit", resolve));
    while (!(await isReady(() => said))) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`${this.#command.join(" ")} has ended: ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async end(signal) {
    this.#process?.kill(signal);
    await this.ended;
  }
}

const isReady = (port) => () =>
  fetch(`http://127.0.0.1:${port}/health/ready`).then(
    (answer) => answer.ok,
    () => false,
  );

/** Both, with one port for clients: the application's (`attach`), or that of Tidings in front of it (`upstream`). */
export async function start(context, way) {
  const folder = mkdtempSync(join(tmpdir(), "express-chat-"));
  const programs = [];
  // Also those of a start that fails.
  context.after(async () => {
    await Promise.all(programs.map((program) => program.end("SIGKILL")));
    rmSync(folder, { recursive: true });
  });
  const port = await freePort();
  writeFileSync(join(folder, "tidings.secret"), `${SECRET}\n`);
  writeFileSync(join(folder, "tidings.toml"), readFileSync(path("../tidings.toml")));
  const url = `http://127.0.0.1:${port}`;
  const options = [
    "--port",
    "0",
    "--database",
    join(folder, "chat.db"),
    "--secret-file",
    join(folder, "tidings.secret"),
    "--tidings",
    url,
  ];
  const application = new Program(
    process.execPath,
    path("../src/main.js"),
    ...options,
    ...(way === "upstream" ? ["--no-attach"] : []),
  );
  programs.push(application);
  let address = "";
  const startApplication = () =>
    application.start(async (said) => (address = /http:\/\/[\d.:]+/.exec(said())?.[0] ?? ""));
  await startApplication();
  const serve = [
    TIDINGS,
    "serve",
    "--config",
    join(folder, "tidings.toml"),
    "--listen",
    `127.0.0.1:${port}`,
    "--drain-window",
    "0s",
  ];
  const tidings = new Program(...serve, ...(way === "upstream" ? ["--upstream", address] : []));
  programs.push(tidings);
  await tidings.start(isReady(port));
  return {
    address: way === "upstream" ? url : address,
    killTidings: () => tidings.end("SIGKILL"),
    startTidings: () => tidings.start(isReady(port)),
    endApplication: () => application.end("SIGTERM"),
  };
}
