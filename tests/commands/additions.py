#!/usr/bin/env python3
"""Adds Tidings to applications as people have them, and shows that they work as before, and Tidings with them.

    tests/commands/additions.py TIDINGS [NAME…]

Each is copied and installed, and passes its own tests. `tidings detect` tells what it is. `tidings add` shows a diff and writes nothing;
with `--yes` nothing that was there is gone, and its own tests pass again. Then both are started: nobody gets a token without the
application's login; with it a message goes by the application's port and its new handler, each function of what was added does what it says,
and `tidings doctor` and `tidings smoke` are green. The SDKs are those of this repository, packed as they would be published, or those in SDKS. The last line counts.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from packed import pack
from place import ROOT, WAIT_S, free_port, wait_for
from socket_client import Refused, Socket

APPLICATIONS_AS_THEY_ARE = ROOT / "tests" / "additions"
SECRET = "canary-bird of the applications that tidings is added to"
# What is made, and not the application's own.
MADE = ("node_modules", ".venv", "target", "__pycache__", ".pytest_cache")
ROOM = "room:lobby"
# What is compiled is kept for the next run.
ENVIRONMENT = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "additions")}


def request(port, method, path, body=None, headers=None):
    """Status, headers and body; whatever the status is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def by_cookie(path, body, kind):
    def log_in(port):
        status, headers, text = request(port, "POST", path, body, {"content-type": kind})
        assert status < 400, f"login: {status} {text}"
        return {"cookie": headers["set-cookie"].split(";")[0]}

    return log_in


EXPRESS = {
    "install": ["npm install --no-audit --no-fund --silent"],
    "test": "npm test --silent",
    "start": "exec node server.js",
    "detected": {
        "framework": {"name": "express", "version": "4.21.2", "supported": True, "file": "package.json", "line": 13},
        "language": "javascript",
        "modules": "commonjs",
        "entry": {"file": "app.js", "line": 11},
        "listens": {"port": 3000, "file": "server.js", "line": 7},
        "auth": {"kind": "express-session", "user": "request.session?.userId", "file": "app.js", "line": 18},
    },
    "new": ["ws/server.js", "ws/middleware/auth.js", "ws/rooms.js", "ws/handlers/index.js", "ws/memberships.js", "tidings.toml"],
    "login": by_cookie(
        "/login", json.dumps({"email": "ann@example.com", "password": "canary-bird of ann"}), "application/json"
    ),
    "user": "1",
    "rooms": (f"node {APPLICATIONS_AS_THEY_ARE / 'room_manager.cjs'}", ["for all"]),
}


def by_bearer(port):
    form = urllib.parse.urlencode({"username": "johndoe", "password": "canary-bird of john"})
    status, _, text = request(port, "POST", "/token", form, {"content-type": "application/x-www-form-urlencoded"})
    assert status == 200, f"login: {status} {text}"
    return {"authorization": f"Bearer {json.loads(text)['access_token']}"}


FASTAPI = {
    "install": [
        "python3 -m venv --clear .venv",
        ".venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt",
    ],
    "install_again": [".venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt"],
    "test": ".venv/bin/python -m pytest -q -p no:cacheprovider",
    "start": "exec .venv/bin/uvicorn app.main:app --log-level warning --port $PORT",
    "detected": {
        "framework": {"name": "fastapi", "version": ">=0.115", "supported": True, "file": "requirements.txt", "line": 1},
        "language": "python",
        "modules": None,
        "entry": {"file": "app/main.py", "line": 38},
        "listens": None,
        "auth": {"kind": "oauth2", "user": "user.username", "file": "app/security.py", "line": 48},
        "workers": [{"kind": "workers", "told": "4", "file": "Dockerfile", "line": 6}],
    },
    "new": ["app/realtime/server.py", "app/realtime/broadcaster.py", "app/realtime/rooms.py", "tidings.toml"],
    "login": by_bearer,
    "user": "johndoe",
    "rooms": (f".venv/bin/python {APPLICATIONS_AS_THEY_ARE / 'broadcaster.py'}", ["for all", "first", "second"]),
}


PACKAGE = {
    "install": [
        "python3 -m venv --clear .venv",
        ".venv/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'",
    ],
    # As it is told, since nothing but that finds the packages.
    "install_again": [". .venv/bin/activate && {next[0]} && {next[1]}"],
    "test": ".venv/bin/python -m pytest -q -p no:cacheprovider",
    "start": ". .venv/bin/activate && exec {next[4]} --log-level warning --port $PORT",
    "detected": {
        "framework": {"name": "fastapi", "version": ">=0.115", "supported": True, "file": "pyproject.toml", "line": 9},
        "language": "python",
        "entry": {"file": "shop/main.py", "line": 10},
        "auth": {"kind": "session", "user": "user", "file": "shop/login.py", "line": 10},
    },
    "new": ["shop/realtime/server.py", "shop/realtime/schemas/message.send.json", "tidings.toml"],
    "login": by_cookie(
        "/login", "name=ann&password=canary-bird+of+ann", "application/x-www-form-urlencoded"
    ),
    "user": "ann",
}


def by_token(port):
    body = json.dumps({"name": "ann", "password": "canary-bird of ann"})
    status, _, text = request(port, "POST", "/login", body, {"content-type": "application/json"})
    assert status == 200, f"login: {status} {text}"
    return {"authorization": f"Bearer {json.loads(text)['token']}"}


TYPESCRIPT = {
    "install": ["npm install --no-audit --no-fund --silent"],
    "test": "npm test --silent",
    "start": "exec npx tsx src/server.ts",
    "detected": {
        "framework": {"name": "express", "version": "5.3.0", "supported": True, "file": "package.json", "line": 12},
        "language": "typescript",
        "modules": "esm",
        "entry": {"file": "src/app.ts", "line": 7},
        "listens": {"port": 3000, "file": "src/server.ts", "line": 5},
        "auth": {"kind": "jwt", "user": "request.user?.sub", "file": "src/auth.ts", "line": 19},
    },
    "new": ["src/ws/server.ts", "src/ws/middleware/auth.ts", "src/ws/rooms.ts", "src/ws/handlers/index.ts"],
    "login": by_token,
    "user": "ann",
}

AXUM = {
    "install": [],
    "install_again": ['for crate in sdks/*.crate; do tar -xzf "$crate" -C sdks; done'],
    "test": "cargo test --quiet",
    "start": "exec cargo run --quiet",
    "detected": {
        "framework": {"name": "axum", "version": "0.8.9", "supported": True, "file": "Cargo.toml", "line": 8},
        "language": "rust",
        "modules": None,
        "entry": {"file": "src/lib.rs", "line": 30},
        "listens": {"port": None, "file": "src/main.rs", "line": 6},
        "auth": {
            "kind": "tower-sessions",
            "user": 'session.get::<i64>("user_id").await?',
            "file": "src/lib.rs",
            "line": 19,
        },
    },
    "new": ["src/realtime/mod.rs", "src/realtime/auth.rs", "src/realtime/rooms.rs", "src/realtime/handlers/mod.rs"],
    "login": by_cookie("/login", json.dumps({"name": "ann", "password": "canary-bird of ann"}), "application/json"),
    "user": "1",
}

APPLICATIONS = {
    "express-sessions": EXPRESS,
    "express-jwt": TYPESCRIPT,
    "fastapi-oauth2": FASTAPI,
    "fastapi-package": PACKAGE,
    "axum-tower-sessions": AXUM,
}


def tree(folder):
    """Every file of the application's own, byte for byte."""
    files = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part in MADE for part in inside.parts):
            files[str(inside)] = path.read_bytes()
    return files


def is_within(before, after):
    """Whether every byte that was there is still there, in its order."""
    rest = iter(after)
    return all(byte in rest for byte in before)


class Running:
    """What was started, with where it is found."""

    def __init__(self, folder, tidings):
        self.folder = folder
        self.servers = []
        self.tidings, self.port = free_port(), free_port()
        self.environment = {
            **ENVIRONMENT,
            "PATH": f"{tidings.parent}:{os.environ['PATH']}",
            "PORT": str(self.port),
            "TIDINGS_LISTEN": f"127.0.0.1:{self.tidings}",
            "TIDINGS_URL": f"http://127.0.0.1:{self.tidings}",
            "TIDINGS_WEBHOOKS__URL": f"http://127.0.0.1:{self.port}/tidings",
            "TIDINGS_LOG": "warn",
        }

    def start(self, command, url):
        print(f"$ {command} &", flush=True)
        server = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.servers.append(server)
        wait_for(command, lambda: answers(url) or server.poll() is not None)
        assert server.poll() is None, f"{command} has ended"

    def end(self):
        for server in reversed(self.servers):
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=WAIT_S)


def run(command, folder, environment=ENVIRONMENT):
    print(f"$ {command}", flush=True)
    subprocess.run(["bash", "-c", command], cwd=folder, check=True, env=environment)


def told(*command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def add(tidings, application, sdks, folder):
    """Shown, written, and written no second time; the commands that follow."""
    options = ["add", folder, "--sdk-from", sdks, "--json"]
    before = tree(folder)
    shown = told(tidings, *options)
    assert not shown["written"] and "+++ b/" in shown["diff"], shown
    assert tree(folder) == before, "without --yes something was written"
    written = told(tidings, *options, "--yes")
    assert written["written"] and written["diff"] == shown["diff"]
    after = tree(folder)
    assert set(after) - set(before) == set(written["new"]), written["new"]
    for path in application["new"]:
        assert path in written["new"], f"{path} is not there"
    for path, contents in before.items():
        assert path in after and is_within(contents, after[path]), f"{path} has lost something"
        assert (contents != after[path]) == (path in written["changed"]), path
    print(shown["diff"], flush=True)
    again = told(tidings, *options, "--yes")
    assert not again["written"] and again["already"] and tree(folder) == after, again
    return written["next"]


def converse(application, running):
    """A message by the application's port, whose handler is the application's."""
    status, _, _ = request(running.port, "GET", "/realtime/token")
    assert status == 401, f"a token without a login: {status}"
    who = application["login"](running.port)
    status, headers, text = request(running.port, "GET", "/realtime/token", headers=who)
    assert status == 200 and headers["cache-control"] == "no-store", f"{status} {text}"
    token = json.loads(text)["token"]
    try:
        Socket(running.port, "/ws?token=none")
        raise AssertionError("a handshake without a token was granted")
    except Refused as refused:
        assert refused.status == 401, refused
    page = Socket(running.port, f"/ws?token={token}")
    try:
        welcome = page.first(lambda message: message["event"] == "session.welcome")
        assert welcome["data"]["user"] == application["user"], welcome
        page.send({"event": "message.send", "room": ROOM, "id": "a", "data": {"content": "hello"}})
        ack = page.first(lambda message: message.get("id") == "a" or message.get("re") == "a")
        assert ack["event"] in ("ack", "message.send"), ack
        page.send({"event": "message.send", "room": ROOM, "id": "b", "data": {"no": "content"}})
        refused = page.first(lambda message: message.get("id") == "b")
        assert refused["event"] == "error" and refused["data"]["code"] == "schema", refused
        for event, data in (("message.send", {"content": "to nobody"}), ("typing.start", None)):
            # In no room: an error inside would be tried again.
            page.send({"event": event, "id": f"none-{event}", "data": data})
            refused = page.first(lambda message: message.get("id") == f"none-{event}")
            assert refused["event"] == "error" and refused["data"]["code"] == "invalid", refused
        if "rooms" in application:
            command, news = application["rooms"]
            session = welcome["data"]["session"]
            run(command, running.folder, {**running.environment, "SESSION": session, "USER": application["user"]})
            for expected in news:
                told = page.first(lambda message: message["event"] == "news")
                assert told["data"] == expected, told
        # Its end is as quick as it was, whoever is connected.
        application_itself = running.servers[-1]
        os.killpg(application_itself.pid, signal.SIGTERM)
        application_itself.wait(timeout=WAIT_S)
    finally:
        page.close()


def try_application(tidings, name, sdks, folder):
    application = APPLICATIONS[name]
    ignored = shutil.ignore_patterns(*MADE)
    shutil.copytree(APPLICATIONS_AS_THEY_ARE / name, folder, ignore=ignored)
    for command in application["install"]:
        run(command, folder)
    run(application["test"], folder)
    detected = told(tidings, "detect", folder, "--json")
    for key, value in application["detected"].items():
        assert detected[key] == value, f"{key}: {detected[key]}, and {value} was expected"
    assert detected["tidings"] == [], detected["tidings"]
    following = add(tidings, application, sdks, folder)

    def as_told(command):
        return re.sub(r"\{next\[(\d)\]\}", lambda told: following[int(told[1])], command)

    for command in application.get("install_again", application["install"]):
        run(as_told(command), folder)
    run(application["test"], folder)
    (folder / "tidings.secret").write_text(SECRET)
    running = Running(folder, tidings)
    try:
        if (folder / "tidings.toml").exists():
            ready = f"http://127.0.0.1:{running.tidings}/health/ready"
            running.start("exec tidings serve --config tidings.toml --drain-window 0s", ready)
        running.start(as_told(application["start"]), f"http://127.0.0.1:{running.port}/")
        address = f"http://127.0.0.1:{running.port}"
        config = "--config tidings.toml" if (folder / "tidings.toml").exists() else "--secret-file tidings.secret"
        run(f"tidings doctor {address} {config}", folder, running.environment)
        rooms = "--room smoke:own --foreign-room smoke:foreign"
        run(f"tidings smoke {address} --secret-file tidings.secret {rooms}", folder, running.environment)
        converse(application, running)
    finally:
        running.end()


def main(tidings, *names):
    tidings = Path(tidings).resolve()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        sdks = Path(os.environ.get("SDKS") or folder) / ("" if os.environ.get("SDKS") else "sdks")
        if not os.environ.get("SDKS"):
            sdks.mkdir()
            pack(sdks)
        for name in names or APPLICATIONS:
            print(f"== {name}", flush=True)
            try:
                try_application(tidings, name, sdks, Path(folder) / name)
                passed += 1
                print(f"== {name}: ok", flush=True)
            except (AssertionError, KeyError, OSError, subprocess.SubprocessError, ValueError) as error:
                failed += 1
                print(f"== {name}: FAILED: {error}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
