"""What a client does with a stream of messages: vectors/client_machine.json."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Dict, List, Optional, Set

import pytest
from test_vectors import read
from world import Simulation

from tidings_client import Client
from tidings_client.outbox import RequestError

SCENARIOS: List[Dict[str, Any]] = read("client_machine.json")


class Player:
    """Plays a scenario's steps to a client, and looks at what it makes of them."""

    def __init__(self) -> None:
        self.simulation = Simulation()
        self.client = Client("ws://server/ws", world=self.simulation.world)
        self.events = self.resets = 0
        self.join_id = self.resume_id = ""
        self.watched: Set[str] = set()
        self.expects_resume = False
        self.expected_resume: Optional[str] = None
        self.joins: List[asyncio.Task[None]] = []

    def watch(self, name: str) -> None:
        if name in self.watched:
            return
        self.watched.add(name)
        self.client.room(name).on_event(self.saw_event)
        self.client.room(name).on_reset(self.saw_reset)

    def saw_event(self, _: object) -> None:
        self.events += 1

    def saw_reset(self, _: object) -> None:
        self.resets += 1

    def take_request(self, event: str) -> Dict[str, Any]:
        sent = self.simulation.socket.next()
        assert sent.get("event") == event
        return sent

    def positions(self) -> List[Optional[str]]:
        return [self.client.room(name).last_event_id for name in sorted(self.watched)]

    async def join(self, name: str) -> None:
        try:
            await self.client.join(name)
        except RequestError:
            pass  # the scenario's refusal, or its end

    async def play(self, step: Dict[str, Any]) -> None:
        if "receive" in step:
            await self.receive(step["receive"], step["expect"])
        elif "join" in step:
            self.watch(step["join"])
            self.joins.append(asyncio.get_running_loop().create_task(self.join(step["join"])))
            await self.simulation.clock.advance(0)
            join = self.take_request("room.join")
            assert join.get("data", {}).get("last_event_id") == step["expect"]
            self.join_id = join["id"]
        elif "rejoin" in step:
            join = self.take_request("room.join")
            assert [join["room"], join.get("data", {}).get("last_event_id")] == [step["rejoin"], step["expect"]]
            self.join_id = join["id"]
        else:
            self.simulation.socket.cut(step["disconnect"])
            await self.simulation.next_socket()
            self.expects_resume, self.expected_resume = True, step["expect"]

    async def receive(self, text: str, expect: str) -> None:
        text = text.replace("$join", self.join_id).replace("$resume", self.resume_id)
        message = json.loads(text)
        data = message.get("data")
        rooms = data.get("rooms") if isinstance(data, dict) else None
        for name in [message.get("room"), *(rooms if isinstance(rooms, list) else [])]:
            if isinstance(name, str):
                self.watch(name)
        event = message["event"]
        unsubscribe = self.client.on(event, self.saw_event)
        before = (self.events, self.resets, self.positions(), len(self.simulation.socket.sent))
        self.simulation.socket.receive(text)
        unsubscribe()
        if self.events > before[0]:
            seen = "accept"
        elif self.resets > before[1]:
            seen = "reset"
        elif event in ("session.welcome", "ack", "room.joined", "room.left"):
            seen = "ignore"
        elif len(self.simulation.socket.sent) > before[3]:
            seen = "hole"
        else:
            seen = "move" if self.positions() != before[2] else "nothing"
        # An error without an id and presence reach nobody here who could be counted.
        is_quiet = re.match(r"error|presence\.", event) or expect in ("drop", "ignore")
        assert seen in (("nothing", "ignore") if is_quiet else (expect,)), f"{text}: {seen}, not {expect}"
        await self.simulation.clock.advance(0)
        if event == "session.welcome" and self.expects_resume:
            self.expects_resume = False
            if self.expected_resume is not None:
                resume = self.take_request("session.resume")
                cursor = resume["data"]["last_event_id"]
                assert sorted(cursor.split(",")) == sorted(self.expected_resume.split(","))
                self.resume_id = resume["id"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["name"] for scenario in SCENARIOS])
async def test_a_scenario(scenario: Dict[str, Any]) -> None:
    player = Player()
    player.client.connect()
    await player.simulation.clock.advance(0)
    for step in scenario["steps"]:
        await player.play(step)
    assert not player.simulation.socket.sent, "nothing else was sent"
    await player.client.close()
    await asyncio.gather(*player.joins)
