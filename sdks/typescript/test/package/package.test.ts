/** The package as it is published: packed, installed from that file, and used as applications use it. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { launch, type Browser } from "puppeteer-core";

import { mint, ServerProcess, socketOf, startServer } from "../real/configured.ts";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
const HERE = fileURLToPath(new URL("./", import.meta.url));
const TSX = join(PACKAGE, "node_modules/tsx/dist/loader.mjs");
const run = promisify(execFile);

/** A folder of a test's own, gone at the end. */
const folders: string[] = [];
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "tidings-client-"));
  folders.push(made);
  return made;
}

/** What `npm pack` says of what it packed. */
interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

let packedFiles: string[];
/** Where the package was installed. */
let installed: string;
let server: ServerProcess;
/** Serves the files of one folder, for a browser. */
let pages: Server;
let pagesFolder: string;
let browser: Browser;
before(async () => {
  const packed = folder();
  const { stdout } = await run("npm", ["pack", "--json", "--silent", "--pack-destination", packed], { cwd: PACKAGE });
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf("["))) as [Packed];
  packedFiles = files.map(({ path }) => path);
  installed = folder();
  writeFileSync(join(installed, "package.json"), JSON.stringify({ name: "application", private: true }));
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--silent", join(packed, filename)], {
    cwd: installed,
  });
  const types: Record<string, string> = { html: "text/html", js: "text/javascript" };
  pages = createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url!, "http://pages").pathname);
    try {
      const file = readFileSync(join(pagesFolder, name));
      response.writeHead(200, { "content-type": types[name.split(".").at(-1)!] ?? "text/plain" }).end(file);
    } catch {
      response.writeHead(404).end();
    }
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => pages.once("listening", resolve));
  [server, browser] = await Promise.all([
    startServer({ allowedOrigins: [originOfPages()] }),
    launch({ executablePath: CHROMIUM, headless: true, args: ["--no-sandbox"] }),
  ]);
});
after(async () => {
  await browser?.close();
  pages?.close();
  await server?.end();
  for (const made of folders) rmSync(made, { recursive: true, force: true });
});

const originOfPages = () => `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;

/**
 * An application in a folder of its own, with the package as it was installed. What else it needs is lent to it: names of
 * packages, from this package's development or from another folder.
 */
function application(lent: readonly string[], from = PACKAGE): string {
  const made = folder();
  cpSync(installed, made, { recursive: true });
  lend(made, lent, from);
  return made;
}

function lend(made: string, names: readonly string[], from = PACKAGE): void {
  for (const name of names) {
    const link = join(made, "node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(from, "node_modules", name), link);
  }
}

/** Checks files strictly, and the types of libraries too. */
async function compile(made: string, ...args: string[]): Promise<void> {
  const flags = [
    "--noEmit",
    // A configuration that lies above the temporary folder is not meant.
    "--ignoreConfig",
    "--strict",
    "--exactOptionalPropertyTypes",
    "--target",
    "es2022",
    "--lib",
    "es2023,dom",
    "--types",
    "node",
  ];
  await run(join(PACKAGE, "node_modules/.bin/tsc"), [...flags, ...args], { cwd: made });
}

const consumer = (name: string, into: string) => copyFileSync(join(HERE, "consumers", name), join(into, name));

function environment(user: string): NodeJS.ProcessEnv {
  return { ...process.env, URL: socketOf(server), TOKEN: mint({ sub: user }) };
}

test("it has what is built, its README and its licence, and nothing else", () => {
  const others = packedFiles.filter((path) => !/^dist\/(esm|cjs)\/\w+\.(js|js\.map|d\.ts)$/.test(path)).sort();
  assert.deepEqual(others, ["LICENSE", "README.md", "dist/cjs/package.json", "dist/esm/package.json", "package.json"]);
});

for (const name of ["node.cjs", "node.mjs"]) {
  test(`Node, ${name}: it talks, and the process ends by itself`, async () => {
    const made = application(["ws"]);
    consumer(name, made);
    const { stdout } = await run(process.execPath, [name], { cwd: made, env: environment(name), timeout: 30_000 });
    assert.match(stdout, /^heard hello\nstored r@\w{8}\.\d+\n$/);
  });
}

test("without a WebSocket of the platform's the error says what to do", async () => {
  const made = application([]);
  const program = 'globalThis.WebSocket = undefined; new (require("tidings-client").Client)("ws://localhost/ws")';
  await assert.rejects(
    run(process.execPath, ["-e", program], { cwd: made }),
    /npm install ws.*new Client\(url, \{ WebSocket \}\)/s,
  );
});

/** Opens a page of the application that is served, and gives what it has to show when it is through. */
async function open(path: string, user: string, through: string) {
  const page = await browser.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  const sockets: string[] = [];
  const protocol = await page.createCDPSession();
  await protocol.send("Network.enable");
  protocol.on("Network.webSocketCreated", ({ url }) => sockets.push(url));
  const query = new URLSearchParams({ url: socketOf(server), token: mint({ sub: user }) });
  await page.goto(`${originOfPages()}/${path}?${query}`);
  await page.waitForSelector(through, { timeout: 30_000 });
  return { page, faults, sockets };
}

const html = (script: string, head = "") =>
  `<!doctype html><title>A page</title>${head}<body><script type="module" src="${script}"></script>`;

async function bundle(made: string): Promise<void> {
  await run(
    process.execPath,
    [join(PACKAGE, "node_modules/vite/bin/vite.js"), "build", "--base", "./", "--logLevel", "warn"],
    { cwd: made },
  );
}

describe("in Chromium", () => {
  test("a page that Vite has built", async () => {
    const made = application([]);
    consumer("page.js", made);
    writeFileSync(join(made, "index.html"), html("./page.js"));
    await bundle(made);
    pagesFolder = join(made, "dist");
    const { page, faults, sockets } = await open("index.html", "vite", "body[data-heard=hello][data-stored]");
    assert.deepEqual([faults, sockets.length], [[], 1]);
    await page.close();
  });

  test("a page that imports the modules as they are", async () => {
    const made = application([]);
    consumer("page.js", made);
    const imports = { "tidings-client": "./node_modules/tidings-client/dist/esm/index.js" };
    writeFileSync(
      join(made, "index.html"),
      html("./page.js", `<script type="importmap">${JSON.stringify({ imports })}</script>`),
    );
    pagesFolder = made;
    const { page, faults, sockets } = await open("index.html", "modules", "body[data-heard=hello][data-stored]");
    assert.deepEqual([faults, sockets.length], [[], 1]);
    await page.close();
  });

  test("React in StrictMode: one socket, however many components; each event once, also after a reload", async () => {
    const made = application(["react", "react-dom"]);
    consumer("react.jsx", made);
    writeFileSync(join(made, "index.html"), html("./react.jsx"));
    // A build for development, since StrictMode does nothing in another.
    writeFileSync(
      join(made, "vite.config.js"),
      'export default { mode: "development", define: { "process.env.NODE_ENV": \'"development"\' } };',
    );
    await bundle(made);
    pagesFolder = join(made, "dist");
    const { page, faults, sockets } = await open("index.html", "ann", "main[data-live=true]");
    const texts = () => page.$$eval("li", (items) => items.map((item) => item.textContent));
    for (const said of [1, 2]) {
      await page.click("button");
      await page.waitForSelector(`li:nth-child(${said})`);
    }
    assert.deepEqual(await texts(), ["hello", "hello"]);
    assert.equal(await page.$eval("body", (body) => body.dataset.mounts), "2", "StrictMode mounts twice");
    await page.waitForFunction(() => document.querySelector("aside")?.textContent === "ann");
    assert.deepEqual([faults, sockets.length], [[], 1]);
    await page.reload();
    await page.waitForSelector("li:nth-child(2)");
    assert.deepEqual([await texts(), sockets.length], [["hello", "hello"], 2]);
    await page.close();
  });
});

for (const [version, from] of [
  ["19", PACKAGE],
  ["18", join(HERE, "react-18")],
] as const) {
  test(`the hooks with React ${version}`, async () => {
    const made = application(["react", "react-dom"], from);
    lend(made, ["happy-dom"]);
    for (const name of ["react.test.ts", "world.ts"]) copyFileSync(join(PACKAGE, "test", name), join(made, name));
    // Said by what runs this file, and not meant for what it runs.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { stdout } = await run(process.execPath, ["--import", TSX, "--test", "--test-reporter=spec", "react.test.ts"], {
      cwd: made,
      env,
    });
    assert.match(stdout, new RegExp(`React ${version}\\.`));
    assert.match(stdout, /ℹ pass 1\d\nℹ fail 0\n/);
  });

  test(`the types with React ${version}, for ESM, CommonJS and a bundler`, async () => {
    const made = application(["@types/react"], from);
    lend(made, ["@types/node", "@types/ws", "undici-types"]);
    consumer("typed.ts", made);
    copyFileSync(join(made, "typed.ts"), join(made, "typed.cts"));
    copyFileSync(join(made, "typed.ts"), join(made, "typed.mts"));
    await Promise.all([
      compile(made, "--module", "nodenext", "typed.cts", "typed.mts"),
      compile(made, "--module", "esnext", "--moduleResolution", "bundler", "typed.ts"),
    ]);
  });
}

/** The examples of the README in a language. */
const examples = (language: string) =>
  [...readFileSync(join(PACKAGE, "README.md"), "utf8").matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, of]) => of === language)
    .map(([, , code]) => code!);

test("the README's ten lines, pasted, beside `tidings dev`", async (context) => {
  const dev = await ServerProcess.dev();
  context.after(() => dev.end());
  const [example, ...others] = examples("js");
  assert.ok(others.length === 0 && example!.split("\n").filter(Boolean).length <= 10, "ten lines");
  const made = application(["ws"]);
  // The port alone differs: a test uses one that is free.
  writeFileSync(join(made, "chat.mjs"), example!.replace("127.0.0.1:7777", `127.0.0.1:${dev.port}`));
  const env = { ...process.env, TOKEN: dev.devToken("ann") };
  const chat = spawn(process.execPath, ["chat.mjs"], { cwd: made, env, stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => void chat.kill());
  let said = "";
  const expected = [/^connecting\nconnected\n/, /^ann: Hello$/m, /^here: ann$/m, /^stored as chat:lobby@\w{8}\.1$/m];
  for await (const text of chat.stdout) {
    said += text;
    if (expected.every((words) => words.test(said))) return;
  }
  assert.fail(`it ended after: ${said}`);
});

test("the README's other examples, compiled", async () => {
  const made = application(["react", "@types/react", "@types/node", "undici-types"]);
  const files = ["ts", "tsx"].flatMap((language) =>
    examples(language).map((code, index) => {
      const name = `example${index}.${language}`;
      writeFileSync(join(made, name), code);
      return name;
    }),
  );
  assert.equal(files.length, 2);
  await compile(made, "--module", "esnext", "--moduleResolution", "bundler", "--jsx", "react-jsx", ...files);
});
