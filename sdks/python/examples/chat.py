"""A chat in the terminal: what you type is said, what others say is shown, and a lost connection is only a pause.

    TOKEN=$(tidings token --user ann) python chat.py ws://127.0.0.1:7777/ws chat:lobby

On Unix: it waits for the keyboard with `add_reader`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from tidings_client import CaughtUp, Client, Event, Members, RequestError, Reset, Room, State


def show(event: Event[Any]) -> None:
    print(f"{event.from_}: {event.data['content']}", flush=True)


def note(text: str) -> None:
    print(f"-- {text}", flush=True)


def show_state(state: State) -> None:
    note(state)


def show_caught_up(caught_up: CaughtUp) -> None:
    if caught_up.events:
        note(f"{caught_up.events} messages that you missed")


def show_reset(reset: Reset) -> None:
    note(f"something was lost ({reset.reason}): what follows is what there is")


def show_members(members: Members) -> None:
    note(f"here: {', '.join(members)}")


def keyboard() -> asyncio.StreamReader:
    """The lines that are typed."""
    lines, loop = asyncio.StreamReader(), asyncio.get_running_loop()

    def read() -> None:
        typed = os.read(sys.stdin.fileno(), 4096)
        if typed:
            lines.feed_data(typed)
        else:
            loop.remove_reader(sys.stdin)
            lines.feed_eof()

    loop.add_reader(sys.stdin, read)
    return lines


async def say(room: Room, content: str) -> None:
    try:
        await room.request("message.send", {"content": content})
    except RequestError as error:
        note(f"not said: {error}")


async def main(url: str, name: str) -> None:
    client = Client(url, token=os.environ.get("TOKEN"))
    client.on_state(show_state)
    # Before the join, so that its last messages are shown too.
    room = client.room(name)
    room.on("message.send", show)
    room.on_caught_up(show_caught_up)
    room.on_reset(show_reset)
    room.presence.on_change(show_members)
    async with client:
        await room.join(history=20)
        saying = set()
        async for line in keyboard():
            # Not awaited here: one may go on typing while there is no connection.
            task = asyncio.create_task(say(room, line.decode().strip()))
            saying.add(task)
            task.add_done_callback(saying.discard)
        await asyncio.gather(*saying)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
    except KeyboardInterrupt:
        pass
