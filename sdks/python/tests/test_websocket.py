"""The network as the client uses it: the library's WebSocket, and the plain request."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List, Optional, Tuple

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tidings_client import Client, ConnectionFailed, websocket
from tidings_client.connection import Answer, HandshakeFailed
from tidings_client.protocol import Frame
from tidings_client.websocket import ask, dial

WAIT_S = 20
Handler = Callable[[ServerConnection], Awaitable[None]]


class Owner:
    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.signs: asyncio.Queue[None] = asyncio.Queue()
        self.end: asyncio.Future[Tuple[Optional[int], str]] = asyncio.get_running_loop().create_future()

    def received(self, frame: Frame) -> None:
        self.frames.put_nowait(frame)

    def heard(self) -> None:
        self.signs.put_nowait(None)

    def closed(self, code: Optional[int], reason: str) -> None:
        self.end.set_result((code, reason))


async def soon(awaited: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaited, WAIT_S)


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """A WebSocket server."""
    protocols = [Subprotocol("tidings.v1")]
    async with serve(handler, "127.0.0.1", 0, subprotocols=protocols, ping_interval=None, close_timeout=0.1) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


@asynccontextmanager
async def answering(answers: List[bytes]) -> AsyncIterator[Tuple[str, List[Dict[str, str]]]]:
    """A server that answers each connection's request with the next of these, as they are; and what it was asked."""
    asked: List[Dict[str, str]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.strip().split("\r\n")
        asked.append(
            {"": lines[0], **{name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}}
        )
        writer.write(answers.pop(0))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws?a=1", asked


def http(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


PROBLEM = "Content-Type: application/problem+json"


async def test_frames_go_out_in_order_and_a_close_comes_behind_them() -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        seen.put_nowait(connection.request.headers["Authorization"] if connection.request else None)
        try:
            async for frame in connection:
                seen.put_nowait(frame)
        except ConnectionClosed:
            pass  # its code is what is looked at
        seen.put_nowait(connection.close_code)

    async with listening(handler) as url:
        socket = await dial(url, "t.o.k", Owner())
        for number in range(100):
            socket.send(str(number) if number % 2 else bytes([number]))
        assert socket.waiting == 100
        socket.close(4200)
        await soon(socket.wait_closed())
        assert [await soon(seen.get()) for _ in range(102)] == [
            "Bearer t.o.k",
            *[str(number) if number % 2 else bytes([number]) for number in range(100)],
            4200,
        ]


async def test_what_the_other_side_says_is_told_pings_too() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("one")
        await (await connection.ping())
        await connection.send(b"two")
        await connection.close(4109, "slow")

    async with listening(handler) as url:
        owner = Owner()
        socket = await dial(url, None, owner)
        assert await soon(owner.end) == (4109, "slow")
        assert [owner.frames.get_nowait(), owner.frames.get_nowait()] == ["one", b"two"]
        assert owner.signs.qsize() >= 1
        await soon(socket.wait_closed())


async def test_a_connection_that_breaks_has_no_code_and_what_can_not_be_read_has_its_own() -> None:
    async def breaks(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def lies(connection: ServerConnection) -> None:
        connection.transport.write(b"\x81\x02\xff\xff")
        await connection.wait_closed()

    for handler, code in ((breaks, None), (lies, 1007)):
        async with listening(handler) as url:
            owner = Owner()
            socket = await dial(url, None, owner)
            assert (await soon(owner.end))[0] == code
            await soon(socket.wait_closed())


async def test_a_close_does_not_wait_for_who_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_S", 0.05)

    async def handler(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await over

    over = asyncio.get_running_loop().create_future()
    async with listening(handler) as url:
        owner = Owner()
        socket = await dial(url, None, owner)
        socket.close(1000)
        await soon(socket.wait_closed())
        over.set_result(None)


async def test_nor_for_a_network_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_S", 0.05)

    async def handler(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await over

    over = asyncio.get_running_loop().create_future()
    async with listening(handler) as url:
        socket = await dial(url, None, Owner())
        for _ in range(64):
            socket.send(bytes(1 << 20))
        socket.close(4110)
        await soon(socket.wait_closed())
        over.set_result(None)


async def test_who_does_not_wait_for_the_close_leaves_nothing_open() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        ended.set_result(None)

    ended = asyncio.get_running_loop().create_future()
    async with listening(handler) as url:
        socket = await dial(url, None, Owner())
        waiting = asyncio.ensure_future(socket.wait_closed())
        await asyncio.sleep(0)
        waiting.cancel()
        await soon(ended)


async def test_the_servers_own_refusal_is_its_answer() -> None:
    problem = b'{"code":"draining","detail":"later"}'
    async with answering([http("503 Service Unavailable", problem, PROBLEM, "Retry-After: 7")]) as (url, _):
        with pytest.raises(HandshakeFailed) as failed:
            await soon(dial(url, "t", Owner()))
        assert failed.value.answer == Answer(503, {"code": "draining", "detail": "later"}, 7)


@pytest.mark.parametrize(
    "answer", [http("400 Bad Request", b"<h1>what?</h1>", "Content-Type: text/html"), b"", b"SSH-2.0\r\n"]
)
async def test_a_proxy_that_knows_no_upgrade_is_no_refusal_of_the_server(answer: bytes) -> None:
    problem = b'{"code":"token_expired","detail":"it has expired"}'
    async with answering([answer, http("401 Unauthorized", problem, PROBLEM)]) as (url, asked):
        with pytest.raises(ConnectionFailed) as failed:
            async with Client(url, token="t.o.k"):
                raise AssertionError("there is no connection")
        assert failed.value.fault is not None and failed.value.fault.code == "token_expired"
        assert [asked[1][""], asked[1]["authorization"]] == ["GET /ws?a=1 HTTP/1.1", "Bearer t.o.k"]
        assert "upgrade" not in asked[1]


async def test_a_plain_request_that_is_no_conversation_is_a_lost_network() -> None:
    async with answering([b"SSH-2.0\r\n", b""]) as (url, _):
        for _ in range(2):
            with pytest.raises(OSError):
                await ask(url.replace("ws:", "http:"), None)


async def test_what_can_not_be_a_token_or_a_url() -> None:
    for token in ("a\r\nX: y", "", "é"):
        with pytest.raises(ValueError, match="token"):
            await dial("ws://127.0.0.1:1/ws", token, Owner())
    with pytest.raises(OSError):
        await dial("ws://127.0.0.1:1/ws", "t", Owner())


async def test_a_proxy_of_the_environment_that_nothing_here_speaks_to_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOCKS_PROXY", "socks5://127.0.0.1:1")
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, "python_socks", None)
    monkeypatch.setitem(sys.modules, "python_socks.async_.asyncio", None)
    with pytest.raises(ConnectionFailed, match="python-socks"):
        async with Client("ws://127.0.0.1:1/ws", token="t.o.k"):
            raise AssertionError("there is no connection")


async def test_nor_is_a_proxy_of_the_environment_that_refuses_taken_for_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with answering([http("403 Forbidden", b"")]) as (proxy, asked):
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", proxy.partition("/ws")[0].replace("ws:", "http:"))
        with pytest.raises(OSError, match="proxy does not connect.*403"):
            await dial("ws://127.0.0.1:1/ws", None, Owner())
    assert asked[0][""] == "CONNECT 127.0.0.1:1 HTTP/1.1"
