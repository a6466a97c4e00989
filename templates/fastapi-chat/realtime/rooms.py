"""Who is in which room: over Tidings' HTTP API, with the memberships in the database.

A socket's id is its session, as `session.welcome` names it. A user is in a room with all his sockets, so that his devices show the
same: `join` and `leave` of one are those of all. Members are told by Tidings' presence.
"""

from __future__ import annotations

from typing import Any, List, Optional

from chat.database import Database
from tidings_client.server import EventRefused

from .broadcaster import Broadcaster, Socket

PREFIX = "ch_"


def room_of(channel: int) -> str:
    return f"{PREFIX}{channel}"


def channel_of(room_id: Optional[str]) -> int:
    """Refuses what a page says in a room that is no channel: its user's own, or none."""
    if room_id is None or not room_id.startswith(PREFIX):
        raise EventRefused("invalid", "this room is no channel's")
    return int(room_id[len(PREFIX) :])


class RoomManager:
    def __init__(self, broadcaster: Broadcaster, database: Database) -> None:
        self._broadcaster = broadcaster
        self._database = database

    def connected(self, socket_id: str, user: str) -> None:
        """Whose a socket is. It is known from its first event on: a page's first is `presence.heartbeat`."""
        self._database.add_socket(socket_id, user)

    def disconnected(self, socket_id: str) -> None:
        self._database.remove_socket(socket_id)

    async def join(self, socket_id: str, room_id: str) -> None:
        """Adds a socket to a room, and its user to the members, so that he is there again after a reconnect."""
        await self.add_user(self._user_of(socket_id), room_id)

    async def leave(self, socket_id: str, room_id: str) -> None:
        """Takes a socket out of a room, and its user out of the members."""
        await self.remove_user(self._user_of(socket_id), room_id)

    async def broadcast(self, room_id: str, event: str, data: Any, exclude_socket_id: Optional[str] = None) -> None:
        """Sends to all in a room, but for one socket."""
        but = None if exclude_socket_id is None else Socket(exclude_socket_id, self._user_of(exclude_socket_id))
        await self._broadcaster.broadcast(room_id, event, data, but)

    async def get_members(self, room_id: str) -> List[str]:
        """The users who are connected."""
        return await self._broadcaster.members(room_id)

    async def get_user_rooms(self, socket_id: str) -> List[str]:
        """The rooms that a socket is in; none, if it is gone."""
        sessions = await self._broadcaster.sessions(self._user_of(socket_id))
        return next((session["rooms"] for session in sessions if session["session"] == socket_id), [])

    async def add_user(self, user: str, room_id: str) -> None:
        """Makes somebody a member: he hears it from now on, and his pages are told."""
        self._database.add_member(channel_of(room_id), user)
        await self._broadcaster.add(user, room_id)
        await self._broadcaster.broadcast_to_user(user, "channels.changed", {"room": room_id})

    async def remove_user(self, user: str, room_id: str) -> None:
        """Whoever is taken out hears nothing more. A token that he has already names the room until it ends: ten minutes at most."""
        self._database.remove_member(channel_of(room_id), user)
        await self._broadcaster.remove(user, room_id)
        await self._broadcaster.broadcast_to_user(user, "channels.changed", {"room": room_id})

    def _user_of(self, socket_id: str) -> str:
        user = self._database.user_of_socket(socket_id)
        if user is None:
            raise LookupError(f"no socket {socket_id} is connected")
        return user
