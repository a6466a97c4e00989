"""The samples from a process of its own, by the application's Redis channel: for any number of workers.

python -m dashboard.pump
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3

from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime.broadcaster import room_of
from realtime.redis_pubsub import send

from . import BOARD, EVENT, settings
from .database import Database
from .sampler import samples

log = logging.getLogger(__name__)


async def pump(redis: Redis, database: Database) -> None:
    while True:
        await asyncio.sleep(settings.INTERVAL_S)
        new = samples()
        try:
            database.store(BOARD, new)
            for sample in new:
                await send(redis, room_of(BOARD), EVENT, sample)
        except (RedisError, sqlite3.Error) as error:
            # The next are as good.
            log.warning("samples were not stored and sent: %s", error)


async def main() -> None:
    database = Database(settings.DATABASE)
    async with Redis.from_url(settings.REDIS_URL or "redis://127.0.0.1:6379") as redis:
        pumping = asyncio.ensure_future(pump(redis, database))
        for end in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(end, pumping.cancel)
        await asyncio.gather(pumping, return_exceptions=True)
    database.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
