#!/usr/bin/env python3
"""Looks through everything that a run of the tests has logged for what no log may have: a token, or a secret.

The tests leave their logs in one folder, a kind of log by its file's first word. A token is known by its shape, however it
was made. The tests' own keys and passwords have one word in them, the canary, and so have claims of their tokens: it is
looked for as it is, and as it looks inside base64, in hexadecimal and in a list of bytes.

A command whose purpose is to print a token prints it on stdout, which is no log: stdout is not kept. What a failed test
says is not looked at either, since it is for people, and may have to show a token.

A kind without a line, or without what such a log always has, fails: a scan of nothing would always be clean. The last line
is `N passed, N failed, N skipped`, over the kinds.
"""

import argparse
import base64
import re
import sys
import xml.etree.ElementTree
from pathlib import Path

CANARY = "canary-bird"
SHOWN_BYTES_MAX = 40
SENTENCES_MAX = 20

# What a log of each kind always has, and has only if it is there in detail.
KINDS = {
    "hub": ("the logs of hubs inside tests", ["DEBUG", "connect", "refuse", "connections: 0"]),
    "server": ("the logs of servers", ['"level":"TRACE"', '"message":"connect"', '"message":"refuse"']),
    "metrics": ("the metrics of servers", ["tidings_handshake_refusals_total{code=", "tidings_connections "]),
    "browser": ("the consoles of pages", ["Failed to load resource"]),
}
PRINTED = "what passed tests and steps printed"


def base64_of(word):
    """How base64 has a word, by where in a group of three bytes it begins: the characters that depend on it alone."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + word + bytes(2))
        yield encoded[-(-before * 8 // 6) : (before + len(word)) * 8 // 6]


def forms(canary):
    """What is looked for, by what it is called when it is found."""
    word = canary.encode()
    listed = r",\s*".join(str(byte) for byte in word).encode()
    return {
        # `{"` in base64url, and what makes it a header or claims rather than a word.
        "a token": rb"eyJ[A-Za-z0-9_-]{12,}",
        "a secret of the tests": re.escape(word),
        "a secret of the tests in base64": b"|".join(re.escape(form) for form in base64_of(word)),
        "a secret of the tests in hexadecimal": b"(?i:" + word.hex().encode() + b")",
        "a secret of the tests as a list of bytes": listed,
    }


# One after the other: each has a beginning that is fast to look for, and all together have none.
FORMS = {what: re.compile(form) for what, form in forms(CANARY).items()}


def faults(name, text):
    """A sentence for everything in a text that may not be there."""
    for what, form in FORMS.items():
        for found in form.finditer(text):
            line = text.count(b"\n", 0, found.start()) + 1
            shown = found[0][:SHOWN_BYTES_MAX].decode("ascii")
            yield f"{name}, line {line}, has {what}: {shown}{'…' if len(found[0]) > SHOWN_BYTES_MAX else ''}"


def printed_by_passed_tests(junit):
    """What each passed test printed, by its name."""
    for case in xml.etree.ElementTree.parse(junit).iter("testcase"):
        if case.find("failure") is None and case.find("error") is None:
            texts = [case.findtext(stream) or "" for stream in ("system-out", "system-err")]
            yield f"{case.get('classname')} {case.get('name')}", "\n".join(texts).encode()


class Scan:
    """The kinds so far: how many were clean, and how many not."""

    def __init__(self):
        self.passed = self.failed = 0

    def kind(self, title, texts, always, unit="files"):
        """Looks through the texts of one kind, (name, bytes) each."""
        files = lines = 0
        missing = {word.encode() for word in always}
        found = []
        for name, text in texts:
            files += 1
            lines += sum(not line.isspace() for line in text.splitlines())
            missing -= {word for word in missing if word in text}
            found += faults(name, text)
        if lines == 0:
            found.append("there is nothing to look at: nobody has kept a line")
        found += [f"nothing has {word.decode()}: is it still kept, and in detail?" for word in sorted(missing)]
        print(f"{'not ok' if found else 'ok'} {title}: {lines} lines of {files} {unit}")
        for sentence in found[:SENTENCES_MAX]:
            print(f"    {sentence}")
        if len(found) > SENTENCES_MAX:
            print(f"    and {len(found) - SENTENCES_MAX} more")
        self.failed += bool(found)
        self.passed += not found


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the tests have left their logs")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which have to be there")
    parser.add_argument("--junit", type=Path, required=True, help="nextest's report, with what its tests printed")
    parser.add_argument("--printed", type=Path, nargs="*", default=[], help="what steps of the run have printed")
    options = parser.parse_args(arguments)
    scan = Scan()
    files = sorted(file for file in options.folder.glob("*") if file.is_file()) if options.folder.is_dir() else []
    of_kind = {kind: [] for kind in KINDS}
    for file in files:
        of_kind.setdefault(file.name.split("-")[0], []).append(file)
    for kind, files in of_kind.items():
        title, always = KINDS.get(kind, (f"the logs of an unknown kind, {kind}", []))
        if files or kind in options.kinds:
            texts = ((file.name, file.read_bytes()) for file in files)
            scan.kind(title, texts, always if kind in options.kinds else [])
    printed = list(printed_by_passed_tests(options.junit)) if options.junit.is_file() else []
    printed += [(file.name, file.read_bytes()) for file in options.printed]
    scan.kind(PRINTED, printed, [], "tests and steps")
    print(f"{scan.passed} passed, {scan.failed} failed, 0 skipped")
    return 1 if scan.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
