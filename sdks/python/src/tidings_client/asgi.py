"""Tidings' WebSocket on the port of an ASGI application: requests of one path go to Tidings, all others stay where they are.

Tidings is asked before the client's WebSocket is accepted, so that a refusal is an HTTP answer and Tidings' own.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import json
import re
import socket
from ssl import SSLContext, create_default_context
from typing import Any, Awaitable, Callable, List, Mapping, MutableMapping, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import SplitResult, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

_ANSWER_S = 10.0
"""How long Tidings has for its answer."""
_CLOSE_S = 2.0
"""How long it has for its close frame."""
_PLAIN_REQUESTS_MAX = 16
"""Plain requests that are under way, each in a thread; more wait."""
_BODY_BYTES_MAX = 1024 * 1024
"""Of a plain request, and of an answer to one."""
_FRAMES_MAX = 16
"""Messages of Tidings that wait for the client; then it is not read."""
_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "http2-settings"),
    )
)
"""What concerns one connection only, and is not passed on."""
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
"""`host[:port]`, and nothing else that a URL could begin with."""
_GOING_AWAY, _NO_CODE, _LOST = 1001, 1005, 1006

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[Tuple[str, str]]


class _Answer(NamedTuple):
    """An HTTP answer, as it is passed on."""

    status: int
    headers: Headers
    body: bytes

    def start(self, kind: str) -> Message:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        return {"type": f"{kind}.response.start", "status": self.status, "headers": headers}


class Attach:
    """ASGI middleware that hands a path to Tidings:

        app.add_middleware(Attach, path="/ws", url="http://127.0.0.1:7777")

    WebSockets go there, and the plain requests by which clients learn why they were refused; everything else is the application's.
    `path` is what clients connect to; Tidings is asked at `/ws`, or at the path of `url`.
    `ssl` is for an `https://` url that another authority certifies than those of the system:
    `ssl.create_default_context(cafile="ca.pem")`.
    """

    def __init__(
        self,
        app: Application,
        path: str = "/ws",
        url: str = "http://127.0.0.1:7777",
        ssl: Optional[SSLContext] = None,
    ) -> None:
        self._app = app
        self._path = path
        self._tidings = urlsplit(url)
        if self._tidings.scheme not in ("http", "https") or not self._tidings.hostname:
            raise ValueError(f"{url} is not http:// or https://")
        if ssl is not None and self._tidings.scheme != "https":
            raise ValueError(f"{url} is not encrypted, so ssl means nothing: write https://")
        self._own_path = "/ws" if self._tidings.path in ("", "/") else self._tidings.path
        self._tls = ssl or (create_default_context() if self._tidings.scheme == "https" else None)
        self._plain_requests: Optional[asyncio.Semaphore] = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and _path(scope) == self._path:
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http" and _path(scope) == self._path:
            await self._plain(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if not _is_host_good(scope):
            await _refuse(scope, send, _bad_upgrade("the Host header is no host and port"))
            return
        try:
            tidings = await self._dial(scope)
        except InvalidStatus as refused:
            response = refused.response
            await _refuse(
                scope,
                send,
                _Answer(response.status_code, _kept(response.headers.raw_items()), bytes(response.body or b"")),
            )
            return
        except InvalidURI:
            await _refuse(scope, send, _bad_upgrade("the query is none that a URL can have"))
            return
        except (OSError, InvalidHandshake, asyncio.TimeoutError) as error:
            await _refuse(scope, send, self._unreachable(error))
            return
        try:
            accept: Message = {"type": "websocket.accept", "subprotocol": tidings.subprotocol}
            await send({**accept, "headers": self._accepted(tidings)})
            await _relay(tidings, receive, send)
        finally:
            # Nothing to do if it has ended well; whatever else has happened, it ends here.
            tidings.transport.abort()

    async def _dial(self, scope: Scope) -> ClientConnection:
        host = dict(_headers(scope)).get("host") or self._tidings.netloc
        scheme = "wss" if self._tls is not None else "ws"
        # A socket of our own: the library then asks no proxy of the environment, and the URL's host is that of the client.
        link = await asyncio.wait_for(self._connect(), _ANSWER_S)
        try:
            return await connect(
                f"{scheme}://{host}{self._target(scope)}",
                sock=link,
                ssl=self._tls,
                server_hostname=self._tidings.hostname if self._tls is not None else None,
                subprotocols=[Subprotocol(name) for name in scope.get("subprotocols", ())] or None,
                additional_headers=_handshake_headers(scope),
                user_agent_header=None,
                compression=None,
                open_timeout=_ANSWER_S,
                # The server in front asks the client whether it is there; this only passes on what is said.
                ping_interval=None,
                close_timeout=_CLOSE_S,
                # Tidings has its own limit, and the server in front another for what clients send.
                max_size=None,
                max_queue=_FRAMES_MAX,
            )
        except BaseException:
            link.close()
            raise

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        default_port = 443 if self._tls is not None else 80
        found = await loop.getaddrinfo(
            self._tidings.hostname, self._tidings.port or default_port, type=socket.SOCK_STREAM
        )
        fault: Optional[OSError] = None
        for family, kind, protocol, _, address in found:
            link = socket.socket(family, kind, protocol)
            link.setblocking(False)
            try:
                await loop.sock_connect(link, address)
            except OSError as error:
                link.close()
                fault = error
            except BaseException:
                link.close()
                raise
            else:
                return link
        raise fault or OSError("no address")

    def _target(self, scope: Scope) -> str:
        query: bytes = scope.get("query_string") or b""
        return self._own_path + (b"?" + query if query else b"").decode("latin-1")

    def _accepted(self, tidings: ClientConnection) -> List[Tuple[bytes, bytes]]:
        response = tidings.response
        headers = [] if response is None else _kept(response.headers.raw_items())
        return [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in headers
            # The server in front has made its own.
            if not name.lower().startswith("sec-websocket-") and name.lower() not in ("date", "server")
        ]

    async def _plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        more = True
        while more and len(body) <= _BODY_BYTES_MAX:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > _BODY_BYTES_MAX:
            answer = _problem(413, "Content Too Large", "too_large", "no request of this path is so large", "")
        elif not _is_host_good(scope):
            answer = _bad_upgrade("the Host header is no host and port")
        else:
            if self._plain_requests is None:
                # Made here: before Python 3.10 it belongs to the loop in which it was made.
                self._plain_requests = asyncio.Semaphore(_PLAIN_REQUESTS_MAX)
            async with self._plain_requests:
                try:
                    answer = await asyncio.get_running_loop().run_in_executor(
                        None,
                        _ask,
                        self._tidings,
                        self._tls,
                        scope["method"],
                        self._target(scope),
                        _headers(scope),
                        bytes(body),
                    )
                except (OSError, http.client.HTTPException) as error:
                    answer = self._unreachable(error)
        await send(answer.start("http"))
        await send({"type": "http.response.body", "body": answer.body})

    def _unreachable(self, error: BaseException) -> _Answer:
        where = f"{self._tidings.scheme}://{self._tidings.netloc}"
        detail = f"Tidings does not answer at {where}: {str(error) or type(error).__name__}"
        fix = "start Tidings there, or give Attach the url at which it listens"
        return _problem(502, "Bad Gateway", "upstream_unreachable", detail, fix)


async def _relay(tidings: ClientConnection, receive: Receive, send: Send) -> None:
    """Passes messages on, each as its receiver takes them, until either side has closed."""
    loop = asyncio.get_running_loop()
    up, down = loop.create_task(_up(tidings, receive)), loop.create_task(_down(tidings, send))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if up.done() and not down.done():
            # The client has gone, and so nobody is left to be told of the end.
            down.cancel()
    finally:
        for task in (up, down):
            task.cancel()
        ended = await asyncio.gather(up, down, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _up(tidings: ClientConnection, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code") or _NO_CODE
            if code in (_NO_CODE, _LOST):
                # As it was: nobody has said goodbye. Servers call it either of these, and a loss that is taken for a
                # goodbye would be told to the whole room.
                return tidings.transport.abort()
            return await tidings.close(code, message.get("reason") or "")
        text, data = message.get("text"), message.get("bytes")
        try:
            await tidings.send(text if text is not None else data or b"")
        except ConnectionClosed:
            # The other direction is told why.
            return await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Waits until the client has gone too."""
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def _down(tidings: ClientConnection, send: Send) -> None:
    try:
        while True:
            message = await tidings.recv()
            if isinstance(message, str):
                await send({"type": "websocket.send", "text": message})
            else:
                await send({"type": "websocket.send", "bytes": message})
    except ConnectionClosed as closed:
        # A Tidings that was lost is one that a client comes back to.
        code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (_GOING_AWAY, "")
        await send({"type": "websocket.close", "code": 1000 if code == _NO_CODE else code, "reason": reason})
    except OSError:
        # The client has gone; the other direction is told how, and ends this one.
        await asyncio.Event().wait()


async def _refuse(scope: Scope, send: Send, answer: _Answer) -> None:
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send(answer.start("websocket.http"))
        await send({"type": "websocket.http.response.body", "body": answer.body})
    else:
        # A server that can say nothing else says 403; clients then ask by a plain GET.
        await send({"type": "websocket.close", "code": 1008})


def _ask(
    tidings: SplitResult,
    tls: Optional[SSLContext],
    method: str,
    target: str,
    headers: Headers,
    body: bytes,
) -> _Answer:
    connection = (
        http.client.HTTPConnection(tidings.netloc, timeout=_ANSWER_S)
        if tls is None
        else http.client.HTTPSConnection(tidings.netloc, timeout=_ANSWER_S, context=tls)
    )
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("Connection", "close")
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return _Answer(response.status, _kept(response.getheaders()), response.read(_BODY_BYTES_MAX))
    finally:
        connection.close()


def _is_host_good(scope: Scope) -> bool:
    """Whether the Host header, if there is one, is a host and a port: the URL begins with it, and one that went on would be
    of another path."""
    hosts = [value for name, value in _headers(scope) if name == "host"]
    if not hosts:
        return True
    found = _HOST.fullmatch(hosts[0])
    if len(hosts) > 1 or found is None:
        return False
    address, port = found.groups()
    try:
        if address is not None:
            ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return port is None or int(port) < 2**16


def _path(scope: Scope) -> str:
    """The path within the application, wherever that is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path[len(root) :] if path.startswith(f"{root}/") else path


def _headers(scope: Scope) -> List[Tuple[str, str]]:
    """The request's own headers, by names in lower case, and whom it came from."""
    headers: List[Tuple[str, str]] = []
    for_whom: List[str] = []
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "x-forwarded-for":
            for_whom.append(value)
        elif name not in _HOP_BY_HOP and name != "content-length":
            headers.append((name, value))
    if scope.get("client"):
        for_whom.append(scope["client"][0])
    if for_whom:
        headers.append(("x-forwarded-for", ", ".join(for_whom)))
    return headers


def _handshake_headers(scope: Scope) -> List[Tuple[str, str]]:
    """Those that the library does not make itself."""
    return [
        (name, value) for name, value in _headers(scope) if name != "host" and not name.startswith("sec-websocket-")
    ]


def _kept(headers: Any) -> List[Tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]


def _bad_upgrade(detail: str) -> _Answer:
    return _problem(400, "Bad Request", "bad_upgrade", detail, "")


def _problem(status: int, title: str, code: str, detail: str, fix: str) -> _Answer:
    problem: Mapping[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "fix": fix,
    }
    body = json.dumps(problem).encode()
    return _Answer(status, [("content-type", "application/problem+json"), ("content-length", str(len(body)))], body)
