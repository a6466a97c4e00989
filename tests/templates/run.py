#!/usr/bin/env python3
"""Makes each template of `tidings new`, with and without `--redis`, and does what its README says.

    tests/templates/run.py TIDINGS [TEMPLATE…]

The SDKs of this repository are packed as they would be published (`npm pack`, `pip wheel`), and `--sdk-from` takes them. Then the first
console block of the README is run: what ends has to end well, what serves is started on a free port, and the page has to be there. The second
block is the application's own tests. Redis is a server of this run's own. The last line counts.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ("express-chat", "fastapi-dashboard")
# What serves, by what its command begins with.
SERVING = ("tidings serve", "npm start", "uvicorn", "python -m dashboard.pump")
READY_S = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def blocks(readme):
    """The commands of each console block, without their remarks."""
    for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL):
        yield [line[2:].split(" # ")[0].rstrip() for line in block.splitlines() if line.startswith("$ ")]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Made:
    """An application that `tidings new` has written, and what runs of it."""

    def __init__(self, folder, tidings):
        self.folder = folder
        self.servers = []
        self.prelude = ""
        self.tidings, self.port, self.redis = free_port(), free_port(), free_port()
        # In the place of the ports that the README names, which may be another's on this machine.
        self.environment = {
            **os.environ,
            "PATH": f"{tidings.parent}:{os.environ['PATH']}",
            "TIDINGS_BIN": str(tidings),
            "TIDINGS_LISTEN": f"127.0.0.1:{self.tidings}",
            "TIDINGS_URL": f"http://127.0.0.1:{self.tidings}",
            "PORT": str(self.port),
            "UVICORN_PORT": str(self.port),
        }

    def asked_for(self, command):
        """The command, at the ports of this run."""
        return command.replace("redis://127.0.0.1:6379", f"redis://127.0.0.1:{self.redis}")

    def start(self, command, is_ready, **environment):
        server = subprocess.Popen(
            ["bash", "-c", f"{self.prelude}exec {command}"],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.servers.append(server)
        until = time.monotonic() + READY_S
        while not is_ready():
            assert server.poll() is None, f"{command} has ended"
            assert time.monotonic() < until, f"{command} is not ready after {READY_S} s"
            time.sleep(0.05)

    def serve(self, command):
        command = self.asked_for(command)
        print(f"$ {command} &", flush=True)
        if command.startswith("tidings serve"):
            self.serve_tidings(command)
        elif command.startswith("python"):
            self.start(command, lambda: True)
        else:
            self.start(command, lambda: answers(f"http://127.0.0.1:{self.port}/"))

    def serve_tidings(self, command):
        environment = {}
        if "[webhooks]" in (self.folder / "tidings.toml").read_text():
            environment["TIDINGS_WEBHOOKS__URL"] = f"http://127.0.0.1:{self.port}/tidings"
        self.start(command, lambda: answers(f"http://127.0.0.1:{self.tidings}/health/ready"), **environment)

    def run(self, command):
        print(f"$ {command}", flush=True)
        if command.startswith("python3 -m venv"):
            # What it activates counts for all that follows.
            self.prelude = ". .venv/bin/activate && "
            command = command.split(" && ")[0]
            subprocess.run(["bash", "-c", command], cwd=self.folder, check=True)
            return
        subprocess.run(["bash", "-c", self.prelude + command], cwd=self.folder, env=self.environment, check=True)
        if command.startswith("cp .env.example"):
            # Its Redis is this run's.
            env = self.folder / ".env"
            env.write_text(self.asked_for(env.read_text()))
            self.read_env(env)

    def read_env(self, env):
        for line in env.read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and name == "REDIS_URL":
                self.environment[name] = value

    def end(self):
        for server in reversed(self.servers):
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=READY_S)


def pack(folder):
    for sdk in ("typescript", "node-server"):
        subprocess.run(["npm", "pack", "--silent", "--pack-destination", folder], cwd=ROOT / "sdks" / sdk, check=True)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, "sdks/python"]
    subprocess.run(wheel, cwd=ROOT, check=True)


def try_template(tidings, template, with_redis, sdks, folder):
    options = ["--template", template, "--sdk-from", sdks, "--dir", folder, *(["--redis"] if with_redis else [])]
    made = subprocess.run([tidings, "new", "my-app", *options, "--json"], check=True, capture_output=True, text=True)
    told = json.loads(made.stdout)
    first, second = blocks((folder / "README.md").read_text())
    assert told["next"][1:] == first, told["next"]
    application = Made(folder, tidings)
    try:
        if with_redis:
            redis = f"redis-server --port {application.redis} --bind 127.0.0.1 --save ''"
            application.start(redis, lambda: accepts(application.redis))
        for command in first:
            application.serve(command) if command.startswith(SERVING) else application.run(command)
        assert answers(f"http://127.0.0.1:{application.port}/"), "the page is not there"
    finally:
        application.end()
    for name in ("PORT", "UVICORN_PORT", "TIDINGS_LISTEN", "TIDINGS_URL", "REDIS_URL"):
        application.environment.pop(name, None)
    for command in second:
        application.run(command)


def main(tidings, *templates):
    tidings = Path(tidings).resolve()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        sdks = Path(folder) / "sdks"
        sdks.mkdir()
        pack(sdks)
        for template in templates or TEMPLATES:
            for with_redis in (False, True):
                what = f"{template}{' --redis' if with_redis else ''}"
                print(f"== {what}", flush=True)
                try:
                    try_template(tidings, template, with_redis, sdks, Path(folder) / what.replace(" ", ""))
                    passed += 1
                    print(f"== {what}: ok", flush=True)
                except (AssertionError, subprocess.SubprocessError, ValueError) as error:
                    failed += 1
                    print(f"== {what}: FAILED: {error}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
