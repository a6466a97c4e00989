"""The binary that a package is made of: what it says of itself, and what it needs of a machine."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SUMMARY = "A real-time server for applications: WebSocket rooms with presence, acks and replay"
# What ELF calls a machine, and what dpkg, Node and pip call it.
_MACHINES = {"Advanced Micro Devices X86-64": ("x86_64", "amd64", "x64"), "AArch64": ("aarch64", "arm64", "arm64")}


class Program:
    """A binary of Tidings for Linux: static, or with glibc."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        machine = re.search(r"Machine:\s*(.+)", self._readelf("--file-header"))
        if machine is None or machine[1] not in _MACHINES:
            raise SystemExit(f"{path}: no ELF binary of a machine that there are packages for: {', '.join(_MACHINES)}")
        self.machine, self.debian_machine, self.node_machine = _MACHINES[machine[1]]

    def _readelf(self, *arguments: str) -> str:
        # Nothing, where it is no ELF file.
        return subprocess.run(
            ["readelf", *arguments, self.path],
            env={**os.environ, "LC_ALL": "C"},
            check=False,
            capture_output=True,
            text=True,
        ).stdout

    def says(self, *arguments: str) -> bytes:
        """What it prints."""
        return subprocess.run([self.path, *arguments], check=True, capture_output=True).stdout

    @cached_property
    def version(self) -> str:
        return self.says("--version").decode().split()[1]

    @cached_property
    def glibc(self) -> tuple[int, int] | None:
        """The oldest glibc that it runs with; none, if it is static and runs without."""
        if "INTERP" not in self._readelf("--program-headers", "--wide"):
            return None
        needed = re.findall(r"GLIBC_(\d+)\.(\d+)", self._readelf("--version-info", "--wide"))
        if not needed:
            raise SystemExit(f"{self.path}: is linked with another C library than glibc: link it statically")
        return max((int(major), int(minor)) for major, minor in needed)

    @cached_property
    def bytes(self) -> bytes:
        return self.path.read_bytes()


def mtime() -> int:
    """The time of every file in a package: a fixed one, so that the same binary makes the same package."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", 1_767_225_600))
