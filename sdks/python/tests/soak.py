"""A client for long: two hundred events a second, a cut every one to five seconds, and nothing is lost, doubled or out of order.

    TIDINGS_BIN=… SOAK_SECONDS=1200 python tests/soak.py

Listeners and a loop follow the same room; the loop pauses now and then for longer than what it can hold. The last line is
`N passed, N failed, N skipped`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Set
from typing import Counter as CounterOf

from proxy import Proxy
from server import BIN, NO_RATES, Server, token

from tidings_client import Client, Event, RequestError, Room, RoomEvents

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
ROOM = "chat:soak"
EVENTS_PER_SECOND = 200
BATCHES_PER_SECOND = 20
REQUEST_EVERY = 50
"""The client that is cut publishes too, as often as once in so many events."""
PAUSE_S = 7.0
"""More than a stream holds at that rate."""
PAUSE_EVERY = 4000
AT_THE_END_WITHIN_S = 120
# The loop is behind by more than a server keeps by itself when its pauses and the cuts come together.
LIMITS = f"{NO_RATES}history_events_max = 10000000\nhistory_bytes_max = 536870912\n"
SKIPPED = 77


@dataclass
class Seen:
    """What came to a reader, and what of it should not have."""

    name: str
    numbers: CounterOf[int] = field(default_factory=Counter)
    own: CounterOf[str] = field(default_factory=Counter)
    last: int = -1
    reordered: int = 0

    def take(self, event: Event[Any]) -> None:
        if event.event == "own":
            self.own[event.data] += 1
            return
        self.numbers[event.data] += 1
        self.reordered += event.data <= self.last
        self.last = event.data

    def faults(self, count: int, requests: Set[str]) -> int:
        lost = sum(number not in self.numbers for number in range(count))
        doubled = sum(times - 1 for times in self.numbers.values())
        not_once = sum(self.own[label] != 1 for label in requests)
        print(
            f"{self.name}: {sum(self.numbers.values())} events: {lost} lost, {doubled} doubled, {self.reordered} out of "
            f"order; {len(requests)} requests, {not_once} of them not once"
        )
        return lost + doubled + self.reordered + not_once


class Soak:
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.published = self.cuts = self.resets = self.failed = self.pauses = 0
        self.answered: Set[str] = set()
        self.tasks: List[asyncio.Task[None]] = []
        self.by_listener, self.by_loop = Seen("listeners"), Seen("a loop")
        self.is_over = False

    async def run(self, ours: Client, theirs: Client) -> None:
        room, other = await ours.join(ROOM), await theirs.join(ROOM)
        room.on_event(self.by_listener.take)
        room.on_reset(self.saw_reset)
        self.tasks.append(asyncio.create_task(self.read(room.events(on_reset=self.saw_reset))))
        cutting = asyncio.create_task(self.cut())
        loop = asyncio.get_running_loop()
        end, beat = loop.time() + SECONDS, loop.time()
        while beat < end:
            sends = [
                other.request("number", self.published + n) for n in range(EVENTS_PER_SECOND // BATCHES_PER_SECOND)
            ]
            self.published += len(sends)
            if self.published % REQUEST_EVERY == 0:
                self.tasks.append(asyncio.create_task(self.request(room)))
            for send in sends:
                await send
            # Events keep their rate, however long that took.
            beat += 1 / BATCHES_PER_SECOND
            await asyncio.sleep(max(0.0, beat - loop.time()))
        cutting.cancel()
        self.is_over = True
        await asyncio.wait_for(self.at_the_end(), AT_THE_END_WITHIN_S)

    async def at_the_end(self) -> None:
        while min(self.by_listener.last, self.by_loop.last) < self.published - 1:
            await asyncio.sleep(0.05)
        while sum(self.by_loop.own.values()) < len(self.answered) or any(not task.done() for task in self.tasks[1:]):
            await asyncio.sleep(0.05)

    def saw_reset(self, _: object) -> None:
        self.resets += 1

    async def read(self, events: RoomEvents) -> None:
        async for event in events:
            self.by_loop.take(event)
            if not self.is_over and sum(self.by_loop.numbers.values()) % PAUSE_EVERY == 0:
                self.pauses += 1
                await asyncio.sleep(PAUSE_S)

    async def request(self, room: Room) -> None:
        label = f"q{self.published}"
        try:
            await room.request("own", label)
            self.answered.add(label)
        except RequestError as error:
            print(f"a request failed: {error}")
            self.failed += 1

    async def cut(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(1, 5))
            self.cuts += 1
            self.proxy.cut()


async def main() -> int:
    with tempfile.TemporaryDirectory() as home:
        async with Server(Path(home), LIMITS) as server, Proxy(server.port) as proxy:
            soak = Soak(proxy)
            # Tokens that outlive the run.
            ours = Client(proxy.url, token=lambda fresh: token("ann", ttl_s=SECONDS + 600))
            async with ours, Client(server.url, token=token("bob", ttl_s=SECONDS + 600)) as theirs:
                try:
                    await soak.run(ours, theirs)
                except asyncio.TimeoutError:
                    print(f"after {AT_THE_END_WITHIN_S} s it has not caught up")
            print(f"{SECONDS:.0f} s, {soak.cuts} cuts, {proxy.accepted} connections, {soak.pauses} pauses of the loop")
            checks = {
                "listeners": soak.by_listener.faults(soak.published, soak.answered) == 0,
                "a loop": soak.by_loop.faults(soak.published, soak.answered) == 0,
                "requests": soak.failed == 0 and len(soak.answered) > 0,
                "resets": soak.resets == 0,
                "cuts": soak.cuts > 0 and proxy.accepted > 1,
            }
            print(f"{soak.failed} requests failed, {soak.resets} resets")
    failed = [name for name, holds in checks.items() if not holds]
    print(f"{len(checks) - len(failed)} passed, {len(failed)} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    if BIN is None:
        print("SKIPPED: TIDINGS_BIN names no server\n0 passed, 0 failed, 1 skipped")
        sys.exit(SKIPPED)
    sys.exit(asyncio.run(main()))
