"""Who is in a room: the list that the server gives, kept up to date by its deltas. PROTOCOL.md §3."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol

from .listeners import Listeners, Unsubscribe
from .outbox import Request, RequestError
from .protocol import MembersPage, PresenceChange, PresenceCount, PresenceMessage, read_members

Members = Mapping[str, Any]
"""User id to what the user shows (`Presence.update`), none if nothing. Users, not sockets: two connections are one."""

_PAGE = 1000
WAITING_MAX = 4096
"""So many changes wait while the list is asked for. With more, it is asked for anew."""


class PresenceOwner(Protocol):
    @property
    def is_joined(self) -> bool: ...

    def request(self, event: str, data: Any = None) -> Request[Any]: ...


class Presence:
    def __init__(self, owner: PresenceOwner) -> None:
        self._owner = owner
        self._changes: Listeners[Members] = Listeners()
        self._members: Dict[str, Any] = {}
        self._rev: Optional[int] = None
        """The revision of `_members`; none while the list is being asked for."""
        self._waiting: List[PresenceMessage] = []
        """What came while the list was being asked for."""
        self._count: Optional[int] = None
        """How many are here, where that is all that is told."""
        self._question = 0
        """A list that was asked for before this one does not count."""

    @property
    def members(self) -> Members:
        """Who is here, as far as is known; empty until somebody listens. While reconnecting it is as it was."""
        return self._members

    @property
    def count(self) -> int:
        """How many are here, as far as is known: also in a room that tells nobody who."""
        return len(self._members) if self._count is None else self._count

    def on_change(self, listener: Callable[[Members], object]) -> Unsubscribe:
        """Calls `listener` with everyone, now (if that is known) and after each change."""
        unsubscribe = self._changes.add(listener)
        if self._rev is not None:
            listener(self._members)
        elif len(self._changes) == 1:
            self.attached()
        return unsubscribe

    async def update(self, info: Any) -> None:
        """Says what the others see of this user, at most 4,096 bytes of JSON. Raises `RequestError`."""
        await self._owner.request("presence.update", {"info": info})

    # For the room.

    def attached(self) -> None:
        """The room was joined, or joined again: what was known may be old."""
        if len(self._changes) > 0 and self._owner.is_joined:
            self._ask()

    def detached(self) -> None:
        self._question += 1
        self._rev = None
        self._waiting = []

    def receive(self, told: PresenceMessage) -> None:
        if len(self._changes) > 0 and self._take(told):
            self._changes.tell(self._members)

    def _take(self, told: PresenceMessage) -> bool:
        """Takes what is newer than the list; asks again if something is missing before it. Whether it changed something."""
        if self._rev is None:
            self._waiting.append(told)
            if len(self._waiting) > WAITING_MAX:
                self._ask()
            return False
        if told.rev <= self._rev:
            return False
        if isinstance(told, PresenceCount):
            self._count = told.members
        else:
            first = told.rev if isinstance(told, PresenceChange) else told.from_
            if first > self._rev + 1:
                self._ask()
                return False
            # Another map, so that who has the last one can compare.
            self._members = dict(self._members)
            if isinstance(told, PresenceChange):
                if told.change == "leave":
                    self._members.pop(told.user, None)
                else:
                    self._members[told.user] = told.info
            else:
                self._members.update((member.user, member.info) for member in (*told.joins, *told.updates))
                for user in told.leaves:
                    self._members.pop(user, None)
        self._rev = told.rev
        return True

    def _ask(self) -> None:
        self._question += 1
        self._rev = None
        self._waiting = []
        self._ask_page(self._question, [])

    def _ask_page(self, question: int, pages: List[MembersPage]) -> None:
        after = {"after": pages[-1].next} if pages else {}
        asked = self._owner.request("room.members", {**after, "limit": _PAGE})
        asked.on_settled(lambda answered: self._answered(question, pages, answered))

    def _answered(self, question: int, pages: List[MembersPage], answered: Request[Any]) -> None:
        try:
            page = read_members(answered.result())
        except RequestError:
            # The room was left or the client closed; a join of it asks again.
            return
        if question != self._question:
            return
        pages.append(page)
        if page.next is not None:
            return self._ask_page(question, pages)
        self._members = {member.user: member.info for page in pages for member in page.members}
        self._count = None if self._members else pages[0].count
        # Later pages may be newer than the first. What has changed since is told all the same, as it is in the end.
        self._rev = pages[0].rev
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            self._take(told)
        self._changes.tell(self._members)
