/** The package as it is published: packed, installed from that file, and used from both kinds of modules. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
const run = promisify(execFile);
const application = mkdtempSync(join(tmpdir(), "tidings-server-sdk-"));
let files: string[];

before(async () => {
  const { stdout } = await run("npm", ["pack", "--json", "--silent", "--pack-destination", application], {
    cwd: PACKAGE,
  });
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf("["))) as [{ filename: string; files: { path: string }[] }];
  files = packed.files.map(({ path }) => path);
  writeFileSync(join(application, "package.json"), JSON.stringify({ name: "application", private: true }));
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--silent", packed.filename], {
    cwd: application,
  });
});
after(() => rmSync(application, { recursive: true, force: true }));

test("it has what is built, its README and its licence, and nothing else", () => {
  const others = files.filter((path) => !/^dist\/(esm|cjs)\/\w+\.(js|js\.map|d\.ts)$/.test(path)).sort();
  assert.deepEqual(others, ["LICENSE", "README.md", "dist/cjs/package.json", "dist/esm/package.json", "package.json"]);
});

for (const [name, line] of [
  ["node.mjs", 'import { attach, Tidings } from "tidings-server-sdk";'],
  ["node.cjs", 'const { attach, Tidings } = require("tidings-server-sdk");'],
] as const) {
  test(`${name} has it`, async () => {
    const program = `${line}
      const tidings = new Tidings({ url: "http://127.0.0.1:7777", secret: "canary-bird of the package's own test" });
      console.log(typeof attach, tidings.mintToken({ user: "ann" }).split(".").length);`;
    writeFileSync(join(application, name), program);
    const { stdout } = await run(process.execPath, [name], { cwd: application });
    assert.equal(stdout, "function 3\n");
  });
}

test("its types are good for a program that is checked strictly, by both kinds of modules", async () => {
  for (const name of ["@types/node", "@types/express", "undici-types"]) {
    const link = join(application, "node_modules", name);
    mkdirSync(join(link, ".."), { recursive: true });
    symlinkSync(join(PACKAGE, "node_modules", name), link);
  }
  const program = `import { createServer } from "node:http";
import { attach, Tidings, TidingsError, type Published } from "tidings-server-sdk";
const tidings = new Tidings({ url: "http://127.0.0.1:7777", secret: "s" });
export const attached = attach(createServer(tidings.webhooks({ join: async ({ user }) => user === "ann" }).handler));
export const publish = (): Promise<Published | string> =>
  tidings.publish("chat:1", "news", { hi: 1 }).catch((error) => (error instanceof TidingsError ? error.code : "unknown"));
`;
  for (const name of ["typed.mts", "typed.cts"]) writeFileSync(join(application, name), program);
  const flags = [
    "--noEmit",
    "--strict",
    "--exactOptionalPropertyTypes",
    "--target",
    "es2022",
    "--module",
    "nodenext",
    "--types",
    "node",
  ];
  await run(join(PACKAGE, "node_modules/.bin/tsc"), [...flags, "typed.mts", "typed.cts"], { cwd: application });
});
