"""Requests that have no answer yet, in the order in which they were made. PROTOCOL.md §2, §3 and §7.

A request leaves it exactly once, when it settles.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Callable, Generator, Generic, List, Literal, Optional, Set, TypeVar

from .pace import Pace
from .protocol import Frame, encode, is_reserved

T = TypeVar("T")

GIVE_UP_AFTER_S = 120.0
"""How long a request may stay without an answer before it settles as unknown."""
_RETRY_STEP_S = 1.0
"""The wait before a retry when the server named none; it grows with every attempt of the request."""
_RETRY_MAX_S = 30.0
REQUESTS_MAX = 256
"""So many requests of the application may wait. One more fails with `queue_full`."""
REQUEST_BYTES_MAX = 4 * 1024 * 1024
"""With so many bytes."""


class RequestError(Exception):
    """Why a request failed.

    `code` is the server's error code, or `outcome_unknown` (no answer came in two minutes, or before the client was
    closed: it may have been served or not), `queue_full` or `closed`.
    """

    def __init__(self, code: str, message: str, pointer: Optional[str] = None) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.pointer = pointer
        """Where in `data` the fault is, for `schema`."""


class Request(Generic[T]):
    """The answer to come: await it. It is under way whether or not anybody does."""

    def __init__(self, id: str) -> None:
        self.id = id
        """The id under which it is asked: the `re` of the event that it leads to."""
        self._answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiters: List[asyncio.Future[None]] = []
        self._is_asked_for = False

    @property
    def is_settled(self) -> bool:
        """Whether the answer is there, or it is known that none comes."""
        return self._answer.done()

    def __await__(self) -> Generator[Any, None, T]:
        self._is_asked_for = True
        if not self._answer.done():
            # A future of its own: who stops waiting does not take the request back.
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            yield from waiter
        return self._answer.result()

    def on_settled(self, call: Callable[[Request[T]], None]) -> None:
        """Calls once the answer is there: with it, `result` no longer waits."""
        self._is_asked_for = True
        self._answer.add_done_callback(lambda _: call(self))

    def result(self) -> T:
        """The answer, or the `RequestError`, of what is settled."""
        return self._answer.result()

    def resolve(self, answer: T) -> None:
        self._answer.set_result(answer)
        self._wake()

    def reject(self, error: RequestError) -> None:
        self._answer.set_exception(error)
        if self._is_asked_for:
            # Who has asked and stopped waiting does not want to know.
            self._answer.exception()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


Purpose = Literal["application", "join", "rejoin", "question", "resume"]
"""Whose request it is, and what its ack means: the application's; its `room.join`; the client's own join after a hole; its
own question about a room, which changes nothing; its own `session.resume`, before which nothing else is sent."""


class Entry:
    """A request on its way."""

    def __init__(self, id: str, purpose: Purpose, event: str, room: Optional[str], data: Any, asked_at: float) -> None:
        self.id = id
        self.purpose = purpose
        self.event = event
        self.room = room
        self.data = data
        self.frame: Frame = encode(event, room, data, id)
        self.bytes = len(self.frame if isinstance(self.frame, bytes) else self.frame.encode())
        self.gives_up_at = asked_at + GIVE_UP_AFTER_S
        self.stage: Literal["unsent", "sent", "waits"] = "unsent"
        self.retry_at = math.inf
        """When it is sent again, while it waits: the server has refused it for now."""
        self.attempts = 0
        self.published_as: Optional[str] = None
        """The event that it led to came, its ack did not yet."""
        self.request: Request[Any] = Request(id)
        self.is_the_applications = purpose in ("application", "join")
        self.joins = purpose in ("join", "rejoin")
        """Whether it lets the client into a room."""
        self.moves = self.joins or event == "room.leave"
        """Whether it decides who is in a room."""
        if not self.is_the_applications:
            self.request.on_settled(lambda _: None)


class Outbox:
    def __init__(self) -> None:
        self.pace = Pace()
        self._entries: List[Entry] = []
        self._token_at = math.inf
        """When there is a token for what waits for one."""

    @property
    def unsettled(self) -> List[Entry]:
        """The application's own events, in the order in which they were made."""
        return [entry for entry in self._entries if entry.purpose == "application" and not is_reserved(entry.event)]

    def push(self, entry: Entry) -> None:
        """Puts a request in; raises `RequestError` if the application has too many in it."""
        if entry.is_the_applications:
            own = [other for other in self._entries if other.is_the_applications]
            if len(own) >= REQUESTS_MAX or sum(other.bytes for other in own) + entry.bytes > REQUEST_BYTES_MAX:
                raise RequestError("queue_full", "too many requests wait for the connection")
            self._entries.append(entry)
        elif entry.purpose == "resume":
            self._entries.insert(0, entry)
        else:
            # The client's own come first: what the application sends to a room needs the room to be joined.
            first = (index for index, other in enumerate(self._entries) if other.is_the_applications)
            self._entries.insert(next(first, len(self._entries)), entry)

    def get(self, id: str) -> Optional[Entry]:
        return next((entry for entry in self._entries if entry.id == id), None)

    def take(self, id: str) -> Optional[Entry]:
        """Takes a request out: whoever calls it settles it."""
        found = self.get(id)
        if found is not None:
            self._entries.remove(found)
        return found

    def withdraw(self, id: str) -> None:
        """Nobody wants to know any more: a request that is not on its way is never sent."""
        found = self.get(id)
        if found is not None and found.stage != "sent":
            self._entries.remove(found)

    @property
    def is_resuming(self) -> bool:
        """Whether a `session.resume` has no answer yet."""
        return bool(self._entries) and self._entries[0].purpose == "resume"

    def joins(self, room: str) -> bool:
        """Whether a join of this room is under way."""
        return any(entry.joins and entry.room == room for entry in self._entries)

    def leaves(self, room: str) -> bool:
        """Whether a leave of this room is under way."""
        return any(entry.event == "room.leave" and entry.room == room for entry in self._entries)

    def retry_later(self, entry: Entry, retry_after_ms: Optional[float], now: float) -> None:
        """The server refused it for now: the same goes again after a while, and nothing later to its room first."""
        entry.attempts += 1
        step_s = min(_RETRY_STEP_S * entry.attempts, _RETRY_MAX_S)
        wait_s = step_s if retry_after_ms is None else retry_after_ms / 1000
        entry.stage = "waits"
        entry.retry_at = now + min(wait_s, GIVE_UP_AFTER_S)

    def next_to_send(self, now: float, is_joined: Callable[[str], bool]) -> Optional[Entry]:
        """The next request to send, which counts as sent from here on. `is_joined` says which rooms the client is in."""
        self._come_due(now)
        self._token_at = math.inf
        held_rooms: Set[Optional[str]] = set()
        moving_rooms: Set[Optional[str]] = set()
        joining_rooms = {entry.room for entry in self._entries if entry.joins and not is_joined(entry.room or "")}
        for entry in self._entries:
            # What is asked of a room waits for the join that lets it in, also for one that was asked later: a room that was
            # joined on an earlier connection.
            if entry.stage == "unsent" and not entry.moves and entry.room in joining_rooms:
                continue
            # Joins and leaves of a room go one at a time: one that is refused for now and tried again would take effect
            # after what was asked later.
            is_behind = entry.moves and entry.room in moving_rooms
            if entry.moves:
                moving_rooms.add(entry.room)
            waits_for_its_room = entry.purpose in ("application", "question") and entry.room in held_rooms
            is_held = is_behind or waits_for_its_room
            if entry.stage == "unsent" and not is_held:
                if not self._may_go(entry, now):
                    # Whatever is behind it does not overtake it.
                    return None
                self.pace.take(now)
                entry.stage = "sent"
                return entry
            if entry.purpose == "resume":
                return None
            # What was refused for now goes again alone: what was asked later would take effect before it.
            was_refused = entry.attempts > 0 and entry.purpose != "question"
            if is_held or was_refused:
                held_rooms.add(entry.room)
        return None

    def _come_due(self, now: float) -> None:
        for entry in self._entries:
            if entry.stage == "waits" and entry.retry_at <= now:
                entry.stage = "unsent"

    def _may_go(self, entry: Entry, now: float) -> bool:
        """Whether the pace allows it. An answer makes place, or a token that comes."""
        if entry.purpose == "resume":
            return True
        if sum(other.stage == "sent" and other.purpose != "resume" for other in self._entries) >= self.pace.share:
            return False
        if self.pace.has_token(now):
            return True
        self._token_at = self.pace.next_token_at()
        return False

    def disconnected(self) -> List[Entry]:
        """The connection is gone: what has no answer goes again on the next one. The client's own do not, since a resume
        takes their place. What is known to be published comes back, to be settled."""
        self._token_at = math.inf
        self._entries = [entry for entry in self._entries if entry.is_the_applications]
        for entry in self._entries:
            if entry.stage == "sent":
                entry.stage = "unsent"
        return [entry for entry in self._entries if entry.published_as is not None]

    def overdue(self, now: float) -> List[Entry]:
        """The requests that have been without an answer for too long."""
        # Also while there is no connection: a deadline that has passed must not ring again and again.
        self._come_due(now)
        return [entry for entry in self._entries if now >= entry.gives_up_at]

    def next_deadline(self) -> float:
        """When something of it is due next; never is infinite."""
        deadline = self._token_at
        for entry in self._entries:
            due_at = min(entry.gives_up_at, entry.retry_at) if entry.stage == "waits" else entry.gives_up_at
            deadline = min(deadline, due_at)
        return deadline

    def take_all(self) -> List[Entry]:
        """Everything that is left, for settling all of it."""
        entries, self._entries = self._entries, []
        return entries
