"""The HTTP API by `tidings_client.server`, on a stand-in for it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import math
from typing import Any, AsyncIterator, Dict

import pytest
import pytest_asyncio
from stand_in import SECRET, StandIn, refusal

from tidings_client.server import BatchEvent, Tidings, TidingsError


@pytest_asyncio.fixture
async def api() -> AsyncIterator[StandIn]:
    async with StandIn() as api:
        yield api


@pytest_asyncio.fixture
async def tidings(api: StandIn) -> AsyncIterator[Tidings]:
    async with Tidings(api.url, secret=SECRET) as tidings:
        yield tidings


def part(token: str, index: int) -> Dict[str, Any]:
    text = token.split(".")[index]
    claims: Dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return claims


async def test_a_token_is_signed_with_the_secret_and_says_what_it_was_told_to(tidings: Tidings) -> None:
    token = tidings.mint_token("ann", rooms=["chat:1"], claims={"role": "staff", "sub": "eve", "exp": 1}, expires_in=60)
    claims = part(token, 1)
    assert [claims["sub"], claims["aud"], claims["exp"] - claims["iat"]] == ["ann", "tidings", 60]
    assert [claims["rooms"], claims["role"], len(claims["jti"])] == [["chat:1"], "staff", 36]
    assert part(token, 0) == {"alg": "HS256", "typ": "JWT"}
    signed, _, signature = token.rpartition(".")
    expected = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(expected).rstrip(b"=").decode() == signature
    assert part(tidings.mint_token("ann", claims={"aud": "app"}), 1)["aud"] == "app"


async def test_what_cannot_work_is_said_at_once(tidings: Tidings, api: StandIn) -> None:
    for url, secret, words in [
        (api.url, "short", "openssl rand -hex 32"),
        (api.url, None, "needs the secret"),
        ("ws://127.0.0.1", SECRET, "not http"),
    ]:
        with pytest.raises(ValueError, match=words):
            Tidings(url, secret=secret)
    with pytest.raises(ValueError, match="for a user"):
        tidings.mint_token("")
    with pytest.raises(ValueError, match=r'rooms=\["chat:1"\]'):
        tidings.mint_token("ann", rooms="chat:1")
    with pytest.raises(ValueError, match="expires in 0 seconds"):
        tidings.mint_token("ann", expires_in=0)
    async with Tidings(api.url, key="k") as keyed:
        with pytest.raises(TidingsError) as fault:
            keyed.mint_token("ann")
        assert fault.value.code == "secret_missing"
    assert "canary" not in repr(vars(tidings))


async def test_every_call_is_the_request_of_the_page(tidings: Tidings, api: StandIn) -> None:
    published = await tidings.publish("chat:a/b", "news", {"hi": 1}, exclude_session="s1", exclude_user="ann")
    assert published == {"event_id": "chat:a/b@k3f9a1qz.1", "duplicate": False}
    assert (await tidings.publish_to_user("ann", "typing", ephemeral=True))["event_id"] is None
    await tidings.publish("chat:1", "image", b"\x00\xff")
    # Half of a surrogate pair, as a browser's JSON may have it.
    await tidings.publish("chat:1", "text", "\ud83d é")
    with pytest.raises(ValueError, match="JSON"):
        await tidings.publish("chat:1", "number", float("nan"))
    assert api.events == [
        ("chat:a/b", {"event": "news", "data": {"hi": 1}, "exclude_session": "s1", "exclude_user": "ann"}),
        ("user:ann", {"event": "typing", "data": None, "ephemeral": True}),
        ("chat:1", {"event": "image", "data": "AP8=", "encoding": "base64"}),
        ("chat:1", {"event": "text", "data": "\ud83d é"}),
    ]
    api.asked.clear()
    page = await tidings.members("chat:1", after="a&b", limit=5)
    assert page == {"members": [{"user": "ann", "info": None}], "next": "after=a%26b&limit=5"}
    assert len((await tidings.history("chat:1", limit=5))["events"]) == 2
    assert await tidings.user_rooms("ann@home") == ["chat:lobby"]
    assert [await tidings.join("ann", "chat:1"), await tidings.leave("ann", "chat:1")] == [1, 1]
    assert [await tidings.disconnect("ann"), await tidings.revoke("ann")] == [2, 2]
    assert api.asked == [
        "GET /v1/rooms/chat%3A1/members?after=a%26b&limit=5",
        "GET /v1/rooms/chat%3A1/events?limit=5",
        "GET /v1/users/ann%40home/rooms",
        "PUT /v1/users/ann/rooms/chat%3A1",
        "DELETE /v1/users/ann/rooms/chat%3A1",
        "POST /v1/users/ann/disconnect",
        "POST /v1/users/ann/revoke",
    ]


async def test_what_is_called_like_a_step_in_a_path_is_a_name_all_the_same(tidings: Tidings, api: StandIn) -> None:
    await tidings.user_rooms("..")
    await tidings.leave(".", "..")
    await tidings.user_rooms("...")
    assert api.asked == [
        "GET /v1/users/%2E%2E/rooms",
        "DELETE /v1/users/%2E/rooms/%2E%2E",
        "GET /v1/users/.../rooms",
    ]


async def test_a_publish_is_one_event_whatever_became_of_its_answer(tidings: Tidings, api: StandIn) -> None:
    api.faults += ["lost before", "lost after", refusal(503, "unavailable")]
    api.faults.append(refusal(429, "rate_limited", **{"Retry-After": "0"}))
    assert await tidings.publish("chat:1", "news", 1) == {"event_id": "chat:1@k3f9a1qz.1", "duplicate": True}
    assert [len(api.asked), len(api.events)] == [5, 1]
    await tidings.publish("chat:1", "news", 1)
    assert len(api.events) == 2, "another call is another event"
    await tidings.publish("chat:1", "order", 1, idempotency_key="order-7")
    assert (await tidings.publish("chat:1", "order", 1, idempotency_key="order-7"))["duplicate"]
    with pytest.raises(TidingsError, match="idempotency_conflict"):
        await tidings.publish("chat:1", "order", 2, idempotency_key="order-7")


async def test_a_batch_that_was_lost_is_published_once(tidings: Tidings, api: StandIn) -> None:
    api.faults.append("lost after")
    events = [
        BatchEvent("a", 1, room="chat:1", idempotency_key="k"),
        BatchEvent("b", b"\x01", user="ann"),
        BatchEvent("c", room="chat:1", idempotency_key="k"),
    ]
    results = await tidings.batch(events)
    told = [result["error"]["code"] if "error" in result else result.get("duplicate") for result in results]
    assert told == [True, True, "idempotency_conflict"]
    assert [room for room, _ in api.events] == ["chat:1", "user:ann"]
    assert await tidings.batch([]) == []


async def test_a_number_of_any_length_is_one(tidings: Tidings, api: StandIn) -> None:
    # Whoever may publish in a room may send it, and the room has to be read all the same.
    api.faults.append((200, {}, b'{"events":[{"data":' + b"1" * 5000 + b',"at":7}]}'))
    (event,) = (await tidings.history("chat:1"))["events"]
    assert [event["data"], repr(event["at"])] == [math.inf, "7"]


async def test_an_error_has_what_the_server_says(tidings: Tidings, api: StandIn) -> None:
    with pytest.raises(TidingsError) as fault:
        await tidings.publish("nowhere", "news")
    error = fault.value
    assert [error.code, error.status, error.fix, error.request_id] == [
        *("unknown_room", 404, "name it in [[rooms]]", "req-1")
    ]
    assert [str(error), error.is_passing, len(api.asked)] == ["unknown_room: it is unknown_room", False, 1]
    api.faults.append((200, {"Content-Type": "text/html"}, b"<h1>a page</h1>"))
    with pytest.raises(TidingsError, match="no_api"):
        await tidings.user_rooms("ann")
    async with Tidings(api.url, key="another key") as other:
        with pytest.raises(TidingsError, match="key_unknown"):
            await other.user_rooms("ann")


async def test_it_gives_up(tidings: Tidings, api: StandIn) -> None:
    api.faults.append(refusal(429, "rate_limited", **{"Retry-After": "60"}))
    with pytest.raises(TidingsError) as fault:
        await tidings.user_rooms("ann")
    assert [fault.value.retry_after_s, fault.value.is_passing, len(api.asked)] == [60, True, 1]
    api.faults += ["lost before"] * 5
    with pytest.raises(TidingsError) as fault:
        await tidings.publish("chat:1", "news")
    assert [fault.value.code, fault.value.status, len(api.asked)] == ["unreachable", None, 6]
    api.faults.append("silence")
    async with Tidings(api.url, secret=SECRET, timeout_s=0.05) as hasty:
        assert await hasty.user_rooms("ann") == ["chat:lobby"]
    with pytest.raises(TidingsError, match="closed"):
        await hasty.user_rooms("ann")


async def test_connections_are_kept_and_bounded_and_so_are_the_requests_that_wait(
    tidings: Tidings, api: StandIn
) -> None:
    for _ in range(20):
        await tidings.user_rooms("ann")
    assert api.connections == 1
    api.gate.clear()
    waiting = [asyncio.ensure_future(tidings.user_rooms("ann")) for _ in range(1024)]
    while api.open < 16:
        await asyncio.sleep(0)
    with pytest.raises(TidingsError, match="queue_full"):
        await tidings.user_rooms("ann")
    api.gate.set()
    await asyncio.gather(*waiting)
    assert api.open_max == 16


async def test_who_stops_waiting_costs_nobody_a_connection_whenever_it_is(api: StandIn) -> None:
    for turns in range(40):
        async with Tidings(api.url, secret=SECRET, connections_max=2) as tidings:
            api.gate.clear()
            waiting = [asyncio.ensure_future(tidings.user_rooms("ann")) for _ in range(5)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            api.gate.set()
            assert await asyncio.wait_for(tidings.user_rooms("ann"), 10) == ["chat:lobby"], turns
    assert len(api.asked) <= 40 * 3, "who had no connection yet has asked nothing"


async def test_each_loop_in_any_thread_has_its_own_connections_which_end_with_it(
    tidings: Tidings, api: StandIn
) -> None:
    def call(number: int) -> None:
        asyncio.run(tidings.publish("chat:1", "news", number))

    def calls(first: int) -> None:
        for number in range(first, first + 5):
            call(number)

    # As code that is not async does: a new loop for each call, in the threads of a server.
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, calls, first) for first in range(0, 20, 5)))
    assert sorted(body["data"] for _, body in api.events) == list(range(20)), "each once"
    while api.open:
        await asyncio.sleep(0)
    await tidings.user_rooms("ann")
    await tidings.close()
    with pytest.raises(TidingsError, match="closed"):
        await loop.run_in_executor(None, call, 20)
