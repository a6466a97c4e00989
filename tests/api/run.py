#!/usr/bin/env python3
"""Judges the HTTP API by its own document: the document by a validator, and a running server by schemathesis, which sends
what the document allows and what it does not, and looks for an answer of 5xx or one that the document does not know.

    run.py --tools FOLDER --seconds N -- the command of a tidings

FOLDER is a virtual environment with requirements.txt. The last line counts.
"""

import argparse
import hashlib
import hmac
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request

SECRET = "canary-bird of the API's tests, 32 bytes and more"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
CONFIG = f"""
listen = "127.0.0.1:0"
[auth]
secret = "{SECRET}"
[api]
requests_per_second = 1000000
requests_burst = 1000000
[user_rooms]
enabled = true
[[rooms]]
pattern = "*"
join = "anyone"
publish = "anyone"
any_event = true
"""


def start(command, home):
    """A server of our own, and its address once it listens."""
    path = pathlib.Path(home, "tidings.toml")
    path.write_text(CONFIG)
    server = subprocess.Popen([*command, "serve", "--config", str(path)], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        entry = json.loads(line)
        if entry.get("message") == "listening":
            # Read on, or the server would wait for whoever reads its log.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, f"http://{entry['address']}"
    raise SystemExit("the server does not listen")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    tools = arguments.tools.resolve() / "bin"
    failed = 0
    with tempfile.TemporaryDirectory() as home:
        server, address = start(arguments.command, home)
        try:
            document = urllib.request.urlopen(f"{address}/openapi.json", timeout=10).read()
            path = pathlib.Path(home, "openapi.json")
            path.write_bytes(document)
            valid = subprocess.run([tools / "openapi-spec-validator", str(path)])
            failed += valid.returncode != 0
            key = hmac.new(SECRET.encode(), b"tidings api key v1", hashlib.sha256).hexdigest()
            judged = subprocess.run(
                [tools / "schemathesis", "run", f"{address}/openapi.json", "-H", f"Authorization: Bearer {key}"]
                + ["-c", ",".join(CHECKS), "--max-time", str(arguments.seconds)],
                cwd=home,
                capture_output=True,
                text=True,
            )
            # It prints a request with its headers when that fails.
            print(judged.stdout.replace(key, "(the key)") + judged.stderr)
            cases = re.search(r"(\d+) generated, (\d+) passed", judged.stdout)
            failed += judged.returncode != 0 or not cases
            alive = urllib.request.urlopen(f"{address}/health/ready", timeout=10)
            failed += alive.status != 200
        finally:
            server.terminate()
            server.wait(10)
    print(f"{int(cases[2]) if cases else 0} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
