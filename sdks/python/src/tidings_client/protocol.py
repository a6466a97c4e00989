"""What the two sides say to each other, and how that stands on the wire: PROTOCOL.md §2, §3, §4 and §6.

It has no state. Whatever comes from a server is checked here, so that the rest can rely on its types.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Generic, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypedDict, TypeVar, Union

T = TypeVar("T")

Frame = Union[str, bytes]
"""A text frame, or a binary one."""


class Position(NamedTuple):
    """Where a room's log stands: `epoch.offset` of an event id."""

    epoch: str
    offset: int


@dataclass(frozen=True)
class Event(Generic[T]):
    """An event of an application, as it came."""

    event: str
    """Its name."""
    room: Optional[str]
    """The room that it was published to; none if it was sent to this user or connection alone."""
    data: T
    """The JSON value, or the payload of a binary frame as `bytes`."""
    id: Optional[str] = None
    """`room@epoch.offset`; none for what has no place in a log (ephemeral events, events to one user)."""
    from_: Optional[str] = None
    """The user who caused it; none if the application did."""
    at: Optional[int] = None
    """When it was published, in milliseconds since 1970 by the server's clock."""
    re: Optional[str] = None
    """The id of the request that caused it: with `from_`, the key by which it answers a request."""


@dataclass(frozen=True)
class Reset:
    """Something was lost, or may have been: what was known of the room counts no more."""

    id: str
    """The event id from which on the events follow."""
    reason: str
    """`expired`, `forked`, `no_position`, `unknown_epoch`, `too_far`; or `other`, since a newer server may have more."""
    lost: Optional[Tuple[int, int]]
    """The first and the last offset that can't be told any more; none across unrelated logs."""
    has_state: bool = False
    """Whether the application gives the room's state: null is one too."""
    state: Any = None
    """The room's state, if there is one."""


@dataclass(frozen=True)
class Member:
    """Somebody in a room."""

    user: str
    info: Any = None
    """What the user last said of himself by `presence.update`; none if nothing."""


@dataclass(frozen=True)
class MembersPage:
    """A page of a room's members: sorted by user."""

    members: Sequence[Member]
    rev: int
    """The revision of the room's presence that it belongs to."""
    count: Optional[int]
    """How many users are in the room: where nobody is told who, all that a page says."""
    next: Optional[str]
    """The `after` of the page that follows; none for the last one."""


@dataclass(frozen=True)
class HistoryPage:
    """A page of a room's stored events, oldest first."""

    events: Sequence[Event[Any]]
    next: Optional[str]
    """The `before` of the page before; none if there is nothing older."""


class Published(TypedDict):
    """What the ack of a publish says; a handler of the application's may say something else."""

    event_id: str
    duplicate: bool


@dataclass(frozen=True)
class Joined:
    """The result of a `room.join`."""

    recovery: str
    """`fresh`, `complete` or `gap`."""
    last_event_id: Optional[str]
    """The position before the first event that follows; none after a gap without a position."""
    top: str
    members: Optional[int] = None
    """How many users are in the room."""


@dataclass(frozen=True)
class Ack:
    id: str
    data: Any


@dataclass(frozen=True)
class Refusal:
    """An `error`: why something was not done."""

    id: Optional[str]
    """The request's; none if what was refused had no id that could be read."""
    code: str
    message: str
    retry_after_ms: Optional[float]
    pointer: Optional[str]
    """Where in `data` the fault is, for `schema`."""


@dataclass(frozen=True)
class Welcome:
    session: str
    user: str
    rooms: Sequence[str]
    last_event_id: str
    limits: Mapping[str, Any]
    features: Sequence[str]


@dataclass(frozen=True)
class PresenceChange:
    """`presence.join`, `presence.update` and `presence.leave`."""

    change: str
    room: str
    user: str
    info: Any
    rev: int


@dataclass(frozen=True)
class PresenceChanges:
    room: str
    joins: Sequence[Member]
    updates: Sequence[Member]
    leaves: Sequence[str]
    from_: int
    rev: int


@dataclass(frozen=True)
class PresenceCount:
    room: str
    members: int
    rev: int


@dataclass(frozen=True)
class Skip:
    id: str
    from_: int
    reason: str


@dataclass(frozen=True)
class EpochChange:
    id: str
    was: str


@dataclass(frozen=True)
class RoomJoined:
    """The application has joined this connection to a room."""

    room: str
    joined: Joined


@dataclass(frozen=True)
class RoomLeft:
    """This connection was taken out of a room."""

    room: str
    reason: str
    """`removed` by the application; `forbidden` by a refreshed token, or `unavailable` when that could not be found out."""


@dataclass(frozen=True)
class Checkpoint:
    last_event_id: str


@dataclass(frozen=True)
class Reconnect:
    after_ms: float
    within_ms: float
    reason: str


@dataclass(frozen=True)
class Degraded:
    degraded: bool


@dataclass(frozen=True)
class Unknown:
    """An event of the protocol's that this version does not know: it is ignored."""

    event: str


@dataclass(frozen=True)
class Invalid:
    """What no server should send."""


PresenceMessage = Union[PresenceChange, PresenceChanges, PresenceCount]
LogMessage = Union["Event[Any]", Skip, EpochChange, Reset]
"""What a room's log brings."""
ServerMessage = Union[
    LogMessage,
    PresenceMessage,
    Ack,
    Refusal,
    Welcome,
    RoomJoined,
    RoomLeft,
    Checkpoint,
    Reconnect,
    Degraded,
    Unknown,
    Invalid,
]

OFFSET_MAX = 2**53 - 1
CURSOR_BYTES_MAX = 4096
"""A cursor in a handshake or a `session.resume` has so many bytes at most."""

_EVENT_ID = re.compile(r"([A-Za-z0-9_.:-]{1,128})@([a-z0-9]{8})\.(0|[1-9][0-9]{0,15})")
_RESERVED = re.compile(r"(ack|error)\Z|(room|session|presence)\.")
_RESET_REASONS = ("expired", "forked", "no_position", "unknown_epoch", "too_far")
_SKIP_REASONS = ("excluded", "conflated", "dropped", "filtered")
_LEFT_REASONS = ("removed", "forbidden", "unavailable")
_RETRYABLE = ("unavailable", "rate_limited", "internal")
_ERROR_CODES = _RETRYABLE + (
    "invalid",
    "schema",
    "too_large",
    "forbidden",
    "not_joined",
    "unknown_event",
    "unknown_room",
    "idempotency_conflict",
    "room_limit",
)
_INVALID = Invalid()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _integer(digits: str) -> Union[int, float]:
    try:
        return int(digits)
    except ValueError:
        return float(digits)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ESCAPING_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_LENIENT_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_int=_integer)


def parse_event_id(text: str) -> Optional[Tuple[str, Position]]:
    """Reads an event id, room and position; none if it is none."""
    match = _EVENT_ID.fullmatch(text)
    if match is None or int(match[3]) > OFFSET_MAX:
        return None
    return match[1], Position(match[2], int(match[3]))


def format_event_id(room: str, position: Position) -> str:
    """Writes an event id."""
    return f"{room}@{position.epoch}.{position.offset}"


def parse_cursor(text: str, bytes_max: Optional[int] = CURSOR_BYTES_MAX) -> Optional[Dict[str, Position]]:
    """Reads a cursor: the newest position per room; none if it is none. A server's may be longer than a client's."""
    cursor: Dict[str, Position] = {}
    if text == "":
        return cursor
    if bytes_max is not None and len(text) > bytes_max:
        return None
    for part in text.split(","):
        event_id = parse_event_id(part)
        if event_id is None:
            return None
        cursor[event_id[0]] = event_id[1]
    return cursor


def is_reserved(event: str) -> bool:
    """Whether an event is the protocol's own."""
    return _RESERVED.match(event) is not None


def is_retryable(code: str) -> bool:
    """Whether a refused request may succeed later: with the same id, so that it counts once."""
    return code in _RETRYABLE


def encode(event: str, room: Optional[str] = None, data: Any = None, id: Optional[str] = None) -> Frame:
    """Writes a message: a text frame, or a binary one if `data` is bytes. Raises `TypeError` or `ValueError` for what is
    no JSON."""
    envelope = {"event": event, "room": room, "data": data, "id": id}
    is_binary = isinstance(data, (bytes, bytearray, memoryview))
    if is_binary:
        del envelope["data"]
    text = json_text({name: value for name, value in envelope.items() if value is not None})
    if not is_binary:
        return text
    header = text.encode()
    return len(header).to_bytes(2, "big") + header + bytes(data)


def json_text(value: Any) -> str:
    """JSON, for UTF-8. Raises `TypeError` or `ValueError` for what is none."""
    text = _ENCODER.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair has no UTF-8, but an escape.
        return _ESCAPING_ENCODER.encode(value)
    return text


def decode(frame: Frame) -> ServerMessage:
    """Reads a frame. What no server should send is `Invalid`."""
    if isinstance(frame, str):
        envelope = _parse(frame)
        return _INVALID if envelope is None else _message(envelope, envelope.get("data"))
    # A binary frame: header length, header, payload.
    end = 2 + int.from_bytes(frame[:2], "big")
    if len(frame) < max(end, 2):
        return _INVALID
    envelope = _parse(frame[2:end].decode(errors="replace"))
    if envelope is None or is_reserved(str(envelope.get("event"))):
        return _INVALID
    return _message(envelope, frame[end:])


def read_json(text: str) -> Any:
    """Reads JSON; raises `ValueError` or `RecursionError` for what is none."""
    try:
        return _DECODER.decode(text)
    except ValueError:
        # A whole number of more digits than Python reads as one is a number all the same.
        return _LENIENT_DECODER.decode(text)


def _parse(text: str) -> Optional[Dict[str, Any]]:
    try:
        return _fields(read_json(text))
    except (ValueError, RecursionError):
        return None


def _fields(value: Any) -> Optional[Dict[str, Any]]:
    return value if isinstance(value, dict) else None


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) else None


def _number(value: Any) -> Optional[Any]:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _known(value: Any, names: Tuple[str, ...]) -> str:
    return value if isinstance(value, str) and value in names else "other"


def _message(envelope: Dict[str, Any], data: Any) -> ServerMessage:
    event, room, id = (_text(envelope.get(name)) for name in ("event", "room", "id"))
    if event is None:
        return _INVALID
    position = None if id is None else parse_event_id(id)
    place = id if position is not None and position[0] == room else None
    if is_reserved(event):
        return _own_message(event, room, id, place, data)
    # An event with an id has a place in its own room's log, or the server is at fault.
    if id is not None and place is None:
        return _INVALID
    return Event(
        event,
        room,
        data,
        id,
        _text(envelope.get("from")),
        _number(envelope.get("at")),
        _text(envelope.get("re")),
    )


def _own_message(event: str, room: Optional[str], id: Optional[str], place: Optional[str], data: Any) -> ServerMessage:
    body = _fields(data) or {}
    if event == "ack":
        return _INVALID if id is None else Ack(id, data)
    if event == "error":
        return Refusal(
            id,
            _known(body.get("code"), _ERROR_CODES),
            _text(body.get("message")) or "",
            _number(body.get("retry_after_ms")),
            _text(body.get("pointer")),
        )
    if event == "session.welcome":
        return Welcome(
            _text(body.get("session")) or "",
            _text(body.get("user")) or "",
            _strings(body.get("rooms")),
            _text(body.get("last_event_id")) or "",
            _fields(body.get("limits")) or {},
            _strings(body.get("features")),
        )
    if event == "session.checkpoint":
        return Checkpoint(_text(body.get("last_event_id")) or "")
    if event == "session.reconnect":
        after_ms, within_ms = _number(body.get("after_ms")), _number(body.get("within_ms"))
        return Reconnect(after_ms or 0, within_ms or 0, _text(body.get("reason")) or "")
    if event == "session.degraded":
        degraded = body.get("degraded")
        return Degraded(degraded) if isinstance(degraded, bool) else _INVALID
    if event.startswith("presence."):
        return _presence(event, room, body)
    if event == "room.skip":
        first = _number(body.get("from"))
        if place is None or first is None:
            return _INVALID
        return Skip(place, first, _known(body.get("reason"), _SKIP_REASONS))
    if event == "room.epoch":
        was = _text(body.get("was"))
        return _INVALID if place is None or was is None else EpochChange(place, was)
    if event == "room.joined":
        joined = read_joined(data)
        return _INVALID if room is None or joined is None else RoomJoined(room, joined)
    if event == "room.left":
        return _INVALID if room is None else RoomLeft(room, _known(body.get("reason"), _LEFT_REASONS))
    if event == "room.reset":
        if place is None:
            return _INVALID
        lost = _fields(body.get("lost"))
        return Reset(
            place,
            _known(body.get("reason"), _RESET_REASONS),
            (_number(lost.get("from")) or 0, _number(lost.get("to")) or 0) if lost is not None else None,
            "state" in body,
            body.get("state"),
        )
    return Unknown(event)


def _presence(event: str, room: Optional[str], body: Dict[str, Any]) -> ServerMessage:
    rev = _number(body.get("rev"))
    if event in ("presence.join", "presence.update", "presence.leave"):
        user = _text(body.get("user"))
        if room is None or user is None or rev is None:
            return _INVALID
        return PresenceChange(event[len("presence.") :], room, user, body.get("info"), rev)
    if event == "presence.changes":
        first, joins, updates = _number(body.get("from")), _members(body.get("joins")), _members(body.get("updates"))
        if room is None or first is None or rev is None or joins is None or updates is None:
            return _INVALID
        return PresenceChanges(room, joins, updates, _strings(body.get("leaves")), first, rev)
    if event == "presence.count":
        count = _number(body.get("members"))
        if room is None or count is None or rev is None:
            return _INVALID
        return PresenceCount(room, count, rev)
    return Unknown(event)


def _strings(value: Any) -> List[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _members(value: Any) -> Optional[List[Member]]:
    members = []
    for item in value if isinstance(value, list) else []:
        user = _text((_fields(item) or {}).get("user"))
        if user is None:
            return None
        members.append(Member(user, item.get("info")))
    return members


def read_joined(data: Any) -> Optional[Joined]:
    """Reads the ack of a join; none if it is none."""
    body = _fields(data) or {}
    recovery, top = _text(body.get("recovery")), _text(body.get("top"))
    if recovery is None or top is None:
        return None
    return Joined(recovery, _text(body.get("last_event_id")), top, _number(body.get("members")))


def read_members(data: Any) -> MembersPage:
    """Reads the ack of a `room.members`."""
    body = _fields(data) or {}
    members, rev = _members(body.get("members")) or [], _number(body.get("rev")) or 0
    return MembersPage(members, rev, _number(body.get("count")), _text(body.get("next")))


def read_history(data: Any) -> HistoryPage:
    """Reads the ack of a `room.history`."""
    body = _fields(data) or {}
    events = body.get("events")
    messages = [_message(event, _stored_data(event)) for event in events or [] if isinstance(event, dict)]
    return HistoryPage([event for event in messages if isinstance(event, Event)], _text(body.get("next")))


def _stored_data(event: Dict[str, Any]) -> Any:
    """A page is JSON, in which bytes are base64."""
    data = event.get("data")
    if event.get("encoding") != "base64" or not isinstance(data, str):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return data


def reaction(code: Optional[int]) -> str:
    """What a client does after a close (PROTOCOL.md §6): `stop`, `try_once`, `back_off`, `back_off_at_least_a_second`,
    `reconnect_in_window` or `refresh_token`. None is a connection that ended without a close frame."""
    if code in (1000, 1008):
        return "stop"
    if code in (1002, 1003, 1007, 1009):
        return "try_once"
    by_range = {40: "stop", 41: "back_off_at_least_a_second", 42: "reconnect_in_window", 43: "refresh_token"}
    return by_range.get((code or 0) // 100, "back_off")
