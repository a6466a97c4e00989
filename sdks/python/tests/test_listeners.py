"""What a listener may do while it is told something: close the client, or connect again. Others hear it in order, and
nothing is told once the client is closed."""

from __future__ import annotations

import json
from typing import Any, List

import pytest
from connected import EPOCH, connected, joined
from world import Simulation

from tidings_client import Client
from tidings_client.connection import Answer, HandshakeFailed


def close(client: Client) -> None:
    """Closes it before it returns, as a task does that is begun at once (`asyncio.eager_task_factory`)."""
    with pytest.raises(StopIteration):
        client.close().send(None)


@pytest.mark.parametrize("again", [False, True])
async def test_everyone_hears_that_it_was_connected_before_a_listener_closed_it(again: bool) -> None:
    simulation = Simulation()
    client = Client("ws://server/ws", world=simulation.world)
    first: List[str] = []
    second: List[str] = []
    late: List[str] = []

    def told(state: str) -> None:
        first.append(state)
        if state == "connected" and first.count("connected") == 1 + again:
            close(client)
            client.on_state(late.append)

    client.on_state(told)
    client.on_state(second.append)
    client.room("r").on_lost(second.append)
    client.connect()
    await simulation.clock.advance(0)
    simulation.socket.welcome(rooms=["r"], last_event_id=f"r@{EPOCH}.1")
    if again:
        simulation.socket.cut()
        (await simulation.next_socket()).welcome(rooms=["r"], last_event_id=f"r@{EPOCH}.1")
    expected = ["connecting", "connected", *["reconnecting", "connected"] * again, "closed"]
    assert [first, second, late] == [expected, expected, ["connected", "closed"]]
    # The resume went before anybody heard of the connection.
    sent = [json.loads(frame)["event"] for frame in simulation.socket.sent]
    assert [simulation.socket.closed_with, sent] == [1000, ["session.resume"] * again]
    await simulation.clock.advance(600)
    assert simulation.dialled == 1 + again


async def test_a_listener_that_connects_again_after_a_refusal_is_behind_the_news_of_it() -> None:
    async with connected() as it:
        it.simulation.failures.append(HandshakeFailed(Answer(403, {"code": "origin_not_allowed"})))
        states: List[str] = []

        def told(state: str) -> None:
            if state == "refused":
                it.client.reconnect()

        it.client.on_state(told)
        it.client.on_state(states.append)
        it.socket.cut()
        (await it.simulation.next_socket()).welcome()
        assert states == ["connected", "reconnecting", "refused", "reconnecting", "connected"]


async def test_what_came_with_a_joins_ack_is_not_told_to_who_closed_it() -> None:
    async with connected() as it:
        seen: List[Any] = []
        room = it.client.room("r")

        def told(event: Any) -> None:
            seen.append(event.data)
            close(it.client)

        room.on_event(told)
        room.on_lost(seen.append)
        room.on_caught_up(seen.append)
        joining = room.join()
        joining.send(None)
        it.socket.ack(it.sent()["id"], joined("r", 0, top=2))
        # They wait for who has joined, and the connection ends before.
        it.event(1)
        it.event(2)
        it.socket.cut()
        assert [seen, it.client.state] == [[1], "closed"]
        joining.close()
        await it.clock.advance(600)
        assert [seen, it.simulation.dialled] == [[1], 1]


async def test_rooms_of_a_resume_are_neither_joined_nor_lost_once_a_listener_has_closed_it() -> None:
    async with connected() as it:
        told: List[Any] = []
        for name in ("a", "b", "c"):
            room = await it.join(name)
            room.on_lost(told.append)
            room.on_caught_up(lambda _: told.append("caught up"))
        await it.clock.advance(1)
        it.client.room("a").on_caught_up(lambda _: close(it.client))
        it.client.room("b").presence.on_change(told.append)
        it.sent()
        told.clear()
        await it.reconnected()
        resume = it.sent()
        it.socket.ack(resume["id"], {"rooms": {name: joined(name, 0, "complete") for name in ("a", "b")}})
        assert [told, it.client.state, it.client.room("b").is_joined] == [["caught up"], "closed", False]
        await it.clock.advance(600)
        assert [told, list(it.socket.sent)] == [["caught up"], []]
