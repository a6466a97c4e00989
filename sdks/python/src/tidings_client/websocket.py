"""The WebSocket of the library `websockets`, and the plain request of the standard library: the network of a client."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import re
from ssl import SSLContext
from typing import Any, Callable, Dict, Optional, Union
from urllib.parse import urlsplit

from websockets import exceptions
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from .connection import Answer, HandshakeFailed, SocketOwner
from .protocol import Frame

_PROTOCOL = Subprotocol("tidings.v1")
# From 15 on, the first that asks a proxy.
_PROXY_ERROR: Any = getattr(exceptions, "ProxyError", ())
_TOKEN = re.compile(r"[!-~]+")
_FRAME_BYTES_MAX = 64 * 1024 * 1024
"""More than any server's limit is meant to be: a frame beyond it ends the connection with 1009."""
_CLOSE_S = 2.0
"""How long the other side has to take what waits, and for its close frame."""
_FRAMES_A_TURN = 64
"""So many frames are read at once, while others wait."""
_ASK_S = 5.0
"""How long a plain request may take, to connect and for each read."""
_PROBLEM = "application/problem+json"
_PROBLEM_BYTES_MAX = 64 * 1024


class _Heard(ClientConnection):
    """A connection that tells when anything comes, pings too: a server that has nothing to say is no dead one."""

    heard: Optional[Callable[[], None]] = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.heard is not None:
            self.heard()


class WebSocket:
    """An open WebSocket: frames go out in order, and what comes is told to its owner."""

    def __init__(self, connection: ClientConnection, owner: SocketOwner) -> None:
        self._connection = connection
        self._owner = owner
        # Bounded by whoever sends: requests by the outbox, the rest by `waiting`.
        self._outgoing: asyncio.Queue[Union[Frame, int]] = asyncio.Queue()
        self._end: Optional[asyncio.TimerHandle] = None
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read())
        self._writer = loop.create_task(self._write())

    @property
    def waiting(self) -> int:
        return self._outgoing.qsize()

    def send(self, frame: Frame) -> None:
        self._outgoing.put_nowait(frame)

    def close(self, code: int) -> None:
        self._outgoing.put_nowait(code)
        # Also where the network takes nothing, and what waits never gets out.
        self._end = asyncio.get_running_loop().call_later(_CLOSE_S, self._connection.transport.abort)

    async def wait_closed(self) -> None:
        try:
            await asyncio.wait({self._reader, self._writer})
        finally:
            if self._end is not None:
                self._end.cancel()
            # Nothing to do for a connection that has ended, everything if this wait was cancelled.
            self._reader.cancel()
            self._writer.cancel()
            self._connection.transport.abort()

    async def _read(self) -> None:
        code: Optional[int] = None
        reason = ""
        try:
            for count in itertools.count(1):
                self._owner.received(await self._connection.recv())
                if count % _FRAMES_A_TURN == 0:
                    # What has come already is given without a pause: others have to have their turn too.
                    await asyncio.sleep(0)
        except ConnectionClosed as closed:
            # What the other side said, or why this side could not read on.
            close = closed.rcvd or closed.sent
            if close is not None:
                code, reason = close.code, close.reason
        self._writer.cancel()
        self._owner.closed(code, reason)

    async def _write(self) -> None:
        try:
            while True:
                frame = await self._outgoing.get()
                if isinstance(frame, int):
                    return await self._connection.close(frame)
                await self._connection.send(frame)
        except ConnectionClosed:
            # The reader is told why.
            pass


async def dial(url: str, token: Optional[str], owner: SocketOwner, *, ssl: Optional[SSLContext] = None) -> WebSocket:
    """Opens a WebSocket. Raises what `World.dial` says."""
    # Without one, the library takes that of the system for wss://, and will not be told so.
    secured: Dict[str, Any] = {} if ssl is None else {"ssl": ssl}
    try:
        connection = await connect(
            url,
            subprotocols=[_PROTOCOL],
            additional_headers=_authorization(token),
            compression=None,
            # The client has an end for an attempt of its own, and its own ways to know whether anybody is there.
            open_timeout=None,
            ping_interval=None,
            close_timeout=_CLOSE_S,
            max_size=_FRAME_BYTES_MAX,
            create_connection=_Heard,
            **secured,
        )
    except InvalidStatus as refused:
        response = refused.response
        if not response.headers.get("Content-Type", "").startswith(_PROBLEM):
            raise HandshakeFailed(None) from None
        retry_after = response.headers.get("Retry-After")
        raise HandshakeFailed(_answer(response.status_code, response.body, retry_after)) from None
    except InvalidURI as error:
        raise ValueError(str(error)) from None
    except InvalidHandshake as error:
        if isinstance(error, _PROXY_ERROR):
            # Of the environment's proxy, by which a plain request does not go: that would say nothing about it.
            raise ConnectionError(f"the environment's proxy does not connect: {error}") from None
        raise HandshakeFailed(None) from None
    except ImportError as error:
        # The environment names a SOCKS proxy, and the library that speaks it is not there.
        raise ValueError(str(error)) from None
    if isinstance(connection, _Heard):
        connection.heard = owner.heard
    return WebSocket(connection, owner)


async def ask(url: str, token: Optional[str], *, ssl: Optional[SSLContext] = None) -> Answer:
    """What the server says to a plain GET of the URL. Raises `OSError`."""
    return await asyncio.get_running_loop().run_in_executor(None, _get, url, token, ssl)


def _get(url: str, token: Optional[str], ssl: Optional[SSLContext]) -> Answer:
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_ASK_S, context=ssl)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=_ASK_S)
    try:
        path = f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"
        connection.request("GET", path, headers=_authorization(token))
        response = connection.getresponse()
        return _answer(response.status, response.read(_PROBLEM_BYTES_MAX), response.getheader("Retry-After"))
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from None
    finally:
        connection.close()


def _authorization(token: Optional[str]) -> dict[str, str]:
    if token is None:
        return {}
    if _TOKEN.fullmatch(token) is None:
        raise ValueError("the token has characters that no token has" if token else "the token is empty")
    return {"Authorization": f"Bearer {token}"}


def _answer(status: int, body: Union[bytes, bytearray, None], retry_after: Optional[str]) -> Answer:
    try:
        problem: Any = json.loads(body or b"")
    except ValueError:
        problem = None
    wait_s = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    return Answer(status, problem if isinstance(problem, dict) else {}, wait_s)
