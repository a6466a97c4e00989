"""Somebody with a browser: he is logged in, asks the application, and hears what is said."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, List

import httpx

from tidings_client import Client, Event


class Person:
    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name
        self.heard: List[str] = []
        self.client: Client
        self._changed = asyncio.Event()
        # No connection is kept: one that was cut would be found so by what is asked next.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.AsyncClient(base_url=address, trust_env=False, limits=limits)

    async def log_in(self, password: str = "canary-bird password") -> int:
        answer = await self.http.post("/login", json={"name": self.name, "password": password})
        return answer.status_code

    async def token(self, *, fresh: bool = False) -> str:
        token: str = (await self.http.get("/token")).json()["token"]
        return token

    async def stored(self, channel: int = 1) -> List[str]:
        answer = await self.http.get(f"/channels/{channel}/messages")
        return [f"{message['user']}: {message['content']}" for message in answer.json()["messages"]]

    @asynccontextmanager
    async def connected(self, *rooms: str) -> AsyncIterator[None]:
        """Notes what is said in these rooms, and its edits."""
        async with Client(f"{self.address.replace('http', 'ws')}/ws", token=self.token) as self.client:
            for name in rooms:
                room = self.client.room(name)
                room.on("message.send", lambda event: self._note(event, "{user}: {content}"))
                room.on("message.edit", lambda event: self._note(event, "{user} edits: {content}"))
                room.on("typing.start", lambda event: self._note(event, "{user} types"))
                await room.join()
            yield

    def say(self, content: str, room: str = "ch_1") -> Any:
        """Awaited, it is the message as it was stored."""
        return self.client.room(room).request("message.send", {"content": content})

    async def hears(self, words: str) -> None:
        """Returns when he has heard this."""
        while words not in self.heard:
            self._changed.clear()
            await self._changed.wait()

    async def is_told(self, event: str) -> None:
        """Returns when he has heard this event in his own room."""
        told = asyncio.Event()
        unsubscribe = self.client.room(f"user:{self.name}").on(event, lambda _: told.set())
        await told.wait()
        unsubscribe()

    def _note(self, event: Event[Any], words: str) -> None:
        self.heard.append(words.format(**event.data))
        self._changed.set()


@asynccontextmanager
async def people(address: str, *names: str) -> AsyncIterator[List[Person]]:
    """Logged in, each for himself."""
    everybody = [Person(address, name) for name in names]
    try:
        for person in everybody:
            assert await person.log_in() == 204
        yield everybody
    finally:
        for person in everybody:
            await person.http.aclose()
