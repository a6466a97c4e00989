"""What a client owes, by values and moved time: PROTOCOL.md §1, §5, §6 and §7."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional

import pytest
from connected import EPOCH, connected, joined
from world import Simulation, settled

from tidings_client import Client, ConnectionFailed, ConnectionFault, Event, RequestError, Room, RoomLost
from tidings_client.clock import SystemClock
from tidings_client.connection import Answer, HandshakeFailed, World


class Failure:
    """How something ends that has to fail."""

    def __init__(self, awaited: Awaitable[Any]) -> None:
        self.task = asyncio.ensure_future(self._wait(awaited))

    async def _wait(self, awaited: Awaitable[Any]) -> RequestError:
        with pytest.raises(RequestError) as failed:
            await awaited
        return failed.value


async def test_a_token_is_asked_for_at_every_connect_and_is_in_no_url() -> None:
    asks: List[bool] = []

    async def token(*, fresh: bool) -> str:
        asks.append(fresh)
        return f"t{len(asks)}"

    async with connected(token=token) as it:
        assert [it.socket.token, it.socket.url] == ["t1", "ws://server/ws"]
        it.socket.cut(4300)
        await it.simulation.next_socket()
        assert [it.socket.token, it.socket.query] == ["t2", {"session": "s"}]
        assert asks == [False, True]


async def test_a_refusal_tells_why_one_fresh_token_then_refused_until_told_to_try() -> None:
    asks: List[bool] = []

    def token(*, fresh: bool) -> str:
        asks.append(fresh)
        return "t"

    expired = {"code": "token_expired", "detail": "it has expired", "fix": "get another"}
    async with connected(token=token) as it:
        it.simulation.failures.extend([HandshakeFailed(Answer(401, expired)), HandshakeFailed(Answer(401, expired))])
        it.socket.cut()
        await it.clock.advance(10)
        assert it.client.state == "refused"
        assert it.client.fault == ConnectionFault(401, "token_expired", "it has expired; get another")
        assert it.simulation.dialled == 3
        await it.clock.advance(600)
        assert it.simulation.dialled == 3
        it.client.reconnect()
        await it.clock.advance(0)
        assert it.simulation.dialled == 4
        assert asks == [False, False, True, True]
        assert it.simulation.asked == []


async def test_what_was_not_the_servers_answer_is_learnt_from_a_plain_request() -> None:
    async with connected(token="t") as it:
        it.simulation.failures.append(HandshakeFailed(None))
        it.simulation.answers.append(Answer(426, {"code": "upgrade_required"}))
        it.socket.cut()
        await it.simulation.next_socket()
        assert it.simulation.asked == [("http://server/ws", "t")], "the URL is good: a proxy is in the way"
        it.simulation.failures.append(HandshakeFailed(None))
        it.simulation.answers.append(Answer(403, {"code": "origin_not_allowed", "detail": "no"}))
        it.socket.cut()
        await it.clock.advance(10)
        assert it.client.state == "refused"
        assert it.client.fault == ConnectionFault(403, "origin_not_allowed", "no")


async def test_a_plain_request_that_fails_is_a_lost_network() -> None:
    async with connected() as it:
        it.simulation.failures.append(HandshakeFailed(None))
        it.socket.cut()
        await it.simulation.next_socket()
        assert len(it.simulation.asked) == 1


async def test_nobody_logged_in_is_a_refusal_and_a_provider_that_fails_a_lost_network(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulation = Simulation()
    tokens: List[Any] = [OSError("offline"), None]

    def token(*, fresh: bool) -> Optional[str]:
        answer = tokens.pop(0)
        if isinstance(answer, OSError):
            raise answer
        assert answer is None
        return None

    client = Client("ws://server/ws", token=token, world=simulation.world)
    client.connect()
    await simulation.clock.advance(0)
    assert client.state == "connecting" and client.fault is not None and "offline" in client.fault.message
    await simulation.clock.advance(1)
    assert [client.state, client.fault.code, simulation.dialled] == ["refused", "token_missing", 0]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    await client.close()


async def test_a_url_or_a_token_that_can_not_be_is_refused() -> None:
    simulation = Simulation()
    simulation.failures.append(ValueError("the token has characters that no token has"))
    client = Client("http://server/ws", token="a b", world=simulation.world)
    client.connect()
    await simulation.clock.advance(0)
    assert [client.state, client.fault and client.fault.status] == ["refused", None]
    await client.close()
    with pytest.raises(ValueError, match="is no URL"):
        Client("server/ws")


async def test_too_many_connections_it_waits_for_as_long_as_it_is_told() -> None:
    async with connected() as it:
        it.simulation.failures.append(HandshakeFailed(Answer(429, {"code": "connection_limit"}, 40)))
        began = it.clock.now()
        it.socket.cut()
        await it.simulation.next_socket()
        assert it.clock.now() - began >= 40


async def test_silence_ends_a_connection_after_75_s_and_it_says_something_itself_every_25_s() -> None:
    async with connected() as it:
        await it.clock.advance(25)
        assert it.sent()["event"] == "presence.heartbeat"
        it.socket.receive({"event": "notice"})
        states: List[str] = []
        it.client.on_state(states.append)
        await it.clock.advance(74)
        assert states == ["connected"]
        await it.clock.advance(2)
        assert [states[1], it.simulation.sockets[0].closed_with] == ["reconnecting", 4110]


async def test_a_servers_ping_is_a_sign_of_life() -> None:
    async with connected() as it:
        for _ in range(10):
            await it.clock.advance(30)
            it.socket.ping()
        assert [it.client.state, it.simulation.dialled] == ["connected", 1]


async def test_an_attempt_that_comes_to_nothing_is_given_up_after_20_s() -> None:
    simulation = Simulation()
    client = Client("ws://server/ws", world=simulation.world)
    client.connect()
    await simulation.clock.advance(19)
    assert simulation.dialled == 1
    await simulation.clock.advance(3)
    assert [simulation.dialled, simulation.sockets[0].closed_with] == [2, 4110]
    await client.close()


async def test_a_drain_moves_the_client_within_the_window_and_final_codes_end_it() -> None:
    async with connected() as it:
        drain = {"after_ms": 1000, "within_ms": 30_000, "reason": "draining"}
        it.socket.receive({"event": "session.reconnect", "data": drain})
        began = it.clock.now()
        await it.simulation.next_socket()
        assert 1 <= it.clock.now() - began <= 30.5
        assert it.simulation.sockets[0].closed_with == 4200
        it.socket.welcome()
        request = it.client.request("order")
        it.socket.cut(4006)
        with pytest.raises(RequestError) as failed:
            await request
        assert [failed.value.code, it.client.state] == ["outcome_unknown", "closed"]
        with pytest.raises(RequestError) as failed:
            await it.client.request("order")
        assert failed.value.code == "closed"


async def test_the_moment_of_a_drain_holds_also_if_the_close_comes_earlier() -> None:
    async with connected() as it:
        drain = {"after_ms": 20_000, "within_ms": 30_000, "reason": "draining"}
        it.socket.receive({"event": "session.reconnect", "data": drain})
        began = it.clock.now()
        it.socket.cut(4200)
        await it.simulation.next_socket()
        assert 20 <= it.clock.now() - began <= 30.5


async def test_a_fault_of_the_protocol_is_tried_once() -> None:
    async with connected() as it:
        await it.reconnected(1002)
        it.socket.cut(1009)
        assert it.client.state == "closed"


async def waits(simulation: Simulation, code: Optional[int]) -> float:
    """How long a client waits after this close until it connects again."""
    began = simulation.clock.now()
    simulation.socket.cut(code)
    (await simulation.next_socket()).welcome()
    return simulation.dialled_at[-1] - began


async def test_pressure_waits_a_second_more_and_a_connection_that_held_starts_the_backoff_anew() -> None:
    simulation = Simulation(draw=lambda: 0.25)
    client = Client("ws://server/ws", world=simulation.world)
    client.connect()
    await simulation.clock.advance(0)
    simulation.socket.welcome()
    seen = [await waits(simulation, code) for code in (None, 4109, 1012, 4999)]
    await simulation.clock.advance(61)
    seen.append(await waits(simulation, None))
    assert seen == pytest.approx([0.25, 1.5, 1.0, 2.0, 0.25], abs=1e-3)
    await client.close()


async def test_a_request_is_sent_again_with_its_id_after_a_cut_and_when_the_server_says_later() -> None:
    async with connected() as it:
        room = await it.join("r")
        first, second = room.request("e", 1), room.request("e", 2)
        assert [it.sent()["id"], it.sent()["id"]] == [first.id, second.id]
        it.socket.refuse(first.id, "rate_limited", retry_after_ms=350)
        it.socket.ack(second.id, "two")
        third = room.request("e", 3)
        assert it.sent() == {}, "nothing overtakes the one that waits"
        await it.clock.advance(0.35)
        assert [it.sent()["id"], it.sent()["id"]] == [first.id, third.id]
        await it.reconnected()
        resume = it.sent()
        assert [resume["event"], resume["data"]] == ["session.resume", {"last_event_id": f"r@{EPOCH}.0"}]
        assert it.socket.query["resume"] == "wait"
        assert it.sent() == {}, "nothing is sent before the rooms are joined"
        assert not room.send("typing")
        it.socket.ack(resume["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        assert [it.sent()["id"], it.sent()["id"]] == [first.id, third.id]
        assert room.send("typing")
        it.socket.ack(first.id, "one")
        it.socket.refuse(third.id, "schema", pointer="/x")
        assert [await first, await second] == ["one", "two"]
        with pytest.raises(RequestError) as failed:
            await third
        assert [failed.value.code, failed.value.pointer, it.client.unsettled] == ["schema", "/x", []]


async def test_its_own_event_answers_a_request_whose_ack_was_lost() -> None:
    async with connected() as it:
        room = await it.join("r")
        request = room.request("e")
        it.sent()
        it.event(1, **{"from": "me", "re": request.id})
        assert len(it.client.unsettled) == 1, "the ack may say more"
        it.socket.cut()
        assert await request == {"event_id": f"r@{EPOCH}.1"}


async def test_two_minutes_without_an_answer_the_outcome_is_unknown() -> None:
    async with connected() as it:
        request = it.client.request("order")
        await it.clock.advance(119)
        assert [one.id for one in it.client.unsettled] == [request.id]
        await it.clock.advance(1)
        with pytest.raises(RequestError) as failed:
            await request
        assert failed.value.code == "outcome_unknown"


async def test_a_resume_without_an_answer_for_two_minutes_gives_the_connection_up() -> None:
    async with connected() as it:
        await it.join("r")
        await it.reconnected()
        assert it.sent()["event"] == "session.resume"
        stuck = it.socket
        for _ in range(13):
            await it.clock.advance(10)
            if stuck.closed_with is None:
                stuck.receive({"event": "notice"})
        assert stuck.closed_with == 4110
        it.socket.welcome()
        assert it.sent()["event"] == "session.resume"


async def test_the_outbox_is_bounded() -> None:
    async with connected() as it:
        requests = [it.client.request("order", number) for number in range(257)]
        with pytest.raises(RequestError) as failed:
            await requests[256]
        assert failed.value.code == "queue_full"
        assert len(it.client.unsettled) == 256
        many = it.simulation.socket
        assert len(many.sent) == 256
    for request in requests[:256]:
        with pytest.raises(RequestError):
            await request


async def test_bytes_count_too() -> None:
    async with connected() as it:
        kept = [it.client.request("image", bytes(1_000_000)) for _ in range(4)]
        with pytest.raises(RequestError) as failed:
            await it.client.request("image", bytes(1_000_000))
        assert failed.value.code == "queue_full"
        for request in kept:
            it.socket.ack(request.id)
            await request


async def test_who_stops_waiting_does_not_take_a_request_back() -> None:
    async with connected() as it:
        room = await it.join("r")
        request = room.request("e", 1)

        async def waits() -> Any:
            return await request

        waiting = asyncio.ensure_future(waits())
        await settled()
        waiting.cancel()
        await settled()
        assert waiting.cancelled() and len(it.client.unsettled) == 1
        it.socket.ack(request.id, "one")
        assert await request == "one"


async def test_what_is_no_json_is_told_at_once() -> None:
    async with connected() as it:
        with pytest.raises(TypeError):
            it.client.request("e", object())
        with pytest.raises(ValueError):
            it.client.send("e", float("nan"))
        assert it.sent() == {} and it.client.unsettled == []


async def test_bytes_go_as_a_binary_frame_and_come_as_bytes() -> None:
    async with connected() as it:
        room = await it.join("r")
        seen: List[Event[Any]] = []
        room.on("image", seen.append)
        assert room.send("image", b"\0\xff")
        frame = it.socket.sent.popleft()
        assert isinstance(frame, bytes) and frame.endswith(b"}\0\xff")
        header = b'{"event":"image","room":"r","id":"r@k3f9a1qz.1"}'
        it.socket.receive(len(header).to_bytes(2, "big") + header + b"\xff\0")
        assert [event.data for event in seen] == [b"\xff\0"]


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


async def test_with_waits_until_it_is_connected() -> None:
    simulation = Simulation()
    client = Client("ws://server/ws", world=simulation.world)
    states: List[str] = []
    client.on_state(states.append)

    async def program() -> None:
        async with client:
            assert client.state == "connected"

    running = asyncio.ensure_future(program())
    simulation.failures.append(ConnectionRefusedError("nobody listens"))
    await simulation.next_socket()
    assert client.fault is not None and not running.done()
    simulation.socket.welcome()
    await running
    assert [states, simulation.socket.closed_with] == [["connecting", "connected", "closed"], 1000]


@pytest.mark.parametrize("fails", [HandshakeFailed(Answer(403, {"code": "origin_not_allowed"})), None])
async def test_with_raises_if_the_server_refuses_or_closes_for_good(fails: Optional[Exception]) -> None:
    simulation = Simulation()
    if fails is not None:
        simulation.failures.append(fails)

    async def program() -> None:
        async with Client("ws://server/ws", world=simulation.world):
            raise AssertionError("there is no connection")

    running = asyncio.ensure_future(program())
    await simulation.clock.advance(0)
    if fails is None:
        simulation.socket.cut(4003)
    with pytest.raises(ConnectionFailed) as failed:
        await running
    assert failed.value.fault is not None and failed.value.fault.status == (403 if fails else 4003)
    assert failed.value.state == ("refused" if fails else "closed")


async def test_close_is_final() -> None:
    async with connected() as it:
        await it.join("r")
        await it.client.close()
        it.client.reconnect()
        it.client.connect()
        await it.clock.advance(100)
        assert [it.simulation.dialled, it.client.state, it.socket.closed_with] == [1, "closed", 1000]


class Presence:
    """What the tests of presence say and look at."""

    def __init__(self, it: Any) -> None:
        self.it = it
        self.seen: List[str] = []

    def told(self, members: Mapping[str, Any]) -> None:
        self.seen.append(",".join(f"{user}{'' if info is None else info}" for user, info in sorted(members.items())))

    async def page(self, asked: Dict[str, Any], users: str, rev: int, **fields: Any) -> None:
        members = [{"user": user, "info": None} for user in users.split()]
        self.it.socket.ack(asked["id"], {"members": members, "rev": rev, **fields})
        await settled()

    def one(self, change: str, user: str, rev: int) -> None:
        data = {"user": user, "info": None, "rev": rev}
        self.it.socket.receive({"event": f"presence.{change}", "room": "r", "data": data})

    def changes(self, first: int, rev: int, **data: Any) -> None:
        for name in ("joins", "updates"):
            if name in data:
                data[name] = [{"user": user, "info": info} for user, info in data[name].items()]
        self.it.socket.receive({"event": "presence.changes", "room": "r", "data": {**data, "from": first, "rev": rev}})


async def test_presence_the_list_then_deltas_a_hole_asks_again_and_a_reconnect_too() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        room.presence.on_change(presence.told)
        asked = it.sent()
        assert asked["event"] == "room.members"
        presence.one("join", "cid", 8)
        await presence.page(asked, "ann", 7, next="ann")
        page = it.sent()
        assert page["data"] == {"after": "ann", "limit": 1000}
        await presence.page(page, "bob", 7)
        assert presence.seen == ["ann,bob,cid"]
        presence.one("leave", "ann", 9)
        presence.one("leave", "ann", 9)
        presence.one("join", "dan", 11)
        assert presence.seen == ["ann,bob,cid", "bob,cid"]
        again = it.sent()
        assert again["event"] == "room.members", "something was missed"
        await presence.page(again, "dan", 11)
        assert presence.seen[-1] == "dan"
        await it.reconnected()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        after = it.sent()
        assert [after["event"], room.presence.members] == ["room.members", {"dan": None}]
        await presence.page(after, "", 1)
        assert presence.seen[-1] == ""


async def test_presence_of_a_large_room_several_changes_in_one_message() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        room.presence.on_change(presence.told)
        # While the pages come, ann goes and dan comes behind them, eve comes and goes.
        await presence.page(it.sent(), "ann bob", 7, next="bob", count=3)
        presence.changes(6, 9, joins={"dan": None}, leaves=["ann"])
        await presence.page(it.sent(), "cid dan eve", 10, count=4)
        assert presence.seen == ["bob,cid,dan,eve"], "where the first page was, the changes go on"
        presence.changes(10, 12, leaves=["eve", "nobody"], updates={"bob": 1})
        presence.changes(9, 12, leaves=["bob"])
        assert [presence.seen[-1], room.presence.count, it.sent()] == ["bob1,cid,dan", 3, {}]
        presence.changes(13, 13, joins={"me": 2})
        assert presence.seen[-1] == "bob1,cid,dan,me2", "one's own change is one like any other"
        presence.changes(15, 18, leaves=["bob"])
        again = it.sent()
        assert again["event"] == "room.members", "14 was missed"
        presence.changes(19, 19, joins={"fay": None})
        presence.changes(22, 22, joins={"gus": None})
        await presence.page(again, "cid", 18)
        assert presence.seen[-1] == "cid,fay"
        third = it.sent()
        assert third["event"] == "room.members", "and 20 while it was asked for"
        await presence.page(third, "cid gus", 22)
        assert presence.seen[-1] == "cid,gus"


async def test_presence_of_a_room_that_tells_only_how_many_a_number_no_list_no_question() -> None:
    async with connected() as it:
        room = await it.join("r")
        seen: List[Any] = []
        room.presence.on_change(lambda members: seen.append((len(members), room.presence.count)))

        def count(members: int, rev: int) -> None:
            data = {"members": members, "rev": rev}
            it.socket.receive({"event": "presence.count", "room": "r", "data": data})

        count(5, 3)
        count(9, 7)
        it.socket.ack(it.sent()["id"], {"members": [], "rev": 5, "count": 6})
        await settled()
        count(8, 6)
        count(4000, 90)
        assert [seen, it.sent()] == [[(0, 9), (0, 4000)], {}]


async def test_what_waits_for_the_list_is_bounded() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        room.presence.on_change(presence.told)
        first = it.sent()
        for rev in range(1, 4098):
            presence.one("update", "ann", rev)
        second = it.sent()
        assert second["event"] == "room.members", "too much came meanwhile: the list is asked for anew"
        await presence.page(first, "old", 0)
        await presence.page(second, "ann", 4097)
        assert presence.seen == ["ann"]


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
