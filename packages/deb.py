"""The package for Debian and Ubuntu: the layout below /usr, the unit, and a configuration that upgrades leave alone."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from layout import SCHEMA, Entry, configuration, entries, unit
from program import SUMMARY, Program, mtime

CONFIGURATION = "etc/tidings/tidings.toml"


def control(program: Program, size: int) -> bytes:
    depends = "Depends: libc6 (>= {}.{}), libgcc-s1\n".format(*program.glibc) if program.glibc else ""
    return f"""\
Package: tidings
Version: {program.version}
Architecture: {program.debian_machine}
Maintainer: The Tidings authors <authors@tidings.invalid>
Installed-Size: {-(-size // 1024)}
{depends}Section: net
Priority: optional
Description: {SUMMARY}
 It runs beside any backend, which signs tokens and publishes with a POST.
 Nothing runs after the installation, because there is no secret yet:
 /etc/tidings/tidings.secret, then systemctl enable --now tidings.
""".encode()


def pack(program: Program, folder: Path) -> Path:
    files = {f"usr/{path}": entry for path, entry in entries(program).items()}
    files["usr/lib/systemd/system/tidings.service"] = Entry(unit("/usr/bin/tidings"))
    files[CONFIGURATION] = Entry(configuration(f"/usr/{SCHEMA}"))
    size = sum(len(entry.content) for entry in files.values())
    files["DEBIAN/control"] = Entry(control(program, size))
    files["DEBIAN/conffiles"] = Entry(f"/{CONFIGURATION}\n".encode())
    path = folder / f"tidings_{program.version}_{program.debian_machine}.deb"
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        for name, entry in files.items():
            file = Path(root) / name
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            file.write_bytes(entry.content)
            file.chmod(entry.mode)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", root, path],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(mtime())},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return path
