"""Requests: once, whatever the network does, and answered in the end. PROTOCOL.md §2 and §7."""

from __future__ import annotations

import asyncio
from typing import Any, List, Optional

import pytest
from connected import EPOCH, connected, joined
from world import settled

from tidings_client import Event, RequestError, State


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
        assert [it.sent()["id"], it.sent()] == [first.id, {}], "it goes again alone"
        await it.reconnected()
        resume = it.sent()
        assert [resume["event"], resume["data"]] == ["session.resume", {"last_event_id": f"r@{EPOCH}.0"}]
        assert it.socket.query["resume"] == "wait"
        assert it.sent() == {}, "nothing is sent before the rooms are joined"
        assert not room.send("typing")
        it.socket.ack(resume["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        assert it.sent()["id"] == first.id
        assert room.send("typing")
        assert it.sent()["event"] == "typing"
        it.socket.ack(first.id, "one")
        assert it.sent()["id"] == third.id
        it.socket.refuse(third.id, "schema", pointer="/x")
        assert [await first, await second] == ["one", "two"]
        with pytest.raises(RequestError) as failed:
            await third
        assert [failed.value.code, failed.value.pointer, it.client.unsettled] == ["schema", "/x", []]


async def test_what_listeners_ask_while_a_welcome_is_handled_goes_behind_the_resume() -> None:
    async with connected() as it:
        room = await it.join("r")
        it.socket.receive({"event": "session.degraded", "data": {"degraded": True}})
        it.socket.cut()
        requests, taken = [room.request("e", "before")], []

        def ask(when: str) -> None:
            taken.append(room.send("typing"))
            requests.append(room.request("e", when))

        def told(state: State) -> None:
            if state == "connected":
                ask("state")

        it.client.on_state(told)
        it.client.on_degraded(lambda _: ask("degraded"))
        it.client.on_room(lambda _: ask("room"))
        await it.simulation.next_socket()
        it.socket.welcome(rooms=["u"], last_event_id=f"u@{EPOCH}.0")
        resume = it.sent()
        assert [resume["event"], it.sent(), taken] == ["session.resume", {}, [False] * 3]
        it.socket.ack(resume["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        assert [it.sent()["data"] for _ in range(4)] == ["before", "degraded", "room", "state"]
        for request in requests:
            it.socket.ack(request.id)
            await request


async def test_what_is_asked_of_a_room_waits_for_a_join_that_the_server_refuses_for_now() -> None:
    async with connected() as it:
        joining = asyncio.ensure_future(it.client.join("r"))
        await settled()
        join, first = it.sent(), it.client.room("r").request("e", 1)
        it.socket.refuse(join["id"], "unavailable", retry_after_ms=100)
        assert it.sent() == {}
        await it.clock.advance(0.1)
        assert [it.sent()["id"], it.sent()] == [join["id"], {}]
        it.socket.ack(join["id"], joined("r", 0))
        await it.clock.advance(0.001)
        room = await joining
        assert it.sent()["id"] == first.id
        it.socket.ack(first.id)
        # The client's own join, when a room did not come back.
        await it.reconnected()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": {"error": "unavailable"}}})
        rejoin, second = it.sent(), room.request("e", 2)
        assert [rejoin["event"], it.sent()] == ["room.join", {}]
        it.socket.ack(rejoin["id"], joined("r", 0, "complete"))
        assert it.sent()["id"] == second.id
        it.socket.ack(second.id)


async def test_what_is_asked_of_a_room_that_the_server_has_let_go_for_now_waits_too() -> None:
    async with connected() as it:
        room = await it.join("r")
        it.socket.receive({"event": "room.left", "room": "r", "data": {"reason": "unavailable"}})
        rejoin, request = it.sent(), room.request("e", 1)
        assert [rejoin["event"], it.sent(), room.is_joined] == ["room.join", {}, False]
        it.socket.ack(rejoin["id"], joined("r", 0, "complete"))
        assert [it.sent()["id"], room.is_joined] == [request.id, True]
        it.socket.ack(request.id)


async def test_its_own_event_answers_a_request_whose_ack_was_lost() -> None:
    async with connected() as it:
        room = await it.join("r")
        request = room.request("e")
        it.sent()
        it.event(1, **{"from": "me", "re": request.id})
        assert len(it.client.unsettled) == 1, "the ack may say more"
        it.socket.cut()
        assert await request == {"event_id": f"r@{EPOCH}.1"}


@pytest.mark.parametrize("code", [4006, None])
async def test_what_is_known_to_be_published_is_told_so_when_it_ends_for_good(code: Optional[int]) -> None:
    async with connected() as it:
        room = await it.join("r")
        published, unknown = room.request("e"), room.request("e")
        it.event(1, **{"from": "me", "re": published.id})
        if code is None:
            await it.client.close()
        else:
            it.socket.cut(code)
        assert it.client.state == "closed"
        assert await published == {"event_id": f"r@{EPOCH}.1"}
        with pytest.raises(RequestError) as failed:
            await unknown
        assert failed.value.code == "outcome_unknown"


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


async def test_what_is_larger_than_the_server_takes_is_refused_here_and_costs_no_connection() -> None:
    limits = {"text_message_bytes": 200, "binary_message_bytes": 100}
    async with connected(welcome={"limits": limits}) as it:
        room = await it.join("r")
        it.socket.cut()
        # As characters it would fit, as bytes it does not.
        text, image, small = room.request("e", "é" * 90), room.request("e", bytes(90)), room.request("e", "é" * 50)
        await it.simulation.next_socket()
        it.socket.welcome(limits=limits)
        resume = it.sent()
        it.socket.ack(resume["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        for request, name in ((text, "text_message_bytes is 200"), (image, "binary_message_bytes is 100")):
            with pytest.raises(RequestError, match=name) as failed:
                await request
            assert failed.value.code == "too_large"
        assert [it.sent()["id"], it.sent()] == [small.id, {}]
        with pytest.raises(ValueError, match="text_message_bytes is 200"):
            room.send("e", "é" * 90)
        assert room.send("e", "é" * 50)


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
