"""One room as a client sees it: where it stands in the room's log, and who listens.

It sends nothing by itself.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Dict, Optional, Protocol, TypeVar, Union

from .listeners import Listeners, Unsubscribe
from .outbox import Request
from .positions import Decision, is_old_reset, judge
from .presence import Presence
from .protocol import (
    Event,
    HistoryPage,
    Joined,
    LogMessage,
    MembersPage,
    Position,
    PresenceMessage,
    Reset,
    format_event_id,
    parse_event_id,
    read_history,
    read_members,
)
from .stream import RoomEvents, RoomLost, furthest_back

T = TypeVar("T")


@dataclass(frozen=True)
class CaughtUp:
    """What was missed has come."""

    events: int
    """How many events."""
    recovery: str
    """`complete`: all of them; `gap`: a reset told what is missing; `fresh`: the room was joined for the first time."""


@dataclass
class _Replay:
    until: Position
    recovery: str
    events: int = 0


class RoomOwner(Protocol):
    """What a room needs of its client."""

    def join(self, room: Room, history: Optional[int], after: Optional[Position]) -> Awaitable[None]: ...

    def leave(self, room: Room) -> Awaitable[None]: ...

    def request(self, event: str, room: str, data: Any) -> Request[Any]: ...

    def send(self, event: str, room: str, data: Any) -> bool: ...

    def ask(self, event: str, room: str, data: Any) -> Request[Any]:
        """The client's own question about a room."""
        ...

    def withdraw(self, request: Request[Any]) -> None:
        """Takes a question back that is not on its way yet."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None: ...

    def rejoin(self, room: Room, position: Position) -> str:
        """Joins a followed room again, at a position; the request's id."""
        ...

    def failure(self) -> Optional[Exception]:
        """Why nothing comes, if nothing does until the application acts."""
        ...

    def handled(self) -> None:
        """The application has handled something, or there was nothing for it to handle."""

    def forgotten(self, room: Room) -> None:
        """The room's position counts no more."""

    def use_changed(self, room: Room) -> None:
        """Whether the room is in use may have changed."""


class Room:
    """A room. Listeners that are there before the room is joined miss nothing.

    `async for event in room` gives the room's events from the join on, each once and in order, to one reader; a loop that
    is left and begun again goes on with the next event. See `events` for more readers, and for resets.
    """

    def __init__(self, name: str, owner: RoomOwner) -> None:
        self.name = name
        self.presence = Presence(self)
        """Who is here, as a live map. It asks the server from the first listener on."""
        self._owner = owner
        self._listeners: Dict[str, Listeners[Event[Any]]] = {}
        self._every_event: Listeners[Event[Any]] = Listeners()
        self._resets: Listeners[Reset] = Listeners()
        self._caught_up: Listeners[CaughtUp] = Listeners()
        self._lost: Listeners[str] = Listeners()
        self._is_followed = False
        self._is_joined = False
        self._position: Optional[Position] = None
        self._awaits: Optional[str] = None
        """The join or resume under way, which fills what is missing."""
        self._catches_up: Optional[str] = None
        """The join under way that brings again what streams have let go."""
        self._replay: Optional[_Replay] = None
        """Where the replay that is under way ends."""
        self._own_stream: Optional[RoomEvents] = None
        self._streams: weakref.WeakSet[RoomEvents] = weakref.WeakSet()

    @property
    def is_joined(self) -> bool:
        """Whether the server has this connection in the room now."""
        return self._is_joined

    @property
    def last_event_id(self) -> Optional[str]:
        """The id of the newest event that came; none before the room is joined."""
        return None if self._position is None else format_event_id(self.name, self._position)

    async def join(self, *, history: Optional[int] = None, after: Optional[str] = None) -> Room:
        """Joins the room, with so many of its last events, or with all that came after an event.

        A room where this client stands somewhere already goes on there: after a reconnect, or from what the client's `cursor`
        has stored. Raises `RequestError`, and `ValueError` if `after` is no event of this room.
        """
        position = None
        if after is not None:
            event_id = parse_event_id(after)
            if event_id is None or event_id[0] != self.name:
                raise ValueError(f"{after!r} is no event of the room {self.name}")
            position = event_id[1]
        # Before it is sent, so that the first loop misses nothing, however late it begins.
        if self._own_stream is None or self._own_stream.is_ended:
            self._own_stream = self.events()
        await self._owner.join(self, history, position)
        return self

    async def leave(self) -> None:
        """Leaves the room. Raises `RequestError`."""
        await self._owner.leave(self)

    def on(self, event: str, listener: Callable[[Event[Any]], object]) -> Unsubscribe:
        """Calls `listener` with each event of this name, once and in order."""
        return self._listen(self._listeners.setdefault(event, Listeners()), listener)

    def on_event(self, listener: Callable[[Event[Any]], object]) -> Unsubscribe:
        """Calls `listener` with each event of the room."""
        return self._listen(self._every_event, listener)

    def on_reset(self, listener: Callable[[Reset], object]) -> Unsubscribe:
        """What was known of the room counts no more: clear it, take `state` if there is one. Events follow from there."""
        return self._listen(self._resets, listener)

    def on_caught_up(self, listener: Callable[[CaughtUp], object]) -> Unsubscribe:
        """What was missed has come, and from here on events are live."""
        return self._listen(self._caught_up, listener)

    def on_lost(self, listener: Callable[[str], object]) -> Unsubscribe:
        """The client does not follow the room any more: it could not be joined again, with the server's error code, or the
        application has taken this connection out of it (`removed`; `forbidden` by a refreshed token)."""
        return self._listen(self._lost, listener)

    def events(self, *, on_reset: Optional[Callable[[Reset], object]] = None) -> RoomEvents:
        """A stream of its own: the room's events from now on, or from the join on if it is opened before.

        `on_reset` is called where the reset stands among the events: after those that it makes void, before those that
        follow. What a stream has no place for (1,024 events) is asked for again when there is some: a slow reader misses
        nothing that the server still has, and what it has no more is a reset. Ephemeral events are not sent again.
        """
        stream = RoomEvents(self, self._position, on_reset)
        self._streams.add(stream)
        return stream

    def __aiter__(self) -> RoomEvents:
        if self._own_stream is None:
            self._own_stream = self.events()
        return self._own_stream

    def request(self, event: str, data: Any = None) -> Request[Any]:
        """Sends an event now, and waits for its ack where it is awaited; it counts once, whatever the network does.

        `data` is JSON, or bytes. Raises `RequestError` where it is awaited; `TypeError` or `ValueError` at once for what
        is no JSON.
        """
        return self._owner.request(event, self.name, data)

    def send(self, event: str, data: Any = None) -> bool:
        """Sends an event that nobody waits for (typing, cursors); false if there is no connection that takes it. Raises
        `ValueError` for more than the server takes in one message (`Client.limits`), too."""
        return self._owner.send(event, self.name, data)

    async def members(self, *, after: Optional[str] = None, limit: Optional[int] = None) -> MembersPage:
        """A page of the room's members: those after a user, so many at most."""
        return read_members(await self.request("room.members", _page(after=after, limit=limit)))

    async def history(self, *, before: Optional[str] = None, limit: Optional[int] = None) -> HistoryPage:
        """A page of stored events, those before an event id; `next` is the `before` of the page before."""
        return read_history(await self.request("room.history", _page(before=before, limit=limit)))

    def _listen(self, listeners: Listeners[T], listener: Callable[[T], object]) -> Unsubscribe:
        unsubscribe = listeners.add(listener)
        self.use_changed()

        def stop() -> None:
            unsubscribe()
            self.use_changed()

        return stop

    # For the client, presence and streams.

    @property
    def is_in_use(self) -> bool:
        """Whether the client has to keep it also if nobody else does."""
        listeners = (len(self._every_event), len(self._resets), len(self._caught_up), len(self._lost))
        is_heard = self.presence.is_heard or any(listeners) or any(map(len, self._listeners.values()))
        return self._is_followed or self._position is not None or is_heard

    def use_changed(self) -> None:
        self._owner.use_changed(self)

    @property
    def is_followed(self) -> bool:
        return self._is_followed

    @property
    def position(self) -> Optional[Position]:
        return self._position

    @property
    def handled_position(self) -> Optional[Position]:
        """Everything up to here has been handled by the application."""
        return None if self._position is None else furthest_back(list(self._streams), self._position)

    def follow(self, position: Optional[Position]) -> None:
        """Follows the room from now on, from `position` if it has none of its own."""
        self._is_followed = True
        self._position = self._position or position
        self.use_changed()

    def unfollow(self, why: Optional[Exception]) -> None:
        """Follows the room no longer, and keeps where it was: nobody knows whether a join of it was served, and a later
        one goes on there. Who reads it by a loop is told why."""
        self._is_followed = self._is_joined = False
        self._awaits = self._catches_up = self._replay = None
        self.presence.detached()
        self.end_streams(why)
        self.use_changed()

    def forget(self, code: Optional[str] = None) -> None:
        """Follows the room no longer, and knows nothing of it; `code` says why if it was not the application's wish."""
        self.unfollow(None if code is None else RoomLost(self.name, code))
        self._position = None
        self._owner.forgotten(self)
        self.use_changed()
        if code is not None:
            self._lost.tell(code)

    def end_streams(self, why: Optional[Exception]) -> None:
        for stream in list(self._streams):
            stream.end(why)

    def wake_streams(self) -> None:
        """There may be a reason why nothing comes."""
        for stream in list(self._streams):
            stream.wake()

    def disconnected(self) -> None:
        """The connection is gone, or out of the room. A join that has no answer is sent again and still awaited."""
        self._is_joined = False
        self._catches_up = None
        self.presence.detached()

    def await_join(self, request_id: str) -> None:
        """Until `attached`, what does not fit is dropped and no further hole."""
        if self._is_followed:
            self._awaits = request_id

    @property
    def is_being_joined(self) -> bool:
        """Whether a join or a resume of it has no answer yet."""
        return self._awaits is not None or self._catches_up is not None

    def is_awaiting(self, request_id: str) -> bool:
        return request_id in (self._awaits, self._catches_up)

    def attached(self, request_id: str, joined: Joined) -> None:
        """Takes over a join's result. What follows it starts at `last_event_id`; a client that is further drops the
        beginning, and after a gap a `room.reset` moves it."""
        if request_id == self._catches_up:
            self._catches_up = None
            start = parse_event_id(joined.last_event_id or "")
            if start is not None and any(stream.wants_before(start[1]) for stream in list(self._streams)):
                # It has asked for more since this was sent.
                self.catch_up()
        elif request_id == self._awaits:
            self._awaits = None
            self._is_joined = True
            self._start(joined)
            self.presence.attached()
            self._check_replay()
            self.catch_up()
            self._owner.handled()

    def _start(self, joined: Joined) -> None:
        start, top = (parse_event_id(id or "") for id in (joined.last_event_id, joined.top))
        last = self._position
        if joined.recovery == "fresh":
            begin = start or top
            # Older events that were asked for are not applied a second time.
            is_further = last and begin and last.epoch == begin[1].epoch and last.offset >= begin[1].offset
            if begin and not is_further:
                self._position = begin[1]
        elif joined.recovery == "complete" and start:
            self._position = last or start[1]
        if top:
            self._replay = _Replay(top[1], joined.recovery)

    def auto_joined(self) -> None:
        """The room was joined by the server itself, at the connection's start."""
        self._reopen()
        self._is_joined = True
        self.presence.attached()

    def joined_by_server(self, request_id: str, joined: Joined) -> bool:
        """The application has joined this connection to the room: takes that over as a join's result. False if the room
        was known before and stands elsewhere."""
        self._reopen()
        if self.last_event_id not in (None, joined.last_event_id):
            return False
        self.await_join(request_id)
        self.attached(request_id, joined)
        return True

    def _reopen(self) -> None:
        """Who has read the room by a loop before it was lost reads on by another one."""
        if self._own_stream is not None and self._own_stream.is_ended:
            self._own_stream = self.events()

    def receive(self, message: LogMessage) -> Decision:
        """Decides about a message of this room, moves the position that it moves, and tells who listens."""
        if not self._is_followed:
            return "drop"
        before = self._position
        decision = self._judge(message)
        if decision == "accept" and isinstance(message, Event):
            if message.event in self._listeners:
                self._listeners[message.event].tell(message)
            self._every_event.tell(message)
            if self._replay is not None and message.id is not None:
                self._replay.events += 1
        elif decision == "reset" and isinstance(message, Reset):
            self._resets.tell(message)
        if decision == "hole":
            # The join that follows is what streams wait for too.
            return decision
        for stream in list(self._streams):
            stream.take(message, decision, before)
        if decision != "drop":
            self._check_replay()
        if self._position != before:
            self._owner.handled()
        return decision

    def ask_members(self, data: Any) -> Request[Any]:
        return self._owner.ask("room.members", self.name, data)

    def withdraw(self, request: Request[Any]) -> None:
        self._owner.withdraw(request)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._owner.call_later(delay_s, call)

    def receive_presence(self, message: PresenceMessage) -> None:
        if self._is_followed:
            self.presence.receive(message)

    def _judge(self, message: LogMessage) -> Decision:
        if isinstance(message, Reset) and self._is_catching_up() and is_old_reset(self._position, message):
            return "drop"
        decision, self._position = judge(self._position, message)
        # With a join under way it is known that something is missing, and what does not fit is only dropped.
        return "drop" if decision == "hole" and self._awaits is not None else decision

    def _check_replay(self) -> None:
        replay, last = self._replay, self._position
        if replay is None or self._awaits is not None or last is None or last.epoch != replay.until.epoch:
            return
        if last.offset >= replay.until.offset:
            self._replay = None
            self._caught_up.tell(CaughtUp(replay.events, replay.recovery))

    def _is_catching_up(self) -> bool:
        return any(stream.wants_from is not None for stream in self._streams)

    def catch_up(self) -> None:
        """Joins the room again where the stream stands that is furthest back of those that want it. One at a time: the
        others find what they want in it, or ask again. What is new goes first: not while the room itself is replayed."""
        if not self._is_joined or self._awaits is not None or self._catches_up is not None or self._is_replaying():
            return
        wanted = [
            position for position in (stream.wants_from for stream in list(self._streams)) if position is not None
        ]
        if wanted:
            self._catches_up = self._owner.rejoin(self, min(wanted, key=lambda position: position.offset))

    def _is_replaying(self) -> bool:
        replay, last = self._replay, self._position
        if replay is None or last is None:
            return False
        return last.epoch == replay.until.epoch and last.offset < replay.until.offset

    def failure(self) -> Optional[Exception]:
        return self._owner.failure()

    def handled(self) -> None:
        self._owner.handled()


def _page(**fields: Union[str, int, None]) -> Dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
