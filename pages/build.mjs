/**
 * Builds the pages of `tidings dev`, of the examples and of the templates: `node build.mjs` writes them where they are embedded from, `node build.mjs --check` fails if
 * what is there is not what the sources make. The results are in the repository, so that a build of the server needs
 * no Node.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const root = new URL("../", import.meta.url);
const read = (path) => readFileSync(new URL(path, root), "utf8");

/** A chat's files besides its script. */
const chat = (title, signIn) => ({
  "index.html": read("pages/chat/chat.html").replaceAll("{{title}}", title).replace("{{sign-in}}\n", read(signIn)),
  "chat.css": read("pages/chat/chat.css"),
});

const DASHBOARD = "examples/dashboard/page/";
const NODES = "examples/redis-cluster/page/";
const PAGES = [
  {
    main: "pages/dev/main.ts",
    script: "chat.js",
    files: chat("Tidings dev", "pages/dev/sign-in.html"),
    out: "crates/tidings-server/src/page/",
  },
  {
    main: "examples/chat/page/src/main.ts",
    script: "chat.js",
    files: chat("Chat", "examples/chat/page/src/sign-in.html"),
    out: "examples/chat/page/",
  },
  {
    main: `${DASHBOARD}src/main.ts`,
    script: "dashboard.js",
    files: {
      "index.html": read(`${DASHBOARD}src/dashboard.html`),
      "dashboard.css": read("pages/node_modules/uplot/dist/uPlot.min.css") + read(`${DASHBOARD}src/dashboard.css`),
    },
    out: DASHBOARD,
  },
  {
    main: `${NODES}src/main.ts`,
    script: "nodes.js",
    files: { "index.html": read(`${NODES}src/nodes.html`), "nodes.css": read(`${NODES}src/nodes.css`) },
    out: NODES,
  },
  // For an application in Python or Rust, which has no npm to take it from.
  ...["axum-chat", "axum-dashboard", "fastapi-chat", "fastapi-dashboard"].map((template) => ({
    main: "sdks/typescript/src/index.ts",
    script: "tidings-client.js",
    files: {},
    out: `templates/${template}/page/`,
  })),
];

let stale = 0;
for (const { main, script, files, out } of PAGES) {
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL(main, root))],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "eof",
    nodePaths: [fileURLToPath(new URL("pages/node_modules", root))],
    write: false,
  });
  mkdirSync(new URL(out, root), { recursive: true });
  for (const [name, text] of Object.entries({ ...files, [script]: bundle.outputFiles[0].text })) {
    const target = new URL(out + name, root);
    if (existsSync(target) && readFileSync(target, "utf8") === text) continue;
    if (process.argv.includes("--check")) {
      console.error(`${out}${name} is not what its sources make: run npm run build in pages/`);
      stale += 1;
    } else {
      writeFileSync(target, text);
      console.log(`${out}${name}: ${Buffer.byteLength(text)} bytes`);
    }
  }
}
process.exitCode = stale > 0 ? 1 : 0;
