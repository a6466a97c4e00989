"""All that this process says to Tidings: one pooled client for the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence

from tidings_client.server import BatchEvent, BatchResult, Session, Tidings, Webhooks

TOKEN_EXPIRES_IN_S = 600
"""A page asks for another token at every connect."""
BATCH_MAX = 1000
"""What the HTTP API takes at a time."""


@dataclass(frozen=True)
class Event:
    """Something that a room hears. Of those with the same `key`, within five minutes, there is one."""

    room: str
    event: str
    data: Any
    key: Optional[str] = None


@dataclass(frozen=True)
class Socket:
    """One connection of a user's: its session, as `session.welcome` names it."""

    id: str
    user: str


class Broadcaster:
    """Publishes, and tells who is where. Who is a member is for `rooms.py` to know."""

    def __init__(self, url: str, secret: str) -> None:
        self._tidings = Tidings(url, secret=secret)

    def token(self, user: str, rooms: Sequence[str]) -> str:
        """What a page connects with: who he is, and the rooms that he is in from the start."""
        return self._tidings.mint_token(user, rooms=rooms, expires_in=TOKEN_EXPIRES_IN_S)

    def webhooks(self) -> Webhooks:
        """Where what pages send comes in, with the signatures of the same secret."""
        return self._tidings.webhooks()

    async def broadcast(self, room: str, event: str, data: Any, but: Optional[Socket] = None) -> None:
        """Publishes one event, for all in a room but for one socket: once, however often it has to be sent."""
        session, user = (but.id, but.user) if but else (None, None)
        await self._tidings.publish(room, event, data, exclude_session=session, exclude_user=user)

    async def broadcast_to_user(self, user: str, event: str, data: Any) -> None:
        """For all of a user's devices, those that are away too."""
        await self._tidings.publish_to_user(user, event, data)

    async def broadcast_all(self, events: Sequence[Event]) -> List[BatchResult]:
        """Publishes events in their order, by as few requests as can be. Each has a result: one that is refused is so alone."""
        results: List[BatchResult] = []
        for begin in range(0, len(events), BATCH_MAX):
            batch = events[begin : begin + BATCH_MAX]
            published = [BatchEvent(e.event, e.data, room=e.room, idempotency_key=e.key) for e in batch]
            results += await self._tidings.batch(published)
        return results

    async def add(self, user: str, room: str) -> None:
        """Lets a user's sockets hear a room at once."""
        await self._tidings.join(user, room)

    async def remove(self, user: str, room: str) -> None:
        """Takes a user's sockets out of a room at once."""
        await self._tidings.leave(user, room)

    async def members(self, room: str) -> List[str]:
        """The users who are connected, on all nodes."""
        page = await self._tidings.members(room)
        users = [member["user"] for member in page["members"]]
        while "next" in page:
            page = await self._tidings.members(room, after=page["next"])
            users += [member["user"] for member in page["members"]]
        return users

    async def sessions(self, user: str) -> List[Session]:
        """A user's sockets, each with its rooms."""
        return await self._tidings.sessions(user)

    async def close(self) -> None:
        await self._tidings.close()
