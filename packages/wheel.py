"""The wheel: the program as a script of the environment, for any Python 3 on a Linux of its glibc, or on any Linux (PEP 427, PEP 600, PEP 656)."""

from __future__ import annotations

import base64
import hashlib
import time
import zipfile
from pathlib import Path

from layout import Entry
from program import REPOSITORY, SUMMARY, Program, mtime


def _record(files: dict[str, Entry], itself: str) -> bytes:
    lines = []
    for name, entry in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(entry.content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(entry.content)}\n")
    return "".join([*lines, f"{itself},,\n"]).encode()


# The oldest that pip takes; a static program needs neither.
_OLDEST = ("manylinux_2_17", "musllinux_1_1")


def pack(program: Program, folder: Path) -> Path:
    platforms = ["manylinux_{}_{}".format(*program.glibc)] if program.glibc else _OLDEST
    tag = "py3-none-" + ".".join(f"{platform}_{program.machine}" for platform in platforms)
    name = f"tidings_server-{program.version}"
    metadata = f"""\
Metadata-Version: 2.1
Name: tidings-server
Version: {program.version}
Summary: {SUMMARY}
License: Apache-2.0
Description-Content-Type: text/markdown

The program `tidings`: `tidings --help` says what it does, `tidings docs` has its documentation. The client and the SDK for a
backend are `tidings-client`.
"""
    tags = "".join(f"Tag: py3-none-{platform}_{program.machine}\n" for platform in platforms)
    files = {
        f"{name}.data/scripts/tidings": Entry(program.bytes, 0o755),
        f"{name}.dist-info/LICENSE": Entry((REPOSITORY / "LICENSE").read_bytes()),
        f"{name}.dist-info/METADATA": Entry(metadata.encode()),
        f"{name}.dist-info/WHEEL": Entry(
            f"Wheel-Version: 1.0\nGenerator: tidings packages\nRoot-Is-Purelib: false\n{tags}".encode()
        ),
    }
    record = f"{name}.dist-info/RECORD"
    files[record] = Entry(_record(files, record))
    path = folder / f"{name}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as wheel:
        for inner, entry in files.items():
            member = zipfile.ZipInfo(inner, time.gmtime(mtime())[:6])
            member.external_attr, member.compress_type = (0o100000 | entry.mode) << 16, zipfile.ZIP_DEFLATED
            wheel.writestr(member, entry.content)
    return path
