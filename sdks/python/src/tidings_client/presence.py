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
_RETRY_STEP_S = 1.0
"""The wait before the list is asked for again when no answer could be had; it grows with every failure."""
_RETRY_MAX_S = 30.0


class PresenceOwner(Protocol):
    @property
    def is_joined(self) -> bool: ...

    def request(self, event: str, data: Any = None) -> Request[Any]: ...

    def ask_members(self, data: Any) -> Request[Any]:
        """Asks for a page of the list: the client's own question, none of the application's requests."""
        ...

    def withdraw(self, request: Request[Any]) -> None:
        """Takes a question back that is not on its way yet."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None: ...

    def use_changed(self) -> None:
        """Somebody listens, or nobody does any more."""


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
        self._asked: Optional[Request[Any]] = None
        self._failures = 0

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
        self._owner.use_changed()

        def stop() -> None:
            unsubscribe()
            self._owner.use_changed()
            if not self.is_heard:
                # What nobody listens to is not kept up to date: the next listener asks again.
                self.detached()

        return stop

    async def update(self, info: Any) -> None:
        """Says what the others see of this user, at most 4,096 bytes of JSON. Raises `RequestError`."""
        await self._owner.request("presence.update", {"info": info})

    # For the room.

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return len(self._changes) > 0

    def attached(self) -> None:
        """The room was joined, or joined again: what was known may be old."""
        if self.is_heard and self._owner.is_joined:
            self._ask()

    def detached(self) -> None:
        self._failures = 0
        self._begin()

    def receive(self, told: PresenceMessage) -> None:
        if self.is_heard and self._take(told):
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

    def _begin(self) -> int:
        """Whatever was asked does not count any more; the number of the next question."""
        self._question += 1
        self._rev = None
        self._waiting = []
        if self._asked is not None:
            self._owner.withdraw(self._asked)
            self._asked = None
        return self._question

    def _ask(self) -> None:
        self._ask_page(self._begin(), [])

    def _ask_page(self, question: int, pages: List[MembersPage]) -> None:
        after = {"after": pages[-1].next} if pages else {}
        self._asked = self._owner.ask_members({**after, "limit": _PAGE})
        self._asked.on_settled(lambda answered: self._answered(question, pages, answered))

    def _ask_again(self, question: int) -> None:
        if question == self._question:
            self.attached()

    def _answered(self, question: int, pages: List[MembersPage], answered: Request[Any]) -> None:
        if question != self._question:
            return
        try:
            page = read_members(answered.result())
        except RequestError:
            # In a room that the client is still in, nobody else would ask.
            self._failures += 1
            wait_s = min(_RETRY_STEP_S * self._failures, _RETRY_MAX_S)
            return self._owner.call_later(wait_s, lambda: self._ask_again(question))
        pages.append(page)
        if page.next is not None:
            return self._ask_page(question, pages)
        self._members = {member.user: member.info for page in pages for member in page.members}
        self._count = None if self._members else pages[0].count
        # Later pages may be newer than the first. What has changed since is told all the same, as it is in the end.
        self._rev = pages[0].rev
        self._failures = 0
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            self._take(told)
        self._changes.tell(self._members)
