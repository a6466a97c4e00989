#!/usr/bin/env python3
"""Makes each template of `tidings new`, with and without `--redis`, and does what its README says.

    tests/commands/templates.py TIDINGS [TEMPLATE…]

The SDKs of this repository are packed as they would be published (`npm pack`, `pip wheel`, `cargo package`), and `--sdk-from` takes them. Then the
first console block of the README is run: what ends has to end well, what serves is started on free ports, with `--redis` as two instances. Two
browsers talk there, and `tidings smoke` is green. The second block is the application's own tests. Redis is a server of this run's own. Every command
that the README has is in one of the two blocks. The last line counts.
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
from pathlib import Path

from packed import pack
from place import ROOT, blocks, commands, free_port, is_answered

TEMPLATES = ("axum-chat", "axum-dashboard", "express-chat", "express-dashboard", "fastapi-chat", "fastapi-dashboard")
# What serves, by what its command begins with.
SERVING = ("tidings serve", "npm start", "uvicorn", "cargo run", "python -m dashboard.pump")
# Of these there is one, however many instances there are.
ONCE = ("python -m dashboard.pump",)
# The rooms that `tidings smoke` plays in: that of everybody, and another.
ROOMS = {"chat": ("ch_1", "ch_2"), "dashboard": ("board:machine", "board:secret")}
READY_S = 60
# What is compiled first.
COMPILED_S = 1200


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Instance:
    """An application and its Tidings, by their ports: the README's may be another's on this machine."""

    def __init__(self, number):
        self.number = number
        self.tidings, self.port = free_port(), free_port()
        self.page = f"http://127.0.0.1:{self.port}/"
        self.ready = f"http://127.0.0.1:{self.tidings}/health/ready"
        self.environment = {
            "TIDINGS_LISTEN": f"127.0.0.1:{self.tidings}",
            "TIDINGS_URL": f"http://127.0.0.1:{self.tidings}",
            "PORT": str(self.port),
            "UVICORN_PORT": str(self.port),
            # One of them measures.
            **({"PUMP": "off"} if number else {}),
        }

    def environment_of_tidings(self, config):
        if "[webhooks]" not in config:
            return self.environment
        webhooks = {"URL": f"{self.page}tidings", "OUTBOX": f"tidings-outbox-{self.number}"}
        return {**self.environment, **{f"TIDINGS_WEBHOOKS__{name}": value for name, value in webhooks.items()}}


class Made:
    """An application that `tidings new` has written, and what runs of it."""

    def __init__(self, folder, tidings, cache):
        self.folder = folder
        self.servers = []
        self.prelude = ""
        self.redis = free_port()
        self.environment = {
            **os.environ,
            "PATH": f"{tidings.parent}:{os.environ['PATH']}",
            "TIDINGS_BIN": str(tidings),
            # What two applications have in common is compiled once.
            "CARGO_TARGET_DIR": str(cache / "cargo"),
            "CARGO_PROFILE_DEV_DEBUG": "0",
        }

    def asked_for(self, command):
        """The command, at the Redis of this run."""
        return command.replace("redis://127.0.0.1:6379", f"redis://127.0.0.1:{self.redis}")

    def start(self, command, is_ready, environment):
        server = subprocess.Popen(
            ["bash", "-c", f"{self.prelude}exec {command}"],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.servers.append(server)
        until = time.monotonic() + (COMPILED_S if command.startswith("cargo") else READY_S)
        while not is_ready():
            assert server.poll() is None, f"{command} has ended"
            assert time.monotonic() < until, f"{command} is not ready in time"
            time.sleep(0.05)

    def start_redis(self):
        command = f"redis-server --port {self.redis} --bind 127.0.0.1 --save ''"
        self.start(command, lambda: accepts(self.redis), {})

    def serve(self, command, instances):
        command = self.asked_for(command)
        for instance in instances[:1] if command.startswith(ONCE) else instances:
            print(f"$ {command} & # instance {instance.number}", flush=True)
            if command.startswith("tidings serve"):
                config = (self.folder / "tidings.toml").read_text()
                environment = instance.environment_of_tidings(config)
                self.start(command, lambda instance=instance: is_answered(instance.ready), environment)
            elif command.startswith(ONCE):
                self.start(command, lambda: True, instance.environment)
            else:
                self.start(command, lambda instance=instance: is_answered(instance.page), instance.environment)

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

    def from_env(self, name):
        """What .env says, for the processes that don't read it."""
        lines = (self.folder / ".env").read_text().splitlines()
        return {name: line.partition("=")[2] for line in lines if line.startswith(f"{name}=")}

    def end(self):
        for server in reversed(self.servers):
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=READY_S)
        self.servers = []


def two_browsers(kind, pages):
    command = ["node", "--import", "tsx", "test/two_browsers.ts", kind, *pages]
    subprocess.run(command, cwd=ROOT / "pages", check=True)


def smoke(application, tidings, kind, instance, options):
    """At Tidings' own address, which for an axum application is that of the application."""
    is_beside = (application.folder / "tidings.toml").exists()
    address = f"http://127.0.0.1:{instance.tidings}" if is_beside else instance.page
    room, foreign = ROOMS[kind]
    command = f"tidings smoke {address} --secret-file tidings.secret --room {room} --foreign-room {foreign} --users ann,bob"
    application.run(" ".join([command, *options]))


def try_template(tidings, template, with_redis, sdks, cache, folder):
    options = ["--template", template, "--sdk-from", sdks, "--dir", folder, *(["--redis"] if with_redis else [])]
    made = subprocess.run([tidings, "new", "my-app", *options, "--json"], check=True, capture_output=True, text=True)
    told = json.loads(made.stdout)
    readme = (folder / "README.md").read_text()
    first, second = ([command for command, _ in commands(block)] for block in blocks(readme))
    assert told["next"][1:] == first, told["next"]
    kind = template.partition("-")[2]
    application = Made(folder, tidings, cache)
    instances = [Instance(number) for number in range(2 if with_redis else 1)]
    try:
        if with_redis:
            application.start_redis()
        for command in first:
            if command.startswith(SERVING):
                application.environment.update(application.from_env("REDIS_URL"))
                application.serve(command, instances)
            else:
                application.run(command)
        # What it says in passing.
        for command in re.findall(r"`(python -m [^`]+)`", readme):
            if not command.startswith(SERVING):
                application.run(command)
        two_browsers(kind, [instance.page for instance in instances])
        # The heartbeat takes half a minute to be judged.
        for instance in instances:
            smoke(application, tidings, kind, instance, ["--quick"] if with_redis else [])
    finally:
        application.end()
    application.environment.pop("REDIS_URL", None)
    for command in second:
        application.run(command)


def main(tidings, *templates):
    tidings = Path(tidings).resolve()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        sdks = folder / "sdks"
        sdks.mkdir()
        pack(sdks)
        for template in templates or TEMPLATES:
            for with_redis in (False, True):
                what = f"{template}{' --redis' if with_redis else ''}"
                print(f"== {what}", flush=True)
                try:
                    try_template(tidings, template, with_redis, sdks, folder, folder / what.replace(" ", ""))
                    passed += 1
                    print(f"== {what}: ok", flush=True)
                except (AssertionError, subprocess.SubprocessError, ValueError) as error:
                    failed += 1
                    print(f"== {what}: FAILED: {error}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
