"""The client: one connection at a time, the rooms that it follows, the requests that have no answer yet.

PROTOCOL.md §7 says what a client owes; the parts decide (`connection.py`, `room.py`, `outbox.py`), this joins them.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from collections import deque
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Type, Union
from urllib.parse import urlsplit

from .clock import Alarm, SystemClock
from .connection import Connection, ConnectionFailed, ConnectionFault, State, TokenProvider, World
from .cursor import Cursor, CursorStorage
from .listeners import Listeners, Unsubscribe
from .outbox import GIVE_UP_AFTER_S, Entry, Outbox, Purpose, Request, RequestError
from .pace import limit_of
from .protocol import (
    CURSOR_BYTES_MAX,
    Ack,
    Degraded,
    EpochChange,
    Event,
    Frame,
    LogMessage,
    Position,
    PresenceChange,
    PresenceChanges,
    PresenceCount,
    Refusal,
    Reset,
    RoomJoined,
    RoomLeft,
    ServerMessage,
    Skip,
    Welcome,
    encode,
    format_event_id,
    is_retryable,
    parse_cursor,
    read_joined,
)
from .room import Room
from .stream import RoomLost
from .websocket import ask, dial

SENDS_MAX = 256
"""So many frames may wait for the network before `send` has no place any more."""
_HOLD_TURNS = 3
"""For so many turns of the event loop what follows a join's ack waits: whoever waited for the join, in a task of its own
perhaps, gets his turn to listen."""


@dataclass(frozen=True)
class Unsettled:
    """A request whose answer nobody has yet: for showing what is under way."""

    id: str
    event: str
    room: Optional[str]
    data: Any
    request: Request[Any]


class Client:
    """A client of one user. It connects by itself, and again when a connection breaks.

        async with Client("wss://example.com/ws", token=fetch_token) as client:
            room = await client.join("chat:lobby", history=50)

    All of it belongs to the event loop in which it connects.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Union[str, TokenProvider, None] = None,
        cursor: Optional[CursorStorage] = None,
        ssl: Optional[SSLContext] = None,
        world: Optional[World] = None,
    ) -> None:
        """A client for a server's URL (`ws://…/ws`; `http://` is taken for it).

        `token` is one, or a function, plain or async, that is asked at every connect. `cursor` keeps how far each room
        was handled over a restart of the program, for one that keeps itself what it has made of the events before. `ssl` is for a
        `wss://` server that another authority certifies than those of the system:
        `ssl.create_default_context(cafile="ca.pem")`. `world` is for tests.

        Raises `ValueError` for a URL that is none, and what `cursor` raises.
        """
        self._world = world or World(
            SystemClock(), random.SystemRandom().random, partial(dial, ssl=ssl), partial(ask, ssl=ssl)
        )
        self._id_prefix = "".join(f"{int(self._world.random() * 2**32):08x}" for _ in range(2))
        self._ids_given = 0
        self._rooms: weakref.WeakValueDictionary[str, Room] = weakref.WeakValueDictionary()
        """Every room that somebody still has."""
        self._used_rooms: Dict[str, Room] = {}
        """Those that are in use: the client keeps them."""
        self._listeners: Dict[str, Listeners[Event[Any]]] = {}
        self._states: Listeners[State] = Listeners()
        self._told_state: State = "connecting"
        self._untold_states: Deque[State] = deque()
        self._degradations: Listeners[bool] = Listeners()
        self._server_rooms: Listeners[Room] = Listeners()
        self._is_degraded = False
        self._is_closed_by_us = False
        self._welcome: Optional[Welcome] = None
        self._is_ready = False
        """Whether there is a connection whose welcome has been handled: what is asked meanwhile goes behind the resume."""
        self._held: Optional[List[ServerMessage]] = None
        """What came after a join's ack, until the application had its chance to listen."""
        self._outbox = Outbox()
        self._alarm = Alarm(self._world.clock, self._tick)
        self._cursor = Cursor(cursor, self._world.clock, self._handled)
        socket_url = _socket_url(url)
        if ssl is not None and not socket_url.startswith("wss:"):
            raise ValueError(f"{url!r} is not encrypted, so ssl means nothing: write wss://")
        self._connection = Connection(socket_url, token, self._world, _ConnectionOwner(self))
        self._room_owner = _RoomOwner(self)

    @property
    def state(self) -> State:
        """`connecting`, `connected`, `reconnecting`, `refused` or `closed`."""
        return self._connection.state

    @property
    def fault(self) -> Optional[ConnectionFault]:
        """Why there is no connection, as far as is known; none while there is one."""
        return self._connection.fault

    @property
    def user(self) -> Optional[str]:
        """Who the server says we are; none before the first connection."""
        return None if self._welcome is None else self._welcome.user

    @property
    def limits(self) -> Mapping[str, Any]:
        """The server's limits, by name with unit: `binary_message_bytes`. Empty before the first connection."""
        return {} if self._welcome is None else self._welcome.limits

    @property
    def is_degraded(self) -> bool:
        """Whether the server says that what rooms are stored in is out of its reach: publishes wait, events come late."""
        return self._is_degraded

    @property
    def unsettled(self) -> List[Unsettled]:
        """The requests that have no answer yet, in the order in which they were made."""
        return [
            Unsettled(entry.id, entry.event, entry.room, entry.data, entry.request) for entry in self._outbox.unsettled
        ]

    async def __aenter__(self) -> Client:
        """Connects, and waits until it is connected, however often that has to be tried. Raises `ConnectionFailed` if the
        server refuses it or closes it for good."""
        self.connect()
        try:
            await self._connected()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        error_type: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.close()

    def connect(self) -> None:
        """Begins to connect and returns at once. `async with` does it too, and waits."""
        self._connection.start()

    def reconnect(self) -> None:
        """Connects now: after a refusal, with a token that is asked for anew, or instead of waiting for the backoff's end."""
        self._connection.reconnect()

    async def close(self) -> None:
        """Ends it for good: what has no answer fails with `outcome_unknown`."""
        if self.state != "closed":
            self._is_closed_by_us = True
            self._connection.close()
        await self._connection.wait_closed()

    def room(self, name: str) -> Room:
        """The room of this name, joined or not. Those that the server joins by itself need no `join`."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, self._room_owner)
        return room

    async def join(self, name: str, *, history: Optional[int] = None, after: Optional[str] = None) -> Room:
        """Joins a room: `Room.join`."""
        return await self.room(name).join(history=history, after=after)

    def on(self, event: str, listener: Callable[[Event[Any]], object]) -> Unsubscribe:
        """Calls `listener` with each event of this name that is for this user or connection alone."""
        return self._listeners.setdefault(event, Listeners()).add(listener)

    def on_state(self, listener: Callable[[State], object]) -> Unsubscribe:
        """Calls `listener` with the state, now and after each change."""
        unsubscribe = self._states.add(listener)
        # While others are told of a change, what is still to be told comes to this one too.
        listener(self._told_state)
        return unsubscribe

    def on_degraded(self, listener: Callable[[bool], object]) -> Unsubscribe:
        """Calls `listener` after each change of `is_degraded`."""
        return self._degradations.add(listener)

    def on_room(self, listener: Callable[[Room], object]) -> Unsubscribe:
        """Calls `listener` with each room that the server joins by itself, on connect or when the application joins this
        user to one, before its first event: listeners and streams that are opened there miss nothing. One that is joined
        again after a reconnect is not told again."""
        return self._server_rooms.add(listener)

    def request(self, event: str, data: Any = None) -> Request[Any]:
        """Sends an event without a room, and waits for its ack where it is awaited: `Room.request`."""
        return self._request(event, None, data, "application")

    def send(self, event: str, data: Any = None) -> bool:
        """Sends an event without a room that nobody waits for: `Room.send`."""
        return self._send(event, None, data)

    async def _connected(self) -> None:
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(state: State) -> None:
            if state in ("connected", "refused", "closed") and not connected.done():
                connected.set_result(None)

        unsubscribe = self.on_state(told)
        try:
            await connected
        finally:
            unsubscribe()
        if self.state in ("refused", "closed"):
            raise ConnectionFailed(self.state, self.fault)

    def _failure(self) -> Optional[Exception]:
        """Why nothing comes from any room, if nothing does until the application acts."""
        if self.state == "closed" and self._is_closed_by_us:
            return StopAsyncIteration()
        return ConnectionFailed(self.state, self.fault) if self.state in ("refused", "closed") else None

    def _next_id(self) -> str:
        self._ids_given += 1
        return f"{self._id_prefix}-{self._ids_given}"

    def _query(self) -> Dict[str, str]:
        query = {}
        if self._welcome is not None:
            query["session"] = self._welcome.session
        # No room attaches before our resume, so that a live event can't overtake it.
        if any(room.position for room in self._followed()):
            query["resume"] = "wait"
        # For the rooms that the server joins by itself; the others go on from their join.
        if self._welcome is None and (cursor := self._cursor.for_handshake()):
            query["last_event_id"] = cursor
        return query

    def _followed(self) -> List[Room]:
        return [room for room in self._used_rooms.values() if room.is_followed]

    def _handled(self) -> Mapping[str, Position]:
        positions = ((room.name, room.handled_position) for room in self._followed())
        return {name: position for name, position in positions if position is not None}

    def _request(self, event: str, room: Optional[str], data: Any, purpose: Purpose) -> Request[Any]:
        entry = Entry(self._next_id(), purpose, event, room, data, self._world.clock.now())
        try:
            if self.state == "closed":
                raise RequestError("closed", "the client is closed")
            self._outbox.push(entry)
        except RequestError as error:
            entry.request.reject(error)
        self._flush()
        return entry.request

    def _send(self, event: str, room: Optional[str], data: Any) -> bool:
        frame = encode(event, room, data)
        # Before the rooms are joined again nothing can be sent to them.
        if not self._is_ready or self._outbox.is_resuming or self._connection.waiting >= SENDS_MAX:
            return False
        fault = self._too_large(frame)
        if fault is not None:
            raise ValueError(fault)
        self._outbox.pace.take(self._world.clock.now())
        self._connection.send(frame)
        return True

    def _too_large(self, frame: Frame) -> Optional[str]:
        """Why the server would not take a frame of this size: it would close the connection, and close the next one for good."""
        name = "text_message_bytes" if isinstance(frame, str) else "binary_message_bytes"
        size = len(frame.encode() if isinstance(frame, str) else frame)
        bytes_max = limit_of(self.limits, name)
        return f"the message has {size} bytes, and the server's {name} is {bytes_max}" if size > bytes_max else None

    async def _join(self, room: Room, history: Optional[int], after: Optional[Position]) -> None:
        room.follow(after or self._cursor.get(room.name))
        data: Dict[str, Any] = {}
        if room.last_event_id is not None:
            data = {"last_event_id": room.last_event_id}
        elif history is not None:
            data = {"history": history}
        request = self._request("room.join", room.name, data, "join")
        if not request.is_settled:
            room.await_join(request.id)
        await request

    async def _leave(self, room: Room) -> None:
        if not room.is_followed:
            return
        room.forget()
        try:
            await self._request("room.leave", room.name, None, "application")
        except RequestError as error:
            # After a reconnect the server knows nothing of a room that was not joined again: that is what was wanted.
            if error.code != "not_joined":
                raise

    def _flush(self) -> None:
        """Sends what can be sent now."""
        while self._is_ready:
            entry = self._outbox.next_to_send(self._world.clock.now(), self._is_joined)
            if entry is None:
                break
            fault = self._too_large(entry.frame)
            if fault is None:
                self._connection.send(entry.frame)
            else:
                self._outbox.take(entry.id)
                entry.request.reject(RequestError("too_large", fault))
        self._alarm.set(self._outbox.next_deadline())

    def _tick(self) -> None:
        is_stuck = False
        for entry in self._outbox.overdue(self._world.clock.now()):
            if entry.purpose == "join":
                # A room that a later join is for awaits that one.
                for room in self._awaiting(entry.id):
                    room.unfollow(RoomLost(room.name, "outcome_unknown"))
            # A server that leaves the client's own joins unanswered for two minutes is not going to answer them.
            is_stuck = is_stuck or entry.purpose in ("rejoin", "resume")
            self._outbox.take(entry.id)
            entry.request.reject(_outcome_unknown())
        if is_stuck:
            self._connection.restart(f"the server left a join without an answer for {GIVE_UP_AFTER_S:.0f} s")
        self._flush()

    def _changed(self, state: State) -> None:
        if state == "closed":
            for entry in self._outbox.take_all():
                entry.request.reject(_outcome_unknown())
            self._cursor.save()
        if state in ("closed", "refused"):
            for room in list(self._rooms.values()):
                room.wake_streams()
        self._tell(state)

    def _tell(self, state: State) -> None:
        """Tells a state, after all that came before it: a listener that closes the client changes it in between."""
        self._untold_states.append(state)
        if len(self._untold_states) > 1:
            return
        while self._untold_states:
            self._told_state = self._untold_states[0]
            try:
                self._states.tell(self._told_state)
            finally:
                self._untold_states.popleft()

    def _is_joined(self, name: str) -> bool:
        room = self._used_rooms.get(name)
        return room is not None and room.is_joined

    def _lost(self) -> None:
        self._is_ready = False
        while self._held is not None:
            self._deliver_held()
        for room in self._followed():
            room.disconnected()
        for entry in self._outbox.disconnected():
            self._outbox.take(entry.id)
            entry.request.resolve({"event_id": entry.published_as})
        self._alarm.set(self._outbox.next_deadline())

    def _received(self, message: ServerMessage) -> None:
        if self._is_closed_by_us:
            # The application wants to hear no more, also of what came before it said so.
            return
        if self._held is not None:
            self._held.append(message)
            return
        if isinstance(message, Event):
            if message.room is not None:
                self._received_in_room(message.room, message)
            elif message.event in self._listeners:
                self._listeners[message.event].tell(message)
            self._settle_by_own_event(message)
        elif isinstance(message, (Skip, EpochChange, Reset)):
            self._received_in_room(message.id.rpartition("@")[0], message)
        elif isinstance(message, (PresenceChange, PresenceChanges, PresenceCount)):
            if message.room in self._used_rooms:
                self._used_rooms[message.room].receive_presence(message)
        elif isinstance(message, (RoomJoined, RoomLeft)):
            self._moved(self.room(message.room), message)
            self._flush()
        elif isinstance(message, Degraded):
            self._degraded(message.degraded)
        elif isinstance(message, Welcome):
            self._welcomed(message)
            self._flush()
        elif isinstance(message, Ack):
            self._acked(message.id, message.data)
            self._flush()
        elif isinstance(message, Refusal):
            self._refused(message)
            self._flush()

    def _received_in_room(self, name: str, message: LogMessage) -> None:
        room = self._used_rooms.get(name)
        if room is not None and room.receive(message) == "hole":
            room.await_join(self._rejoin(room, room.position))
            self._flush()

    def _welcomed(self, welcome: Welcome) -> None:
        self._welcome = welcome
        self._outbox.pace.welcomed(welcome.limits, self._world.clock.now())
        # A server whose stores are out of reach says so behind its welcome.
        self._degraded(False)
        known = self._followed()
        cursor = parse_cursor(welcome.last_event_id, bytes_max=None) or {}
        for name in welcome.rooms:
            # A listener may close the client, here and below: nothing is told or asked then.
            if self._is_closed_by_us:
                return
            # A leave that has no answer yet ends what the server has just begun.
            if self._outbox.leaves(name):
                continue
            room = self.room(name)
            room.follow(cursor.get(name))
            if room not in known:
                room.auto_joined()
                self._server_rooms.tell(room)
        if not self._is_closed_by_us:
            self._resume(known)
            self._is_ready = True

    def _moved(self, room: Room, message: Union[RoomJoined, RoomLeft]) -> None:
        """The application has joined this connection to a room, or taken it out of one."""
        # What we have asked about the room and has no answer yet comes later, and decides.
        if room.is_being_joined or self._outbox.leaves(room.name):
            return
        if isinstance(message, RoomJoined):
            room.follow(self._cursor.get(room.name))
            if not room.joined_by_server(self._next_id(), message.joined):
                # What has come since it was here before is asked for.
                room.await_join(self._rejoin(room, room.position))
            if not self._is_closed_by_us:
                self._server_rooms.tell(room)
        elif room.is_followed and is_retryable(message.reason):
            room.disconnected()
            room.await_join(self._rejoin(room, room.position))
        elif room.is_followed:
            room.forget(message.reason)

    def _degraded(self, degraded: bool) -> None:
        if degraded != self._is_degraded:
            self._is_degraded = degraded
            self._degradations.tell(degraded)

    def _resume(self, known: List[Room]) -> None:
        """Asks for every room that was known before the welcome, where it is. What does not fit is joined room by room."""
        id = self._next_id()
        ids: List[str] = []
        size = 0
        for room in known:
            # The application's own join of the room is sent again, which does the same.
            if self._outbox.joins(room.name):
                continue
            event_id = room.last_event_id
            size += 0 if event_id is None else len(event_id) + 1
            if event_id is not None and size <= CURSOR_BYTES_MAX:
                room.await_join(id)
                ids.append(event_id)
            else:
                room.await_join(self._rejoin(room, room.position))
        if ids:
            data = {"last_event_id": ",".join(ids)}
            self._outbox.push(Entry(id, "resume", "session.resume", None, data, self._world.clock.now()))

    def _rejoin(self, room: Room, position: Optional[Position]) -> str:
        """Joins a followed room again, at a position; the request's id."""
        data = {} if position is None else {"last_event_id": format_event_id(room.name, position)}
        entry = Entry(self._next_id(), "rejoin", "room.join", room.name, data, self._world.clock.now())
        self._outbox.push(entry)
        return entry.id

    def _acked(self, id: str, data: Any) -> None:
        entry = self._outbox.take(id)
        if entry is None:
            return
        if entry.purpose in ("join", "rejoin"):
            joined = read_joined(data)
            if joined is not None:
                self.room(entry.room or "").attached(id, joined)
        elif entry.purpose == "resume":
            rooms = data.get("rooms") if isinstance(data, dict) else None
            for name, outcome in rooms.items() if isinstance(rooms, dict) else ():
                joined = read_joined(outcome)
                room = self._used_rooms.get(name)
                if self._is_closed_by_us or room is None:
                    continue
                if joined is not None:
                    room.attached(id, joined)
                else:
                    code = outcome.get("error") if isinstance(outcome, dict) else None
                    self._refused_room(room, id, str(code))
        # An answer that says nothing of a room, or nothing that can be read, has not joined it.
        for room in self._awaiting(id):
            self._refused_room(room, id, "other")
        entry.request.resolve(data)
        if entry.purpose == "join":
            self._hold()

    def _refused(self, refusal: Refusal) -> None:
        entry = None if refusal.id is None else self._outbox.get(refusal.id)
        if entry is None:
            return
        if is_retryable(refusal.code):
            self._outbox.retry_later(entry, refusal.retry_after_ms, self._world.clock.now())
            return
        self._outbox.take(entry.id)
        for room in self._awaiting(entry.id):
            # Room by room, so that each has its own answer.
            if entry.purpose == "resume":
                room.await_join(self._rejoin(room, room.position))
            elif entry.purpose == "join":
                room.forget()
            else:
                self._refused_room(room, entry.id, refusal.code)
        entry.request.reject(RequestError(refusal.code, refusal.message, refusal.pointer))

    def _refused_room(self, room: Room, id: str, code: str) -> None:
        """A room that the client followed was not joined again by the request with this id."""
        if self._is_closed_by_us or not room.is_awaiting(id):
            return
        if is_retryable(code):
            room.await_join(self._rejoin(room, room.position))
        else:
            room.forget(code)

    def _awaiting(self, id: str) -> List[Room]:
        return [room for room in self._used_rooms.values() if room.is_awaiting(id)]

    def _settle_by_own_event(self, event: Event[Any]) -> None:
        """An event that this client caused answers its request, also in a replay after the ack was lost."""
        if event.from_ is None or event.from_ != self.user or event.re is None or event.id is None:
            return
        entry = self._outbox.get(event.re)
        if entry is None or entry.purpose != "application":
            return
        if entry.stage == "sent":
            # An ack is still to come on the connection that the request went over, and may say more.
            entry.published_as = event.id
        else:
            self._outbox.take(entry.id)
            entry.request.resolve({"event_id": event.id})
            self._flush()

    def _hold(self) -> None:
        """Several messages may come at once: who waited for the join gets his turn before the next."""
        self._held = self._held or []
        self._release(_HOLD_TURNS)

    def _release(self, turns: int) -> None:
        if turns > 0:
            self._world.clock.call_later(0, lambda: self._release(turns - 1))
        elif self._held is not None:
            self._deliver_held()

    def _deliver_held(self) -> None:
        """A join's ack among them holds the rest back again."""
        messages, self._held = self._held or [], None
        for message in messages:
            self._received(message)


class _ConnectionOwner:
    """What the connection needs of the client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.query = client._query
        self.message = client._received
        self.lost = client._lost
        self.changed = client._changed

    def heartbeat(self) -> Frame:
        self._client._outbox.pace.take(self._client._world.clock.now())
        return encode("presence.heartbeat")


class _RoomOwner:
    """What rooms need of the client."""

    def __init__(self, client: Client) -> None:
        self.join = client._join
        self.leave = client._leave
        self._client = client
        self.failure = client._failure
        self.handled = client._cursor.moved
        self.send = client._send

    def rejoin(self, room: Room, position: Position) -> str:
        id = self._client._rejoin(room, position)
        self._client._flush()
        return id

    def request(self, event: str, room: str, data: Any) -> Request[Any]:
        return self._client._request(event, room, data, "application")

    def ask(self, event: str, room: str, data: Any) -> Request[Any]:
        return self._client._request(event, room, data, "question")

    def forgotten(self, room: Room) -> None:
        self._client._cursor.forget(room.name)

    def use_changed(self, room: Room) -> None:
        if room.is_in_use:
            self._client._used_rooms[room.name] = room
        else:
            self._client._used_rooms.pop(room.name, None)

    def withdraw(self, request: Request[Any]) -> None:
        self._client._outbox.withdraw(request.id)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._client._world.clock.call_later(delay_s, call)


def _outcome_unknown() -> RequestError:
    return RequestError("outcome_unknown", "no answer came: it may have been served or not")


def _socket_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    if scheme not in ("ws", "wss") or not urlsplit(url).hostname:
        raise ValueError(f"{url!r} is no URL of a server: ws://HOST/ws")
    return f"{scheme}{separator}{rest}"
