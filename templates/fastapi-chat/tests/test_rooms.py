"""Each function of the room manager, on sockets that are there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Tuple

import pytest
from person import Person, people
from processes import SECRET, chat
from raw_socket import RawSocket, raw_socket

from chat.database import Database
from realtime.broadcaster import Broadcaster
from realtime.rooms import RoomManager, room_of


async def test_join_leave_broadcast_get_members_get_user_rooms(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(chat(tmp_path))
        ann, bob = await stack.enter_async_context(people(running.address, "ann", "bob"))
        database = Database(str(running.database))
        stack.callback(database.close)
        broadcaster = Broadcaster(running.url, SECRET)
        stack.push_async_callback(broadcaster.close)
        rooms = RoomManager(broadcaster, database)

        async def come(person: Person) -> Tuple[RawSocket, str]:
            socket = await stack.enter_async_context(raw_socket(person))
            session = (await socket.first("session.welcome"))["data"]["session"]
            # From its first event on a socket is known.
            with pytest.raises(LookupError, match="no socket .* is connected"):
                await rooms.join(session, "ch_1")
            await socket.request("presence.heartbeat", None, "heartbeat-1")
            return socket, session

        ann_socket, ann_id = await come(ann)
        bob_socket, bob_id = await come(bob)
        channel = database.create_channel("Workshop")
        room = room_of(channel)

        await rooms.join(ann_id, room)
        assert await rooms.get_members(room) == ["ann"]
        await rooms.join(bob_id, room)
        assert (await ann_socket.first("presence.join", room))["data"]["user"] == "bob"
        assert await rooms.get_members(room) == ["ann", "bob"]
        assert sorted(await rooms.get_user_rooms(bob_id)) == ["ch_1", room, "user:bob"]
        assert database.is_member(channel, "bob")

        await rooms.broadcast(room, "news", "for bob", ann_id)
        await rooms.broadcast(room, "news", "for both")
        await rooms.broadcast(room, "last", None)
        await asyncio.gather(ann_socket.first("last"), bob_socket.first("last"))
        assert ann_socket.all("news") == ["for both"]
        assert bob_socket.all("news") == ["for bob", "for both"]

        await rooms.leave(bob_id, room)
        assert (await ann_socket.first("presence.leave", room))["data"]["user"] == "bob"
        assert await rooms.get_members(room) == ["ann"]
        assert sorted(await rooms.get_user_rooms(bob_id)) == ["ch_1", "user:bob"]
        assert not database.is_member(channel, "bob")

        # The application is told of an end by a webhook.
        await bob_socket.close()
        while database.user_of_socket(bob_id) is not None:
            await asyncio.sleep(0.01)
        with pytest.raises(LookupError):
            await rooms.get_user_rooms(bob_id)
