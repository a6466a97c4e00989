"""An announcement in a channel, from a process of its own: stored, then sent on the application's Redis channel.

python -m chat.announce 1 "The office closes at six"
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid

from redis.asyncio import Redis

from realtime.redis_pubsub import send
from realtime.rooms import room_of

from . import settings
from .database import Database

ANNOUNCER = "* announcement"
"""Who says it. No user can have this name."""


async def announce(redis: Redis, database: Database, channel: int, text: str) -> int:
    """Returns how many workers of the application have heard it."""
    message = database.store(channel, ANNOUNCER, text, uuid.uuid4().hex)
    return await send(redis, room_of(channel), "message.send", message)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chat.announce")
    parser.add_argument("channel", type=int)
    parser.add_argument("text")
    asked = parser.parse_args()
    database = Database(settings.DATABASE)
    if not database.is_channel(asked.channel):
        sys.exit(f"there is no channel {asked.channel} in {settings.DATABASE}")
    async with Redis.from_url(settings.REDIS_URL) as redis:
        heard_by = await announce(redis, database, asked.channel, asked.text)
    database.close()
    if heard_by == 0:
        sys.exit("it is stored, and no worker of the application was there to publish it")


if __name__ == "__main__":
    asyncio.run(main())
