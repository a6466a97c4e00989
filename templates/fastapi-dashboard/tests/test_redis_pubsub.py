"""What another process says on the application's Redis channel, with two workers that both listen."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any, List

import pytest
from processes import Person, at_once, dashboard, process, redis_server
from redis.asyncio import Redis

from realtime.broadcaster import Broadcaster, Event
from realtime.redis_pubsub import CHANNEL, RedisPubSub, parse, send

ROOM = "board:machine"
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


def test_what_is_no_event_is_none() -> None:
    good = b'{"id":"1","room":"board:a","event":"e","data":[1]}'
    assert parse(good) == Event("board:a", "e", [1], "1")
    no_json = [good.replace(b"[1]", data) for data in (b"NaN", b"[-Infinity]", b"[" * 100_000 + b"]" * 100_000)]
    for bad in (b"", b"\xff", b"[]", b"1", b'{"room":"a","event":"e"}', good.replace(b'"1"', b"1"), *no_json):
        assert parse(bad) is None, bad[:80]


async def listening(redis: Redis, workers: int) -> None:
    while (await redis.pubsub_numsub(CHANNEL))[0][1] < workers:
        await asyncio.sleep(0.02)


async def test_each_event_is_there_once_whoever_is_first(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as port, dashboard(tmp_path, redis=port, workers=2) as running:
        ann = Person(running.address, "ann")
        await ann.log_in()
        async with Redis(port=port) as redis, ann.client() as client:
            await listening(redis, 2)
            room = await client.join(ROOM)
            for number in range(50):
                await redis.publish(CHANNEL, "no event")
                await send(redis, ROOM, "sample", {"series": "orders", "value": number, "unit": "count", "at": number})
            seen: List[Any] = []
            async for event in room:
                seen.append(event.data["value"])
                if seen[-1] == 49:
                    break
            assert seen == list(range(50))
            history = await room.history(limit=100)
            assert len(history.events) == 50
        await ann.close()


async def test_the_pump_is_a_process_of_its_own(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as port, dashboard(tmp_path, redis=port) as running:
        ann = Person(running.address, "ann")
        await ann.log_in()
        settings = {
            "DATABASE": str(tmp_path / "dashboard.db"),
            "REDIS_URL": f"redis://127.0.0.1:{port}",
            "INTERVAL_S": "0.1",
        }
        pump = process(sys.executable, "-m", "dashboard.pump", ready=at_once, **settings)
        async with pump, ann.client() as client:
            async for event in await client.join(ROOM):
                stored = (await ann.http.get("/boards/machine/samples")).json()["samples"]
                assert event.data in stored
                break
        await ann.close()


async def test_it_listens_again_when_redis_is_back_and_publishes_what_comes_after_trouble(tmp_path: Path) -> None:
    broadcast: List[Event] = []
    troubled = asyncio.Event()

    class Recording(Broadcaster):
        async def broadcast_all(self, events: Any) -> Any:
            if events[0].data == "trouble":
                troubled.set()
                raise RuntimeError("what nobody has foreseen")
            broadcast.extend(events)
            return [{"event_id": None, "duplicate": False} for _ in events]

    async with redis_server(tmp_path) as port, Redis(port=port) as redis:
        listener = RedisPubSub(
            Redis(port=port), Recording("http://127.0.0.1:1", "canary-bird that nobody is asked with")
        )
        running = asyncio.create_task(listener.run())
        await listener.listening.wait()
        (before,) = await redis.client_list(_type="pubsub")
        await redis.client_kill_filter(_id=before["id"])
        while before["id"] in [client["id"] for client in await redis.client_list(_type="pubsub")]:
            await asyncio.sleep(0.02)
        await listening(redis, 1)
        await send(redis, ROOM, "sample", "trouble")
        await troubled.wait()
        await send(redis, ROOM, "sample", 1)
        while not broadcast:
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [event.data for event in broadcast] == [1]
