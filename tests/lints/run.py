#!/usr/bin/env python3
"""Shows that the workspace's lints refuse what the house rules forbid: a lint that nobody can break is no lint.

Each file of snippets/ begins with `//! refused: LINT` or `//! accepted`. All of them are compiled by clippy, in one
package outside the workspace, under the very [workspace.lints] table of the root Cargo.toml and its clippy.toml. The
last line is `N passed, N failed, N skipped`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SNIPPETS = Path(__file__).resolve().parent / "snippets"
PACKAGE = ROOT / "target" / "lints"
WITHIN_S = 300


def lint_tables(manifest):
    """The text of the [workspace.lints.*] tables, as they stand."""
    tables = re.findall(r"^\[workspace\.lints\b.*?(?=^\[(?!workspace\.lints\b)|\Z)", manifest, re.M | re.S)
    return "".join(tables)


def write_package():
    manifest = (ROOT / "Cargo.toml").read_text()
    workspace = tomllib.loads(manifest)["workspace"]
    lints = lint_tables(manifest)
    if tomllib.loads(lints)["workspace"]["lints"] != workspace["lints"]:
        raise SystemExit("lints: the lint tables of Cargo.toml were not copied whole")
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    tokio = next(package["version"] for package in locked if package["name"] == "tokio")
    sources = PACKAGE / "src" / "bin"
    shutil.rmtree(PACKAGE, ignore_errors=True)
    sources.mkdir(parents=True)
    for snippet in SNIPPETS.glob("*.rs"):
        shutil.copy(snippet, sources)
    # The root's lock file: the same tokio, and nothing to resolve over the network.
    shutil.copy(ROOT / "Cargo.lock", PACKAGE)
    (PACKAGE / "Cargo.toml").write_text(
        f'[package]\nname = "lints"\nversion = "0.0.0"\nedition = "{workspace["package"]["edition"]}"\n'
        f'[dependencies]\ntokio = {{ version = "={tokio}", features = ["sync", "time"] }}\n'
        f"[lints]\nworkspace = true\n[workspace]\n{lints}"
    )


def run_clippy():
    """Per snippet, the lints that refused it; and how clippy ended."""
    command = ["cargo", "clippy", "--quiet", "--all-targets", "--keep-going", "--message-format=json"]
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    environment = os.environ | {"CLIPPY_CONF_DIR": str(ROOT), "CARGO_TARGET_DIR": target}
    done = subprocess.run(
        [*command, "--", "-D", "warnings"],
        cwd=PACKAGE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    refused = {snippet.name: set() for snippet in SNIPPETS.glob("*.rs")}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] != "compiler-message" or message["message"]["level"] != "error":
            continue
        # "aborting due to …" has no code; what has none otherwise (a syntax error) must not pass as a lint either.
        code = (message["message"]["code"] or {}).get("code")
        if code or message["message"]["spans"]:
            refused[Path(message["target"]["src_path"]).name].add(code or "no lint")
    return refused, done


def main():
    write_package()
    refused, done = run_clippy()
    if not any(refused.values()):
        sys.stderr.write(done.stderr)
    failed = 0
    for name, lints in sorted(refused.items()):
        head = (SNIPPETS / name).read_text().splitlines()[0]
        expected = re.fullmatch(r"//! (?:accepted|refused: (\S+))", head)
        if expected is None:
            raise SystemExit(f"lints: {name} does not begin with `//! refused: LINT` or `//! accepted`")
        wanted = {expected[1]} if expected[1] else set()
        good = lints == wanted
        failed += not good
        told = "" if good else f": {sorted(wanted)} were expected, {sorted(lints)} came"
        print(f"{'ok' if good else 'not ok'} {name.removesuffix('.rs')}{told}")
    print(f"{len(refused) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not refused else 0


if __name__ == "__main__":
    sys.exit(main())
