"""What another process says on the application's Redis channel, with two workers that both listen."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, List

from person import people
from processes import PROJECT, chat
from redis.asyncio import Redis
from redis_server import listening, redis_server

from realtime.broadcaster import Broadcaster, Event
from realtime.redis_pubsub import CHANNEL, RedisPubSub, parse, send


def test_what_is_no_event_is_none() -> None:
    good = b'{"id":"1","room":"ch_1","event":"e","data":[1]}'
    assert parse(good) == Event("ch_1", "e", [1], "1")
    no_json = [good.replace(b"[1]", data) for data in (b"NaN", b"[-Infinity]", b"[" * 100_000 + b"]" * 100_000)]
    for bad in (b"", b"\xff", b"[]", b"1", b'{"room":"a","event":"e"}', good.replace(b'"1"', b"1"), *no_json):
        assert parse(bad) is None, bad[:80]


async def test_each_event_is_there_once_whoever_is_first(tmp_path: Path) -> None:
    async with (
        redis_server(tmp_path) as port,
        chat(tmp_path, redis=port, workers=2) as running,
        people(running.address, "ann") as (ann,),
        Redis(port=port) as redis,
        ann.connected("ch_1"),
    ):
        await listening(redis, 2)
        for number in range(50):
            await redis.publish(CHANNEL, "no event")
            assert await send(redis, "ch_1", "message.send", {"user": "clock", "content": number}) == 2
        await ann.hears("clock: 49")
        assert ann.heard == [f"clock: {number}" for number in range(50)]
        history = await ann.client.room("ch_1").history(limit=100)
        assert len(history.events) == 50


async def test_an_announcement_is_stored_and_heard(tmp_path: Path) -> None:
    async with (
        redis_server(tmp_path) as port,
        chat(tmp_path, redis=port) as running,
        people(running.address, "ann") as (ann,),
        Redis(port=port) as redis,
        ann.connected("ch_1"),
    ):
        await listening(redis, 1)

        async def announce(channel: str) -> int:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "chat.announce", channel, "we close at six"],
                cwd=PROJECT,
                env={"DATABASE": str(running.database), "REDIS_URL": f"redis://127.0.0.1:{port}"},
                stderr=asyncio.subprocess.DEVNULL,
            )
            return await process.wait()

        assert [await announce("1"), await announce("7")] == [0, 1]
        await ann.hears("* announcement: we close at six")
        assert await ann.stored() == ann.heard == ["* announcement: we close at six"]


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
        broadcaster = Recording("http://127.0.0.1:1", "canary-bird that nobody is asked with")
        listener = RedisPubSub(Redis(port=port), broadcaster)
        running = asyncio.create_task(listener.run())
        await listener.listening.wait()
        (before,) = await redis.client_list(_type="pubsub")
        await redis.client_kill_filter(_id=before["id"])
        while before["id"] in [client["id"] for client in await redis.client_list(_type="pubsub")]:
            await asyncio.sleep(0.02)
        await listening(redis, 1)
        await send(redis, "ch_1", "news", "trouble")
        await troubled.wait()
        await send(redis, "ch_1", "news", 1)
        while not broadcast:
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [event.data for event in broadcast] == [1]
