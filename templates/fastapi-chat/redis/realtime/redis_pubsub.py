"""The way in for other processes: what they publish on the application's Redis channel goes to the rooms, in batches.

Every worker of the application listens, and each event has an id that makes it one event whoever is first: no worker has to be
chosen, and none is missed when it ends. Redis' channels keep nothing: what is published while nobody listens is lost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from typing import Any, List, Optional

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tidings_client.server import TidingsError

from .broadcaster import BATCH_MAX, Broadcaster, Event

CHANNEL = "chat:events"
WAITING_MAX = 10_000
"""Events that wait to be published at most. Beyond it the newest are dropped, and that is logged."""
TRY_AGAIN_S = 1.0

log = logging.getLogger(__name__)


async def send(redis: Redis, room: str, event: str, data: Any) -> int:
    """What another process calls. Returns how many workers have heard it."""
    message = {"id": uuid.uuid4().hex, "room": room, "event": event, "data": data}
    heard_by: int = await redis.publish(CHANNEL, json.dumps(message))
    return heard_by


def parse(message: bytes) -> Optional[Event]:
    """Nothing, if it is no event."""
    try:
        fields = json.loads(message, parse_constant=_no_json)
        texts = [fields["room"], fields["event"], fields["id"]]
        if all(isinstance(text, str) and 0 < len(text) <= 64 for text in texts):
            return Event(texts[0], texts[1], fields.get("data"), texts[2])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None


def _no_json(name: str) -> Any:
    """Python writes NaN and infinities, and nobody else reads them."""
    raise ValueError(f"{name} is no JSON")


class RedisPubSub:
    """`await run()` in a task of its own, until it is cancelled."""

    def __init__(self, redis: Redis, broadcaster: Broadcaster) -> None:
        self._redis = redis
        self._broadcaster = broadcaster
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(WAITING_MAX)
        self.listening = asyncio.Event()
        """Set while it hears what is published."""

    async def run(self) -> None:
        publishing = asyncio.create_task(self._publish())
        try:
            while True:
                try:
                    await self._listen()
                except (RedisError, OSError) as error:
                    log.warning("Redis is away, and is asked again: %s", error)
                self.listening.clear()
                await asyncio.sleep(TRY_AGAIN_S)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            async for message in channel.listen():
                if message["type"] == "subscribe":
                    self.listening.set()
                elif message["type"] == "message":
                    self._take(message["data"])

    def _take(self, message: bytes) -> None:
        event = parse(message)
        if event is None:
            log.warning("what came on %s is no event", CHANNEL)
            return
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("%d events wait already: one for %s is dropped", WAITING_MAX, event.room)

    async def _publish(self) -> None:
        """What waits goes as one batch, while the next gathers."""
        while True:
            events: List[Event] = [await self._waiting.get()]
            while not self._waiting.empty() and len(events) < BATCH_MAX:
                events.append(self._waiting.get_nowait())
            try:
                results = await self._broadcaster.broadcast_all(events)
            except TidingsError as error:
                log.warning("%d events were not published: %s", len(events), error)
                continue
            except Exception:
                # Whatever it was, the next are to be published all the same.
                log.exception("%d events were not published", len(events))
                continue
            for event, result in zip(events, results):
                if "error" in result:
                    log.warning("%s was not published in %s: %s", event.event, event.room, result["error"])
