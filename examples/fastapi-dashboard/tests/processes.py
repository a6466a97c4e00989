"""The processes of a test, on free ports; what Tidings logs is kept where `./test` says."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import AsyncIterator, Awaitable, Callable, Dict

import httpx

EXAMPLE = Path(__file__).resolve().parents[1]
BIN = os.environ.get("TIDINGS_BIN", str(EXAMPLE.parents[1] / "target/debug/tidings"))
SECRET = "canary-bird of the tests of the FastAPI dashboard"
WAIT_S = 30
# All of a test's viewers come from one address, and at once.
LIMITS = """
[limits]
handshakes_per_second_per_ip = 100000
handshakes_burst_per_ip = 100000
handshakes_per_second = 100000
pending_handshakes_per_ip_max = 10000
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@asynccontextmanager
async def process(*command: str, ready: Callable[[], Awaitable[bool]], **environment: str) -> AsyncIterator[None]:
    """A process that is ready, and ended with the block."""
    kept = os.environ.get("TIDINGS_TEST_LOGS")
    is_server = command[0] == BIN
    log = Path(kept) / f"server-fastapi-dashboard-{os.getpid()}.log" if kept and is_server else Path(os.devnull)
    with log.open("ab") as stderr:
        program = await asyncio.create_subprocess_exec(
            *command,
            cwd=EXAMPLE,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr if is_server else None,
        )
    try:
        async with asyncio.timeout(WAIT_S):
            while not await ready():
                assert program.returncode is None, f"{command} has ended"
                await asyncio.sleep(0.02)
        yield
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


@asynccontextmanager
async def dashboard(
    folder: Path, *, with_redis: bool, interval_ms: int, upstream: bool = False
) -> AsyncIterator[Dict[str, str]]:
    """All of it, on the application's port, or with `upstream` on that of Tidings in front of the application. With Redis
    there are two nodes: one has the viewers, the pump publishes at the other."""
    (folder / "tidings.secret").write_text(SECRET)
    (folder / "tidings.toml").write_text((EXAMPLE / "tidings.toml").read_text() + LIMITS)
    async with AsyncExitStack() as stack:
        broker = []
        if with_redis:
            port = free_port()
            redis = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
            await stack.enter_async_context(process(*redis, ready=lambda: accepts(port)))
            broker = ["--broker", f"redis://127.0.0.1:{port}"]
        urls = []
        application = f"127.0.0.1:{free_port()}"
        in_front = ["--upstream", f"http://{application}"] if upstream else []
        for number in range(2 if with_redis else 1):
            node = f"127.0.0.1:{free_port()}"
            serve = (
                "serve",
                "--config",
                str(folder / "tidings.toml"),
                "--listen",
                node,
                "--drain-window",
                "0s",
                *broker,
                *(in_front if number == 0 else []),
            )
            level = "trace" if os.environ.get("TIDINGS_TEST_LOGS") else "warn"
            ready = partial(answers, f"http://{node}/health/ready")
            await stack.enter_async_context(process(BIN, *serve, ready=ready, TIDINGS_LOG=level))
            urls.append(f"http://{node}")
        secret_file = str(folder / "tidings.secret")
        uvicorn = [sys.executable, "-m", "uvicorn", "dashboard.main:app", "--workers", "4", "--log-level", "error"]
        host, port_of_app = application.split(":")
        settings = {"TIDINGS_URL": urls[0], "TIDINGS_SECRET_FILE": secret_file}
        workers = process(
            *uvicorn, "--host", host, "--port", port_of_app, ready=lambda: answers(f"http://{application}/"), **settings
        )
        await stack.enter_async_context(workers)
        pump = [sys.executable, "-m", "dashboard.pump", "--interval-ms", str(interval_ms)]
        settings = {"TIDINGS_URL": urls[-1], "TIDINGS_SECRET_FILE": secret_file}
        await stack.enter_async_context(process(*pump, ready=at_once, **settings))
        address = urls[0].removeprefix("http://") if upstream else application
        yield {"address": address, "tidings": urls[0]}
