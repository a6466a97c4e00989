"""Requests to the HTTP API: a bounded pool of connections that are kept, and what did not arrive tried again.

A request that may have been carried out is only ever sent again as the same one: whoever publishes gives it a key.
"""

from __future__ import annotations

import asyncio
import random
from ssl import SSLContext
from typing import Any, AsyncGenerator, Dict, Mapping, Optional, Sequence, Union
from urllib.parse import quote, urlsplit

try:
    import httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("tidings_client.server needs httpx: pip install 'tidings-client[server]'") from error

from ..protocol import json_text, read_json

_TRIES_MAX = 5
"""So many times a request is sent."""
_FIRST_BACKOFF_S = 0.1
"""The wait before the second try is at most this long, and twice as long before each further one."""
_RETRY_AFTER_MAX_S = 10.0
"""A server that wants a longer pause than this is not waited for: the error says how long."""
_REQUESTS_MAX = 1024
"""Requests that wait for a connection or an answer, in one event loop."""
_IDLE_S = 4.0
"""Connections that nobody uses are closed before a server, or a proxy, usually does."""


class TidingsError(Exception):
    """Why a request failed. `code` is for programs, the words and `fix` for people."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: Optional[int] = None,
        fix: Optional[str] = None,
        request_id: Optional[str] = None,
        retry_after_s: Optional[float] = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        """The API's code (`docs/http-api.md`); or `unreachable`, `queue_full`, `closed`, `no_api`, `secret_missing`."""
        self.message = message
        self.status = status
        """The HTTP status, if there was an answer."""
        self.fix = fix
        """What to do about it."""
        self.request_id = request_id
        """The request's name in the server's log."""
        self.retry_after_s = retry_after_s
        """How long the server wants to be left alone."""

    @property
    def is_passing(self) -> bool:
        """Whether the same may work later."""
        return self.code == "unreachable" or self.status in (429, 502, 503, 504)


class _Pool:
    """The connections of one event loop, which are of no use in another one."""

    def __init__(self, http: httpx.AsyncClient, connections_max: int) -> None:
        self.under_way = 0
        self._http = http
        self._free = asyncio.Semaphore(connections_max)
        self._life = _life(http)

    async def begin(self) -> None:
        await self._life.__anext__()

    async def end(self) -> None:
        await self._life.aclose()

    async def ask(
        self,
        method: str,
        url: str,
        parameters: Mapping[str, Union[str, int]],
        headers: Mapping[str, str],
        content: Optional[bytes],
    ) -> httpx.Response:
        """Raises what httpx raises. Who stops waiting for an answer takes nothing back: a request that is cancelled at the wrong
        moment costs httpx a connection for good, and without any left all that follow would wait for ever."""
        await self._free.acquire()
        asking = asyncio.ensure_future(
            self._http.request(method, url, params=parameters or None, headers=dict(headers), content=content)
        )
        asking.add_done_callback(self._asked)
        return await asyncio.shield(asking)

    def _asked(self, asking: asyncio.Future[httpx.Response]) -> None:
        self._free.release()
        if not asking.cancelled():
            # Nobody may wait any more who would take it.
            asking.exception()


async def _life(http: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """A loop that ends, as that of `asyncio.run` does, ends its generators before: the one chance to close what it has open."""
    try:
        yield
    finally:
        await http.aclose()


class Requests:
    def __init__(
        self, url: str, key: str, timeout_s: float, connections_max: int, tls: Optional[SSLContext] = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is not http:// or https://")
        if tls is not None and parts.scheme != "https":
            raise ValueError(f"{url} is not encrypted, so ssl means nothing: write https://")
        self._base = url.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        # Once, since it reads all authorities; of the environment as little as of its proxy.
        self._tls = tls or (httpx.create_ssl_context(trust_env=False) if parts.scheme == "https" else None)
        self._is_closed = False
        self._pools: Dict[asyncio.AbstractEventLoop, _Pool] = {}
        """Of each loop that has asked something: code that is not async has a new one for each call, in any thread."""

    async def close(self) -> None:
        """Closes the connections of this loop; those of others end with their loops."""
        self._is_closed = True
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.end()

    async def _pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for other in list(self._pools):
                if other.is_closed():
                    self._pools.pop(other, None)
            pool = self._pools[loop] = _Pool(self._connections(), self._connections_max)
            await pool.begin()
        return pool

    def _connections(self) -> httpx.AsyncClient:
        most = self._connections_max
        return httpx.AsyncClient(
            # A backend talks to its own Tidings, and not through the proxy of its environment.
            trust_env=False,
            # Where nothing is encrypted there is nobody to verify.
            verify=self._tls or False,
            headers={"Authorization": f"Bearer {self._key}", "Accept": "application/json"},
            timeout=self._timeout_s,
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=_IDLE_S),
        )

    async def send(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Optional[Mapping[str, Union[str, int, None]]] = None,
        body: Optional[object] = None,
        idempotency_key: Optional[str] = None,
    ) -> Any:
        """The answer's JSON. `path` are the parts behind `/v1`, not encoded."""
        if self._is_closed:
            raise TidingsError("closed", "this client was closed")
        pool = await self._pool()
        if pool.under_way >= _REQUESTS_MAX:
            fix = "await what you publish, or send many events as one batch"
            raise TidingsError("queue_full", f"{_REQUESTS_MAX} requests wait already", fix=fix)
        headers: Dict[str, str] = {}
        content: Optional[bytes] = None
        if body is not None:
            content = json_text(body).encode()
            headers["Content-Type"] = "application/json"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self._base}/v1/{'/'.join(_part(part) for part in path)}"
        pool.under_way += 1
        try:
            return await self._tried(pool, method, url, parameters, headers, content)
        finally:
            pool.under_way -= 1

    async def _tried(
        self,
        pool: _Pool,
        method: str,
        url: str,
        parameters: Mapping[str, Union[str, int]],
        headers: Mapping[str, str],
        content: Optional[bytes],
    ) -> Any:
        tries = 0
        while True:
            if self._is_closed:
                raise TidingsError("closed", "this client was closed")
            tries += 1
            cause: Optional[Exception] = None
            try:
                answer = await pool.ask(method, url, parameters, headers, content)
            except httpx.TransportError as error:
                cause, fault = error, self._unreachable(error)
            else:
                if answer.is_success:
                    return _parsed(answer)
                fault = _failure(answer)
            pleased_s = fault.retry_after_s or 0.0
            if not fault.is_passing or tries == _TRIES_MAX or pleased_s > _RETRY_AFTER_MAX_S:
                raise fault from cause
            await asyncio.sleep(max(pleased_s, random.random() * _FIRST_BACKOFF_S * 2 ** (tries - 1)))

    def _unreachable(self, error: Exception) -> TidingsError:
        return TidingsError(
            "unreachable",
            f"no answer from {self._base}: {str(error) or type(error).__name__}",
            fix="see whether Tidings runs there; what was sent may have been done, and the same idempotency_key makes it one",
        )


def _part(name: str) -> str:
    """A part of a path. What is called `.` or `..` is encoded too: httpx would take it for a step in the path."""
    return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")


def _json(answer: httpx.Response) -> Any:
    try:
        return read_json(answer.content.decode())
    except (ValueError, RecursionError):
        return None


def _not_the_api(answer: httpx.Response, retry_after_s: Optional[float] = None) -> TidingsError:
    return TidingsError(
        "no_api",
        f"the answer ({answer.status_code}) is not one of Tidings' HTTP API",
        status=answer.status_code,
        fix="url is where Tidings listens, without a path; its configuration has to have a key",
        retry_after_s=retry_after_s,
    )


def _parsed(answer: httpx.Response) -> Any:
    value = _json(answer)
    if value is None:
        raise _not_the_api(answer)
    return value


def _failure(answer: httpx.Response) -> TidingsError:
    problem = _json(answer)
    try:
        retry_after_s: Optional[float] = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        retry_after_s = None
    # A proxy in between says it in its own words; what passes is worth another try all the same.
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        return _not_the_api(answer, retry_after_s)
    return TidingsError(
        problem["code"],
        str(problem.get("detail") or problem.get("title") or problem["code"]),
        status=answer.status_code,
        fix=problem.get("fix"),
        request_id=problem.get("request_id") or answer.headers.get("x-request-id"),
        retry_after_s=retry_after_s,
    )
