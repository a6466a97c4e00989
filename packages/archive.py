"""The archive: one folder with `bin`, `lib` and `share`, which runs wherever it lies."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from layout import Entry, configuration, entries, unit
from program import Program, mtime


def write(path: Path, files: dict[str, Entry]) -> Path:
    """A tar.gz of these, root's own, sorted, of one time."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, entry in sorted(files.items()):
                member = tarfile.TarInfo(name)
                member.size, member.mode, member.mtime = len(entry.content), entry.mode, mtime()
                tar.addfile(member, io.BytesIO(entry.content))
    return path


def pack(program: Program, folder: Path) -> Path:
    root = f"tidings-{program.version}"
    files = entries(program)
    files["lib/systemd/system/tidings.service"] = Entry(unit("/usr/local/bin/tidings"))
    files["share/tidings/tidings.toml"] = Entry(configuration("../doc/tidings/tidings.schema.json"))
    name = f"{root}-{program.machine}-linux-{'gnu' if program.glibc else 'static'}.tar.gz"
    return write(folder / name, {f"{root}/{path}": entry for path, entry in files.items()})
