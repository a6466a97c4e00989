"""Tidings and the application as processes on free ports, and a line to the application that a test can cut."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import AsyncIterator, Awaitable, Callable, Optional, Set

import httpx

PROJECT = Path(__file__).resolve().parents[1]
TIDINGS = os.environ.get("TIDINGS_BIN", "tidings")
"""The program, if it is not `tidings` in the PATH."""
SECRET = "canary-bird of the tests of this chat"
WAIT_S = 30


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Program:
    """A process, with what tells that it is ready. It can be started again."""

    def __init__(self, *command: str, ready: Callable[[], Awaitable[bool]], **environment: str) -> None:
        self._command = command
        self._ready = ready
        self._environment = environment
        self._process: Optional[asyncio.subprocess.Process] = None

    async def start(self) -> None:
        kept = os.environ.get("TIDINGS_TEST_LOGS")
        is_server = self._command[0] == TIDINGS
        log = Path(kept) / f"server-template-{os.getpid()}.log" if kept and is_server else Path(os.devnull)
        with log.open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=PROJECT,
                env={**os.environ, "TIDINGS_LOG": "trace" if kept else "warn", **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr if is_server else None,
            )
        await asyncio.wait_for(self._until_ready(self._process), WAIT_S)

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        while not await self._ready():
            assert process.returncode is None, f"{self._command} has ended"
            await asyncio.sleep(0.02)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.send_signal(how)
            await self._process.wait()


async def answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(url)).is_success
    except httpx.TransportError:
        return False


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class Line:
    """A port that leads to another one, as long as nobody cuts it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: Set[asyncio.StreamWriter] = set()
        self._cuts_inside = False
        self.connections = 0
        """How many were made through it."""

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                if self._cuts_inside:
                    self._cuts_inside = False
                    writer.write(data[: len(data) // 2])
                    self.cut()
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        self._writers.discard(writer)
        writer.close()

    def cut(self) -> None:
        """Every connection through it is lost, without a goodbye."""
        for writer in list(self._writers):
            writer.transport.abort()

    def cut_inside(self) -> None:
        """Cuts as soon as something is under way, and in the middle of it."""
        self._cuts_inside = True

    def close(self) -> None:
        self._server.close()
        self.cut()


@dataclass
class Chat:
    """Where everything is."""

    address: str
    """The application's, by the line."""
    line: Line
    url: str
    """Where Tidings is."""
    tidings: Program
    database: Path


@asynccontextmanager
async def chat(folder: Path, *, redis: Optional[int] = None, workers: int = 1) -> AsyncIterator[Chat]:
    """All of it. With the port of a Redis: a node that shares its rooms with the others there."""
    (folder / "tidings.secret").write_text(SECRET)
    port, node = free_port(), f"127.0.0.1:{free_port()}"
    settings = {
        "DATABASE": str(folder / "chat.db"),
        "TIDINGS_URL": f"http://{node}",
        "TIDINGS_SECRET_FILE": str(folder / "tidings.secret"),
        # Where there is none, the application goes on asking.
        "REDIS_URL": f"redis://127.0.0.1:{redis or free_port()}",
    }
    ready = partial(answers, f"http://127.0.0.1:{port}/")
    uvicorn = [sys.executable, "-m", "uvicorn", "realtime.server:app", "--log-level", "error", "--port", str(port)]
    application = Program(*uvicorn, "--workers", str(workers), ready=ready, **settings)
    serve = [TIDINGS, "serve", "--config", "tidings.toml", "--listen", node, "--drain-window", "0s"]
    tidings = Program(
        *serve,
        *(["--broker", settings["REDIS_URL"]] if redis else []),
        ready=partial(answers, f"http://{node}/health/ready"),
        TIDINGS_AUTH__SECRET_FILE=settings["TIDINGS_SECRET_FILE"],
        TIDINGS_WEBHOOKS__URL=f"http://127.0.0.1:{port}/tidings",
        TIDINGS_WEBHOOKS__OUTBOX=str(folder / f"outbox-{port}"),
    )
    async with AsyncExitStack() as stack:
        for program in (application, tidings):
            stack.push_async_callback(program.end)
            await program.start()
        line = Line(port)
        stack.callback(line.close)
        yield Chat(await line.open(), line, f"http://{node}", tidings, folder / "chat.db")
