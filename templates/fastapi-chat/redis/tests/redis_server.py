"""A Redis on a free port, and who listens there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import AsyncIterator

from processes import Program, accepts, free_port
from redis.asyncio import Redis

from realtime.redis_pubsub import CHANNEL


@asynccontextmanager
async def redis_server(folder: Path) -> AsyncIterator[int]:
    port = free_port()
    command = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    server = Program(*command, ready=partial(accepts, port))
    try:
        await server.start()
        yield port
    finally:
        await server.end()


async def listening(redis: Redis, workers: int) -> None:
    """Returns when so many workers listen on the application's channel."""
    while (await redis.pubsub_numsub(CHANNEL))[0][1] < workers:
        await asyncio.sleep(0.02)
