"""One client that does what it is told, a JSON object a line on stdin, and says what it sees, one a line on stdout.

It is one of several in as many languages, which a test of the server plays the same scenario to. It uses what the package
exports and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any, Awaitable, Dict, Optional, Set

from tidings_client import Client, Event, Members, RequestError, Reset, Room


def say(saw: str, **fields: Any) -> None:
    print(json.dumps({"saw": saw, **fields}), flush=True)


class Driver:
    def __init__(self) -> None:
        self.token = ""
        self.client: Optional[Client] = None
        self.listened: Set[str] = set()
        self.tasks: Set[asyncio.Task[None]] = set()

    def obey(self, command: Dict[str, Any]) -> None:
        what = command["do"]
        if what == "connect":
            self.connect(command["url"], command["token"])
        elif what == "token":
            self.token = command["token"]
        elif self.client is None:
            raise RuntimeError(f"there is no client for {command}")
        elif what == "close":
            self.start(self.client.close())
        else:
            self.obey_in_room(self.client.room(command["room"]), command)

    def obey_in_room(self, room: Room, command: Dict[str, Any]) -> None:
        what = command["do"]
        if what == "join":
            self.listen(room)
            self.start(self.answer(command["as"], room.join(history=command.get("history"))))
        elif what == "leave":
            self.start(self.answer(command["as"], room.leave()))
        elif what == "request":
            data = base64.b64decode(command["base64"]) if "base64" in command else command.get("data")
            self.start(self.answer(command["as"], room.request(command["event"], data)))
        elif what == "send":
            room.send(command["event"], command.get("data"))
        elif what == "members":
            room.presence.on_change(lambda members: self.saw_members(room, members))
        else:
            raise RuntimeError(f"what is {what}?")

    def connect(self, url: str, token: str) -> None:
        self.token = token
        client = self.client = Client(url, token=lambda fresh: self.token)
        client.on_state(lambda state: self.saw_state(client, state))
        client.on_degraded(lambda degraded: say("degraded", degraded=degraded))
        client.connect()

    def listen(self, room: Room) -> None:
        if room.name in self.listened:
            return
        self.listened.add(room.name)
        room.on_event(lambda event: self.saw_event(room, event))
        room.on_reset(lambda reset: self.saw_reset(room, reset))
        room.on_caught_up(
            lambda caught_up: say("caught_up", room=room.name, events=caught_up.events, recovery=caught_up.recovery)
        )
        room.on_lost(lambda code: say("lost", room=room.name, code=code))

    def start(self, awaited: Any) -> None:
        task = asyncio.get_running_loop().create_task(awaited)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def answer(self, label: str, awaited: Awaitable[Any]) -> None:
        try:
            answer = await awaited
        except RequestError as error:
            return say("answer", **{"as": label}, error=error.code)
        if isinstance(answer, dict) and "event_id" in answer:
            duplicate = answer.get("duplicate", False)
            return say("answer", **{"as": label}, event_id=answer["event_id"], duplicate=duplicate)
        say("answer", **{"as": label})

    def saw_state(self, client: Client, state: str) -> None:
        if state == "refused":
            fault = client.fault
            say("state", state=state, code=fault and fault.code, status=fault and fault.status)
        else:
            say("state", state=state)

    def saw_event(self, room: Room, event: Event[Any]) -> None:
        if isinstance(event.data, bytes):
            data = {"base64": base64.b64encode(event.data).decode()}
        else:
            data = {"data": event.data}
        say("event", room=room.name, event=event.event, id=event.id, **{"from": event.from_}, **data)

    def saw_reset(self, room: Room, reset: Reset) -> None:
        state = {"state": reset.state} if reset.has_state else {}
        say("reset", room=room.name, reason=reset.reason, id=reset.id, **state)

    def saw_members(self, room: Room, members: Members) -> None:
        say("members", room=room.name, users=sorted(members))

    async def run(self) -> None:
        commands = asyncio.StreamReader(limit=1 << 24)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        async for line in commands:
            self.obey(json.loads(line))
        if self.client is not None:
            await self.client.close()
        await asyncio.gather(*self.tasks)


if __name__ == "__main__":
    asyncio.run(Driver().run())
