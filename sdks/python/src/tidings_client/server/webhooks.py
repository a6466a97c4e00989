"""Webhooks (`docs/webhooks.md`): what Tidings asks this application, and what it tells it.

Nothing is looked at before its signature is good, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import inspect
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import (
    Any,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    List,
    Mapping,
    MutableMapping,
    NamedTuple,
    Optional,
    Tuple,
    TypedDict,
    TypeVar,
    Union,
)

from ..protocol import json_text, read_json

_TOLERANCE_S = 300
"""How old, or how far ahead of this machine's clock, a webhook may be."""
_IDS_MAX = 100_000
"""Ids that are remembered at most, for as long as their timestamps may be good: beyond it the oldest go."""
_IDS_FOR_S = 2 * _TOLERANCE_S
_TIMESTAMP = re.compile(r"[0-9]{1,15}")
"""Anybody may send one: `str.isdigit` takes what `int` does not, and `int` raises for what is too long."""
_BODY_BYTES_MAX = 8 * 1024 * 1024
_KEY_BYTES_MIN = 24
_TYPE_PREFIX = "dev.tidings."
_ASKED = ("connect", "join", "event")
"""Whoever is asked has to answer."""
_TOLD = ("disconnect", "room.occupied", "room.vacated", "presence")
"""What is told may be of no interest."""

Handler = TypeVar("Handler", bound=Callable[..., Any])


class ConnectAnswer(TypedDict, total=False):
    """What `connect` may answer, beside true and false."""

    allow: bool
    rooms: List[str]
    """Rooms that he is joined to at once, beside those of his token."""
    reason: str
    """Why not, for the client."""


class Broadcast(TypedDict, total=False):
    """What an event's answer publishes."""

    room: str
    """That of the call, if unset."""
    event: str
    data: Any
    to_others: bool


class EventAnswer(TypedDict, total=False):
    """What `event` may answer."""

    ack: Any
    """What the client's request is answered with."""
    broadcast: List[Broadcast]
    """What is published, in this order."""


class EventRefused(Exception):
    """Raised by a handler of `event`: the client's request is answered with this error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Webhook:
    """What Tidings asks or tells."""

    kind: str
    """As the configuration's `events` names it."""
    data: Mapping[str, Any]
    """As `docs/webhooks.md` has it: `webhook["user"]` is short for `webhook.data["user"]`."""
    id: str
    """The same when it is told once more."""
    time: str
    """When it was made, as RFC 3339."""

    def __getitem__(self, name: str) -> Any:
        return self.data[name]


class WebhookAnswer(NamedTuple):
    status: int
    body: Optional[Mapping[str, Any]]

    @property
    def content(self) -> bytes:
        return b"" if self.body is None else json_text(self.body).encode()

    @property
    def media_type(self) -> str:
        return "application/json" if self.status < 300 else "application/problem+json"


_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Webhooks:
    """Where webhooks come in. Handlers, async or not, are registered by decorators:

        webhooks = tidings.webhooks()

        @webhooks.on("join")
        async def may_join(webhook):
            return await is_member(webhook["user"], webhook["room"])

    It is an ASGI application, and so a route of Starlette's and FastAPI's: `Route("/tidings", webhooks)`. Elsewhere
    `answer` says what to answer.
    """

    def __init__(self, secret: Union[str, bytes]) -> None:
        self._key = _decoded(secret) if isinstance(secret, str) else secret
        self._handlers: Dict[str, Callable[[Webhook], Any]] = {}
        # The oldest first; for what is told, what was made of it or is being made.
        self._seen: OrderedDict[str, Tuple[float, Union[asyncio.Future[WebhookAnswer], WebhookAnswer, None]]] = (
            OrderedDict()
        )

    def on(self, kind: str) -> Callable[[Handler], Handler]:
        """Registers the handler of a kind, as the configuration's `events` names it.

        `connect` and `join` return whether he may; `event` returns an `EventAnswer`, or raises `EventRefused`. Whoever
        raises anything else there lets nobody in; what is told is told again then.
        """
        if kind not in _ASKED + _TOLD:
            raise ValueError(f"there is no webhook {kind!r}; there are {', '.join(_ASKED + _TOLD)}")

        def register(handler: Handler) -> Handler:
            self._handlers[kind] = handler
            return handler

        return register

    async def answer(self, headers: Mapping[str, str], body: Union[bytes, AsyncIterable[bytes]]) -> WebhookAnswer:
        """What to answer a webhook with: the request's headers, by names in lower case, and its body as it came. As a
        stream of its pieces (Starlette's `request.stream()`) it is read no further than a webhook is long.

        Raises what a handler has raised: answer 500 then.
        """
        if not isinstance(body, (bytes, bytearray)):
            whole = await _joined(body)
            if whole is None:
                return _problem(413, "too_large", f"a webhook has {_BODY_BYTES_MAX} bytes at most")
            body = whole
        id, timestamp, signatures = (
            headers.get(name, "") for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        )
        fault = self._fault(id, timestamp, signatures, body)
        if fault is not None:
            return _problem(401, "signature_invalid", fault)
        try:
            message = read_json(body.decode())
            kind = str(message["type"])
            webhook = Webhook(
                kind[len(_TYPE_PREFIX) :] if kind.startswith(_TYPE_PREFIX) else kind,
                message.get("data") or {},
                id,
                str(message.get("time", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _problem(400, "invalid", "the body is no CloudEvent")
        if webhook.kind in _ASKED:
            if id in self._seen:
                return _problem(409, "replayed", "this id has been asked")
            self._remember(id, None)
            return await self._handle(webhook)
        _, made = self._seen.get(id, (0.0, None))
        if isinstance(made, WebhookAnswer):
            # It comes again if the answer got lost, and was taken then.
            return made
        if made is None:
            made = asyncio.ensure_future(self._handle(webhook))
            self._remember(id, made)
            made.add_done_callback(lambda made: self._settle(id, made))
        elif made.get_loop() is not asyncio.get_running_loop():
            return _problem(503, "under_way", "it is being handled: if that comes to nothing, it has to be told again")
        # Whoever told it may hang up: it is handled to its end all the same.
        return await asyncio.shield(made)

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            raise RuntimeError(f"webhooks come by HTTP, and not as {scope['type']}")
        if scope["method"] != "POST":
            answer = _problem(405, "method_not_allowed", "webhooks are POST")
        else:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            answer = await self.answer(headers, _pieces(receive))
        start_headers = [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", b"%d" % len(answer.content)),
        ]
        if answer.body is None:
            start_headers = []
        await send({"type": "http.response.start", "status": answer.status, "headers": start_headers})
        await send({"type": "http.response.body", "body": answer.content})

    def _fault(self, id: str, timestamp: str, signatures: str, body: bytes) -> Optional[str]:
        if not (id and timestamp and signatures):
            return "webhook-id, webhook-timestamp and webhook-signature have to be there"
        if not _TIMESTAMP.fullmatch(timestamp) or abs(time.time() - int(timestamp)) > _TOLERANCE_S:
            return f"the timestamp is more than {_TOLERANCE_S} s off this machine's clock"
        expected = hmac.new(self._key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        for signature in signatures.split(" "):
            version, _, value = signature.partition(",")
            try:
                given = base64.b64decode(value)
            except (binascii.Error, ValueError):
                continue
            if version == "v1" and hmac.compare_digest(given, expected):
                return None
        return "the signature is not that of this secret: both sides have to have the same"

    def _remember(self, id: str, made: Optional[asyncio.Future[WebhookAnswer]]) -> None:
        now = time.monotonic()
        while self._seen:
            oldest = next(iter(self._seen))
            if len(self._seen) < _IDS_MAX and now - self._seen[oldest][0] < _IDS_FOR_S:
                break
            del self._seen[oldest]
        self._seen[id] = (now, made)

    def _settle(self, id: str, made: asyncio.Future[WebhookAnswer]) -> None:
        if made.cancelled() or made.exception() is not None:
            # What could not be taken will be told again, and is new then.
            self._seen.pop(id, None)
        elif id in self._seen:
            # The answer alone: the task has its loop, which code that is not async has a new one of for each webhook.
            self._seen[id] = (self._seen[id][0], made.result())

    async def _handle(self, webhook: Webhook) -> WebhookAnswer:
        handler = self._handlers.get(webhook.kind)
        if handler is None:
            if webhook.kind in _ASKED:
                return _problem(501, "not_handled", f"this application has no handler for {webhook.kind}")
            return WebhookAnswer(204, None)
        try:
            made = handler(webhook)
            if inspect.isawaitable(made):
                made = await made
        except EventRefused as refused:
            if webhook.kind != "event":
                raise
            return WebhookAnswer(200, {"error": {"code": refused.code, "message": refused.message}})
        if webhook.kind == "event":
            answer = made or {}
            return WebhookAnswer(200, {"ack": answer.get("ack"), "broadcast": answer.get("broadcast") or []})
        if webhook.kind in _ASKED:
            return WebhookAnswer(200, made if isinstance(made, Mapping) else {"allow": made is True})
        return WebhookAnswer(204, None)


async def _joined(pieces: AsyncIterable[bytes]) -> Optional[bytes]:
    """A body; none if it is too large."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > _BODY_BYTES_MAX:
            return None
    return bytes(body)


async def _pieces(receive: _Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _decoded(secret: str) -> bytes:
    text = secret.strip()
    try:
        key = base64.b64decode(text[len("whsec_") :], validate=True) if text.startswith("whsec_") else b""
    except binascii.Error:
        key = b""
    if len(key) < _KEY_BYTES_MIN:
        raise ValueError(f"a webhook's secret is whsec_ and base64 of at least {_KEY_BYTES_MIN} bytes")
    return key


def _problem(status: int, code: str, detail: str) -> WebhookAnswer:
    return WebhookAnswer(status, {"title": code.replace("_", " "), "status": status, "code": code, "detail": detail})
