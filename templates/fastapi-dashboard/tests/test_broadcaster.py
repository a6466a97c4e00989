"""Each function of the broadcaster, at a Tidings that is there."""

from __future__ import annotations

import json
from pathlib import Path

from processes import SECRET, Person, dashboard
from websockets.asyncio.client import connect

from realtime.broadcaster import Broadcaster, Event, room_of


async def test_each_function(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        ann = Person(running.address, "ann")
        await ann.log_in()
        broadcaster = Broadcaster(running.tidings, SECRET)
        room = room_of("orders")
        token = broadcaster.token("ann", ["orders"])
        async with connect(f"{running.address.replace('http', 'ws')}/ws?token={token}", proxy=None) as socket:
            welcome = json.loads(await socket.recv())
            assert welcome["data"]["rooms"] == [room]
            assert await broadcaster.viewers(room) == 1
            await broadcaster.broadcast(room, "order", {"series": "a"})
            events = [
                Event(room, "order", {"series": "b"}, "order-1"),
                Event(room, "order", {"series": "b"}, "order-1"),
            ]
            results = await broadcaster.broadcast_all([*events, Event("no such room", "order", None)])
            assert [result.get("duplicate") for result in results] == [False, True, None]
            assert "error" in results[2]
            assert await broadcaster.broadcast_all([]) == []
            seen = [json.loads(await socket.recv())["data"]["series"] for _ in range(2)]
            assert seen == ["a", "b"]
            await broadcaster.remove("ann", room)
            assert await broadcaster.viewers(room) == 0
            await broadcaster.add("ann", room)
            assert await broadcaster.viewers(room) == 1
        await broadcaster.close()
        await ann.close()
