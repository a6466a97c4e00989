"""The chat as its users see it."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import httpx
import pytest
from person import Person, people
from processes import PROJECT, answers, chat
from raw_socket import raw_socket

from tidings_client import RequestError


async def test_two_people_talk_edit_and_type_and_what_is_stored_is_what_was_said(tmp_path: Path) -> None:
    async with chat(tmp_path) as running, people(running.address, "ann", "bob") as (ann, bob):
        assert await Person(running.address, "ann").log_in("another") == 401
        async with ann.connected("ch_1"), bob.connected("ch_1"):
            await ann.say("hello")
            await bob.hears("ann: hello")
            assert bob.client.room("ch_1").send("typing.start")
            await ann.hears("bob types")
            seq = (await bob.say("hi"))["seq"]
            await bob.client.room("ch_1").request("message.edit", {"seq": seq, "content": "hi, ann"})
            await asyncio.gather(ann.hears("bob edits: hi, ann"), bob.hears("bob edits: hi, ann"))
            assert bob.heard == ["ann: hello", "bob: hi", "bob edits: hi, ann"]
            assert await ann.stored() == ["ann: hello", "bob: hi, ann"]
            with pytest.raises(RequestError) as not_his:
                await ann.client.room("ch_1").request("message.edit", {"seq": seq, "content": "mine"})
            assert not_his.value.code == "forbidden"
            for own in (ann.client.room("user:ann"), ann.client):
                for event, data in (("message.send", {"content": "to nobody"}), ("typing.start", None)):
                    with pytest.raises(RequestError, match="this room is no channel's"):
                        await own.request(event, data)
            heartbeat = await ann.client.room("ch_1").request("presence.heartbeat")
            assert heartbeat["seen_at"] <= time.time() * 1000


async def test_connections_that_are_cut_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    async with chat(tmp_path) as running, people(running.address, "ann", "bob") as (ann, bob):
        async with ann.connected("ch_1"), bob.connected("ch_1"):
            expected = []
            connections = running.line.connections
            for number in range(1, 4):
                # Cut in the middle of a message: it is sent again under its id, and what was missed is replayed.
                running.line.cut_inside()
                words = [f"{number}.{part}" for part in (1, 2, 3)]
                await asyncio.gather(*[ann.say(said) for said in words])
                expected += [f"ann: {said}" for said in words]
                await asyncio.gather(ann.hears(expected[-1]), bob.hears(expected[-1]))
            assert [bob.heard, ann.heard, await ann.stored()] == [expected, expected, expected]
            assert running.line.connections > connections, "nobody had to connect again"


async def test_what_is_said_while_tidings_is_away_waits_and_comes_when_it_is_back(tmp_path: Path) -> None:
    async with chat(tmp_path) as running, people(running.address, "ann", "bob") as (ann, bob):
        async with ann.connected("ch_1"), bob.connected("ch_1"):
            await ann.say("before")
            await bob.hears("ann: before")
            await running.tidings.end(signal.SIGKILL)
            said = ann.say("meanwhile")
            assert (await ann.http.get("/ws")).status_code == 502
            await running.tidings.start()
            await asyncio.gather(said, bob.hears("ann: meanwhile"))
            assert await bob.stored() == ["ann: before", "ann: meanwhile"]


async def test_a_message_that_comes_again_is_stored_once(tmp_path: Path) -> None:
    async with chat(tmp_path) as running, people(running.address, "ann") as (ann,):
        acks = []
        for _ in range(2):
            async with raw_socket(ann) as socket:
                acks.append((await socket.request("message.send", {"content": "hello"}, "ann-1"))["data"])
            # The second time Tidings itself knows nothing of it.
            await running.tidings.end(signal.SIGKILL)
            await running.tidings.start()
        assert acks[0]["seq"] == acks[1]["seq"]
        async with raw_socket(ann) as socket:
            await socket.send("message.send", {"content": "without an id"})
            assert (await socket.first("error"))["data"] == {"code": "invalid", "message": "a message has an id"}
        assert await ann.stored() == ["ann: hello"]


async def test_nobody_gets_in_without_a_token_into_a_foreign_channel_or_past_a_schema(tmp_path: Path) -> None:
    async with chat(tmp_path) as running, people(running.address, "ann", "bob") as (ann, bob):
        async with httpx.AsyncClient(base_url=running.address, trust_env=False) as nobody:
            refused = [await nobody.get(path) for path in ("/token", "/ws", "/me", "/channels/1/messages")]
            refused.append(await nobody.post("/tidings", json={}))
            assert [answer.status_code for answer in refused] == [401] * 5
        channel = (await ann.http.post("/channels", json={"name": "Secret"})).json()
        assert channel == {"id": 2, "name": "Secret", "room": "ch_2"}
        assert (await ann.http.put("/channels/2/members/nobody")).status_code == 404
        assert (await bob.http.get("/channels/2/messages")).status_code == 403
        async with bob.connected("ch_1"):
            with pytest.raises(RequestError) as foreign:
                await bob.client.join("ch_2")
            with pytest.raises(RequestError) as invalid:
                await bob.client.room("ch_1").request("message.send", {"content": 7})
            assert [foreign.value.code, invalid.value.code] == ["forbidden", "schema"]


async def test_an_invitation_is_told_and_its_end_counts_at_once(tmp_path: Path) -> None:
    async with chat(tmp_path) as running, people(running.address, "ann", "bob") as (ann, bob):
        await ann.http.post("/channels", json={"name": "Secret"})
        async with bob.connected("ch_1"):
            told = asyncio.ensure_future(bob.is_told("channels.changed"))
            assert (await ann.http.put("/channels/2/members/bob")).status_code == 204
            await told
        async with ann.connected("ch_1", "ch_2"), bob.connected("ch_1", "ch_2"):
            await ann.say("welcome", "ch_2")
            await bob.hears("ann: welcome")
            told = asyncio.ensure_future(bob.is_told("channels.changed"))
            assert (await ann.http.delete("/channels/2/members/bob")).status_code == 204
            await told
            await ann.say("he is gone", "ch_2")
            await ann.say("and this is for all")
            await bob.hears("ann: and this is for all")
            assert "ann: he is gone" not in bob.heard


async def test_the_page_asks_for_nothing_that_is_not_there(tmp_path: Path) -> None:
    page = (PROJECT / "page" / "index.html").read_text()
    files = re.findall(r'(?:href|src)="([\w.]+)"', page)
    assert files == ["chat.css", "chat.js"]
    async with chat(tmp_path) as running:
        for name in [*files, "", "tidings-client.js"]:
            assert await answers(f"{running.address}/{name}"), name
