"""The package for npm: the program itself is the command, so that signals and exit codes are its own."""

from __future__ import annotations

import json
from pathlib import Path

from archive import write
from layout import Entry
from program import REPOSITORY, SUMMARY, Program

README = """\
# tidings-server

{summary}. This package carries the program `tidings` for Linux{glibc} ({machine}); `npx tidings --help` says what it does, and `npx tidings docs` has its documentation.

The SDKs are packages of their own: `tidings-client` for pages, `tidings-server-sdk` for a backend.
"""


def manifest(program: Program) -> bytes:
    told = {
        "name": "tidings-server",
        "version": program.version,
        "description": SUMMARY,
        "license": "Apache-2.0",
        "keywords": ["websocket", "realtime", "rooms", "chat"],
        "bin": {"tidings": "bin/tidings"},
        "files": ["bin"],
        "os": ["linux"],
        "cpu": [program.node_machine],
        **({"libc": ["glibc"]} if program.glibc else {}),
    }
    return (json.dumps(told, indent=2) + "\n").encode()


def pack(program: Program, folder: Path) -> Path:
    glibc = " with glibc {}.{} or later".format(*program.glibc) if program.glibc else ""
    readme = README.format(summary=SUMMARY, glibc=glibc, machine=program.node_machine)
    files = {
        "package/package.json": Entry(manifest(program)),
        "package/README.md": Entry(readme.encode()),
        "package/LICENSE": Entry((REPOSITORY / "LICENSE").read_bytes()),
        "package/bin/tidings": Entry(program.bytes, 0o755),
    }
    return write(folder / f"tidings-server-{program.version}.tgz", files)
