"""A `tidings serve` of a test's own: on a free port, with a home of its own, and ended when the test is over.

The program is `TIDINGS_BIN`; what needs it is skipped where there is none. Its log is kept for the gate
(`tests/canary/` of the repository) where `TIDINGS_TEST_LOGS` says.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Optional

WAIT_S = 20
"""Whatever a test waits for comes before this, or never."""
SECRET = b"canary-bird of the Python client's tests"
BIN = os.environ.get("TIDINGS_BIN")

CONFIG = """
[auth]
secret_file = "secret"
[[rooms]]
pattern = "chat:*"
join = "anyone"
publish = "anyone"
any_event = true
ephemeral = ["typing"]
[[rooms]]
pattern = "mine:*"
join = "members"
publish = "members"
any_event = true
[limits]
"""


def token(user: str, *, rooms: Optional[list[str]] = None, ttl_s: float = 60) -> str:
    """A token that the servers of tests take."""
    claims: Dict[str, Any] = {"sub": user, "aud": "tidings", "exp": int(time.time() + ttl_s)}
    if rooms is not None:
        claims["rooms"] = rooms
    signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{_base64(hmac.new(SECRET, signed.encode(), hashlib.sha256).digest())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# Of a server that is asked for more than any user may.
NO_RATES = """
messages_per_second = 1000000
messages_burst = 1000000
messages_per_second_per_user = 1000000
publishes_per_second_per_room = 1000000
handshakes_per_second = 1000000
idempotency_ids_per_user_max = 10000000
idempotency_node_bytes_max = 8589934592
"""


class Server:
    def __init__(self, home: Path, limits: str = "") -> None:
        """`limits` are lines of the configuration."""
        self._home = home
        self._process: Optional[asyncio.subprocess.Process] = None
        self._reading: Optional[asyncio.Task[None]] = None
        self.address = "127.0.0.1:0"
        (home / "secret").write_bytes(SECRET)
        (home / "tidings.toml").write_text(f'listen = "127.0.0.1:0"\n{CONFIG}{limits}')

    @property
    def url(self) -> str:
        return f"ws://{self.address}/ws"

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def start(self) -> None:
        """Starts it, on the port that it had if it ran before, and waits until it listens."""
        assert BIN is not None
        kept = os.environ.get("TIDINGS_TEST_LOGS")
        arguments = ["serve", "--config", str(self._home / "tidings.toml"), "--listen", self.address]
        environment = {"TIDINGS_HOME": str(self._home), "TIDINGS_LOG": "trace" if kept else "info"}
        process = self._process = await asyncio.create_subprocess_exec(
            BIN,
            *arguments,
            "--drain-window",
            "1s",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert process.stderr is not None
        log = self._home / "log" if kept is None else Path(kept) / f"server-python-{os.getpid()}.log"
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.get_running_loop().create_task(_read_log(process.stderr, log, listening))
        self.address = await asyncio.wait_for(listening, WAIT_S)

    async def kill(self) -> None:
        """Ends it without a word."""
        assert self._process is not None
        self._process.kill()
        await self._ended()

    async def drain(self) -> None:
        """Ends it as an operator does: its clients are told to move."""
        assert self._process is not None
        self._process.terminate()
        assert await self._ended() == 0

    async def _ended(self) -> int:
        assert self._process is not None and self._reading is not None
        code = await asyncio.wait_for(self._process.wait(), WAIT_S)
        await self._reading
        return code


def certify(folder: Path) -> None:
    """Makes a certificate for a server at 127.0.0.1, which certifies itself."""
    named = ["-subj", "/CN=tidings", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key"]
    command = ["openssl", "req", "-x509", "-days", "2", *named, *key, "-out", "server.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


async def _read_log(lines: asyncio.StreamReader, path: Path, listening: asyncio.Future[str]) -> None:
    """Reads all of it as it comes: a full pipe would stop the server."""
    with path.open("ab") as log:
        async for line in lines:
            log.write(line)
            if not listening.done():
                message = json.loads(line)
                if message.get("message") == "listening":
                    listening.set_result(message["address"])
    if not listening.done():
        listening.set_exception(RuntimeError(f"the server did not start: {path.read_text()[-2000:]}"))
