#!/usr/bin/env python3
"""Follows SKILL.md to the letter on an empty Express application, by hand as its references say, until `smoke` is green.

    tests/commands/skill.py TIDINGS

What is copied, typed and pasted is read out of the skill that `tidings skill install` lays down: its shell blocks in their order, its assets, and the
code of references/express.md. What differs from what stands there: ports are free ones, and a checkout is a copy of this one's sources. Each step of
the skill counts.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from place import ROOT, Place, free_port, is_answered, wait_for

EMPTY = """\
import express from "express";

const app = express();
app.get("/", (_request, response) => response.send("the page that was there before"));
app.listen(3000);
"""
# What an application may know of who is there, and what its route then gives: the token's user, or a status.
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
"""


def blocks(text, language):
    """The blocks of code in a language, also those of a list's item."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line[len(indent) :] for line in block.splitlines()) for indent, block in found]


class Application(Place):
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

    def here(self, command):
        return super().here(command).replace("3000", str(self.page))

    def read(self, path):
        return (self.skill / path).read_text(encoding="utf-8")

    def address(self, path=""):
        return f"http://127.0.0.1:{self.page}{path}"

    def serves(self):
        return is_answered(self.address("/"))


def there_was_an_application(app):
    """Empty, but for Express and a page; and a checkout of Tidings, which SKILL.md calls TIDINGS_SOURCE."""
    (app.folder / "app.mjs").write_text(EMPTY)
    app.run("npm init --yes && npm install --no-audit --no-fund express@5.3.0 ws@8.23.0")
    for sdk in ("typescript", "node-server", "python"):
        shutil.copytree(ROOT / "sdks" / sdk, app.folder / "source" / "sdks" / sdk, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(ROOT / "LICENSE", app.folder / "source")


def detect(app):
    app.run("tidings skill install")
    of_step = app.read("SKILL.md").partition("## 1. Detect")[2].partition("## 2. Choose")[0]
    version, found = (re.search(rf"`({command})`", of_step)[1] for command in ("tidings --version", "tidings detect --json"))
    assert app.run(version).startswith("tidings ")
    found = json.loads(app.run(found))
    assert found["framework"]["name"] == "express" and found["auth"] is None, found


def choose(app):
    """Express without a login: `tidings add` refuses it, so that it is by hand, with guests who talk in one room."""
    of_step = app.read("SKILL.md").partition("## 2. Choose")[2].partition("## 3. Apply")[0]
    assert "`tidings add`" in of_step and "references/express.md" in of_step
    assert "--user" in app.run("! tidings add 2>&1")


def apply(app):
    skill, express = app.read("SKILL.md"), app.read("references/express.md")
    of_step = blocks(skill.partition("## 3. Apply")[2].partition("## 4. Prove")[0], "sh")
    for asset in re.findall(r"`(assets/[\w.]+)`", skill.partition("## 3. Apply")[2].partition("\n2. ")[0]):
        shutil.copy(app.skill / asset, app.folder)
    for block in of_step:
        app.run(block, timeout=300)
    (install,) = blocks(express, "sh")
    app.run(install, timeout=600)
    (asset,) = re.findall(r"Copy `(assets/realtime\.\w+)` beside", express)
    shutil.copy(app.skill / asset, app.folder)
    lines = blocks(express, "js")[0]
    (guests,) = re.findall(r"guests: `(tokenRoute\(.*?\]\))`", express)
    lines = re.sub(r"tokenRoute\(.*\)(?=\);)", lambda _: guests, lines)
    assert guests in lines, lines
    main = app.folder / "app.mjs"
    code = main.read_text()
    assert "app.listen(3000);\n" in code
    main.write_text(app.here(code.replace("app.listen(3000);\n", lines + "\n")))


def prove(app):
    prove_it = app.read("SKILL.md").partition("## 4. Prove")[2].partition("## 5. Report")[0]
    serve, doctor_and_smoke, feature = blocks(prove_it, "sh")
    with app.started_with(serve), app.started_with("node app.mjs") as server:
        wait_for("the application", app.serves)
        told = app.run(doctor_and_smoke, timeout=120)
        print(told, flush=True)
        assert " 0 failed" in told, told
        with app.started_with("node page.mjs") as page:
            # What the page itself says, as its code is in the reference.
            wait_for("what the page said", lambda: any(line.startswith("Hello ") for line in page.lines))
            seen = len(page.lines)
            app.run(f"{feature} --url {app.api}")
            wait_for("what the backend said", lambda: len(page.lines) > seen)
            # The connection breaks, something is said meanwhile, and it arrives once.
            server.process.kill()
            wait_for("the end of the application", lambda: not app.serves())
            event = app.run(f"{feature.replace('Hello', 'Meanwhile')} --url {app.api}").strip()
            with app.started_with("node app.mjs"):
                wait_for("what was missed", lambda: any(event in line for line in page.lines))
                last = app.run(f"{feature.replace('Hello', 'And then')} --url {app.api}").strip()
                wait_for("what came then", lambda: any(last in line for line in page.lines))
                assert sum(event in line for line in page.lines) == 1, page.lines


def the_page(app):
    """The reference's code for a page, at an address, since this is none of a browser's."""
    code = blocks(app.read("references/express.md"), "js")[2]
    code = code.replace('"/ws"', f'"ws://127.0.0.1:{app.page}/ws"').replace('fetch("/', f'fetch("{app.address("/")}')
    (app.folder / "page.mjs").write_text(OF_THE_PAGE + code)


def a_number_names_a_user(app):
    """As databases number people: the token has the number's text, and nobody is 401."""
    (app.folder / "users.mjs").write_text(OF_NODE)
    assert app.run("node users.mjs").split() == ["7", "0", "ann", "401", "401", "401"]
    shutil.copy(app.skill / "assets" / "realtime.py", app.folder)
    (app.folder / "users.py").write_text(OF_PYTHON)
    (install,) = (block for block in blocks(app.read("references/fastapi.md"), "sh") if "pip install" in block)
    app.run("python3 -m venv .venv")
    app.run(f". .venv/bin/activate && {install} fastapi httpx", timeout=600)
    assert app.run(". .venv/bin/activate && python users.py").split() == ["7", "0", "ann", "401", "401"]


def report(app):
    """Nothing that was there is gone, and the secret is in no version control."""
    changed = (app.folder / "app.mjs").read_text()
    for line in EMPTY.splitlines()[:-1]:
        assert line in changed, line
    assert "tidings.secret" in (app.folder / ".gitignore").read_text().splitlines()
    assert (app.folder / "tidings.secret").stat().st_mode & 0o077 == 0


STEPS = (there_was_an_application, detect, choose, apply, the_page, prove, a_number_names_a_user, report)


def main(tidings):
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        app = Application(Path(tidings).resolve(), Path(folder))
        for step in STEPS:
            print(f"== {step.__name__}", flush=True)
            try:
                step(app)
                passed += 1
            except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
                failed += 1
                print(f"== {step.__name__}: FAILED: {error}", flush=True)
                break
    print(f"{passed} passed, {failed} failed, {len(STEPS) - passed - failed} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
