"""Publishes to the rooms: one pooled client for the whole process."""

from typing import Any, List, Optional, Sequence

from tidings_client.server import BatchEvent, BatchResult, Tidings

TOKEN_EXPIRES_IN_S = 600
"""A page asks for another token at every connect."""


class Broadcaster:
    def __init__(self, url: str, secret: str) -> None:
        self._tidings = Tidings(url, secret=secret)
        self.webhooks = self._tidings.webhooks()

    def token(self, user: str, rooms: Sequence[str]) -> str:
        """What a page connects with: who he is, and the rooms that he is in at once, and no others."""
        return self._tidings.mint_token(user, rooms=list(rooms), expires_in=TOKEN_EXPIRES_IN_S)

    async def broadcast(self, room: str, event: str, data: Any, key: Optional[str] = None) -> None:
        """Publishes an event: of those with the same key, such as `message-7`, within five minutes there is one."""
        await self._tidings.publish(room, event, data, idempotency_key=key)

    async def broadcast_all(self, events: Sequence[BatchEvent]) -> List[BatchResult]:
        """Publishes up to 1,000 events in their order, by one request. Each has a result: one that is refused is so alone."""
        return await self._tidings.batch(events)

    async def members(self, room: str) -> List[str]:
        """The users who are connected; the first thousand."""
        return [member["user"] for member in (await self._tidings.members(room))["members"]]

    async def join(self, user: str, room: str) -> None:
        """Lets a user's pages hear a room at once. For longer, `rooms_of` has to name it too."""
        await self._tidings.join(user, room)

    async def leave(self, user: str, room: str) -> None:
        """Takes a user's pages out of a room at once."""
        await self._tidings.leave(user, room)

    async def close(self) -> None:
        await self._tidings.close()
