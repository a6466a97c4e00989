"""`Attach`: Tidings' WebSocket on the port of an ASGI application, by uvicorn; with a stand-in, and with a real server."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List, Optional, Tuple

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from server import BIN, Server, certify, token
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tidings_client import Client, Reset
from tidings_client.asgi import Attach

WAIT_S = 20
needs_server = pytest.mark.skipif(BIN is None, reason="TIDINGS_BIN names no server")


async def soon(awaited: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaited, WAIT_S)


@asynccontextmanager
async def application(tidings: str, path: str = "/ws", **options: Any) -> AsyncIterator[str]:
    """An application with a page and a WebSocket of its own, behind uvicorn; where it is."""
    app = FastAPI()

    @app.get("/page")
    async def page() -> str:
        return "the application"

    @app.websocket("/own")
    async def own(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("its own")
        await websocket.close()

    app.add_middleware(Attach, path=path, url=tidings)
    async with served(app, **options) as address:
        yield address


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", **options))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def stand_in(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """In the place of Tidings: a WebSocket server that keeps nothing back."""
    defaults: Dict[str, Any] = {"ping_interval": None, "max_size": None, "compression": None}
    async with serve(handler, "127.0.0.1", 0, **{**defaults, **options}) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def test_the_handshake_arrives_as_it_was_sent_with_who_sent_it() -> None:
    asked: List[Request] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request)
        await connection.wait_closed()

    async def with_header(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["X-Request-Id"] = "abc"

    protocols = [Subprotocol("tidings.v1")]
    async with (
        stand_in(handler, process_response=with_header, subprotocols=protocols) as tidings,
        application(tidings, proxy_headers=False) as address,
    ):
        headers = {
            "X-Forwarded-For": "9.9.9.9",
            "Cookie": "a=1",
            "Origin": "http://example.com",
            "Authorization": "Bearer t",
        }
        url = f"ws://{address}/ws?token=a%2Fb&x"
        offered = [Subprotocol("other"), Subprotocol("tidings.v1")]
        async with connect(url, subprotocols=offered, additional_headers=headers) as client:
            assert client.subprotocol == "tidings.v1"
            assert client.response is not None and client.response.headers["X-Request-Id"] == "abc"
    (request,) = asked
    assert request.path == "/ws?token=a%2Fb&x"
    for name, value in {**headers, "X-Forwarded-For": "9.9.9.9, 127.0.0.1", "Host": address}.items():
        assert request.headers.get_all(name) == [value], name


@pytest.mark.parametrize(
    "path, of_url, own", [("/ws", "", "/ws"), ("/realtime", "/", "/ws"), ("/realtime", "/own", "/own")]
)
async def test_clients_have_paths_of_the_applications_and_tidings_its_own(path: str, of_url: str, own: str) -> None:
    asked: List[str] = []

    async def handler(connection: ServerConnection) -> None:
        pass

    async def note(connection: ServerConnection, request: Request) -> None:
        asked.append(request.path)

    # Behind a proxy that has taken `/api` off; uvicorn puts it before what it tells.
    async with (
        stand_in(handler, process_request=note) as tidings,
        application(tidings + of_url, path, root_path="/api") as app,
        httpx.AsyncClient() as http,
    ):
        async with connect(f"ws://{app}{path}?token=a%2Fb") as link:
            with pytest.raises(ConnectionClosed):
                await soon(link.recv())
        await http.get(f"http://{app}{path}?token=c")
    assert asked == [f"{own}?token=a%2Fb", f"{own}?token=c"]


async def test_other_paths_are_the_applications() -> None:
    async def handler(connection: ServerConnection) -> None:
        raise AssertionError("nobody comes here")

    async with stand_in(handler) as tidings, application(tidings) as address:
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://{address}/page")).json() == "the application"
            assert (await http.get(f"http://{address}/wsx")).status_code == 404
        async with connect(f"ws://{address}/own") as client:
            assert await soon(client.recv()) == "its own"


async def test_messages_and_close_codes_pass_both_ways() -> None:
    ends: asyncio.Queue[Tuple[Optional[int], str]] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        try:
            while True:
                message = await connection.recv()
                if message == "end":
                    return await connection.close(4109, "too slow")
                if message == "vanish":
                    return connection.transport.abort()
                await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            await connection.wait_closed()
            ends.put_nowait((connection.close_code, connection.close_reason or ""))

    async with stand_in(handler) as tidings, application(tidings) as address:

        @asynccontextmanager
        async def connected() -> AsyncIterator[ClientConnection]:
            async with connect(f"ws://{address}/ws", compression=None, max_size=None) as client:
                yield client
                await soon(client.wait_closed())

        async with connected() as client:
            for message in ("hello", "", b"\x00\xff", "x" * 3_000_000, bytes(3_000_000)):
                await client.send(message)
                assert await soon(client.recv()) == message
            await client.close(4321, "mine")
            assert await soon(ends.get()) == (4321, "mine")
        async with connected() as client:
            await client.send("end")
            with pytest.raises(ConnectionClosed) as closed:
                await soon(client.recv())
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4109, "too slow")
            assert await soon(ends.get()) == (4109, "too slow")
        async with connected() as client:
            await client.send("vanish")
            await soon(client.wait_closed())
            assert client.close_code == 1001, "clients come back after it"
            await soon(ends.get())
        async with connected() as client:
            client.transport.abort()
            assert (await soon(ends.get()))[0] in (1006, None), "nobody has said goodbye"


async def flooded(connection: Any, sent: List[int]) -> None:
    """Sends as much as is taken, and ends with the connection."""
    piece = bytes(64 * 1024)
    try:
        while True:
            await connection.send(piece)
            sent[0] += len(piece)
    except ConnectionClosed:
        pass


async def stalled(sent: List[int]) -> None:
    """Until nothing more goes through for a while."""
    before = -1
    while sent[0] != before or not before:
        before = sent[0]
        await asyncio.sleep(0.3)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_who_does_not_read_holds_the_other_up(way: str) -> None:
    sent, arrived, end = [0], asyncio.Event(), asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        arrived.set()
        if way == "down":
            await flooded(connection, sent)
        await end.wait()

    async with stand_in(handler, max_queue=1, close_timeout=0.1) as tidings, application(tidings) as address:
        client = await connect(f"ws://{address}/ws", compression=None, max_queue=1, close_timeout=0.1)
        await soon(arrived.wait())
        flooding = asyncio.ensure_future(flooded(client, sent)) if way == "up" else None
        await soon(stalled(sent))
        assert sent[0] < 48 * 1024 * 1024, f"{sent[0]} bytes went to nobody"
        end.set()
        client.transport.abort()
        if flooding is not None:
            await soon(flooding)


async def test_without_tidings_the_answer_is_502_with_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with application(f"http://127.0.0.1:{free.getsockname()[1]}") as address:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{address}/ws")
            async with httpx.AsyncClient() as http:
                plain = await http.get(f"http://{address}/ws")
            for status, headers, body in (
                (plain.status_code, plain.headers, plain.content),
                (
                    refused.value.response.status_code,
                    refused.value.response.headers,
                    refused.value.response.body or b"",
                ),
            ):
                assert [status, headers["content-type"]] == [502, "application/problem+json"]
                problem = json.loads(body)
                assert problem["code"] == "upstream_unreachable" and "Attach" in problem["fix"]


async def test_a_server_in_front_without_the_extension_says_403() -> None:
    said: List[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def nobody(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        attach = Attach(nobody, url=f"http://127.0.0.1:{free.getsockname()[1]}")
        scope = {"type": "websocket", "path": "/ws", "headers": [(b"host", b"a")], "query_string": b""}
        await attach(scope, receive, send)
        await attach({**scope, "headers": [(b"host", b"a b:c")]}, receive, send)
    assert said == [{"type": "websocket.close", "code": 1008}] * 2
    with pytest.raises(ValueError, match="not http"):
        Attach(nobody, url="ws://127.0.0.1")


HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def answered(address: str, host: str, headers: str = "") -> bytes:
    """The answer's head to a request that names this host; closed behind it."""
    name, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(f"GET /ws?token=x HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode("latin-1"))
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
    finally:
        writer.close()


async def test_a_host_that_is_more_than_one_leads_nowhere() -> None:
    opened: List[str] = []

    async def tidings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append((await reader.readline()).decode())
        writer.close()

    listening = await asyncio.start_server(tidings, "127.0.0.1", 0)
    upstream = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    bad = [*"x/v1/rooms? x/v1/rooms x? x# a:b@x x\\y x: x:1a x:65536 [::1 [::::] [v1.a]".split(), "a b"]
    good = ("x", "x-1.example_2:65535", "127.0.0.1:80", "[::1]", "[::ffff:1.2.3.4]:7777")
    async with listening, application(upstream) as address:
        for headers in (HANDSHAKE, "Connection: close\r\n"):
            for host in bad:
                head = await answered(address, host, headers)
                assert head.startswith(b"HTTP/1.1 400 "), (host, head)
            head = await answered(address, "x", headers + "Host: x/v1/rooms?\r\n")
            assert head.startswith(b"HTTP/1.1 400 "), head
        assert opened == []
        for host in good:
            assert b" 502 " in await answered(address, host, HANDSHAKE), host
        assert opened == ["GET /ws?token=x HTTP/1.1\r\n"] * len(good)


@needs_server
async def test_every_refusal_is_tidings_own(server: Server) -> None:
    kept = ("content-type", "www-authenticate", "retry-after", "content-length")

    async def refusals(address: str, query: str) -> List[Any]:
        url = f"{address}/ws{query}"
        async with httpx.AsyncClient() as http:
            plain = await http.get(f"http://{url}")
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{url}")
        response = refused.value.response
        return [
            (plain.status_code, plain.content, [plain.headers.get(name) for name in kept]),
            (response.status_code, bytes(response.body or b""), [response.headers.get(name) for name in kept]),
        ]

    async with application(f"http://{server.address}") as address:
        for query in ("", "?token=nonsense", f"?token={token('ann')}&last_event_id=nonsense"):
            direct = await refusals(server.address, query)
            assert await refusals(address, query) == direct
            assert direct[0][0] in (400, 401)
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://{address}/ws?token={token('ann')}")).json()["code"] == "upgrade_required"


@needs_server
async def test_a_conversation_and_what_was_missed(server: Server) -> None:
    async with application(f"http://{server.address}") as address:
        url = f"ws://{address}/ws"
        async with Client(url, token=token("ann")) as ann, Client(url, token=token("bob")) as bob:
            hers, his = await soon(ann.join("chat:1")), await soon(bob.join("chat:1"))
            heard: List[Any] = []
            his.on("say", lambda event: heard.append(event.data))
            resets: asyncio.Queue[Reset] = asyncio.Queue()
            his.on_reset(resets.put_nowait)
            await soon(hers.request("say", {"hello": 1}))
            await soon(hers.request("say", b"\x00\xff"))
            await server.kill()
            waiting = asyncio.ensure_future(hers.request("say", "after"))
            await server.start()
            await soon(resets.get())
            await soon(waiting)
            while "after" not in heard:
                await asyncio.sleep(0.01)
            assert heard[:2] == [{"hello": 1}, b"\x00\xff"]


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ws_proxy", "HTTP_PROXY"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:1")

    async def talk() -> None:
        async def handler(connection: ServerConnection) -> None:
            await connection.send("here")

        async with stand_in(handler) as tidings, application(tidings) as address:
            async with connect(f"ws://{address}/ws", proxy=None) as client:
                assert await soon(client.recv()) == "here"

    asyncio.run(talk())


async def test_over_tls_a_context_says_whom_to_believe(tmp_path: Path) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.wait_closed()

    certify(tmp_path)
    of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of_server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    context = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    async with stand_in(handler, ssl=of_server) as url:
        tidings = url.replace("http:", "https:")
        app = Attach(FastAPI(), url=tidings, ssl=context)
        async with served(app) as address, connect(f"ws://{address}/ws") as client:
            assert await soon(client.recv()) == "hello"
        async with application(tidings) as address:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{address}/ws")
            assert refused.value.response.status_code == 502 and b"certificate" in (refused.value.response.body or b"")
    with pytest.raises(ValueError, match="write https://"):
        Attach(FastAPI(), url="http://127.0.0.1:1", ssl=context)
