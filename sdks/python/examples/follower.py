"""Follows a room and prints each of its events as a line of JSON, once, also over its own restarts.

    TOKEN=$(tidings token --user archive) python follower.py ws://127.0.0.1:7777/ws chat:lobby archive.cursor

The file keeps how far it has come. It is written after a line was printed, so that a line may come twice if the program is
killed between the two, and none is missing. Where the server has no more what was missed, a line on stderr says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from tidings_client import Client, CursorFile, Reset


def tell(reset: Reset) -> None:
    lost = "an unknown number of events" if reset.lost is None else f"the events {reset.lost[0]} to {reset.lost[1]}"
    print(f"{lost} can't be told any more ({reset.reason})", file=sys.stderr, flush=True)


async def main(url: str, name: str, file: str) -> None:
    async with Client(url, token=os.environ.get("TOKEN"), cursor=CursorFile(file)) as client:
        room = client.room(name)
        events = room.events(on_reset=tell)
        await room.join()
        async for event in events:
            data = event.data.hex() if isinstance(event.data, bytes) else event.data
            print(json.dumps({"id": event.id, "from": event.from_, "event": event.event, "data": data}), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
    except KeyboardInterrupt:
        pass
