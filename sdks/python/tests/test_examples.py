"""The programs that people start with: those of examples/, the one of the README, and the driver of the scenarios."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from server import BIN, WAIT_S, Server, token

from tidings_client import Client, Room

pytestmark = pytest.mark.skipif(BIN is None, reason="TIDINGS_BIN names no server")

PACKAGE = Path(__file__).resolve().parents[1]


class Program:
    """A Python program, for which every warning is an error."""

    def __init__(self, *arguments: str, cwd: Optional[Path] = None, user: str = "ann") -> None:
        self._arguments = arguments
        self._cwd = cwd
        self._environment = {**os.environ, "TOKEN": token(user), "PYTHONUNBUFFERED": "1"}
        self._process: asyncio.subprocess.Process = None  # type: ignore[assignment]

    async def __aenter__(self) -> Program:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-X", "dev", "-W", "error"),
            *self._arguments,
            cwd=self._cwd,
            env=self._environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            # Whoever was started in the background ignores it, and what he starts does too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    async def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), WAIT_S)).decode().strip()

    async def until(self, line: str) -> List[str]:
        """The lines that it prints up to this one."""
        lines = [await self.line()]
        while lines[-1] != line:
            assert lines[-1], f"it has ended: {lines}, {await self._process.communicate()}"
            lines.append(await self.line())
        return lines

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def kill(self) -> None:
        self._process.kill()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def ended(self) -> Any:
        """How it has ended, at the end of its input at the latest, with what it has printed since the last line and on stderr."""
        out, err = await asyncio.wait_for(self._process.communicate(b""), WAIT_S)
        return self._process.returncode, out.decode(), err.decode()


async def joined(client: Client, name: str) -> Room:
    return await asyncio.wait_for(client.join(name), WAIT_S)


async def test_the_chat(server: Server) -> None:
    async with (
        Client(server.url, token=token("bob")) as bob,
        Program("examples/chat.py", server.url, "chat:r", cwd=PACKAGE) as chat,
    ):
        room = await joined(bob, "chat:r")
        await room.request("message.send", {"content": "before"})
        await chat.until("bob: before")
        chat.type("hello")
        await chat.until("ann: hello")
        async for event in room:
            if event.from_ == "ann":
                assert event.data == {"content": "hello"}
                break
        chat.interrupt()
        code, out, err = await chat.ended()
        # The server tells who is here when it has the time.
        said = [line for line in out.splitlines() if not line.startswith("-- here: ")]
        assert (code, said, err) == (0, ["-- closed"], "")


async def test_ctrl_c_while_there_is_no_server(server: Server) -> None:
    async with Program("examples/chat.py", server.url, "chat:r", cwd=PACKAGE) as chat:
        await chat.until("-- here: ann")
        chat.type("one")
        await chat.until("ann: one")
        await server.kill()
        await chat.until("-- reconnecting")
        chat.type("nobody hears this")
        chat.interrupt()
        code, out, err = await chat.ended()
        assert [code, err, "-- closed" in out] == [0, "", True]


async def test_the_follower_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    arguments = ("examples/follower.py", server.url, "chat:r", str(file))
    followed: List[Dict[str, Any]] = []

    async def follow(program: Program, count: int) -> None:
        followed.extend([json.loads(await program.line()) for _ in range(count)])

    async with Client(server.url, token=token("bob")) as bob:
        room = await joined(bob, "chat:r")
        async with Program(*arguments, cwd=PACKAGE) as program:
            while not file.exists():
                await asyncio.sleep(0.01)
            for number in range(3):
                await room.request("say", number)
            await follow(program, 3)
            program.interrupt()
            assert await program.ended() == (0, "", "")
        await room.request("say", 3)
        async with Program(*arguments, cwd=PACKAGE) as program:
            # The last one was printed, and the next one not asked for: it may come twice.
            await follow(program, 1)
            if followed[-1]["data"] == 2:
                followed.pop()
                await follow(program, 1)
            await room.request("say", b"\x00\xff")
            await follow(program, 1)
            program.kill()
            await program.ended()
        await room.request("say", 5)
        async with Program(*arguments, cwd=PACKAGE) as program:
            await follow(program, 1)
            while followed[-1]["data"] != 5:
                assert followed.pop() in followed, "what comes twice has come before"
                await follow(program, 1)
            assert [line["data"] for line in followed] == [0, 1, 2, 3, "00ff", 5]
            program.kill()
            await program.ended()
        # As if the server had begun anew.
        file.write_text(re.sub("@[a-z0-9]{8}", "@00000000", file.read_text()))
        async with Program(*arguments, cwd=PACKAGE) as program:
            await follow(program, 1)
            program.interrupt()
            assert "can't be told any more (unknown_epoch)" in (await program.ended())[2]


async def test_the_readmes_program(server: Server, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    program = next(block for block in blocks if "asyncio.run" in block)
    assert len(program.strip().splitlines()) <= 15
    assert "127.0.0.1:7777" in program
    (tmp_path / "hello.py").write_text(program.replace("127.0.0.1:7777", server.address), encoding="utf-8")
    async with Program(str(tmp_path / "hello.py")) as hello:
        code, out, err = await hello.ended()
    assert [code, err, out] == [0, "", "ann: Hello\n"]


async def test_the_driver(server: Server) -> None:
    async with Program("tests/driver.py", cwd=PACKAGE) as driver:

        async def tell(**command: Any) -> None:
            driver.type(json.dumps(command))

        async def sees(saw: str, **fields: Any) -> Dict[str, Any]:
            line: Dict[str, Any] = json.loads(await driver.line())
            assert line["saw"] == saw and {name: line[name] for name in fields} == fields, line
            return line

        await tell(do="connect", url=server.url, token=token("ann"))
        await sees("state", state="connecting")
        await sees("state", state="connected")
        await tell(do="join", room="chat:r", history=3, **{"as": "j1"})
        lines = [json.loads(await driver.line()) for _ in range(2)]
        assert sorted(line["saw"] for line in lines) == ["answer", "caught_up"]
        await tell(do="request", room="chat:r", event="say", data={"n": 1}, **{"as": "q1"})
        event = await sees("event", room="chat:r", event="say", data={"n": 1}, **{"from": "ann"})
        assert await sees("answer", event_id=event["id"], duplicate=False) == {
            "saw": "answer", "as": "q1", "event_id": event["id"], "duplicate": False,
        }  # fmt: skip
        await tell(do="request", room="chat:r", event="say", base64="AP8=", **{"as": "q2"})
        await sees("event", base64="AP8=")
        await sees("answer", **{"as": "q2"})
        await tell(do="members", room="chat:r")
        await sees("members", room="chat:r", users=["ann"])
        await tell(do="request", room="chat:elsewhere", event="say", **{"as": "q3"})
        await sees("answer", **{"as": "q3"}, error="not_joined")
        await tell(do="leave", room="chat:r", **{"as": "l1"})
        await sees("answer", **{"as": "l1"})
        code, out, err = await driver.ended()
        assert [code, err, json.loads(out)] == [0, "", {"saw": "state", "state": "closed"}]
