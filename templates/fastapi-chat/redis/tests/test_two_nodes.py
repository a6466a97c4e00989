"""Two nodes of Tidings that share a Redis, each with an application of its own: one chat."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from person import people
from processes import chat
from redis_server import redis_server


async def test_people_at_two_nodes_are_in_one_room_and_a_node_that_dies_loses_nothing(tmp_path: Path) -> None:
    async with (
        redis_server(tmp_path) as port,
        chat(tmp_path, redis=port) as one,
        chat(tmp_path, redis=port) as two,
        people(one.address, "ann") as (ann,),
        people(two.address, "bob") as (bob,),
        ann.connected("ch_1"),
        bob.connected("ch_1"),
    ):
        await ann.say("hello")
        await bob.say("hi")
        await asyncio.gather(ann.hears("bob: hi"), bob.hears("bob: hi"))
        # Said while Bob's node is away: when it is back, he has it.
        await two.tidings.end(signal.SIGKILL)
        await ann.say("still there?")
        await two.tidings.start()
        await bob.hears("ann: still there?")
        assert bob.heard == ["ann: hello", "bob: hi", "ann: still there?"]
        assert await bob.stored() == bob.heard
