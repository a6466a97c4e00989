"""Webhooks as Tidings sends them: what is looked at, what is answered, what counts once."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import itertools
import json
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncIterator, Dict, List, Optional, Tuple

import httpx
import pytest
from fastapi import FastAPI
from stand_in import SECRET
from starlette.routing import Route

from tidings_client.server import EventAnswer, EventRefused, Tidings, Webhook, WebhookAnswer, Webhooks

DERIVED = hmac.new(SECRET.encode(), b"tidings webhook v1", hashlib.sha256).digest()
ids = itertools.count(1)


def webhooks() -> Webhooks:
    return Tidings("http://127.0.0.1:7777", secret=SECRET).webhooks()


def signed(
    kind: str, *, id: Optional[str] = None, ago_s: int = 0, key: bytes = DERIVED, **data: Any
) -> Tuple[Dict[str, str], bytes]:
    """A webhook as Tidings sends it."""
    id = id or f"msg_{next(ids)}"
    message = {"specversion": "1.0", "id": id, "source": "/tidings", "type": f"dev.tidings.{kind}", "data": data}
    # A number that Python would not write.
    body = json.dumps(message).encode().replace(b'"LONG"', b"1" * 5000)
    timestamp = str(int(time.time()) - ago_s)
    signature = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "content-type": "application/cloudevents+json",
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1a,abc v1,{base64.b64encode(signature).decode()}",
    }
    return headers, body


async def test_the_example_of_the_standards_own_libraries_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = Webhooks("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    monkeypatch.setattr(time, "time", lambda: 1614265330.0)
    # It is no CloudEvent, and that is looked at only behind a good signature.
    assert (await hooks.answer(headers, b'{"test": 2432232314}')).status == 400
    assert (await hooks.answer(headers, b'{"test": 2432232315}')).status == 401
    for wrong in ("whsec_abc", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!"):
        with pytest.raises(ValueError, match="whsec_"):
            Webhooks(wrong)


async def test_what_is_asked_is_answered_in_the_pages_shapes() -> None:
    hooks = webhooks()

    @hooks.on("connect")
    def connect(webhook: Webhook) -> Dict[str, Any]:
        return {"allow": webhook["claims"]["role"] == "staff", "rooms": [f"desk:{webhook['user']}"]}

    @hooks.on("join")
    async def join(webhook: Webhook) -> bool:
        return bool(webhook["room"] == "chat:1")

    @hooks.on("event")
    async def event(webhook: Webhook) -> Optional[EventAnswer]:
        if webhook["event"] == "fail":
            raise EventRefused("forbidden", "not you")
        if webhook["event"] == "nothing":
            return None
        return {"ack": {"seq": 1}, "broadcast": [{"event": "said", "data": webhook["data"], "to_others": True}]}

    asked: Dict[str, Any] = {"user": "ann", "claims": {"role": "staff"}}
    questions: List[Tuple[str, Dict[str, Any]]] = [
        ("connect", {}),
        ("join", {"room": "chat:1"}),
        ("join", {"room": "chat:2"}),
        ("event", {"event": "say", "data": 1}),
        ("event", {"event": "fail", "data": 1}),
        ("event", {"event": "nothing", "data": 1}),
    ]
    answers = [await hooks.answer(*signed(kind, **asked, **more)) for kind, more in questions]
    assert answers == [
        (200, {"allow": True, "rooms": ["desk:ann"]}),
        (200, {"allow": True}),
        (200, {"allow": False}),
        (200, {"ack": {"seq": 1}, "broadcast": [{"event": "said", "data": 1, "to_others": True}]}),
        (200, {"error": {"code": "forbidden", "message": "not you"}}),
        (200, {"ack": None, "broadcast": []}),
    ]


async def test_an_answer_that_is_no_json_is_told_where_it_was_made() -> None:
    hooks = webhooks()
    hooks.on("event")(lambda webhook: {"ack": [float("nan"), "\ud83d"][min(1, webhook["data"])]})
    assert (await hooks.answer(*signed("event", data="LONG"))).status == 200
    assert (await hooks.answer(*signed("event", data=1))).content == b'{"ack":"\\ud83d","broadcast":[]}'
    with pytest.raises(ValueError, match="JSON"):
        print((await hooks.answer(*signed("event", data=0))).content)


async def test_whoever_has_no_handler_or_one_that_raises_lets_nobody_in() -> None:
    hooks = webhooks()

    @hooks.on("join")
    def join(webhook: Webhook) -> bool:
        raise LookupError("the database is away")

    @hooks.on("connect")
    async def connect(webhook: Webhook) -> None:
        pass

    with pytest.raises(LookupError):
        await hooks.answer(*signed("join", room="chat:1"))
    assert (await hooks.answer(*signed("event"))).status == 501
    assert await hooks.answer(*signed("connect")) == (200, {"allow": False})
    assert await hooks.answer(*signed("presence")) == (204, None)
    assert await hooks.answer(*signed("of another version")) == (204, None)
    with pytest.raises(ValueError, match=r"room\.occupied"):
        hooks.on("occupied")


async def test_nothing_that_is_not_signed_or_is_old_or_was_asked_before_is_looked_at() -> None:
    hooks, calls = webhooks(), []

    @hooks.on("join")
    def join(webhook: Webhook) -> bool:
        calls.append(webhook.id)
        return True

    headers, body = signed("join", user="ann")
    refused = [
        await hooks.answer(headers, body.replace(b"ann", b"eve")),
        await hooks.answer(*signed("join", key=SECRET.encode())),
        await hooks.answer(*signed("join", ago_s=302)),
        await hooks.answer(*signed("join", ago_s=-302)),
        await hooks.answer({}, body),
        await hooks.answer({**headers, "webhook-signature": "v1,not base64!"}, body),
    ]
    for timestamp in ("soon", "\xb2", "\u0661", "9" * 5000, "-1", "1e9"):
        refused.append(await hooks.answer({**headers, "webhook-timestamp": timestamp}, body))
    assert [answer.status for answer in refused] == [401] * 12
    assert calls == []
    once = signed("join", ago_s=298)
    assert [(await hooks.answer(*once)).status, (await hooks.answer(*once)).status] == [200, 409]
    assert len(calls) == 1


async def test_what_is_told_again_is_handled_once_and_what_failed_is_handled_again() -> None:
    hooks, calls = webhooks(), 0

    @hooks.on("disconnect")
    async def disconnect(webhook: Webhook) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise OSError("a full disk")

    def tell() -> Any:
        return hooks.answer(*signed("disconnect", id="msg_same", user="ann"))

    with pytest.raises(OSError, match="a full disk"):
        await tell()
    answers: List[WebhookAnswer] = await asyncio.gather(tell(), tell())
    assert [*answers, await tell()] == [(204, None)] * 3
    assert calls == 2


def test_code_that_is_not_async_has_a_loop_for_each_and_none_is_kept() -> None:
    hooks = webhooks()
    begun, gate = threading.Event(), threading.Event()
    handled: List[str] = []

    @hooks.on("presence")
    async def presence(webhook: Webhook) -> None:
        begun.set()
        await asyncio.get_running_loop().run_in_executor(None, gate.wait)
        handled.append(webhook.id)

    @hooks.on("disconnect")
    def disconnect(webhook: Webhook) -> None:
        handled.append(webhook.id)

    async def answered(told: Tuple[Dict[str, str], bytes], loops: List[Any]) -> int:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        return (await hooks.answer(*told)).status

    loops: List[Any] = []
    told = signed("presence", id="slow")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(lambda: asyncio.run(answered(told, loops)))
        begun.wait()
        assert asyncio.run(answered(told, loops)) == 503, "nobody knows yet what comes of it"
        gate.set()
        assert first.result() == 204
    assert asyncio.run(answered(told, loops)) == 204
    assert asyncio.run(answered(signed("disconnect", id="quick"), loops)) == 204
    assert handled == ["slow", "quick"]
    gc.collect()
    assert [loop() for loop in loops] == [None] * 4


async def test_in_a_fastapi_application() -> None:
    hooks, app = webhooks(), FastAPI()

    @hooks.on("join")
    def join(webhook: Webhook) -> bool:
        if webhook["room"] == "chat:error":
            raise LookupError("the database is away")
        return True

    app.router.routes.append(Route("/tidings", hooks))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:

        async def post(**changes: Any) -> Tuple[int, Optional[str], str]:
            headers, body = signed("join", **{"room": "chat:1", **changes})
            answer = await client.post("/tidings", headers=headers, content=body)
            return answer.status_code, answer.headers.get("content-type"), answer.text

        assert await post() == (200, "application/json", '{"allow":true}')
        assert (await post(room="chat:error"))[0] == 500
        assert (await post(ago_s=900))[:2] == (401, "application/problem+json")
        assert (await client.get("/tidings")).status_code == 405
        large = await client.post("/tidings", content=bytes(8 * 1024 * 1024 + 1))
        assert large.status_code == 413


async def test_a_stream_is_read_no_further_than_a_webhook_is_long() -> None:
    hooks = webhooks()

    @hooks.on("join")
    async def joins(_webhook: Webhook) -> bool:
        return True

    async def without_end() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    assert (await hooks.answer({}, without_end())).status == 413

    async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])

    headers, body = signed("join", room="chat:1")
    answer = await hooks.answer(headers, in_pieces(body))
    assert (answer.status, answer.content) == (200, b'{"allow":true}')
