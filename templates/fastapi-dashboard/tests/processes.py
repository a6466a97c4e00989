"""Tidings and the application as processes on free ports, and a line to the application that a test can cut."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import AsyncIterator, Awaitable, Callable, Optional, Set

import httpx

from tidings_client import Client

PROJECT = Path(__file__).resolve().parents[1]
TIDINGS = os.environ.get("TIDINGS_BIN", "tidings")
"""The program, if it is not `tidings` in the PATH."""
SECRET = "canary-bird of the tests of this dashboard"
WAIT_S = 30


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@asynccontextmanager
async def process(
    *command: str, ready: Callable[[], Awaitable[bool]], **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is ready, and ended with the block."""
    kept = os.environ.get("TIDINGS_TEST_LOGS")
    is_server = command[0] == TIDINGS
    log = Path(kept) / f"server-template-{os.getpid()}.log" if kept and is_server else Path(os.devnull)
    with log.open("ab") as stderr:
        program = await asyncio.create_subprocess_exec(
            *command,
            cwd=PROJECT,
            env={**os.environ, "TIDINGS_LOG": "trace" if kept else "warn", **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr if is_server else None,
        )
    try:

        async def until_ready() -> None:
            while not await ready():
                assert program.returncode is None, f"{command} has ended"
                await asyncio.sleep(0.02)

        await asyncio.wait_for(until_ready(), WAIT_S)
        yield program
    finally:
        if program.returncode is None:
            program.terminate()
        await program.wait()


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


async def at_once() -> bool:
    return True


class Line:
    """A port that leads to another one, as long as nobody cuts it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: Set[asyncio.StreamWriter] = set()
        self.connections = 0
        """How many were made through it."""

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
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

    def close(self) -> None:
        self._server.close()
        self.cut()


@dataclass
class Dashboard:
    """Where everything is."""

    address: str
    """The application's, by the line."""
    line: Line
    tidings: str
    folder: Path
    redis: Optional[int]


@asynccontextmanager
async def redis_server(folder: Path) -> AsyncIterator[int]:
    port = free_port()
    command = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    async with process(*command, ready=lambda: accepts(port)):
        yield port


@asynccontextmanager
async def dashboard(
    folder: Path, *, redis: Optional[int] = None, workers: int = 1, broker: bool = False
) -> AsyncIterator[Dashboard]:
    """All of it. With the port of a Redis the samples are what a test sends on the application's channel."""
    (folder / "tidings.secret").write_text(SECRET)
    async with AsyncExitStack() as stack:
        node = f"127.0.0.1:{free_port()}"
        serve = ["serve", "--config", "tidings.toml", "--listen", node, "--drain-window", "0s"]
        if broker:
            serve += ["--broker", f"redis://127.0.0.1:{redis}"]
        secret_file = str(folder / "tidings.secret")
        ready = partial(answers, f"http://{node}/health/ready")
        await stack.enter_async_context(process(TIDINGS, *serve, ready=ready, TIDINGS_AUTH__SECRET_FILE=secret_file))
        port = free_port()
        uvicorn = [sys.executable, "-m", "uvicorn", "realtime.server:app", "--log-level", "error", "--port", str(port)]
        settings = {
            "DATABASE": str(folder / "dashboard.db"),
            "TIDINGS_URL": f"http://{node}",
            "TIDINGS_SECRET_FILE": secret_file,
            "REDIS_URL": f"redis://127.0.0.1:{redis}" if redis else "",
            "INTERVAL_S": "0.1",
        }
        ready = partial(answers, f"http://127.0.0.1:{port}/")
        await stack.enter_async_context(process(*uvicorn, "--workers", str(workers), ready=ready, **settings))
        line = Line(port)
        address = f"http://127.0.0.1:{await line.open()}"
        stack.callback(line.close)
        yield Dashboard(address, line, f"http://{node}", folder, redis)


class Person:
    """Somebody with a browser."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name
        self.http = httpx.AsyncClient(base_url=address, trust_env=False)

    async def log_in(self, password: str = "canary-bird password") -> int:
        answer = await self.http.post("/login", json={"name": self.name, "password": password})
        return answer.status_code

    async def token(self, *, fresh: bool = False) -> str:
        # Asked for when the connection was lost: whatever was kept is lost too.
        async with httpx.AsyncClient(trust_env=False, cookies=self.http.cookies) as http:
            token: str = (await http.get(f"{self.address}/token")).json()["token"]
            return token

    def client(self) -> Client:
        return Client(f"{self.address.replace('http', 'ws')}/ws", token=self.token)

    async def close(self) -> None:
        await self.http.aclose()
