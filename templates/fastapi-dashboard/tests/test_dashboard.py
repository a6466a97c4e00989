"""The dashboard as its viewers see it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any, List

import httpx
import pytest
from processes import PROJECT, Person, dashboard

from dashboard import BOARD, settings
from dashboard.database import Database
from dashboard.sampler import sample_for_ever
from realtime.broadcaster import Broadcaster
from tidings_client import RequestError

ROOM = "board:machine"


async def test_a_viewer_sees_what_is_stored(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        ann = Person(running.address, "ann")
        assert await ann.log_in() == 204
        assert await Person(running.address, "ann").log_in("another") == 401
        assert (await ann.http.get("/me")).json() == {"user": "ann", "boards": [{"name": "machine", "room": ROOM}]}
        async with ann.client() as client:
            room = await client.join(ROOM)
            seen: List[Any] = []
            async for event in room:
                seen.append(event.data)
                if len(seen) == 9:
                    break
        assert {sample["series"] for sample in seen} == {"cpu", "memory", "load"}
        stored = (await ann.http.get("/boards/machine/samples")).json()["samples"]
        assert all(sample in stored for sample in seen)
        await ann.close()


async def test_connections_that_are_cut_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        ann = Person(running.address, "ann")
        await ann.log_in()
        async with ann.client() as client:
            room = await client.join(ROOM)
            seen: List[Any] = []
            cuts = 0
            async for event in room:
                seen.append(event.data)
                if len(seen) % 10 == 0 and cuts < 3:
                    cuts += 1
                    running.line.cut()
                if len(seen) == 60:
                    break
        # The page and each connection; every one that was cut was made again.
        assert running.line.connections > 3
        stored = (await ann.http.get("/boards/machine/samples")).json()["samples"]
        begin = stored.index(seen[0])
        assert seen == stored[begin : begin + 60]
        await ann.close()


async def test_nobody_watches_what_is_not_his(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        refused = await ann_without_login(running.address)
        assert refused == [401, 401, 401]
        ann, bob = Person(running.address, "ann"), Person(running.address, "bob")
        await ann.log_in()
        await bob.log_in()
        assert (await ann.http.get("/boards/secret/samples")).status_code == 403
        async with ann.client() as client:
            room = await client.join(ROOM)
            with pytest.raises(RequestError) as forbidden:
                await room.request("sample", {"series": "cpu"})
            assert forbidden.value.code in ("forbidden", "unknown_event")
            with pytest.raises(RequestError) as foreign:
                await client.join("board:secret")
            assert foreign.value.code == "forbidden"
            # Who is taken out sees nothing more at once, and his next token does not name the board.
            assert (await bob.http.delete("/boards/machine/watchers/ann")).status_code == 204
            assert (await ann.http.get("/boards/machine/samples")).status_code == 403
            assert (await ann.http.get("/me")).json()["boards"] == []
        assert (await bob.http.put("/boards/machine/watchers/ann")).status_code == 204
        assert (await bob.http.put("/boards/machine/watchers/nobody")).status_code == 404
        async with ann.client() as client:
            async for event in await client.join(ROOM):
                assert event.event == "sample"
                break
        await ann.close()
        await bob.close()


async def ann_without_login(address: str) -> List[int]:
    async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
        paths = ["/token", "/ws", "/boards/machine/samples"]
        return [answer.status_code for answer in await asyncio.gather(*map(http.get, paths))]


async def test_the_page_asks_for_nothing_that_is_not_there(tmp_path: Path) -> None:
    page = (PROJECT / "page" / "index.html").read_text()
    files = re.findall(r'(?:href|src)="([\w.]+)"', page)
    assert files == ["dashboard.css", "dashboard.js"]
    async with dashboard(tmp_path) as running:
        async with httpx.AsyncClient(base_url=running.address, trust_env=False) as http:
            for name in [*files, "", "tidings-client.js"]:
                assert (await http.get(f"/{name}")).status_code == 200, name


async def test_a_disk_that_is_full_for_a_while_does_not_end_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [sqlite3.OperationalError("database or disk is full")]
    published = asyncio.Event()

    class Full(Database):
        def store(self, board: str, samples: Any) -> None:
            if faults:
                raise faults.pop()
            super().store(board, samples)

    class Recording(Broadcaster):
        async def broadcast_all(self, events: Any) -> Any:
            published.set()
            return []

    monkeypatch.setattr(settings, "INTERVAL_S", 0.01)
    database = Full(str(tmp_path / "dashboard.db"))
    broadcaster = Recording("http://127.0.0.1:1", "canary-bird that nobody is asked with")
    sampling = asyncio.create_task(sample_for_ever(database, broadcaster))
    told = asyncio.create_task(published.wait())
    await asyncio.wait({sampling, told}, return_when=asyncio.FIRST_COMPLETED)
    assert told.done() and len(database.samples(BOARD)) == 3
    sampling.cancel()
    await asyncio.gather(sampling, return_exceptions=True)
    database.close()
