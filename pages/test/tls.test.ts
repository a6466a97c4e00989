/** One port in a real browser: an application's page and the socket beside it, both over TLS, through a cut and a refusal. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import type { Browser, Page } from "puppeteer-core";

import type { Client, Event } from "../../sdks/typescript/src/index.ts";
import { keep, mint, Network, ServerProcess } from "./servers.ts";
import { launchBrowser } from "./window.ts";

const SDK = fileURLToPath(new URL("../../sdks/typescript/src/index.ts", import.meta.url));
const WAIT_MAX_MS = 40_000;

/** What the application's page has made. */
interface Made {
  tidings: { Client: typeof Client };
  client: Client;
  seen: unknown[];
}

const folder = mkdtempSync(join(tmpdir(), "tidings-tls-"));
let browser: Browser;
let application: Server;
let server: ServerProcess;

before(async () => {
  const named = ["-subj", "/CN=tidings", "-addext", "subjectAltName=IP:127.0.0.1"];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key"];
  const command = ["req", "-x509", "-days", "2", ...named, ...key, "-out", "server.pem"];
  execFileSync("openssl", command, { cwd: folder, stdio: "ignore" });
  const { publicKey } = new X509Certificate(readFileSync(join(folder, "server.pem")));
  const digest = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
  browser = await launchBrowser(`--ignore-certificate-errors-spki-list=${digest}`);

  const bundle = await build({ entryPoints: [SDK], bundle: true, write: false, format: "iife", globalName: "tidings" });
  const script = bundle.outputFiles[0]!.text;
  application = createServer((request, response) => {
    const isScript = request.url === "/client.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : "<!doctype html><title>An application</title><script src=/client.js></script>");
  });
  await new Promise<void>((resolve) => application.listen(0, "127.0.0.1", resolve));
  const { port } = application.address() as AddressInfo;
  server = await ServerProcess.configured(`
    [auth]
    secret_file = "secret"
    [[rooms]]
    pattern = "*"
    join = "anyone"
    publish = "anyone"
    any_event = true
    [tls]
    certificate_file = "${join(folder, "server.pem")}"
    key_file = "${join(folder, "server.key")}"
    [upstream]
    url = "http://127.0.0.1:${port}"
  `);
});

after(async () => {
  await browser.close();
  await server.end();
  application.close();
  application.closeAllConnections();
  rmSync(folder, { recursive: true });
});

/** The application's page, over TLS, with a client of the same port. */
async function open(url: string, token: string): Promise<Page> {
  const page = await (await browser.createBrowserContext()).newPage();
  page.setDefaultTimeout(WAIT_MAX_MS);
  page.on("console", (message) => keep("browser", "page", `${message.type()} ${message.text()}`));
  await page.goto(url);
  await page.evaluate((token) => {
    const made = globalThis as unknown as Made;
    made.seen = [];
    made.client = new made.tidings.Client("/ws", { token });
  }, token);
  return page;
}

const state = (page: Page, wanted: string) =>
  page.waitForFunction((wanted) => (globalThis as unknown as Made).client.state === wanted, {}, wanted);

/** Joins a room whose events the page keeps; begins anew at a reset, which is kept as well. */
const joins = (page: Page) =>
  page.evaluate(async () => {
    const { client, seen } = globalThis as unknown as Made;
    const room = client.room("r");
    room.onEvent((event: Event) => seen.push(event.data));
    room.onReset(() => seen.push("reset"));
    await room.join();
  });

const says = (page: Page, ...data: number[]) =>
  page.evaluate(async (data) => {
    for (const number of data) await (globalThis as unknown as Made).client.room("r").request("say", number);
  }, data);

const sees = (page: Page, count: number) =>
  page.waitForFunction((count) => (globalThis as unknown as Made).seen.length >= count, {}, count);

test("a page and its socket on one port over TLS, and nothing is lost by a cut", async () => {
  const network = await Network.to(server);
  const ann = await open(network.url.replace("http:", "https:"), mint({ sub: "ann" }));
  const bob = await open(`https://127.0.0.1:${server.port}/`, mint({ sub: "bob" }));
  assert.equal(await ann.title(), "An application");
  await Promise.all([joins(ann), joins(bob)]);
  await says(bob, 1, 2);
  await sees(ann, 2);
  network.down();
  await state(ann, "reconnecting");
  await says(bob, 3, 4);
  network.up();
  await state(ann, "connected");
  await says(bob, 5);
  await sees(ann, 5);
  assert.deepEqual(await ann.evaluate(() => (globalThis as unknown as Made).seen), [1, 2, 3, 4, 5]);
  network.end();
});

test("a refusal before the upgrade is told as it is without TLS", async () => {
  const page = await open(`https://127.0.0.1:${server.port}/`, "none");
  await state(page, "refused");
  const fault = await page.evaluate(() => (globalThis as unknown as Made).client.fault);
  assert.deepEqual([fault?.status, fault?.code], [401, "token_malformed"]);
});
