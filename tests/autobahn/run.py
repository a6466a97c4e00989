#!/usr/bin/env python3
"""Runs the Autobahn|Testsuite's fuzzing client against a server and gates on what it found.

    run.py [OPTIONS] -- COMMAND…     starts COMMAND, whose first line is `listening on ws://…`
    run.py [OPTIONS] --url ws://…    a server that runs already

Exit code 0: every selected case is clean. 1: it is not. 77: no Python 2.7 here, nothing was run. The last line is
`N passed, N failed, N skipped`.
"""

import argparse
import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import gate

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "target" / "autobahn"
SUITE_VERSION = "25.10.1"
AGENT = "server"
SKIPPED = 77

# The production defaults that section 9 meets: `Limits::text_message_bytes_max` and `Limits::fragments_max`.
PRODUCTION_MESSAGE_BYTES_MAX = 64 * 1024
PRODUCTION_FRAGMENTS_MAX = 64

# The most that a server may take from its start to its first line (a build excluded), and a suite to its end.
LISTENING_WITHIN_S = 30
SUITE_WITHIN_S = {"core": 300, "limits": 300, "deflate": 3600}


def say(text):
    print(f"autobahn: {text}", flush=True)


def find_python27():
    """A Python 2.7 that runs, from the search path or from pyenv; None where there is none."""
    candidates = [shutil.which("python2.7"), shutil.which("python2")]
    if pyenv := shutil.which("pyenv"):
        versions = subprocess.run(
            [pyenv, "versions", "--bare"], capture_output=True, text=True
        ).stdout.split()
        for version in (v for v in versions if v.startswith("2.7")):
            prefix = subprocess.run([pyenv, "prefix", version], capture_output=True, text=True).stdout.strip()
            candidates.append(f"{prefix}/bin/python2.7")
    for candidate in filter(None, candidates):
        # A pyenv shim is there for every version that is installed, and fails for one that is not active.
        probe = [candidate, "-c", "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"]
        with contextlib.suppress(OSError):
            if subprocess.run(probe, capture_output=True, text=True).stdout == "2.7":
                return candidate
    return None


def bootstrap():
    """The suite's own Python, made if it is not there; None where it can't be had."""
    home = CACHE / f"py27-{SUITE_VERSION}"
    python = home / "bin" / "python"
    ready = home / "complete"
    CACHE.mkdir(parents=True, exist_ok=True)
    if ready.exists():
        return python
    base = find_python27()
    if base is None:
        return None
    say(f"installing autobahntestsuite {SUITE_VERSION} (about 45 s, once)")
    shutil.rmtree(home, ignore_errors=True)
    tools = CACHE / "vtool"
    quiet = ["--quiet", "--disable-pip-version-check"]
    # Root's own pip is what a fresh machine has, and this one's Python is old by intent: neither is worth a warning.
    calm = os.environ | {"PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_PYTHON_VERSION_WARNING": "1"}
    pip3 = [sys.executable, "-m", "pip", "install", *quiet, "--upgrade", "--target", tools]
    subprocess.run([*pip3, "virtualenv==16.7.12"], check=True, env=calm)
    make = [base, "-m", "virtualenv", "--quiet", "--no-download", home]
    subprocess.run(make, check=True, env=calm | {"PYTHONPATH": str(tools)})
    pip = [home / "bin" / "pip", "install", *quiet]
    # pip and setuptools first, by themselves: the ones that virtualenv carries can't read today's metadata.
    subprocess.run([*pip, "pip==20.3.4", "setuptools==44.0.0", "wheel==0.37.1"], check=True, env=calm)
    subprocess.run([*pip, f"autobahntestsuite=={SUITE_VERSION}"], check=True, env=calm)
    ready.touch()
    return python


def first_line(process):
    """The server's first line; an empty one if none came in time."""
    line = []
    reader = threading.Thread(target=lambda: line.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(LISTENING_WITHIN_S)
    return line[0] if line else ""


@contextlib.contextmanager
def serving(command):
    """Starts the server, gives its URL, ends it and its children by their process group."""
    log = CACHE / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    try:
        line = first_line(process).strip()
        prefix = "listening on "
        if not line.startswith(f"{prefix}ws://"):
            print("\n".join(log.read_text().splitlines()[-10:]))
            raise SystemExit(f"autobahn: the server's first line is {line!r}, not 'listening on ws://…'")
        # What it says later is drained, so that a full pipe can't stop it.
        threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
        yield line.removeprefix(prefix), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def is_alive(url):
    """Whether the server still upgrades: the suite itself does not notice one that died."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=5) as sock:
            sock.sendall(request.encode())
            return sock.recv(4096).startswith(b"HTTP/1.1 101 ")
    except OSError:
        return False


def run_suite(python, url, cases, selections, deflate_messages):
    """Runs the cases; the agent's part of index.json, empty if the suite left none."""
    reports = CACHE / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    spec = CACHE / "spec.json"
    server = {"agent": AGENT, "url": url, "options": {"version": 18}}
    spec.write_text(json.dumps({"outdir": str(reports), "servers": [server], "cases": cases}))
    command = [python, HERE / "driver27.py", "run", spec]
    if deflate_messages is not None:
        command.append(str(deflate_messages))
    log = CACHE / "wstest.log"
    within = sum(SUITE_WITHIN_S[selection] for selection in selections)
    with log.open("w") as output:
        try:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=within)
        except subprocess.TimeoutExpired:
            say(f"the suite was ended after {within} s")
    index = reports / "index.json"
    if not index.exists():
        say(f"the suite wrote no index; the end of {log}:")
        print("\n".join(log.read_text().splitlines()[-10:]))
        return {}
    return json.loads(index.read_text()).get(AGENT, {})


def close_out(passed, failed, skipped):
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def judge(url, process, python, options):
    """Runs and judges the selection; whether it is clean."""
    described = subprocess.run([python, HERE / "driver27.py", "describe"], check=True, capture_output=True)
    table = json.loads(described.stdout)
    cases = gate.select(table, options.sections)
    close_codes = {}
    if options.production_limits:
        limits = (PRODUCTION_MESSAGE_BYTES_MAX, PRODUCTION_FRAGMENTS_MAX)
        close_codes = gate.close_codes_expected(table, cases, *limits)
        say(f"production limits: {len(close_codes)} cases of section 9 have to be refused")
    if options.deflate_messages is not None and "deflate" in options.sections:
        say(f"REDUCED: {options.deflate_messages} messages a case in sections 12 and 13, instead of 1,000")
    say(f"{len(cases)} cases ({' + '.join(options.sections)}) against {url}")
    index = run_suite(python, url, cases, options.sections, options.deflate_messages)
    found = gate.faults(index, cases, close_codes)
    if found:
        print(f"{'case':<10} {'behavior':<16} {'close':<16} why")
        for case, behavior, closing, why in found:
            print(f"{case:<10} {behavior:<16} {closing:<16} {why}")
    dead = (process is not None and process.poll() is not None) or not is_alive(url)
    if dead:
        say("the server is no longer alive")
    faulty = len({case for case, *_ in found})
    # The server's life is one more thing that is checked, so it is one more in the count.
    close_out(len(cases) + 1 - faulty - dead, faulty + dead, 0)
    return not found and not dead


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", nargs="+", choices=list(gate.SECTIONS), default=["core", "limits"])
    parser.add_argument(
        "--production-limits", action="store_true", help="section 9 above the limits must be refused"
    )
    parser.add_argument(
        "--deflate-messages", type=int, metavar="N", help="messages a case in sections 12 and 13"
    )
    parser.add_argument("--prepare", action="store_true", help="install the suite and stop")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("command", nargs="*", help="the server to start, after --")
    options = parser.parse_args()
    if not options.prepare and bool(options.url) == bool(options.command):
        parser.error("give either --url or a command")

    python = bootstrap()
    if python is None:
        say("SKIPPED: no Python 2.7 here, which the suite needs")
        close_out(0, 0, 1)
        return SKIPPED
    if options.prepare:
        return 0
    if options.url:
        return 0 if judge(options.url, None, python, options) else 1
    with serving(options.command) as (url, process):
        return 0 if judge(url, process, python, options) else 1


if __name__ == "__main__":
    sys.exit(main())
