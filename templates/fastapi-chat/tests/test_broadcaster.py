"""Each function of the broadcaster, at a Tidings that is there."""

from __future__ import annotations

from pathlib import Path

from person import people
from processes import SECRET, chat
from raw_socket import raw_socket

from realtime.broadcaster import Broadcaster, Event, Socket


async def test_each_function(tmp_path: Path) -> None:
    async with chat(tmp_path) as running, people(running.address, "ann") as (ann,), raw_socket(ann) as socket:
        broadcaster = Broadcaster(running.url, SECRET)
        welcome = (await socket.first("session.welcome"))["data"]
        assert sorted(welcome["rooms"]) == ["ch_1", "user:ann"]
        await broadcaster.broadcast("ch_1", "news", "a")
        await broadcaster.broadcast("ch_1", "news", "for the others", Socket(welcome["session"], "ann"))
        events = [Event("ch_1", "news", "b", "news-1"), Event("ch_1", "news", "b", "news-1")]
        results = await broadcaster.broadcast_all([*events, Event("no such room", "news", None)])
        assert [result.get("duplicate") for result in results] == [False, True, None]
        assert "error" in results[2]
        assert await broadcaster.broadcast_all([]) == []
        await broadcaster.broadcast_to_user("ann", "last", None)
        await socket.first("last", "user:ann")
        assert socket.all("news") == ["a", "b"]
        await broadcaster.remove("ann", "ch_1")
        assert await broadcaster.members("ch_1") == []
        await broadcaster.add("ann", "ch_1")
        assert await broadcaster.members("ch_1") == ["ann"]
        (session,) = await broadcaster.sessions("ann")
        assert session["session"] == welcome["session"]
        assert sorted(session["rooms"]) == ["ch_1", "user:ann"]
        await broadcaster.close()
