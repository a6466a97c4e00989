"""A client whose first connection is welcomed, in a world that the test moves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, Optional

from world import FakeSocket, SimulatedClock, Simulation

from tidings_client import Client, Room

EPOCH = "k3f9a1qz"


def joined(room: str, offset: int, recovery: str = "fresh", top: Optional[int] = None) -> Dict[str, Any]:
    """A join's result."""
    return {
        "recovery": recovery,
        "last_event_id": f"{room}@{EPOCH}.{offset}",
        "top": f"{room}@{EPOCH}.{offset if top is None else top}",
        "members": 1,
    }


class Connected:
    def __init__(self, simulation: Simulation, client: Client) -> None:
        self.simulation = simulation
        self.client = client

    @property
    def clock(self) -> SimulatedClock:
        return self.simulation.clock

    @property
    def socket(self) -> FakeSocket:
        return self.simulation.socket

    def sent(self) -> Dict[str, Any]:
        return self.socket.next()

    async def join(self, name: str, offset: int = 0) -> Room:
        """Joins a room and answers."""
        joining = asyncio.get_running_loop().create_task(self.client.join(name))
        await self.clock.advance(0)
        self.socket.ack(self.sent()["id"], joined(name, offset))
        await self.clock.advance(0.001)
        return await joining

    async def reconnected(self, code: Optional[int] = None) -> None:
        """The connection ends, and the next one is welcomed."""
        self.socket.cut(code)
        await self.simulation.next_socket()
        self.socket.welcome()

    def event(self, offset: int, *, room: str = "r", event: str = "e", **fields: Any) -> None:
        """The event of this offset comes, with it as data."""
        message = {"event": event, "room": room, "data": offset, "id": f"{room}@{EPOCH}.{offset}", **fields}
        self.socket.receive(message)


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[Connected]:
    """`welcome` is what the welcome says beside the usual; the other options are the client's."""
    welcome = options.pop("welcome", {})
    simulation = Simulation()
    client = Client("ws://server/ws", world=simulation.world, **options)
    client.connect()
    await simulation.clock.advance(0)
    simulation.socket.welcome(**welcome)
    yield Connected(simulation, client)
    await client.close()
