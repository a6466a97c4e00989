"""A room's events one after the other, for `async for`: each once and in order, however slowly they are taken.

It holds a bounded number of events. What has no place is let go, since the server has it: once there is place again, the
client asks for what follows the last event that it held. So a slow reader holds up nobody, and nothing is missing; where
the server has it no more, a reset says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Callable, Deque, Literal, Optional, Protocol, Union

from .positions import Decision, earlier, judge
from .protocol import Event, LogMessage, Position, Reset, parse_event_id

EVENTS_MAX = 1024
"""So many events wait for their reader. More are asked for again when half of them have been taken."""


class RoomLost(Exception):
    """The room could not be joined again, or the application took the client out of it (`code`): the client does not follow it
    any more. `outcome_unknown`: a join of it had no answer."""

    def __init__(self, room: str, code: str) -> None:
        super().__init__(f"{room}: {code}")
        self.room = room
        self.code = code


class StreamOwner(Protocol):
    """What a stream needs of its room."""

    @property
    def position(self) -> Optional[Position]: ...

    def catch_up(self) -> None:
        """A stream wants what follows its position."""

    def failure(self) -> Optional[Exception]:
        """Why nothing comes, if nothing does until the application acts."""
        ...

    def handled(self) -> None:
        """The application has handled an event."""


class RoomEvents:
    """What comes from a room, from some moment on: `async for event in events`.

    It ends when the room is left or the client closed, and raises `RoomLost` or `ConnectionFailed` where that was nobody's
    wish. An event counts as handled when the next one is asked for.
    """

    def __init__(
        self,
        owner: StreamOwner,
        position: Optional[Position],
        on_reset: Optional[Callable[[Reset], object]] = None,
    ) -> None:
        self._owner = owner
        self._on_reset = on_reset
        self._items: Deque[Union[Event[Any], Reset]] = deque()
        # Live: it stands where the room does. Behind: it had no place, and waits for its reader. Catching up: it is told
        # again what it has let go, up to where the room is.
        self._mode: Literal["live", "behind", "catching_up"] = "live"
        self._position = position
        self._handled = position
        self._in_hand: Union[Event[Any], Reset, None] = None
        self._waiter: Optional[asyncio.Future[None]] = None
        self._end: Union[Exception, bool] = False
        self.is_started = False
        """Whether somebody has asked for an event: before, what it holds is nobody's yet."""

    @property
    def is_ended(self) -> bool:
        return self._end is not False

    @property
    def wants_from(self) -> Optional[Position]:
        """What it wants to be told again is what follows this position; none if it wants nothing."""
        return self._position if self._mode == "catching_up" else None

    def wants_before(self, start: Position) -> bool:
        """Whether it wants to be told again what came before this position."""
        wanted = self.wants_from
        return wanted is not None and wanted != start and earlier(wanted, start, start.epoch) == wanted

    @property
    def handled(self) -> Optional[Position]:
        """Everything up to here has been handled."""
        if self._items or self._in_hand is not None:
            return self._handled
        return self._owner.position if self._mode == "live" else self._position

    def __aiter__(self) -> RoomEvents:
        return self

    async def __anext__(self) -> Event[Any]:
        self.is_started = True
        self._settle()
        while True:
            while self._items:
                item = self._in_hand = self._items.popleft()
                self._refill()
                if isinstance(item, Event):
                    return item
                if self._on_reset is not None:
                    self._on_reset(item)
                self._settle()
            self._refill()
            if isinstance(self._end, Exception):
                raise self._end
            if self._end:
                raise StopAsyncIteration
            failure = self._owner.failure()
            if failure is not None:
                raise failure
            if self._waiter is not None:
                raise RuntimeError("somebody waits for the next event already: open another stream by room.events()")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """Ends it: nothing is kept for it any more, and what it held counts as handled."""
        self._items.clear()
        self._in_hand = None
        self._mode = "live"
        self.end(None)

    def take(self, message: LogMessage, decision: Decision, before: Optional[Position]) -> None:
        """Takes what the room was told; `before` is where the room stood, `decision` what it made of it."""
        if self._mode == "behind" or self.is_ended:
            return
        if self._mode == "live":
            if decision in ("accept", "reset"):
                self._put(message, before)
            return
        if message.id is None:
            # An ephemeral event, in the middle of old ones: it may be lost, and nobody is told so.
            return
        stood = self._position
        decision, self._position = judge(stood, message)
        if decision in ("accept", "reset"):
            self._put(message, stood)
        elif decision == "hole":
            self._owner.catch_up()
        if self._mode == "catching_up" and self._position == self._owner.position:
            self._mode = "live"

    def wake(self) -> None:
        """Something has changed for who waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self, why: Optional[Exception]) -> None:
        """Nothing comes after what it holds."""
        if not self.is_ended:
            self._end = why or True
            self.wake()

    def _put(self, message: LogMessage, stood: Optional[Position]) -> None:
        if not isinstance(message, (Event, Reset)):
            return
        # Without a position nothing could be asked for again: a reset is the first thing there is.
        if len(self._items) >= EVENTS_MAX and stood is not None:
            if message.id is not None:
                self._mode, self._position = "behind", stood
                if not self.is_started:
                    # Nobody may ever come: what was kept for him is asked for if he does.
                    self._items.clear()
                    self._position = self._handled
            return
        if not self._items and self._in_hand is None:
            self._handled = stood
        self._items.append(message)
        self.wake()

    def _refill(self) -> None:
        if self._mode == "behind" and len(self._items) <= EVENTS_MAX // 2:
            self._mode = "catching_up"
            self._owner.catch_up()

    def _settle(self) -> None:
        """What was handed out is handled: the next one is asked for."""
        item, self._in_hand = self._in_hand, None
        if item is None or item.id is None:
            return
        event_id = parse_event_id(item.id)
        if event_id is not None:
            self._handled = event_id[1]
        self._owner.handled()


def furthest_back(streams: list[RoomEvents], position: Position) -> Position:
    """Where the slowest of those who read stands, none of whom is further than `position`."""
    for stream in streams:
        handled = stream.handled
        if stream.is_started and handled is not None:
            position = earlier(position, handled, position.epoch)
    return position
