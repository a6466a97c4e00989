"""Two hours of random cuts, in a clock that the test moves: nothing lost, nothing doubled, nothing out of order."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Dict, List, Set

import pytest
from model_server import ModelServer
from world import Simulation

from tidings_client import Client, RequestError, Room
from tidings_client.outbox import Request

DURATION_S = 2 * 60 * 60
STEP_S = 0.05
ROOMS = ["chat:lobby", "chat:team", "news"]


class Soak:
    """A client of a truthful server, over a network that breaks every few seconds."""

    def __init__(self, seed: int) -> None:
        self.simulation = Simulation(seed)
        self.clock = self.simulation.clock
        self.rng = random.Random(seed + 1000)
        self.server = ModelServer(self.clock, self.rng)
        self.client = Client("ws://server/ws", world=self.simulation.world)
        self.heard: Dict[str, List[Any]] = {name: [] for name in ROOMS}
        self.read: Dict[str, List[Any]] = {name: [] for name in ROOMS}
        self.resets = self.caught_up = self.joined = self.cuts = self.acked = self.unknown = 0
        self.accepted = 0
        self.next_cut_at = 0.0
        self.ids: Set[str] = set()
        self.tasks: List[asyncio.Task[None]] = []
        for name in ROOMS:
            room = self.client.room(name)
            room.on_event(lambda event, heard=self.heard[name]: heard.append(event.id))  # type: ignore[misc]
            room.on_reset(self.saw_reset)
            room.on_caught_up(self.saw_caught_up)
            self.start(self.follow(room))

    def start(self, coroutine: Any) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))

    def saw_reset(self, _: object) -> None:
        self.resets += 1

    def saw_caught_up(self, _: object) -> None:
        self.caught_up += 1

    async def follow(self, room: Room) -> None:
        # A first join starts at the newest event: what comes before it is not this client's.
        await room.join()
        self.joined += 1
        async for event in room:
            self.read[room.name].append(event.id)
            if event.id is not None and event.id.endswith("000"):
                # Now and then it has something else to do for a quarter of an hour.
                await self.pause(900)

    async def pause(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clock.call_later(seconds, lambda: over.set_result(None))
        await over

    async def request(self, request: Request[Any]) -> None:
        try:
            await request
            self.acked += 1
        except RequestError as error:
            assert error.code == "outcome_unknown"
            self.unknown += 1

    async def run(self) -> None:
        self.client.connect()
        end = self.clock.now() + DURATION_S
        while self.joined < len(ROOMS) or self.clock.now() < end or self.client.unsettled:
            await self.turn(self.joined == len(ROOMS) and self.clock.now() < end)
        # Whoever was busy with something else reads on.
        while any(len(self.read[name]) < len(self.server.logs[name]) for name in ROOMS):
            await self.turn(False)
            assert self.clock.now() < end + DURATION_S * 4, "the readers never get to the end"

    async def turn(self, is_busy: bool) -> None:
        """A step of time, in which the server and the application have something to do while they are busy."""
        rng = self.rng
        await self.clock.advance(STEP_S)
        if len(self.simulation.sockets) > self.accepted:
            self.accepted = len(self.simulation.sockets)
            # One handshake in five comes to nothing.
            if is_busy and rng.random() < 0.2:
                self.simulation.socket.cut()
            else:
                self.server.accept(self.simulation.socket)
            self.next_cut_at = self.clock.now() + 0.1 + rng.random() * 5
        if is_busy and rng.random() < 0.2:
            self.server.publish(rng.choice(ROOMS))
        if is_busy and rng.random() < 0.05:
            request = self.client.room(rng.choice(ROOMS)).request("said", len(self.ids))
            self.ids.add(request.id)
            self.start(self.request(request))
        self.server.poll()
        if is_busy and self.server.has_connection and self.clock.now() >= self.next_cut_at:
            self.server.cut()
            self.cuts += 1


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.timeout(180)
async def test_two_hours_of_cuts(seed: int) -> None:
    soak = Soak(seed)
    await soak.run()
    events = from_us = 0
    for name in ROOMS:
        log = soak.server.logs[name]
        ids = [event["id"] for event in log]
        assert soak.heard[name] == ids, f"{name}: every event, once, in order"
        assert soak.read[name] == ids, f"{name}: the same for a reader who takes his time"
        own = [event["re"] for event in log if "re" in event]
        assert len(set(own)) == len(own), "each request led to one event"
        events += len(log)
        from_us += len(own)
    print(
        f"seed {seed}: {soak.cuts} cuts, {events} events, {len(soak.ids)} requests, {soak.unknown} of them unknown, "
        f"{soak.caught_up} times caught up, {soak.server.rejoins} times for a slow reader; 0 lost, 0 doubled, 0 out of order"
    )
    assert soak.acked + soak.unknown == len(soak.ids) and from_us >= soak.acked
    assert soak.resets == 0
    assert soak.cuts > 300 and events > 10_000 and len(soak.ids) > 3000 and soak.caught_up > soak.cuts
    assert soak.server.rejoins > 5
    await soak.client.close()
    await asyncio.gather(*soak.tasks)


async def test_what_is_not_stored_any_more_is_a_reset_and_no_event_is_applied_that_is_not_above_it() -> None:
    simulation = Simulation(9)
    server = ModelServer(simulation.clock, random.Random(9), history_max=5)
    client = Client("ws://server/ws", world=simulation.world)
    client.connect()
    seen: List[Any] = []
    room = client.room("r")
    room.on_event(lambda event: seen.append(event.data))
    room.on_reset(lambda reset: seen.append(reset.lost))
    read: List[Any] = []
    events = room.events(on_reset=lambda reset: read.append(reset.lost))

    async def reader() -> None:
        async for event in events:
            read.append(event.data)

    async def serve() -> None:
        server.accept(simulation.socket)
        for _ in range(10):
            await simulation.clock.advance(0.1)
            server.poll()

    reading = asyncio.ensure_future(reader())
    joining = asyncio.ensure_future(room.join())
    await simulation.clock.advance(0)
    await serve()
    await joining
    server.publish("r")
    await simulation.clock.advance(0.2)
    server.cut()
    for _ in range(8):
        server.publish("r")
    await simulation.next_socket()
    await serve()
    assert seen == [1, (2, 4), 5, 6, 7, 8, 9] == read
    await client.close()
    await reading
