"""Tidings as a backend sees it: tokens for its users, and everything of the HTTP API (`docs/http-api.md`)."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Dict, List, Mapping, Optional, Sequence, TypedDict, Union, cast

from .keys import Secret
from .requests import Requests, TidingsError
from .webhooks import Webhooks


class Published(TypedDict):
    """What became of an event."""

    event_id: Optional[str]
    """None for an ephemeral one."""
    duplicate: bool
    """Whether it was published before."""


class _Fault(TypedDict):
    code: str
    detail: str


class BatchResult(TypedDict, total=False):
    """What became of one event of a batch: that it was published, or `error`."""

    event_id: Optional[str]
    duplicate: bool
    error: _Fault


@dataclass(frozen=True)
class BatchEvent:
    """An event of a batch, for a `room` or for a `user`. `data` that is bytes goes as a binary frame."""

    event: str
    data: Any = None
    room: Optional[str] = None
    user: Optional[str] = None
    exclude_session: Optional[str] = None
    exclude_user: Optional[str] = None
    ephemeral: bool = False
    idempotency_key: Optional[str] = None
    """Made, if unset."""


class Member(TypedDict):
    user: str
    info: Any


class _MembersPage(TypedDict):
    members: List[Member]


class MembersPage(_MembersPage, total=False):
    next: str
    """The `after` of the next page."""


class _EventsPage(TypedDict):
    events: List[Dict[str, Any]]
    """As clients get them."""


class EventsPage(_EventsPage, total=False):
    next: str
    """The `before` of the page before."""


class _RoomsPage(TypedDict):
    rooms: List[Dict[str, Any]]


class RoomsPage(_RoomsPage, total=False):
    next: str


class RoomState(TypedDict):
    room: str
    members: int
    last_event_id: str


class Session(TypedDict):
    session: str
    node: str
    rooms: List[str]


class UserPresence(TypedDict):
    user: str
    online: bool
    connections: int


class Node(TypedDict):
    id: str
    since: Any
    connections: int
    is_this: bool


class Tidings:
    """One for the whole application: it keeps connections open. `async with`, or `await close()` at the end.

    `secret` is the one that signs the tokens, as its file has it; the API's key and that of the webhooks come from it.
    `key` is one of the API's own (`[[api.keys]]`), in the place of that. `ssl` is for an `https://` server that another authority
    certifies than those that httpx knows: `ssl.create_default_context(cafile="ca.pem")`. Raises `ValueError` for what can't
    work.

    Each event loop has connections of its own, `connections_max` at most: code that is not async calls
    `asyncio.run(tidings.publish(…))`, in any thread.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: Union[str, bytes, None] = None,
        key: Optional[str] = None,
        timeout_s: float = 5.0,
        connections_max: int = 16,
        ssl: Optional[SSLContext] = None,
    ) -> None:
        self._secret = None if secret is None else Secret(secret)
        api_key = key.strip() if key else self._secret.api_key if self._secret else None
        if not api_key:
            raise ValueError("Tidings needs the secret that signs the tokens, or a key of the API")
        self._requests = Requests(url, api_key, timeout_s, connections_max, ssl)

    async def __aenter__(self) -> Tidings:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections that are kept."""
        await self._requests.close()

    def mint_token(
        self,
        user: str,
        *,
        rooms: Optional[Sequence[str]] = None,
        claims: Optional[Mapping[str, Any]] = None,
        expires_in: float = 3600,
    ) -> str:
        """A token for one of your users, which his page shows Tidings. Nothing is asked for it.

        `rooms` are those that he is a member of, `claims` your own, `expires_in` is in seconds.
        """
        return self._secret_for("mint_token").mint(user, rooms, claims, expires_in)

    def webhooks(self, *, secret: Optional[str] = None) -> Webhooks:
        """The webhooks that Tidings sends to this application. `secret` is the `whsec_…` of the configuration's
        `secret_file`, if it has one."""
        return Webhooks(secret if secret is not None else self._secret_for("webhooks").webhook_key)

    async def publish(
        self,
        room: str,
        event: str,
        data: Any = None,
        *,
        exclude_session: Optional[str] = None,
        exclude_user: Optional[str] = None,
        ephemeral: bool = False,
        idempotency_key: Optional[str] = None,
    ) -> Published:
        """Publishes an event in a room: once, however often it has to be sent. Returns when it is in the room's history."""
        body = _event(BatchEvent(event, data, None, None, exclude_session, exclude_user, ephemeral))
        return await self._publish(["rooms", room, "events"], body, idempotency_key)

    async def publish_to_user(
        self,
        user: str,
        event: str,
        data: Any = None,
        *,
        exclude_session: Optional[str] = None,
        exclude_user: Optional[str] = None,
        ephemeral: bool = False,
        idempotency_key: Optional[str] = None,
    ) -> Published:
        """Publishes an event to all of a user's devices, those that are away too."""
        body = _event(BatchEvent(event, data, None, None, exclude_session, exclude_user, ephemeral))
        return await self._publish(["users", user, "events"], body, idempotency_key)

    async def batch(self, events: Sequence[BatchEvent]) -> List[BatchResult]:
        """Publishes up to 1,000 events with one request. An event that is refused is so alone: each has a result, in order.

        Such a one is not tried again: where its code is `unavailable` or `rate_limited`, do, under an `idempotency_key` of
        your own.
        """
        if not events:
            return []
        body = [{**_event(event), "idempotency_key": event.idempotency_key or str(uuid.uuid4())} for event in events]
        answer = await self._requests.send("POST", ["batch"], body={"events": body})
        return cast("List[BatchResult]", answer["results"])

    async def rooms(
        self, *, prefix: Optional[str] = None, after: Optional[str] = None, limit: Optional[int] = None
    ) -> RoomsPage:
        """The rooms that have members."""
        query = {"prefix": prefix, "after": after, "limit": limit}
        return cast(RoomsPage, await self._requests.send("GET", ["rooms"], query=query))

    async def room(self, room: str) -> RoomState:
        """How many are in a room, and where it stands."""
        return cast(RoomState, await self._requests.send("GET", ["rooms", room]))

    async def members(self, room: str, *, after: Optional[str] = None, limit: Optional[int] = None) -> MembersPage:
        """Who is in a room, on all nodes."""
        query = {"after": after, "limit": limit}
        return cast(MembersPage, await self._requests.send("GET", ["rooms", room, "members"], query=query))

    async def history(self, room: str, *, before: Optional[str] = None, limit: Optional[int] = None) -> EventsPage:
        """What was published in a room, ascending: the newest, or what is before an event."""
        query = {"before": before, "limit": limit}
        return cast(EventsPage, await self._requests.send("GET", ["rooms", room, "events"], query=query))

    async def redact(self, room: str, event_id: str) -> None:
        """Takes a stored event out of the history: whoever reads it later finds a skip in its place."""
        await self._requests.send("DELETE", ["rooms", room, "events", event_id])

    async def presence(self, user: str) -> UserPresence:
        """Whether a user is connected."""
        return cast(UserPresence, await self._requests.send("GET", ["users", user, "presence"]))

    async def sessions(self, user: str) -> List[Session]:
        return cast("List[Session]", (await self._requests.send("GET", ["users", user, "sessions"]))["sessions"])

    async def user_rooms(self, user: str) -> List[str]:
        """The rooms that any of a user's connections is in."""
        return cast("List[str]", (await self._requests.send("GET", ["users", user, "rooms"]))["rooms"])

    async def join(self, user: str, room: str) -> int:
        """Joins a user's connections to a room, whatever its rule says. Returns how many they are."""
        return await self._connections("PUT", ["users", user, "rooms", room])

    async def leave(self, user: str, room: str) -> int:
        """Takes a user's connections out of a room."""
        return await self._connections("DELETE", ["users", user, "rooms", room])

    async def disconnect(self, user: str) -> int:
        """Closes a user's connections for good (4006)."""
        return await self._connections("POST", ["users", user, "disconnect"])

    async def revoke(self, user: str) -> int:
        """Takes back every token that a user has until now, and closes his connections (4001)."""
        return await self._connections("POST", ["users", user, "revoke"])

    async def revoke_token(self, jti: str) -> None:
        """Takes one token back, by its `jti`."""
        await self._requests.send("POST", ["tokens", jti, "revoke"])

    async def nodes(self) -> List[Node]:
        return cast("List[Node]", (await self._requests.send("GET", ["nodes"]))["nodes"])

    def _secret_for(self, what: str) -> Secret:
        if self._secret is None:
            fix = "Tidings(url, secret=…), beside a key if there is one"
            raise TidingsError("secret_missing", f"{what} needs the secret that signs the tokens", fix=fix)
        return self._secret

    async def _publish(self, path: Sequence[str], body: Dict[str, Any], idempotency_key: Optional[str]) -> Published:
        # One key for all tries.
        key = idempotency_key or str(uuid.uuid4())
        return cast(Published, await self._requests.send("POST", path, body=body, idempotency_key=key))

    async def _connections(self, method: str, path: Sequence[str]) -> int:
        return cast(int, (await self._requests.send(method, path))["connections"])


def _event(event: BatchEvent) -> Dict[str, Any]:
    """An event as the API takes it."""
    body: Dict[str, Any] = {"event": event.event, "data": event.data}
    if isinstance(event.data, (bytes, bytearray, memoryview)):
        body.update(data=base64.b64encode(event.data).decode(), encoding="base64")
    for name in ("room", "user", "exclude_session", "exclude_user"):
        if getattr(event, name) is not None:
            body[name] = getattr(event, name)
    if event.ephemeral:
        body["ephemeral"] = True
    return body
