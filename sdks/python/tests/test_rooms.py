"""Rooms: who joins them, who leaves them, and what is heard of them. PROTOCOL.md §3 and §7."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, Awaitable, Callable, Dict, List

import pytest
from connected import EPOCH, connected, joined
from world import Simulation, settled

from tidings_client import Client, Event, RequestError, Room, RoomLost
from tidings_client.clock import SystemClock
from tidings_client.connection import World


class Failure:
    """How something ends that has to fail."""

    def __init__(self, awaited: Awaitable[Any]) -> None:
        self.task = asyncio.ensure_future(self._wait(awaited))

    async def _wait(self, awaited: Awaitable[Any]) -> RequestError:
        with pytest.raises(RequestError) as failed:
            await awaited
        return failed.value


@pytest.mark.parametrize("nested", [False, True])
async def test_what_came_at_once_with_a_joins_ack_waits_for_who_joined(nested: bool) -> None:
    async with connected() as it:
        seen: List[Any] = []

        async def reader() -> None:
            joining = it.client.join("r")
            # A task in a task is what `asyncio.wait_for` makes.
            room = await (asyncio.ensure_future(joining) if nested else joining)
            room.on("e", lambda event: seen.append(event.data))

        done = asyncio.ensure_future(reader())
        await it.clock.advance(0)
        it.socket.ack(it.sent()["id"], joined("r", 0))
        it.event(1)
        it.event(2)
        await it.clock.advance(0)
        await done
        assert seen == [1, 2]


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_who_waits_in_a_task_of_a_task_gets_his_turn_too(depth: int) -> None:
    simulation = Simulation()
    world = World(SystemClock(), simulation.world.random, simulation.world.dial, simulation.world.ask)
    client = Client("ws://server/ws", world=world)
    client.connect()
    while not simulation.sockets:
        await asyncio.sleep(0)
    simulation.socket.welcome()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def join(depth: int) -> Room:
        return await (asyncio.ensure_future(join(depth - 1)) if depth > 0 else client.join("r"))

    async def reader() -> None:
        (await join(depth)).on("e", lambda event: heard.put_nowait(event.data))

    reading = asyncio.ensure_future(reader())
    while not simulation.socket.sent:
        await asyncio.sleep(0)
    simulation.socket.ack(simulation.socket.next()["id"], joined("r", 0))
    for offset in (1, 2):
        simulation.socket.receive({"event": "e", "room": "r", "data": offset, "id": f"r@{EPOCH}.{offset}"})
    await reading
    assert [await asyncio.wait_for(heard.get(), 5) for _ in range(2)] == [1, 2]
    await client.close()


async def test_a_join_whose_answer_was_lost_is_sent_again_and_the_room_is_joined_by_it() -> None:
    async with connected() as it:
        seen: List[Any] = []
        it.client.room("r").on_event(lambda event: seen.append(event.data))
        joining = asyncio.ensure_future(it.client.join("r", history=10))
        await settled()
        first = it.sent()
        await it.reconnected()
        again = it.sent()
        assert [again["id"], again["data"]] == [first["id"], {"history": 10}]
        it.socket.ack(again["id"], joined("r", 3))
        assert (await joining).is_joined
        await it.clock.advance(0.001)
        it.event(4)
        assert [seen, it.sent()] == [[4], {}]


async def test_a_refused_join_raises_and_the_room_is_not_followed() -> None:
    async with connected() as it:
        failure = Failure(it.client.join("r"))
        await settled()
        it.socket.refuse(it.sent()["id"], "forbidden")
        assert (await failure.task).code == "forbidden"
        await it.reconnected()
        assert it.sent() == {}


async def test_a_join_without_an_answer_for_two_minutes_is_given_up() -> None:
    async with connected() as it:
        failure = Failure(it.client.join("r"))
        await settled()
        assert it.sent()["event"] == "room.join"
        for _ in range(12):
            await it.clock.advance(10)
            it.socket.ping()
        assert (await failure.task).code == "outcome_unknown"
        await it.reconnected()
        assert [it.client.room("r").is_followed, it.socket.next()] == [False, {}]


async def test_a_join_without_an_answer_keeps_where_the_room_was_and_ends_its_loops_with_a_reason() -> None:
    async with connected() as it:
        room = await it.join("r", 6)
        it.event(7)
        events = room.__aiter__()
        assert (await events.__anext__()).data == 7
        it.socket.cut()
        it.simulation.failures.extend(ConnectionRefusedError("nobody listens") for _ in range(100))
        failure = Failure(it.client.join("r"))
        await it.clock.advance(130)
        assert (await failure.task).code == "outcome_unknown"
        with pytest.raises(RoomLost) as lost:
            await events.__anext__()
        assert [lost.value.code, room.last_event_id] == ["outcome_unknown", f"r@{EPOCH}.7"]
        it.simulation.failures.clear()
        await it.simulation.next_socket()
        it.socket.welcome()
        assert it.sent() == {}
        joining = asyncio.ensure_future(it.client.join("r"))
        await settled()
        join = it.sent()
        assert join["data"] == {"last_event_id": f"r@{EPOCH}.7"}
        it.socket.ack(join["id"], joined("r", 7, "complete", top=8))
        it.event(8)
        await it.clock.advance(0)
        assert (await (await joining).__aiter__().__anext__()).data == 8


async def test_a_join_that_is_given_up_leaves_the_room_to_a_later_one() -> None:
    async with connected() as it:
        it.socket.cut()
        it.simulation.failures.extend(ConnectionRefusedError("nobody listens") for _ in range(100))
        failure = Failure(it.client.join("r"))
        await it.clock.advance(60)
        joining = asyncio.ensure_future(it.client.join("r"))
        await it.clock.advance(65)
        assert (await failure.task).code == "outcome_unknown"
        it.simulation.failures.clear()
        await it.simulation.next_socket()
        it.socket.welcome()
        it.socket.ack(it.sent()["id"], joined("r", 5))
        await it.clock.advance(0.001)
        room = await joining
        seen: List[Any] = []
        room.on_event(lambda event: seen.append(event.data))
        it.event(6)
        assert [room.is_joined, seen] == [True, [6]]


async def test_a_room_that_nobody_follows_or_listens_to_is_not_kept() -> None:
    async with connected() as it:
        heard: List[Any] = []
        kept = [it.client.room("heard"), it.client.room("watched"), await it.join("followed")]
        stop = kept[0].on("e", lambda event: heard.append(event.data))
        stop_watching = kept[1].presence.on_change(heard.append)
        left = await it.join("left")
        rooms = [weakref.ref(room) for room in (*kept, left)]
        leaving = asyncio.ensure_future(left.leave())
        await it.clock.advance(0)
        it.socket.ack(it.sent()["id"])
        await leaving
        assert it.client.room("left") is left, "as long as the application has it, it is that"
        del kept, left, leaving

        def are_kept() -> List[bool]:
            gc.collect()
            return [room() is not None for room in rooms]

        assert are_kept() == [True, True, True, False]
        await it.join("heard")
        it.event(1, room="heard")
        assert heard == [1]
        leaving = asyncio.ensure_future(it.client.room("heard").leave())
        await it.clock.advance(0)
        it.socket.ack(it.sent()["id"])
        await leaving
        del leaving
        assert are_kept() == [True, True, True, False]
        stop()
        stop_watching()
        del stop, stop_watching
        assert are_kept() == [False, False, True, False]


async def test_older_events_that_were_asked_for_are_not_applied_a_second_time() -> None:
    simulation = Simulation()
    client = Client("ws://server/ws", world=simulation.world)
    seen: List[Any] = []
    client.room("r").on_event(lambda event: seen.append(event.data))
    joining = asyncio.ensure_future(client.join("r", history=5))
    client.connect()
    await simulation.clock.advance(0)
    # The server has joined the room by itself, behind what was asked for.
    simulation.socket.welcome(rooms=["r"], last_event_id=f"r@{EPOCH}.7")
    join = simulation.socket.next()
    assert join["data"] == {"history": 5}
    simulation.socket.ack(join["id"], joined("r", 5, top=7))
    await simulation.clock.advance(0)
    await joining
    for offset in (6, 7, 8):
        simulation.socket.receive({"event": "e", "room": "r", "data": offset, "id": f"r@{EPOCH}.{offset}"})
    assert [seen, simulation.socket.next()] == [[8], {}]
    await client.close()


async def test_joins_and_leaves_of_a_room_go_one_at_a_time() -> None:
    async with connected() as it:
        room = await it.join("r")
        leaving = asyncio.ensure_future(room.leave())
        await settled()
        joining = asyncio.ensure_future(room.join())
        await settled()
        leave = it.sent()
        assert [leave["event"], it.sent()] == ["room.leave", {}]
        it.socket.refuse(leave["id"], "unavailable", retry_after_ms=100)
        await it.clock.advance(0.1)
        assert [it.sent()["id"], it.sent()] == [leave["id"], {}]
        it.socket.ack(leave["id"], {})
        join = it.sent()
        assert [join["event"], join["data"]] == ["room.join", {}]
        it.socket.ack(join["id"], joined("r", 5))
        await it.clock.advance(0)
        await asyncio.gather(leaving, joining)
        assert room.last_event_id == f"r@{EPOCH}.5"


async def test_a_room_that_is_being_left_is_none_that_a_welcome_joins() -> None:
    welcome = {"rooms": ["u"], "last_event_id": f"u@{EPOCH}.1"}
    async with connected(welcome=welcome) as it:
        room = it.client.room("u")
        told: List[Room] = []
        leaving = asyncio.ensure_future(room.leave())
        await settled()
        leave = it.sent()
        it.client.on_room(told.append)
        it.socket.cut()
        await it.simulation.next_socket()
        it.socket.welcome(**welcome)
        assert [it.sent()["id"], room.is_followed] == [leave["id"], False]
        it.socket.ack(leave["id"])
        await leaving
        assert [room.is_joined, told] == [False, []]
        # On the next connection nothing stands in the way.
        it.socket.cut()
        await it.simulation.next_socket()
        it.socket.welcome(**welcome)
        assert [room.is_joined, told] == [True, [room]]


async def test_leaving_a_room_that_the_server_does_not_know_is_what_was_wanted() -> None:
    async with connected() as it:
        room = await it.join("r")
        leaving = asyncio.ensure_future(room.leave())
        await settled()
        it.socket.refuse(it.sent()["id"], "not_joined")
        await leaving
        assert not room.is_joined


async def test_a_room_that_can_not_be_joined_again_is_lost() -> None:
    async with connected() as it:
        for name in ("a", "b", "c"):
            await it.join(name)
        lost: Dict[str, str] = {}
        for name in ("a", "b", "c"):
            it.client.room(name).on_lost(lambda code, name=name: lost.__setitem__(name, code))  # type: ignore[misc]
        await it.reconnected()
        resume = it.sent()
        rooms = {"a": joined("a", 0, "complete"), "b": {"error": "forbidden"}, "c": {"error": "unavailable"}}
        it.socket.ack(resume["id"], {"rooms": rooms})
        again = it.sent()
        assert [again["event"], again["room"], lost] == ["room.join", "c", {"b": "forbidden"}]
        it.socket.refuse(again["id"], "room_limit")
        assert lost == {"b": "forbidden", "c": "room_limit"}


async def test_a_resume_that_is_refused_is_asked_room_by_room() -> None:
    async with connected() as it:
        await it.join("a")
        await it.join("b")
        await it.reconnected()
        it.socket.refuse(it.sent()["id"], "invalid")
        assert [(sent["event"], sent["room"]) for sent in (it.sent(), it.sent())] == [
            ("room.join", "a"),
            ("room.join", "b"),
        ]


async def test_caught_up_tells_how_much_was_missed() -> None:
    async with connected() as it:
        room = await it.join("r")
        seen: List[Any] = []
        room.on_caught_up(lambda caught_up: seen.append((caught_up.events, caught_up.recovery)))
        await it.reconnected()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": joined("r", 0, "complete", top=3)}})
        for offset in (1, 2):
            it.event(offset)
        it.socket.receive(
            {"event": "room.skip", "room": "r", "id": f"r@{EPOCH}.3", "data": {"from": 3, "reason": "excluded"}}
        )
        assert seen == [(2, "complete")]


async def test_rooms_that_the_server_joins_by_itself_and_a_listener_that_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected(welcome={"rooms": ["ch_1"], "last_event_id": f"ch_1@{EPOCH}.4"}) as it:
        room = it.client.room("ch_1")
        assert [room.is_joined, room.last_event_id, it.client.user] == [True, f"ch_1@{EPOCH}.4", "me"]
        seen: List[Any] = []

        def fails(event: Event[Any]) -> None:
            raise LookupError("a fault of the application")

        room.on("e", fails)
        unsubscribe = room.on("e", lambda event: seen.append(event.data))
        it.event(5, room="ch_1")
        assert seen == [5]
        assert ["a fault of the application" in (record.exc_text or "") for record in caplog.records] == [True]
        unsubscribe()
        unsubscribe()
        it.event(6, room="ch_1")
        assert seen == [5]


async def test_a_room_that_the_application_joins_is_told_and_one_that_it_takes_the_client_out_of_is_lost() -> None:
    cursor = f"auto@{EPOCH}.4"
    async with connected(welcome={"rooms": ["auto"], "last_event_id": cursor}) as it:
        rooms: List[str] = []
        seen: List[Any] = []
        lost: List[str] = []

        def told(room: Room) -> None:
            rooms.append(room.name)
            room.on("e", lambda event: seen.append(event.data))
            room.on_lost(lost.append)

        it.client.on_room(told)
        room = it.client.room("r")
        it.event(7)
        it.socket.receive({"event": "room.joined", "room": "r", "data": joined("r", 7)})
        it.event(8)
        assert [rooms, seen, room.is_joined, room.last_event_id] == [["r"], [8], True, f"r@{EPOCH}.8"]
        # It is resumed like another, and not told again.
        it.socket.cut()
        await it.simulation.next_socket()
        it.socket.welcome(rooms=["auto"], last_event_id=cursor)
        resume = it.sent()
        assert sorted(resume["data"]["last_event_id"].split(",")) == [cursor, f"r@{EPOCH}.8"]
        again = {"auto": joined("auto", 4, "complete"), "r": joined("r", 8, "complete")}
        it.socket.ack(resume["id"], {"rooms": again})
        it.event(9)
        stream = room.__aiter__()
        it.socket.receive({"event": "room.left", "room": "r", "data": {"reason": "removed"}})
        it.event(10)
        assert [rooms, seen, lost, room.is_joined] == [["r"], [8, 9], ["removed"], False]
        with pytest.raises(RoomLost):
            await stream.__anext__()
        it.socket.receive({"event": "room.joined", "room": "r", "data": joined("r", 12)})
        it.event(13)
        assert [rooms, seen] == [["r", "r"], [8, 9, 13, 13]], "listeners stay, and on_room has added others"
        assert (await room.__aiter__().__anext__()).data == 13, "a loop reads on by another stream"
        assert it.sent() == {}


async def test_a_leave_that_has_no_answer_yet_is_behind_what_the_application_did_before() -> None:
    async with connected() as it:
        room = await it.join("r")
        leaving = asyncio.ensure_future(room.leave())
        await it.clock.advance(0)
        leave = it.sent()
        it.socket.receive({"event": "room.left", "room": "r", "data": {"reason": "removed"}})
        it.socket.receive({"event": "room.joined", "room": "r", "data": joined("r", 5)})
        assert [leave["event"], room.is_joined] == ["room.leave", False]
        it.socket.ack(leave["id"], {})
        await leaving
        it.socket.receive({"event": "room.joined", "room": "r", "data": joined("r", 6)})
        assert [room.is_joined, room.last_event_id, it.sent()] == [True, f"r@{EPOCH}.6", {}]


async def test_a_coroutine_is_no_listener() -> None:
    async with connected() as it:

        async def listener(event: Event[Any]) -> None:
            pass

        with pytest.raises(TypeError, match="plain function"):
            it.client.on("e", listener)


async def test_degraded_is_told_once_each_way_and_ends_with_the_connection() -> None:
    async with connected() as it:
        seen: List[bool] = []
        it.client.on_degraded(seen.append)
        for degraded in (True, True, False, True):
            it.socket.receive({"event": "session.degraded", "data": {"degraded": degraded}})
        assert [seen, it.client.is_degraded] == [[True, False, True], True]
        await it.reconnected()
        assert [seen, it.client.is_degraded] == [[True, False, True, False], False]


async def test_who_is_in_a_room_and_what_was_said_can_be_asked_in_pages() -> None:
    async with connected() as it:
        room = await it.join("r", 9)
        ask: Callable[[Awaitable[Any]], Any] = asyncio.ensure_future
        members = ask(room.members(limit=2))
        await settled()
        asked = it.sent()
        assert [asked["event"], asked["data"]] == ["room.members", {"limit": 2}]
        page = {"members": [{"user": "ann", "info": 1}], "rev": 3, "count": 5, "next": "ann"}
        it.socket.ack(asked["id"], page)
        found = await members
        assert [found.members[0].user, found.rev, found.count, found.next] == ["ann", 3, 5, "ann"]
        history = ask(room.history(before=f"r@{EPOCH}.8"))
        await settled()
        asked = it.sent()
        assert [asked["event"], asked["data"]] == ["room.history", {"before": f"r@{EPOCH}.8"}]
        event = {"event": "e", "room": "r", "id": f"r@{EPOCH}.7", "from": "ann", "data": 7}
        it.socket.ack(asked["id"], {"events": [event]})
        said = await history
        assert [said.events[0].data, said.events[0].from_, said.next] == [7, "ann", None]
