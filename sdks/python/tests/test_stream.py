"""`async for event in room`: each event once and in order, whatever the reader's pace."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, Dict, List

import pytest
from connected import EPOCH, Connected, connected, joined
from world import settled

from tidings_client import Event, RequestError, Reset, Room, RoomEvents, RoomLost
from tidings_client.connection import Answer, ConnectionFailed, HandshakeFailed
from tidings_client.stream import EVENTS_MAX


async def take(events: RoomEvents, count: int) -> List[Any]:
    """The data of the next so many events, which have to be there."""
    return [(await asyncio.wait_for(events.__anext__(), 1)).data for _ in range(count)]


async def ends(events: RoomEvents) -> bool:
    with pytest.raises(StopAsyncIteration):
        await events.__anext__()
    return True


def reset(it: Connected, offset: int, first: int, **data: Any) -> None:
    """The server has no more what comes before this offset."""
    body: Dict[str, Any] = {"reason": "expired", "lost": {"from": first, "to": offset}, **data}
    it.socket.receive({"event": "room.reset", "room": "r", "id": f"r@{EPOCH}.{offset}", "data": body})


def answer_catch_up(it: Connected, last: int, top: int, recovery: str = "complete") -> None:
    """The client joins again where a stream stands, and is told what follows."""
    join = it.sent()
    assert [join["event"], join["room"]] == ["room.join", "r"]
    assert join["data"] == {"last_event_id": f"r@{EPOCH}.{last}"}
    it.socket.ack(join["id"], joined("r", last, recovery, top))


async def test_a_loop_gets_what_came_since_the_join_however_late_it_begins() -> None:
    async with connected() as it:
        room = await it.join("r")
        for offset in (1, 2):
            it.event(offset)
        await it.clock.advance(60)
        it.event(3)
        seen: List[Any] = []
        async for event in room:
            seen.append(event.data)
            if len(seen) == 2:
                break
        it.event(4)
        async for event in room:
            seen.append(event.data)
            if len(seen) == 4:
                break
        assert seen == [1, 2, 3, 4], "a loop that is begun again goes on"


async def test_a_stream_that_is_opened_before_the_join_gets_its_history() -> None:
    async with connected() as it:
        room = it.client.room("r")
        events = room.events()
        joining = asyncio.ensure_future(room.join(history=2))
        await settled()
        it.socket.ack(it.sent()["id"], joined("r", 3, top=5))
        for offset in (4, 5):
            it.event(offset)
        await it.clock.advance(0)
        await joining
        late = room.events()
        it.event(6)
        assert [await take(events, 3), await take(late, 1)] == [[4, 5, 6], [6]]


async def test_a_reset_stands_between_the_events_that_it_makes_void_and_those_that_follow() -> None:
    async with connected() as it:
        room = await it.join("r")
        told: List[Any] = []
        room.on_reset(lambda reset: told.append("at once"))
        events = room.events(on_reset=lambda reset: told.append(reset))
        it.event(1)
        reset(it, 9, 2, state={"n": 9})
        it.event(10)
        assert told == ["at once"]
        assert [await take(events, 1), told] == [[1], ["at once"]]
        assert await take(events, 1) == [10]
        assert told[1:] == [Reset(f"r@{EPOCH}.9", "expired", (2, 9), True, {"n": 9})]
        assert await take(room.events(), 0) == []


async def test_who_waits_is_woken() -> None:
    async with connected() as it:
        room = await it.join("r")
        waiting = asyncio.ensure_future(take(room.__aiter__(), 1))
        await settled()
        assert not waiting.done()
        with pytest.raises(RuntimeError, match="room.events"):
            await room.__aiter__().__anext__()
        it.event(1)
        assert await waiting == [1]


async def test_who_stops_waiting_misses_nothing() -> None:
    async with connected() as it:
        room = await it.join("r")
        waiting = asyncio.ensure_future(room.__aiter__().__anext__())
        await settled()
        it.event(1)
        waiting.cancel()
        await settled()
        assert await take(room.__aiter__(), 1) == [1]


async def test_what_has_no_place_is_asked_for_again_and_others_wait_for_nobody() -> None:
    async with connected() as it:
        room = await it.join("r")
        heard: List[Any] = []
        room.on_event(lambda event: heard.append(event.data))
        slow = room.events()
        first = await_first(slow)
        await settled()
        more = EVENTS_MAX + 500
        for offset in range(1, more + 1):
            it.event(offset)
        it.event(0, event="typing", id=None)
        assert heard == [*range(1, more + 1), 0]
        seen = [(await first).data]
        seen += await take(slow, EVENTS_MAX // 2 - 2)
        assert it.sent() == {}, "there is not place enough yet"
        seen += await take(slow, 1)
        answer_catch_up(it, EVENTS_MAX, more)
        for offset in range(EVENTS_MAX + 1, more + 1):
            it.event(offset)
        it.event(more + 1)
        seen += await take(slow, more + 1 - len(seen))
        assert seen == list(range(1, more + 2))
        assert heard == [*range(1, more + 1), 0, more + 1], "told once"
        assert it.sent() == {}
        it.event(-1, event="typing", id=None)
        assert await take(slow, 1) == [-1], "it is where the room is again"


def await_first(events: RoomEvents) -> asyncio.Future[Event[Any]]:
    """Begins to read; the first event is there with the first that comes."""
    return asyncio.ensure_future(events.__anext__())


async def overflowed(it: Connected, room: Room, more: int) -> RoomEvents:
    """A stream whose reader has everything that it held, and that has asked for the rest."""
    slow = room.events()
    slow.is_started = True
    for offset in range(1, EVENTS_MAX + more + 1):
        it.event(offset)
    assert await take(slow, EVENTS_MAX) == list(range(1, EVENTS_MAX + 1))
    return slow


async def test_what_a_slow_reader_missed_and_the_server_has_no_more_is_a_reset_for_him_alone() -> None:
    async with connected() as it:
        room = await it.join("r")
        resets: List[Reset] = []
        heard: List[Any] = []
        room.on_reset(resets.append)
        room.on_event(lambda event: heard.append(event.data))
        slow = await overflowed(it, room, 50)
        answer_catch_up(it, EVENTS_MAX, EVENTS_MAX + 50, "gap")
        reset(it, EVENTS_MAX + 45, EVENTS_MAX + 1)
        for offset in range(EVENTS_MAX + 46, EVENTS_MAX + 52):
            it.event(offset)
        assert await take(slow, 6) == list(range(EVENTS_MAX + 46, EVENTS_MAX + 52))
        assert heard == list(range(1, EVENTS_MAX + 52))
        assert [resets, room.last_event_id, it.sent()] == [[], f"r@{EPOCH}.{EVENTS_MAX + 51}", {}]


async def test_a_reset_that_is_news_to_all_is_told_to_all() -> None:
    async with connected() as it:
        room = await it.join("r")
        resets: List[str] = []
        room.on_reset(lambda reset: resets.append(reset.id))
        slow = await overflowed(it, room, 50)
        in_order: List[str] = []
        slow._on_reset = lambda reset: in_order.append(reset.id)
        join = it.sent()
        it.socket.ack(join["id"], {"recovery": "gap", "last_event_id": None, "top": "r@p0d2mm4c.3", "members": 1})
        data = {"reason": "unknown_epoch", "lost": None}
        it.socket.receive({"event": "room.reset", "room": "r", "id": "r@p0d2mm4c.2", "data": data})
        it.socket.receive({"event": "e", "room": "r", "id": "r@p0d2mm4c.3", "data": "new"})
        assert await take(slow, 1) == ["new"]
        assert [resets, in_order] == [["r@p0d2mm4c.2"], ["r@p0d2mm4c.2"]]


async def test_a_log_that_is_shorter_than_it_was_is_news_to_all_too() -> None:
    async with connected() as it:
        room = await it.join("r")
        resets: List[str] = []
        room.on_reset(lambda reset: resets.append(reset.id))
        slow = await overflowed(it, room, 50)
        join = it.sent()
        it.socket.ack(join["id"], joined("r", EVENTS_MAX, "gap", 7))
        reset(it, 7, 8, reason="too_far", lost=None)
        it.event(8)
        assert [await take(slow, 1), resets, it.sent()] == [[8], [f"r@{EPOCH}.7"], {}]


async def test_catching_up_goes_on_over_a_lost_connection_and_a_hole() -> None:
    async with connected() as it:
        room = await it.join("r")
        slow = await overflowed(it, room, 50)
        assert it.sent()["event"] == "room.join"
        await it.reconnected()
        resume, top = it.sent(), EVENTS_MAX + 50
        assert resume["data"] == {"last_event_id": f"r@{EPOCH}.{top}"}, "what is new goes first"
        it.socket.ack(resume["id"], {"rooms": {"r": joined("r", top, "complete", top + 1)}})
        assert it.sent() == {}, "not while the room itself is replayed"
        it.event(top + 1)
        answer_catch_up(it, EVENTS_MAX, top + 1)
        it.event(EVENTS_MAX + 1)
        # The room itself has a hole: it is joined again where it is, and the stream where it is by then.
        it.event(top + 3)
        hole = it.sent()
        assert hole["data"] == {"last_event_id": f"r@{EPOCH}.{top + 1}"}
        it.socket.ack(hole["id"], joined("r", top + 1, "complete", top + 3))
        for offset in (top + 2, top + 3):
            it.event(offset)
        answer_catch_up(it, EVENTS_MAX + 1, top + 3)
        for offset in range(EVENTS_MAX + 2, top + 4):
            it.event(offset)
        assert await take(slow, 53) == list(range(EVENTS_MAX + 1, top + 4))
        assert [room.last_event_id, it.sent()] == [f"r@{EPOCH}.{top + 3}", {}]


async def test_several_slow_readers_are_served_from_where_the_slowest_stands() -> None:
    async with connected() as it:
        room = await it.join("r")
        first, second = room.events(), room.events()
        for stream in (first, second):
            stream.is_started = True
        for offset in range(1, EVENTS_MAX + 1):
            it.event(offset)
        await take(second, 10)
        for offset in range(EVENTS_MAX + 1, EVENTS_MAX + 51):
            it.event(offset)
        await take(second, EVENTS_MAX)
        top = EVENTS_MAX + 50
        answer_catch_up(it, EVENTS_MAX + 10, top)
        assert await take(first, EVENTS_MAX) == list(range(1, EVENTS_MAX + 1))
        for offset in range(EVENTS_MAX + 11, top + 1):
            it.event(offset)
        assert await take(second, 40) == list(range(EVENTS_MAX + 11, top + 1))
        answer_catch_up(it, EVENTS_MAX, top)
        for offset in range(EVENTS_MAX + 1, top + 1):
            it.event(offset)
        it.event(top + 1)
        assert await take(first, 51) == list(range(EVENTS_MAX + 1, top + 2))
        assert [await take(second, 1), it.sent()] == [[top + 1], {}]


async def test_a_loop_that_nobody_begins_holds_nothing_up_and_can_still_begin() -> None:
    async with connected() as it:
        room = await it.join("r", 7)
        top = EVENTS_MAX + 20
        for offset in range(8, top + 1):
            it.event(offset)
        assert it.sent() == {}
        beginning = await_first(room.__aiter__())
        await settled()
        answer_catch_up(it, 7, top)
        for offset in range(8, top + 1):
            it.event(offset)
        assert (await beginning).data == 8
        assert await take(room.__aiter__(), EVENTS_MAX - 1) == list(range(9, EVENTS_MAX + 8))
        answer_catch_up(it, EVENTS_MAX + 7, top)
        for offset in range(EVENTS_MAX + 8, top + 1):
            it.event(offset)
        assert await take(room.__aiter__(), 13) == list(range(EVENTS_MAX + 8, top + 1))


async def test_a_stream_that_is_let_go_of_is_gone() -> None:
    async with connected() as it:
        room = await it.join("r")
        events = room.events()
        it.event(1)
        async for event in events:
            assert event.data == 1
            break
        assert len(room._streams) == 2
        del events
        gc.collect()
        assert len(room._streams) == 1


async def test_streams_end_with_the_room_and_with_the_client() -> None:
    async with connected() as it:
        room = await it.join("r")
        it.event(1)
        events = room.__aiter__()
        leaving = asyncio.ensure_future(room.leave())
        await settled()
        assert await take(events, 1) == [1] and await ends(events)
        it.socket.ack(it.sent()["id"], {})
        await leaving
        await it.join("r", 5)
        again = room.__aiter__()
        it.event(6)
        assert again is not events and await take(again, 1) == [6]
        waiting = asyncio.ensure_future(ends(again))
        await settled()
        await it.client.close()
        assert await waiting


async def test_a_stream_can_be_closed() -> None:
    async with connected() as it:
        room = await it.join("r")
        events = room.events()
        it.event(1)
        events.close()
        it.event(2)
        assert await ends(events)


async def test_a_room_that_is_lost_ends_its_streams_with_the_reason() -> None:
    async with connected() as it:
        room = await it.join("r")
        it.event(1)
        await it.reconnected()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": {"error": "forbidden"}}})
        events = room.events()
        assert await take(room._own_stream or events, 1) == [1]
        with pytest.raises(RoomLost) as lost:
            await (room._own_stream or events).__anext__()
        assert [lost.value.room, lost.value.code] == ["r", "forbidden"]


async def test_a_server_that_closes_for_good_or_refuses_is_told_to_who_waits() -> None:
    async with connected() as it:
        room = await it.join("r")
        waiting = await_first(room.__aiter__())
        await settled()
        it.simulation.failures.append(HandshakeFailed(Answer(403, {"code": "origin_not_allowed"})))
        it.socket.cut()
        await it.clock.advance(10)
        with pytest.raises(ConnectionFailed) as failed:
            await waiting
        assert failed.value.state == "refused"
        # It is no end: the application may try again, and the loop too.
        it.client.reconnect()
        await it.clock.advance(0)
        it.socket.welcome()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": joined("r", 0, "complete", top=1)}})
        it.event(1)
        assert await take(room.__aiter__(), 1) == [1]
        it.socket.cut(4001)
        with pytest.raises(ConnectionFailed) as failed:
            await room.__aiter__().__anext__()
        assert [failed.value.state, failed.value.fault and failed.value.fault.status] == ["closed", 4001]


async def test_a_position_of_another_room_is_told_at_once() -> None:
    async with connected() as it:
        for after in ("q@k3f9a1qz.1", "nonsense"):
            with pytest.raises(ValueError, match="no event of the room"):
                await it.client.join("r", after=after)


async def test_a_join_after_an_event_gets_what_followed_it() -> None:
    async with connected() as it:
        joining = asyncio.ensure_future(it.client.join("r", after=f"r@{EPOCH}.4"))
        await settled()
        join = it.sent()
        assert join["data"] == {"last_event_id": f"r@{EPOCH}.4"}
        it.socket.ack(join["id"], joined("r", 4, "complete", 5))
        it.event(5)
        await it.clock.advance(0)
        assert await take((await joining).__aiter__(), 1) == [5]
        refused = asyncio.ensure_future(it.client.join("q"))
        await settled()
        it.socket.refuse(it.sent()["id"], "forbidden")
        with pytest.raises(RequestError):
            await refused
