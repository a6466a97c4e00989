#!/usr/bin/env python3
"""Counts the instructions of the hot paths with callgrind, and compares them with counts.json.

    bench/instructions/run.py            prints each change; fails above +10 %
    bench/instructions/run.py --write    keeps what was counted

The last line is `N passed, N failed, N skipped`. Exit code 77: there is no valgrind.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COUNTS = HERE / "counts.json"
WORSE_MAX = 0.10
# How often a path runs in the two runs whose difference is told.
TIMES = {"decode": (1000, 3000), "ack": (100, 300), "publish": (4, 20)}


def build() -> Path:
    command = ["cargo", "build", "--quiet", "--locked", "--release", "-p", "tidings-instructions"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / "target/release/tidings-instructions"


def instructions(program: Path, path: str, times: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program, path, str(times)],
            capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"valgrind could not count {path}: {done.stderr[-500:]}")
    return int(found[1])


def main() -> None:
    if not shutil.which("valgrind"):
        print("there is no valgrind here")
        sys.exit(77)
    program = build()
    known = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    counted, failed = {}, 0
    for path, (few, many) in TIMES.items():
        each = (instructions(program, path, many) - instructions(program, path, few)) / (many - few)
        counted[path] = round(each)
        change = each / known[path] - 1 if path in known else 0.0
        worse = change > WORSE_MAX
        failed += worse
        print(f"{path:8} {each:12,.0f} instructions  {100 * change:+6.1f} %{'  FAILED' if worse else ''}")
    if "--write" in sys.argv[1:]:
        COUNTS.write_text(json.dumps(counted, indent=2) + "\n")
        failed = 0
    print(f"{len(TIMES) - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
