"""A WebSocket without an SDK: everything that comes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, List, Optional

from person import Person
from websockets.asyncio.client import ClientConnection, connect

Message = Dict[str, Any]


class RawSocket:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._came: List[Message] = []
        self._changed = asyncio.Event()

    async def read(self) -> None:
        async for text in self._socket:
            self._came.append(json.loads(text))
            self._changed.set()

    async def first(self, event: str, room: Optional[str] = None) -> Message:
        """The first that there is, or will be."""
        while True:
            for message in self._came:
                if message["event"] == event and room in (None, message.get("room")):
                    return message
            self._changed.clear()
            await self._changed.wait()

    def all(self, event: str) -> List[Any]:
        return [message["data"] for message in self._came if message["event"] == event]

    async def send(self, event: str, data: Any, **id: str) -> None:
        """In General."""
        await self._socket.send(json.dumps({"event": event, "room": "ch_1", "data": data, **id}))

    async def request(self, event: str, data: Any, id: str) -> Message:
        """Sends it under this id; the ack."""
        await self.send(event, data, id=id)
        return await self.first("ack")

    async def close(self) -> None:
        await self._socket.close()


@asynccontextmanager
async def raw_socket(person: Person) -> AsyncIterator[RawSocket]:
    url = f"{person.address.replace('http', 'ws')}/ws?token={await person.token()}"
    async with connect(url, proxy=None) as socket:
        raw = RawSocket(socket)
        reading = asyncio.create_task(raw.read())
        yield raw
        await raw.close()
        await reading
