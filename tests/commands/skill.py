#!/usr/bin/env python3
"""Makes an empty Express application and an empty FastAPI one into a chat by what skills/websocket-builder says, until `smoke` is green.

    tests/commands/skill.py TIDINGS

What is copied, typed and pasted is read out of the skill that `tidings skill install` lays down: its shell blocks in their order, its assets, and the
code of references/express.md and references/fastapi.md. What differs from what stands there: ports are free ones, and a checkout is a copy of this
one's sources. Each step of the skill counts, once for each of the two.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from place import ROOT, Place, free_port, is_answered, wait_for

# What an application may know of who is there: a number, as databases have it, is the token's text; nobody is 401.
OF_NODE = """\
import { tokenRoute } from "./realtime.mjs";
for (const known of [7, 0, "ann", "", null, undefined]) {
  let told;
  const response = {
    status: (status) => ((told = status), response),
    send: () => response,
    set: () => response,
    json: ({ token }) => (told = JSON.parse(Buffer.from(token.split(".")[1], "base64url")).sub),
  };
  await tokenRoute(() => known, () => ["chat:lobby"])({}, response, (error) => console.log(error.message));
  console.log(told);
}
"""
OF_PYTHON = """\
import base64
import json

import realtime
from fastapi import FastAPI
from fastapi.testclient import TestClient


def told(known):
    async def user_of(_request):
        return known

    async def rooms_of(user):
        return [f"chat:{user}"]

    app = FastAPI()
    realtime.mount(app, user_of, rooms_of)
    answer = TestClient(app).get("/realtime/token")
    if answer.status_code != 200:
        return answer.status_code
    claims = answer.json()["token"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]


for known in (7, 0, "ann", "", None):
    print(told(known))
"""
# In a page these are the browser's, and the application's own.
OF_THE_PAGE = """\
import WebSocket from "ws";
globalThis.WebSocket ??= WebSocket;
const show = (id, from, content) => console.log(`${content} ${id}`);
const loadFromTheDatabase = () => console.log("loaded anew");
const draw = (sample) => console.log(JSON.stringify(sample));
"""
# A process of its own that publishes, around the reference's lines for that.
OF_THE_PUMP = """\
import asyncio

import realtime

samples = [{"series": "cpu", "value": 2}, {"series": "memory", "value": 3}]


async def main():
{lines}
    await realtime.tidings.close()


asyncio.run(main())
"""


def blocks(text, language):
    """The blocks of code in a language, also those of a list's item."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line[len(indent) :] for line in block.splitlines()) for indent, block in found]


class Application(Place):
    """Empty, but for a framework and a page; and a checkout of Tidings, which SKILL.md calls TIDINGS_SOURCE."""

    def __init__(self, tidings, folder):
        super().__init__(tidings, folder)
        self.page = free_port()
        self.environment |= {
            "TIDINGS_LISTEN": f"127.0.0.1:{self.port}",
            "TIDINGS_URL": self.api,
            "TIDINGS_SOURCE": str(folder / "source"),
            # What was downloaded once is not again.
            "npm_config_cache": os.environ.get("npm_config_cache", str(Path.home() / ".npm")),
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
        }
        self.skill = folder / ".github" / "skills" / "websocket-builder"
        self.main = folder / self.code_is_in

    def here(self, command):
        return super().here(command).replace("3000", str(self.page))

    def read(self, path):
        return (self.skill / path).read_text(encoding="utf-8")

    def step(self, number):
        """What SKILL.md says of a step."""
        (text,) = re.findall(rf"^## {number}\. .*?(?=^## |\Z)", self.read("SKILL.md"), re.DOTALL | re.MULTILINE)
        return text

    def copy(self, asset):
        shutil.copy(self.skill / asset, self.folder)

    def write_page(self, name, code):
        """At an address, since this is none of a browser's."""
        code = code.replace('"/ws"', f'"ws://127.0.0.1:{self.page}/ws"').replace('fetch("/', f'fetch("http://127.0.0.1:{self.page}/')
        (self.folder / self.pages_are_in / f"{name}.mjs").write_text(OF_THE_PAGE + code.replace('"tidings-client"', self.client))

    def serves(self):
        return is_answered(f"http://127.0.0.1:{self.page}/")

    @contextlib.contextmanager
    def started(self):
        """Beside Tidings, which is started as SKILL.md says."""
        with self.started_with(blocks(self.step(4), "sh")[0]), self.started_with(self.starts) as server:
            wait_for("Tidings", lambda: is_answered(f"{self.api}/health/ready"))
            wait_for("the application", self.serves)
            yield server


class Express(Application):
    framework, reference = "express", "references/express.md"
    code_is_in, starts = "app.mjs", "node app.mjs"
    pages_are_in, client = ".", '"tidings-client"'
    code = """\
import express from "express";

const app = express();
app.get("/", (_request, response) => response.send("the page that was there before"));
"""
    listens = "app.listen(3000);"

    def is_made(self):
        self.run("npm init --yes && npm install --no-audit --no-fund express@5.3.0 ws@8.23.0")
        self.main.write_text(self.here(f"{self.code}{self.listens}\n"))

    def follows(self, reference):
        (install,) = blocks(reference, "sh")
        self.run(install, timeout=600)
        lines = blocks(reference, "js")[0]
        (guests,) = re.findall(r"guests: `(tokenRoute\(.*?\]\))`", reference)
        lines = re.sub(r"tokenRoute\(.*\)(?=\);)", lambda _: guests, lines)
        assert guests in lines and f"Instead of {self.listens[:-1]}" in lines, lines
        self.main.write_text(self.here(f"{self.code}{lines}\n"))

    def users(self):
        (self.folder / "users.mjs").write_text(OF_NODE)
        return "node users.mjs", ["7", "0", "ann", "401", "401", "401"]


class FastApi(Application):
    framework, reference = "fastapi", "references/fastapi.md"
    code_is_in, starts = "main.py", "uvicorn main:app --port 3000 --workers 2"
    pages_are_in, client = "static", '"./tidings-client.js"'
    code = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def page():
    return "the page that was there before"
"""

    def is_made(self):
        self.environment["PATH"] = f"{self.folder}/.venv/bin:{self.environment['PATH']}"
        (self.folder / "requirements.txt").write_text("fastapi\nhttpx\n")
        self.run("python3 -m venv .venv && pip install --quiet -r requirements.txt", timeout=600)
        self.main.write_text(self.code)

    def follows(self, reference):
        install, copy_client = blocks(reference, "sh")
        self.run(install, timeout=600)
        self.run(copy_client)
        assert f"imports from `{self.client}`" in reference
        self.run("cd static && npm init --yes && npm pkg set type=module && npm install --no-audit --no-fund ws@8.23.0")
        lines = blocks(reference, "python")[0]
        (guests,) = re.findall(r"^- Without a login, guests: .*", reference, re.MULTILINE)
        (needs,), answers = re.findall(r"`(import .*?)`", guests), re.findall(r"`(return .*?)`", guests)
        assert len(answers) == len(re.findall(r"return .*", lines)) == 2, guests
        lines = re.sub(r"return .*", lambda _, rest=iter(answers): next(rest), lines)
        self.main.write_text(f"{self.code}\n{needs}\n{lines}\n")
        (rule,) = blocks(reference, "toml")
        config = self.folder / "tidings.toml"
        rules, replaced = re.subn(r'\[\[rooms\]\]\npattern = "board:\*"\n(.+\n)*', f"{rule}\n", config.read_text())
        assert replaced == 1, rules
        config.write_text(rules)

    def users(self):
        (self.folder / "users.py").write_text(OF_PYTHON)
        return "python users.py", ["7", "0", "ann", "401", "401"]


def there_was_an_application(app):
    app.is_made()
    source = app.folder / "source"
    for folder in ("sdks/typescript", "sdks/node-server", "sdks/python", "templates/fastapi-chat"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(ROOT / "LICENSE", source)


def detect(app):
    app.run("tidings skill install")
    version, found = (re.search(rf"`({command})`", app.step(1))[1] for command in ("tidings --version", "tidings detect --json"))
    assert app.run(version).startswith("tidings ")
    found = json.loads(app.run(found))
    assert found["framework"]["name"] == app.framework and found["auth"] is None, found


def choose(app):
    """Without a login `tidings add` refuses it, so that it is by hand, with guests who talk in one room."""
    assert "`tidings add`" in app.step(2) and app.reference in app.step(2)
    assert "--user" in app.run("! tidings add 2>&1")


def apply(app):
    of_step, reference = app.step(3), app.read(app.reference)
    for asset in re.findall(r"`(assets/[\w.]+)`", of_step.partition("\n2. ")[0]):
        app.copy(asset)
    for block in blocks(of_step, "sh"):
        app.run(block, timeout=300)
    (asset,) = re.findall(r"Copy `(assets/realtime\.\w+)` beside", reference)
    app.copy(asset)
    app.follows(reference)


def prove(app):
    app.write_page("page", blocks(app.read("references/express.md"), "js")[2])
    _, doctor_and_smoke, feature = blocks(app.step(4), "sh")
    with app.started() as server:
        told = app.run(doctor_and_smoke, timeout=120)
        print(told, flush=True)
        assert " 0 failed" in told, told
        with app.started_with(f"node {app.pages_are_in}/page.mjs") as page:
            # What the page itself says, as its code is in the reference.
            wait_for("what the page said", lambda: any(line.startswith("Hello ") for line in page.lines))
            seen = len(page.lines)
            app.run(f"{feature} --url {app.api}")
            wait_for("what the backend said", lambda: len(page.lines) > seen)
            # The connection breaks, something is said meanwhile, and it arrives once.
            os.killpg(server.process.pid, signal.SIGKILL)
            wait_for("the end of the application", lambda: not app.serves())
            event = app.run(f"{feature.replace('Hello', 'Meanwhile')} --url {app.api}").strip()
            with app.started_with(app.starts):
                wait_for("what was missed", lambda: any(event in line for line in page.lines))
                last = app.run(f"{feature.replace('Hello', 'And then')} --url {app.api}").strip()
                wait_for("what came then", lambda: any(last in line for line in page.lines))
                assert sum(event in line for line in page.lines) == 1, page.lines


def viewers_who_only_listen(app):
    """One who comes late has the newest of each series, which a process of its own has published."""
    reference = app.read(app.reference)
    _, *publishing = blocks(reference, "python")
    (listens,) = blocks(reference, "js")
    connects, found, _ = blocks(app.read("references/express.md"), "js")[2].partition("const room")
    assert found and len(publishing) == 2, publishing
    app.write_page("board", connects + listens)
    lines = textwrap.indent("\n".join(publishing), "    ")
    (app.folder / "pump.py").write_text(OF_THE_PUMP.replace("{lines}", lines))
    with app.started():
        app.run("python pump.py")
        with app.started_with(f"node {app.pages_are_in}/board.mjs") as page:
            assert page.has(2) == ['{"series":"cpu","value":2}', '{"series":"memory","value":3}'], page.lines


def a_number_names_a_user(app):
    """As databases number people: the token has the number's text, and nobody is 401."""
    command, told = app.users()
    assert app.run(command).split() == told


def report(app):
    """Nothing that was there is gone, and the secret is in no version control."""
    assert app.code in app.main.read_text()
    assert "tidings.secret" in (app.folder / ".gitignore").read_text().splitlines()
    assert (app.folder / "tidings.secret").stat().st_mode & 0o077 == 0


STEPS = (there_was_an_application, detect, choose, apply, prove, a_number_names_a_user, report)
OF_EACH = {Express: STEPS, FastApi: (*STEPS, viewers_who_only_listen)}


def main(tidings):
    passed = failed = 0
    for kind, steps in OF_EACH.items():
        with tempfile.TemporaryDirectory() as folder:
            app = kind(Path(tidings).resolve(), Path(folder))
            for step in steps:
                print(f"== {kind.framework}: {step.__name__}", flush=True)
                try:
                    step(app)
                    passed += 1
                except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
                    failed += 1
                    print(f"== {kind.framework}: {step.__name__}: FAILED: {error}", flush=True)
                    break
    print(f"{passed} passed, {failed} failed, {sum(map(len, OF_EACH.values())) - passed - failed} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
