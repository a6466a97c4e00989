"""Webhooks of a real server, at a FastAPI application: what is asked decides, and what is told arrives."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, Dict, List

import pytest
import uvicorn
from fastapi import FastAPI
from server import BIN, SECRET, WAIT_S, Server
from starlette.routing import Route

from tidings_client import Client, ConnectionFailed, RequestError
from tidings_client.server import EventAnswer, EventRefused, Tidings, Webhook

pytestmark = pytest.mark.skipif(BIN is None, reason="TIDINGS_BIN names no server")

CONFIG = """
presence_grace_seconds = 0
[[rooms]]
pattern = "desk:*"
join = "webhook"
publish = "anyone"
[[rooms]]
pattern = "home:*"
join = "members"
[[events]]
name = "order"
webhook = true
[webhooks]
url = "{url}"
events = ["connect", "join", "event", "disconnect", "room.occupied", "room.vacated"]
"""


async def soon(awaited: Any) -> Any:
    return await asyncio.wait_for(awaited, WAIT_S)


async def test_the_application_is_asked_at_every_step_and_told_what_has_happened(tmp_path: Path) -> None:
    tidings = Tidings("http://127.0.0.1:7777", secret=SECRET)
    hooks = tidings.webhooks()
    told: asyncio.Queue[str] = asyncio.Queue()

    @hooks.on("connect")
    def connect(webhook: Webhook) -> Dict[str, Any]:
        if webhook["claims"].get("banned"):
            return {"allow": False, "reason": "banned"}
        return {"allow": True, "rooms": [f"home:{webhook['user']}"]}

    @hooks.on("join")
    async def join(webhook: Webhook) -> bool:
        return bool(webhook["room"] == "desk:all")

    @hooks.on("event")
    async def event(webhook: Webhook) -> EventAnswer:
        amount = webhook["data"]["amount"]
        if amount < 0:
            raise EventRefused("forbidden", "less than nothing")
        data = {"user": webhook["user"], "amount": amount}
        return {"ack": {"order": amount * 10}, "broadcast": [{"event": "ordered", "data": data}]}

    @hooks.on("disconnect")
    def disconnect(webhook: Webhook) -> None:
        told.put_nowait(f"{webhook['user']} left with {webhook['code']}")

    @hooks.on("room.occupied")
    @hooks.on("room.vacated")
    def room(webhook: Webhook) -> None:
        told.put_nowait(f"{webhook.kind} {webhook['room']}")

    app = FastAPI(routes=[Route("/tidings", hooks)])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    backend = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    serving = asyncio.ensure_future(backend.serve(sockets=[listener]))
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/tidings"
        async with Server(tmp_path, CONFIG.format(url=url)) as server:
            with pytest.raises(ConnectionFailed) as refused:
                async with Client(server.url, token=tidings.mint_token("eve", claims={"banned": True})):
                    pass
            fault = refused.value.fault
            assert fault is not None and (fault.status, fault.code) == (403, "forbidden")
            async with Client(server.url, token=tidings.mint_token("ann")) as ann:
                everyone = await soon(ann.join("desk:all"))
                with pytest.raises(RequestError, match="forbidden"):
                    await soon(ann.join("desk:bob"))
                heard: asyncio.Queue[Any] = asyncio.Queue()
                everyone.on("ordered", lambda event: heard.put_nowait(event.data))
                assert await soon(everyone.request("order", {"amount": 4})) == {"order": 40}
                assert await soon(heard.get()) == {"user": "ann", "amount": 4}
                with pytest.raises(RequestError, match="less than nothing"):
                    await soon(everyone.request("order", {"amount": -4}))
            rooms = [f"room.{change} {room}" for change in ("occupied", "vacated") for room in ("desk:all", "home:ann")]
            expected = ["ann left with 1000", *rooms]
            arrived: List[str] = [await soon(told.get()) for _ in expected]
            assert sorted(arrived) == expected
            assert told.empty()
    finally:
        backend.should_exit = backend.force_exit = True
        await serving
        listener.close()
