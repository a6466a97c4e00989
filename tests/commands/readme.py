#!/usr/bin/env python3
"""Does what the README says: each command of its console blocks, in a folder of its own, and what it says is printed is compared.

    tests/commands/readme.py TIDINGS

A command that the README has and this does not know is a failure, and so is one that the README does not have any more. What differs from what stands
there: the binary is TIDINGS and not one that is compiled anew, and ports are free ones. The last line counts.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from place import ROOT, Place, blocks, commands, free_port, is_answered, wait_for

SECRET = "canary-bird of the README, more than 32 bytes"
CONFIG = f"""
listen = "127.0.0.1:7777"
[auth]
secret = "{SECRET}"
[[rooms]]
pattern = "*"
join = "anyone"
publish = "anyone"
any_event = true
"""


def without_what_changes(line):
    """Lineages and times are of one run."""
    return re.sub(r"@[0-9a-z]{8}\.", "@LINEAGE.", re.sub(r'"at":\d+', '"at":0', line))


class Readme(Place):
    """What the README takes as given: `tidings dev`, and a configuration."""

    @contextlib.contextmanager
    def dev(self):
        with self.started_with(f"tidings dev --listen 127.0.0.1:{self.port}"):
            wait_for("tidings dev", lambda: is_answered(f"{self.api}/health/ready"))
            yield

    @contextlib.contextmanager
    def serve(self, command="tidings serve"):
        """With the configuration that stands above."""
        (self.folder / "tidings.toml").write_text(self.here(CONFIG))
        (self.folder / "tidings.secret").write_text(SECRET)
        with self.started_with(command):
            wait_for(command, lambda: is_answered(f"{self.api}/health/ready"))
            yield


def cargo_dev(place, command, _said):
    """In the place of cargo stands what it would have compiled; `./test --long packages` compiles it."""
    cargo = place.binaries / "cargo"
    cargo.write_text('#!/bin/sh\nexec tidings "$4" --listen "127.0.0.1:$PORT"\n')
    cargo.chmod(0o755)
    with place.started_with(command, PORT=str(place.port)) as running:
        wait_for("the page", lambda: is_answered(f"{place.api}/"))
        printed = "\n".join(running.has(3))
        for part in (f"{place.api}/", f"ws://127.0.0.1:{place.port}/ws", "oken"):
            assert part in printed, printed


def the_tests(_place, _command, _said):
    """That is what runs this."""


def conversation(place, command, said):
    join = said[0].removeprefix("> ")
    with place.dev():
        with place.started_with(command) as wscat:
            welcome = json.loads(wscat.has(1)[0].lstrip("> "))
            assert welcome["event"] == "session.welcome", welcome
            position = hold_conversation(wscat, said)
        # What stands below the block: whoever comes back with an id of before gets what has followed.
        back = command.replace('ann)"', f'ann)&last_event_id={position}"')
        assert back != command, command
        with place.started_with(back) as wscat:
            wscat.has(1)
            wscat.type(join)
            wait_for("what followed", lambda: any('"Hello"' in line for line in wscat.lines))


def hold_conversation(wscat, said):
    """Types what is said and compares what comes; the position that the join told."""
    position = None
    seen = 1
    while said:
        wscat.type(said.pop(0).removeprefix("> "))
        due = []
        while said and said[0].startswith("< "):
            due.append(without_what_changes(said.pop(0).removeprefix("< ")))
        came = []
        # What others do there is told too.
        while len(came) < len(due):
            line = wscat.has(seen + 1)[seen].lstrip("> ")
            seen += 1
            if "presence." not in line:
                position = position or json.loads(line)["data"]["last_event_id"]
                came.append(without_what_changes(line))
        assert came == due, f"{came} came for {due}"
    return position


def packed(place, command, _said):
    """The archive alone; `./test --long packages` compiles it, packs every kind and installs it."""
    command = command.partition(" && ")[2].replace("packages/pack", str(ROOT / "packages" / "pack"))
    packed = place.run(command.replace("target/release/tidings", str(place.binaries / "tidings")) + " archive")
    assert (place.folder / packed.strip()).is_file(), packed


def documentation(place, command, _said):
    assert "http-api" in place.run(command)
    assert "/v1/rooms" in place.run("tidings docs http-api")


def skill(place, command, _said):
    place.run(command)
    assert (place.folder / ".github/skills/websocket-builder/SKILL.md").is_file()


def published(place, command, said):
    with place.dev():
        printed = place.run(command).splitlines()
        assert [without_what_changes(line) for line in printed] == [without_what_changes(line) for line in said]


def published_from_a_script(place, command, _said):
    with place.dev():
        assert re.fullmatch(r"chat:lobby@\w{8}\.\d+\n", place.run(f"{command} --url {place.api}"))


def tailed(place, command, said):
    with place.dev(), place.started_with(f"{command} --url ws://127.0.0.1:{place.port}/ws") as tail:
        assert "connected" in tail.has(1)[0]
        place.run(f"tidings publish chat:lobby news '{{\"hi\":1}}' --url {place.api}")
        (due,) = said
        assert tail.has(2)[1].split(" ")[1:] == due.split(" ")[1:], tail.lines
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", tail.lines[1].split(" ")[0])


def smoke(place, command, _said):
    with place.serve():
        assert " 0 failed" in place.run(f"{command} --quick")


def doctor(place, command, _said):
    with place.serve():
        told = place.run(command.replace("wss://app.example/ws", f"ws://127.0.0.1:{place.port}/ws"))
        assert "handshake" in told, told


def in_an_application(place):
    """What somebody has: Express, and sessions."""
    shutil.copytree(ROOT / "tests" / "additions" / "express-sessions", place.folder, dirs_exist_ok=True)


def detected(place, command, _said):
    in_an_application(place)
    told = place.run(command)
    assert "express" in told and "session" in told, told


def added(place, command, _said):
    in_an_application(place)
    told = place.run(command)
    assert "+++ b/app.js" in told and "nothing was written" in told, told
    place.run(f"{command} --yes")
    assert (place.folder / "ws" / "rooms.js").is_file()


def new(place, command, _said):
    assert "npm install" in place.run(command)
    assert (place.folder / "my-chat" / "ws" / "server.ts").is_file()


def checked_and_served(place, command, _said):
    with place.serve(command):
        pass


def many_nodes(place, command, _said):
    redis = free_port()
    with place.started_with(f"redis-server --port {redis} --bind 127.0.0.1 --save ''") as server:
        wait_for("redis-server", lambda: any("Ready to accept" in line for line in server.lines))
        with place.serve(command.replace("6379", str(redis))):
            pass


STEPS = {
    "cargo run --release -- dev": cargo_dev,
    "./test": the_tests,
    'wscat -c "ws://127.0.0.1:7777/ws?token=$(tidings token --user ann)"': conversation,
    "cargo build --release -p tidings-server && packages/pack target/release/tidings target/packages": packed,
    "tidings docs": documentation,
    "tidings skill install": skill,
    'curl -H "Authorization: Bearer $(tidings key)" -H "Content-Type: application/json"'
    """ -d '{"event":"news","data":{"hi":1}}' http://127.0.0.1:7777/v1/rooms/chat:lobby/events""": published,
    """tidings publish chat:lobby news '{"hi":1}'""": published_from_a_script,
    "tidings tail chat:lobby": tailed,
    "tidings smoke http://127.0.0.1:7777 --secret-file tidings.secret": smoke,
    "tidings doctor wss://app.example/ws --config tidings.toml": doctor,
    "tidings detect": detected,
    "tidings add": added,
    "tidings new my-chat --template express-chat": new,
    "tidings config check && tidings serve": checked_and_served,
    "tidings serve --broker redis://127.0.0.1:6379": many_nodes,
}


def main(tidings):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    passed = failed = 0
    known = dict(STEPS)
    for command, said in (found for block in blocks(readme) for found in commands(block)):
        try:
            assert command in known, "nothing here runs it: tests/commands/readme.py has a step for each"
            with tempfile.TemporaryDirectory() as folder:
                known.pop(command)(Readme(Path(tidings).resolve(), Path(folder)), command, said)
            passed += 1
        except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
            failed += 1
            print(f"== {command}: FAILED: {error}", flush=True)
    for command in known:
        failed += 1
        print(f"== {command}: FAILED: the README does not have it any more", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
