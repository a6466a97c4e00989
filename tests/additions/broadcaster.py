"""Each function of the Broadcaster that was added, for USER, who is connected: run in the application's folder."""

import asyncio
import os
import sys

sys.path.insert(0, os.getcwd())

from app.realtime.server import broadcaster  # noqa: E402
from tidings_client.server import BatchEvent  # noqa: E402

USER = os.environ["USER"]
ROOM = "room:workshop"


async def main():
    rooms = broadcaster()
    assert broadcaster() is rooms
    await rooms.join(USER, ROOM)
    assert await rooms.members(ROOM) == [USER]
    await rooms.broadcast(ROOM, "news", "for all", key="news-1")
    # The same once more, which is one event.
    await rooms.broadcast(ROOM, "news", "for all", key="news-1")
    await rooms.broadcast_all([BatchEvent("news", "first", room=ROOM), BatchEvent("news", "second", room=ROOM)])
    await rooms.leave(USER, ROOM)
    assert await rooms.members(ROOM) == []
    await rooms.close()


asyncio.run(main())
