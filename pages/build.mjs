/**
 * Builds the chat pages: `node build.mjs` writes them where they are embedded from, `node build.mjs --check` fails if
 * what is there is not what the sources make. The results are in the repository, so that a build of the server needs
 * no Node.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const root = new URL("../", import.meta.url);
const read = (path) => readFileSync(new URL(path, root), "utf8");

const PAGES = [
  { title: "Tidings dev", main: "pages/dev/main.ts", signIn: "pages/dev/sign-in.html", out: "crates/tidings-server/src/page/" },
  { title: "Chat", main: "examples/chat/page/src/main.ts", signIn: "examples/chat/page/src/sign-in.html", out: "examples/chat/page/" },
];

let stale = 0;
for (const { title, main, signIn, out } of PAGES.filter(({ main }) => existsSync(new URL(main, root)))) {
  const script = await build({
    entryPoints: [fileURLToPath(new URL(main, root))],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    write: false,
  });
  const files = {
    "index.html": read("pages/chat/chat.html").replaceAll("{{title}}", title).replace("{{sign-in}}\n", read(signIn)),
    "chat.css": read("pages/chat/chat.css"),
    "chat.js": script.outputFiles[0].text,
  };
  mkdirSync(new URL(out, root), { recursive: true });
  for (const [name, text] of Object.entries(files)) {
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
