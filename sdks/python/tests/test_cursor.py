"""A cursor that is kept over a restart: stored after an event was handled, and where the next run begins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, List

import pytest
from connected import EPOCH, connected, joined
from world import Simulation, settled

from tidings_client import Client, CursorFile, Event, RequestError
from tidings_client.stream import EVENTS_MAX


class MemoryStorage:
    def __init__(self, cursor: str = "") -> None:
        self.saved: List[str] = [cursor]
        self.fails = False

    def load(self) -> str:
        return self.saved[-1]

    def save(self, cursor: str) -> None:
        if self.fails:
            raise OSError("no space left")
        self.saved.append(cursor)

    @property
    def offset(self) -> int:
        """Where the only room is stored to be."""
        return int(self.saved[-1].rpartition(".")[2])


def at(offset: int, room: str = "r") -> str:
    return f"{room}@{EPOCH}.{offset}"


async def test_a_position_is_stored_after_the_listeners_were_told_and_once_for_all_that_came_at_once() -> None:
    storage = MemoryStorage()
    async with connected(cursor=storage) as it:
        room = await it.join("r", 4)
        assert storage.saved[-1] == at(4)
        stored: List[int] = []
        room.on_event(lambda event: stored.append(storage.offset))
        before = len(storage.saved)
        for offset in (5, 6, 7):
            it.event(offset)
        await it.clock.advance(0)
        assert [stored, storage.offset, len(storage.saved) - before] == [[4, 4, 4], 7, 1]
        await it.reconnected()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": joined("r", 7, "complete")}})
        await it.clock.advance(0)
        assert len(storage.saved) - before == 1, "nothing has moved"


async def test_a_loop_has_handled_an_event_when_it_asks_for_the_next() -> None:
    storage = MemoryStorage()
    async with connected(cursor=storage) as it:
        room = await it.join("r")
        for offset in (1, 2, 3):
            it.event(offset)
        events = room.__aiter__()
        stored: List[int] = []
        for _ in range(3):
            await events.__anext__()
            await it.clock.advance(0)
            stored.append(storage.offset)
        waiting = asyncio.ensure_future(events.__anext__())
        await it.clock.advance(0)
        assert [*stored, storage.offset] == [0, 1, 2, 3]
        it.event(4)
        await it.clock.advance(0)
        assert (await waiting).data == 4
    assert storage.offset == 3, "the last one was not handled when the client was closed"


async def test_what_skips_move_is_stored_too_and_the_slowest_reader_counts() -> None:
    storage = MemoryStorage()
    async with connected(cursor=storage) as it:
        room = await it.join("r")
        quick, slow = room.events(), room.events()
        it.event(1)
        skip = {"from": 2, "reason": "excluded"}
        it.socket.receive({"event": "room.skip", "room": "r", "id": at(5), "data": skip})
        readers = [asyncio.ensure_future(stream.__anext__()) for stream in (quick, slow)]
        await settled()
        quick_again = asyncio.ensure_future(quick.__anext__())
        await it.clock.advance(0)
        assert storage.offset == 0
        slow_again = asyncio.ensure_future(slow.__anext__())
        await it.clock.advance(0)
        assert storage.offset == 5
        it.event(6)
        await asyncio.gather(quick_again, slow_again, *readers)


async def test_what_a_slow_reader_let_go_is_not_stored_as_handled() -> None:
    storage = MemoryStorage()
    async with connected(cursor=storage) as it:
        room = await it.join("r")
        slow = room.events()
        slow.is_started = True
        for offset in range(1, EVENTS_MAX + 100):
            it.event(offset)
        for _ in range(EVENTS_MAX):
            await slow.__anext__()
        await it.clock.advance(0)
        assert storage.offset == EVENTS_MAX - 1
        waiting = asyncio.ensure_future(slow.__anext__())
        await it.clock.advance(0)
        assert [storage.offset, it.sent()["data"]] == [EVENTS_MAX, {"last_event_id": at(EVENTS_MAX)}]
        slow.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
        it.event(EVENTS_MAX + 100)
        await it.clock.advance(0)
        assert storage.offset == EVENTS_MAX + 100, "who does not read any more is not waited for"


async def test_the_next_run_goes_on_where_the_last_one_was() -> None:
    storage = MemoryStorage(",".join([at(7), at(3, "auto"), at(1, "old")]))
    simulation = Simulation()
    client = Client("ws://server/ws", cursor=storage, world=simulation.world)
    joining = asyncio.ensure_future(client.join("r", history=50))
    await settled()
    client.connect()
    await simulation.clock.advance(0)
    assert simulation.socket.query == {"resume": "wait", "last_event_id": storage.saved[0]}
    simulation.socket.welcome(rooms=["auto"], last_event_id=at(3, "auto"))
    join = simulation.socket.next()
    assert join["data"] == {"last_event_id": at(7)}
    simulation.socket.ack(join["id"], joined("r", 7, "complete", top=8))
    heard: List[str] = []

    def hear(event: Event[Any]) -> None:
        heard.append(str(event.id))

    for name in ("r", "auto"):
        client.room(name).on_event(hear)
    simulation.socket.receive({"event": "e", "room": "r", "id": at(8)})
    simulation.socket.receive({"event": "e", "room": "auto", "id": at(4, "auto")})
    await simulation.clock.advance(0)
    await joining
    assert heard == [at(8), at(4, "auto")]
    assert storage.saved[-1] == ",".join([at(8), at(4, "auto"), at(1, "old")])
    leaving = asyncio.ensure_future(client.room("r").leave())
    await simulation.clock.advance(0)
    assert storage.saved[-1] == ",".join([at(4, "auto"), at(1, "old")])
    await client.close()
    with pytest.raises(RequestError):
        await leaving


@pytest.mark.parametrize("how", ["taken out", "not resumed", "not joined again", "left"])
async def test_a_room_that_the_client_is_not_in_any_more_begins_anew(how: str) -> None:
    storage = MemoryStorage()
    async with connected(cursor=storage) as it:
        await it.join("q", 1)
        room = await it.join("r", 4)
        await it.clock.advance(0)
        assert storage.saved[-1] == ",".join([at(1, "q"), at(4)])
        if how == "taken out":
            it.socket.receive({"event": "room.left", "room": "r", "data": {"reason": "removed"}})
        elif how == "not resumed":
            await it.reconnected()
            rooms = {"q": joined("q", 1, "complete"), "r": {"error": "forbidden"}}
            it.socket.ack(it.sent()["id"], {"rooms": rooms})
        elif how == "left":
            leaving = asyncio.ensure_future(room.leave())
            await it.clock.advance(0)
            it.socket.ack(it.sent()["id"])
            await leaving
        else:
            joining = asyncio.ensure_future(room.join())
            await it.clock.advance(0)
            it.socket.refuse(it.sent()["id"], "forbidden")
            with pytest.raises(RequestError):
                await joining
        await it.clock.advance(0)
        assert storage.saved[-1] == at(1, "q")
        joining = asyncio.ensure_future(it.client.join("r"))
        await it.clock.advance(0)
        join = it.sent()
        assert [join["event"], join["data"]] == ["room.join", {}]
        it.socket.ack(join["id"], joined("r", 9))
        await joining


async def test_a_storage_that_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()
    async with connected(cursor=storage) as it:
        await it.join("r")
        storage.fails = True
        it.event(1)
        await it.clock.advance(0)
        assert [storage.offset, "could not be stored" in caplog.text] == [0, True]
        storage.fails = False
        it.event(2)
        await it.clock.advance(0)
        assert storage.offset == 2


async def test_a_file_is_replaced_as_a_whole_and_what_is_no_cursor_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    storage = CursorFile(path)
    assert storage.load() == ""
    storage.save(at(1))
    storage.save(at(2))
    assert [CursorFile(path).load(), [file.name for file in tmp_path.iterdir()]] == [at(2), [path.name]]
    path.write_text("r@k3f9")
    with pytest.raises(ValueError, match="no cursor"):
        Client("ws://server/ws", cursor=storage)


async def test_a_long_cursor_goes_into_a_handshake_as_far_as_it_fits() -> None:
    names = [f"room-{number}" for number in range(300)]
    storage = MemoryStorage(",".join(at(1, name) for name in names))
    simulation = Simulation()
    client = Client("ws://server/ws", cursor=storage, world=simulation.world)
    client.connect()
    await simulation.clock.advance(0)
    cursor = simulation.socket.query["last_event_id"]
    assert 4000 < len(cursor) <= 4096 and storage.saved[0].startswith(f"{cursor},")
    simulation.socket.welcome(rooms=names, last_event_id=storage.saved[0])
    assert client.room(names[-1]).last_event_id == at(1, names[-1])
    await client.close()
