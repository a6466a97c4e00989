"""Publishes to the boards: one pooled client for the whole process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence

from tidings_client.server import BatchEvent, BatchResult, Tidings

TOKEN_EXPIRES_IN_S = 600
"""A page asks for another token at every connect."""
BATCH_MAX = 1000
"""What the HTTP API takes at a time."""


@dataclass(frozen=True)
class Event:
    """Something that a board shows. Of those with the same `key`, within five minutes, there is one."""

    room: str
    event: str
    data: Any
    key: Optional[str] = None


def room_of(board: str) -> str:
    return f"board:{board}"


class Broadcaster:
    """Viewers don't send: what they see is published here."""

    def __init__(self, url: str, secret: str) -> None:
        self._tidings = Tidings(url, secret=secret)

    def token(self, user: str, boards: Sequence[str]) -> str:
        """What a page connects with: who he is, and the boards that are his to watch."""
        return self._tidings.mint_token(user, rooms=[room_of(board) for board in boards], expires_in=TOKEN_EXPIRES_IN_S)

    async def broadcast(self, room: str, event: str, data: Any) -> None:
        """Publishes one event: once, however often it has to be sent."""
        await self._tidings.publish(room, event, data)

    async def broadcast_all(self, events: Sequence[Event]) -> List[BatchResult]:
        """Publishes events in their order, by as few requests as can be. Each has a result: one that is refused is so alone."""
        results: List[BatchResult] = []
        for begin in range(0, len(events), BATCH_MAX):
            batch = events[begin : begin + BATCH_MAX]
            published = [BatchEvent(e.event, e.data, room=e.room, idempotency_key=e.key) for e in batch]
            results += await self._tidings.batch(published)
        return results

    async def viewers(self, room: str) -> int:
        """How many watch, on all nodes."""
        return (await self._tidings.room(room))["members"]

    async def add(self, user: str, room: str) -> None:
        """Lets a user's pages watch at once."""
        await self._tidings.join(user, room)

    async def remove(self, user: str, room: str) -> None:
        """Takes a user's pages out at once."""
        await self._tidings.leave(user, room)

    async def close(self) -> None:
        await self._tidings.close()
