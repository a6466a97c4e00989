"""When a client connects, when it gives a connection up, and when it stops: PROTOCOL.md §1, §5, §6 and §7."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from typing import Any, List, Optional

import pytest
from connected import connected
from world import Simulation

from tidings_client import Client, ConnectionFailed, ConnectionFault, RequestError
from tidings_client.clock import SystemClock
from tidings_client.connection import Answer, HandshakeFailed, World
from tidings_client.websocket import ask


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
        await it.clock.advance(1)
        assert it.client.fault == ConnectionFault(None, None, "nobody listens")
        await it.simulation.next_socket()
        assert len(it.simulation.asked) == 1


async def test_a_certificate_that_can_not_be_verified_is_told_and_tried_again() -> None:
    simulation = Simulation()
    client = Client("wss://server/ws", world=simulation.world)
    # It is a ValueError too, and may be that of whoever stands in between for now.
    simulation.failures.append(ssl.SSLCertVerificationError("self-signed certificate"))
    client.connect()
    await simulation.clock.advance(0)
    assert client.state == "connecting" and client.fault is not None
    assert "self-signed certificate" in client.fault.message
    (await simulation.next_socket()).welcome()
    assert [client.state, client.fault] == ["connected", None]
    await client.close()


async def test_a_token_that_was_refused_says_so_until_another_is_taken() -> None:
    async with connected(token=lambda fresh: "t") as it:
        it.simulation.failures.append(
            HandshakeFailed(Answer(401, {"code": "token_expired", "detail": "it has expired"}))
        )
        it.socket.cut()
        await it.clock.advance(1)
        assert it.client.fault == ConnectionFault(401, "token_expired", "it has expired")
        (await it.simulation.next_socket()).welcome()
        assert it.client.fault is None


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


def test_where_no_loop_runs_it_is_told_and_connects_later_all_the_same() -> None:
    # The world's own clock sets its timers in the loop.
    dialled: List[str] = []

    async def dial(url: str, *_: object) -> Any:
        dialled.append(url)
        raise ValueError("far enough")

    client = Client("ws://server/ws", world=World(SystemClock(), random.random, dial, ask))
    with pytest.raises(RuntimeError, match="no running event loop"):
        client.connect()

    async def enter() -> None:
        with pytest.raises(ConnectionFailed, match="far enough"):
            async with client:
                raise AssertionError("there is no connection")

    asyncio.run(asyncio.wait_for(enter(), 10))
    assert dialled == ["ws://server/ws"]


async def test_what_is_no_text_is_no_token() -> None:
    simulation = Simulation()
    given: Any = b"t.o.k"
    with pytest.raises(TypeError, match="token is a str or a function, and not bytes"):
        Client("ws://server/ws", token=given, world=simulation.world)
    client = Client("ws://server/ws", token=lambda fresh: given, world=simulation.world)
    client.connect()
    await simulation.clock.advance(0)
    assert client.fault == ConnectionFault(None, None, "the token provider gave bytes, and a token is a str")
    assert [client.state, simulation.dialled] == ["refused", 0]
    await client.close()


async def test_an_attempt_that_ends_in_a_way_that_nobody_foresaw_is_made_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected() as it:
        it.simulation.failures.append(RuntimeError("a bug of the library"))
        it.socket.cut()
        await it.clock.advance(1)
        assert it.client.fault == ConnectionFault(None, None, "a bug of the library")
        await it.simulation.next_socket()
        assert "a bug of the library" in caplog.text


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
        await it.clock.advance(20)
        assert it.client.fault == ConnectionFault(429, "connection_limit", "")
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
        assert it.client.fault == ConnectionFault(None, None, "nothing was heard from the server for 75 s")


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
    assert [simulation.dialled, client.fault] == [1, None]
    await simulation.clock.advance(3)
    assert [simulation.dialled, simulation.sockets[0].closed_with] == [2, 4110]
    assert client.fault is not None and "20 s" in client.fault.message
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


async def test_whoever_hears_that_it_is_connected_knows_who_he_is_and_can_send() -> None:
    simulation = Simulation()
    client = Client("ws://server/ws", world=simulation.world)
    heard: List[object] = []
    client.on_room(lambda _: heard.append((client.state, client.user)))

    def told(state: str) -> None:
        if state == "connected":
            heard.append((client.user, client.limits.get("rooms"), client.send("hello")))

    client.on_state(told)
    client.connect()
    await simulation.clock.advance(0)
    simulation.socket.welcome(rooms=["r"], limits={"rooms": 100})
    assert heard == [("connected", "me"), ("me", 100, True)]
    await client.close()


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
