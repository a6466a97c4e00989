"""How fast the client sends: its share of the server's limits, and what was refused goes again alone. PROTOCOL.md §7."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any, Dict, List, Mapping, Optional

import pytest
from connected import Connected, connected, joined
from model_server import ModelServer
from world import Simulation

from tidings_client import Client
from tidings_client.pace import Pace

LIMITS = {"messages_per_second": 20, "messages_burst": 40}


def sent(it: Connected) -> List[Dict[str, Any]]:
    """All that was sent and nobody has looked at."""
    messages = []
    while it.socket.sent:
        messages.append(it.sent())
    return messages


def test_half_of_the_burst_at_once_and_then_what_a_second_brings() -> None:
    pace = Pace()
    pace.welcomed({"messages_per_second": 20, "messages_burst": 41}, 100.0)
    assert pace.share == 20
    for _ in range(20):
        assert pace.has_token(100.0)
        pace.take(100.0)
    assert not pace.has_token(100.0)
    pace.take(100.0)
    assert pace.next_token_at() == pytest.approx(100.05), "who is not held back has no debts"
    assert [pace.has_token(100.04), pace.has_token(pace.next_token_at())] == [False, True]
    for _ in range(20):
        assert pace.has_token(1000.0)
        pace.take(1000.0)
    assert not pace.has_token(1000.0), "a long silence brings no more than that"
    pace.welcomed({"messages_per_second": 1, "messages_burst": 1}, 1000.0)
    assert [pace.share, pace.has_token(1000.0)] == [1, True]


def test_a_part_of_a_token_that_comes_in_less_time_than_a_number_can_say_comes_later_all_the_same() -> None:
    began = 1_800_000_000.0
    pace = Pace()
    pace.welcomed({"messages_per_second": 1000, "messages_burst": 2}, began)
    pace.take(began)
    now = began
    while 1 - (now - began) * 1000 > 0.0003:
        now = math.nextafter(now, math.inf)
    assert not pace.has_token(now)
    assert pace.next_token_at() > now


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"messages_per_second": 20},
        {"messages_burst": 40},
        {"messages_per_second": 0, "messages_burst": 40},
        {"messages_per_second": 20, "messages_burst": -1},
        {"messages_per_second": "20", "messages_burst": True},
    ],
)
async def test_a_server_that_names_no_limits_gets_all_at_once(limits: Mapping[str, Any]) -> None:
    async with connected(welcome={"limits": limits}) as it:
        for number in range(256):
            it.client.request("order", number).on_settled(lambda _: None)
        assert len(it.socket.sent) == 256


async def test_256_requests_at_once_are_answered_in_order_and_none_is_refused() -> None:
    simulation = Simulation()
    server = ModelServer(simulation.clock, random.Random(5), rate=(20, 40))
    client = Client("ws://server/ws", world=simulation.world)

    async def serve() -> None:
        await simulation.clock.advance(0.01)
        server.poll()

    client.connect()
    await simulation.clock.advance(0)
    server.accept(simulation.socket)
    joining = asyncio.ensure_future(client.join("r"))
    while not joining.done():
        await serve()
    room = await joining
    began = simulation.clock.now()
    answered: List[str] = []
    requests = [room.request("say", number) for number in range(256)]
    for request in requests:
        request.on_settled(lambda settled: answered.append(settled.id))
    while len(answered) < 256:
        await serve()
    assert [event["data"] for event in server.logs["r"]] == list(range(256))
    assert [server.refused, answered] == [0, [request.id for request in requests]]
    assert 11 < simulation.clock.now() - began < 13
    await client.close()


async def test_no_more_requests_than_the_share_are_without_an_answer() -> None:
    async with connected(welcome={"limits": LIMITS}) as it:
        ids = [it.client.request("order", number).id for number in range(60)]
        await it.clock.advance(2)
        assert [message["id"] for message in sent(it)] == ids[:20]
        for id in ids[:3]:
            it.socket.ack(id)
        assert [message["id"] for message in sent(it)] == ids[20:23]
        for id in ids[3:]:
            it.socket.ack(id)
            if id == ids[30]:
                await it.clock.advance(10)


async def test_a_message_that_nobody_waits_for_takes_its_share_and_is_not_held_back() -> None:
    async with connected(welcome={"limits": LIMITS}) as it:
        for number in range(30):
            assert it.client.send("typing", number)
        assert len(sent(it)) == 30
        request = it.client.request("order")
        assert sent(it) == []
        await it.clock.advance(0.049)
        assert sent(it) == []
        await it.clock.advance(0.002)
        assert [message["id"] for message in sent(it)] == [request.id]
        it.socket.ack(request.id)


async def test_a_resume_is_not_held_back_and_a_new_connection_has_its_whole_share() -> None:
    async with connected(welcome={"limits": {"messages_per_second": 1, "messages_burst": 3}}) as it:
        room = await it.join("r")
        await it.clock.advance(1)
        requests = [room.request("say", number) for number in range(3)]
        assert [message["id"] for message in sent(it)] == [requests[0].id]
        it.socket.cut()
        await it.simulation.next_socket()
        it.socket.welcome(limits={"messages_per_second": 1, "messages_burst": 5})
        (resume,) = sent(it)
        assert resume["event"] == "session.resume"
        it.socket.ack(resume["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        # Two at once: the resume was one of them.
        assert [message["id"] for message in sent(it)] == [requests[0].id]
        await it.clock.advance(1)
        assert [message["id"] for message in sent(it)] == [requests[1].id]
        for request in requests:
            it.socket.ack(request.id)
            await it.clock.advance(1)


async def test_nothing_of_its_room_is_sent_before_a_refused_request_is_answered_and_other_rooms_go_on() -> None:
    async with connected(welcome={"limits": LIMITS}) as it:
        room, other = await it.join("r"), await it.join("q")
        first, second, third = [room.request("say", number) for number in range(3)]
        assert [message["id"] for message in sent(it)] == [first.id, second.id, third.id]
        it.socket.ack(first.id)
        it.socket.refuse(second.id, "rate_limited", retry_after_ms=100)
        it.socket.ack(third.id)
        later, elsewhere, nowhere = room.request("say", 3), other.request("say", 0), it.client.request("order")
        assert [message["id"] for message in sent(it)] == [elsewhere.id, nowhere.id]
        await it.clock.advance(0.1)
        assert [message["id"] for message in sent(it)] == [second.id]
        await it.clock.advance(10)
        elsewhere_again = other.request("say", 1)
        assert [message["id"] for message in sent(it)] == [elsewhere_again.id], "on its way, it holds its room as well"
        it.socket.refuse(second.id, "unavailable")
        await it.clock.advance(2)
        assert [message["id"] for message in sent(it)] == [second.id]
        it.socket.ack(second.id)
        assert [message["id"] for message in sent(it)] == [later.id]
        for request in (later, elsewhere, nowhere, elsewhere_again):
            it.socket.ack(request.id)


@pytest.mark.timeout(10)
async def test_a_refused_request_whose_time_has_come_waits_for_a_connection() -> None:
    async with connected() as it:
        request = it.client.request("order")
        it.socket.refuse(sent(it)[0]["id"], "unavailable", retry_after_ms=100)
        it.simulation.failures.extend(ConnectionRefusedError("nobody listens") for _ in range(3))
        it.socket.cut()
        # A deadline that has passed and rings again and again would be the end of this test.
        await it.simulation.next_socket()
        it.socket.welcome()
        assert [message["id"] for message in sent(it)] == [request.id]
        it.socket.ack(request.id)


async def test_the_place_of_a_room_less_request_is_kept_too() -> None:
    async with connected() as it:
        first, second = it.client.request("order", 1), it.client.request("order", 2)
        sent(it)
        it.socket.refuse(first.id, "internal", retry_after_ms=100)
        it.socket.refuse(second.id, "internal", retry_after_ms=10)
        seen: List[Optional[str]] = []
        for _ in range(12):
            await it.clock.advance(0.01)
            seen.extend(message.get("id") for message in sent(it))
        assert seen == [first.id]
        it.socket.ack(first.id)
        assert [message["id"] for message in sent(it)] == [second.id]
        it.socket.ack(second.id)
