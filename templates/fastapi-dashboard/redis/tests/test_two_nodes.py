"""Two nodes of Tidings that share a Redis, each with an application of its own: one board."""

from __future__ import annotations

import asyncio
from pathlib import Path

from processes import Person, dashboard, redis_server
from redis.asyncio import Redis

from realtime.redis_pubsub import CHANNEL, send

ROOM = "board:machine"


async def test_viewers_at_two_nodes_see_the_same_once(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as port:
        first = dashboard(tmp_path, redis=port, broker=True)
        second = dashboard(tmp_path, redis=port, broker=True)
        async with first as one, second as two, Redis(port=port) as redis:
            while (await redis.pubsub_numsub(CHANNEL))[0][1] < 2:
                await asyncio.sleep(0.02)
            people = [Person(one.address, "ann"), Person(two.address, "bob")]
            for person in people:
                assert await person.log_in() == 204
            async with people[0].client() as ann, people[1].client() as bob:
                rooms = [await client.join(ROOM) for client in (ann, bob)]
                for number in range(20):
                    await send(
                        redis, ROOM, "sample", {"series": "orders", "value": number, "unit": "count", "at": number}
                    )
                for room in rooms:
                    seen = []
                    async for event in room:
                        seen.append(event.data["value"])
                        if seen[-1] == 19:
                            break
                    assert seen == list(range(20))
            for person in people:
                await person.close()
