/**
 * Builds what is published, into dist/: the modules as ESM and as CommonJS, each with its types. No bundler, so that what
 * a stack trace names is what is in src/.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = new URL("./", import.meta.url);
const path = (name) => fileURLToPath(new URL(name, here));
const compiler = path("node_modules/.bin/tsc");

rmSync(path("dist"), { recursive: true, force: true });
for (const [folder, type, ...flags] of [
  ["dist/esm/", "module"],
  ["dist/cjs/", "commonjs", "--module", "commonjs", "--verbatimModuleSyntax", "false"],
]) {
  execFileSync(compiler, ["-p", path("tsconfig.build.json"), "--outDir", path(folder), ...flags], { stdio: "inherit" });
  writeFileSync(path(`${folder}package.json`), `{ "type": "${type}" }\n`);
  for (const name of readdirSync(path(folder)).filter((name) => name.endsWith(".d.ts"))) {
    // The compiler leaves the sources' names in what the types import.
    const types = readFileSync(path(folder + name), "utf8").replace(/(from "\.\/\w+)\.ts"/g, '$1.js"');
    writeFileSync(path(folder + name), types);
  }
}
copyFileSync(path("../../LICENSE"), path("LICENSE"));
