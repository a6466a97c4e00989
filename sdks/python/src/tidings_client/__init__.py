"""The client of Tidings: rooms, acks and presence over one WebSocket, with nothing lost when it breaks.

`Client` is the way in.
"""

from .backoff import Backoff
from .client import Client, Unsettled
from .connection import ConnectionFailed, ConnectionFault, State, TokenProvider
from .cursor import CursorFile, CursorStorage
from .listeners import Unsubscribe
from .outbox import Request, RequestError
from .presence import Members, Presence
from .protocol import Event, HistoryPage, Member, MembersPage, Published, Reset
from .room import CaughtUp, Room
from .stream import RoomEvents, RoomLost

__all__ = [
    "Backoff",
    "CaughtUp",
    "Client",
    "ConnectionFailed",
    "ConnectionFault",
    "CursorFile",
    "CursorStorage",
    "Event",
    "HistoryPage",
    "Member",
    "Members",
    "MembersPage",
    "Presence",
    "Published",
    "Request",
    "RequestError",
    "Reset",
    "Room",
    "RoomEvents",
    "RoomLost",
    "State",
    "TokenProvider",
    "Unsettled",
    "Unsubscribe",
]
