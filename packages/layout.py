"""What an installation below one folder has, and where: the archive's, and that of the .deb below /usr."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

from program import REPOSITORY, Program

SCHEMA = "share/doc/tidings/tidings.schema.json"


@dataclass
class Entry:
    """A file of it."""

    content: bytes
    mode: int = 0o644


def configuration(schema: str) -> bytes:
    """The example of a configuration, with its schema where that is installed."""
    text = (REPOSITORY / "deploy/tidings.toml").read_text(encoding="utf-8")
    return text.replace("../docs/tidings.schema.json", schema).encode()


def unit(program: str) -> bytes:
    """The unit, with the program where it is installed, and without the lines that say how to install it by hand."""
    text = (REPOSITORY / "deploy/tidings.service").read_text(encoding="utf-8")
    unit = text[text.index("[Unit]") :].replace("/usr/local/bin/tidings", program)
    return f"# A node as a service of systemd 250 or later.\n\n{unit}".encode()


def documents() -> dict[str, Entry]:
    """The READMEs and pages that are for users; pages link to each other, and so stand together."""
    found = {f"share/doc/tidings/{name}": REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "PROTOCOL.md")}
    found |= {f"share/doc/tidings/docs/{page.name}": page for page in (REPOSITORY / "docs").glob("*.md")}
    found["share/doc/tidings/copyright"] = REPOSITORY / "LICENSE"
    found[SCHEMA] = REPOSITORY / "docs/tidings.schema.json"
    return {name: Entry(path.read_bytes()) for name, path in found.items()}


def entries(program: Program) -> dict[str, Entry]:
    """Everything but the unit and the configuration, which know where they are installed."""
    return {
        "bin/tidings": Entry(program.bytes, 0o755),
        "share/man/man1/tidings.1.gz": Entry(gzip.compress(program.says("man"), mtime=0)),
        "share/bash-completion/completions/tidings": Entry(program.says("completions", "bash")),
        "share/zsh/vendor-completions/_tidings": Entry(program.says("completions", "zsh")),
        "share/fish/vendor_completions.d/tidings.fish": Entry(program.says("completions", "fish")),
        **documents(),
    }
