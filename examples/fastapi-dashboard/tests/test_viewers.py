"""Viewers of the whole: each gets every sample, but what he was told was conflated.

`VIEWERS=500 VIEWERS_SECONDS=60` is the whole of it, with a sample of everything once a second; without, fifty viewers for
a few seconds, and four samples of everything a second.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Dict, Optional

import httpx
import pytest
from processes import SECRET, dashboard
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tidings_client.server import Tidings

VIEWERS = int(os.environ.get("VIEWERS", "50"))
SECONDS = float(os.environ.get("VIEWERS_SECONDS", "4"))
INTERVAL_MS = 1000 if "VIEWERS" in os.environ else 250
CONNECTING_MAX = 20
SERIES = {"cpu", "memory", "swap", "load", "network in", "network out", "viewers"}


def offset(event_id: str) -> int:
    return int(event_id.rpartition(".")[2])


class Viewer:
    """A viewer, which checks every position."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.began_at = 0
        self.offset = 0
        self.events = 0
        self.skipped = 0
        self.newest: Dict[str, float] = {}

    @classmethod
    async def come(cls, address: str, http: httpx.AsyncClient) -> Viewer:
        token = (await http.get(f"http://{address}/token")).json()["token"]
        url = f"ws://{address}/ws?token={token}"
        viewer = cls(await connect(url, compression=None, ping_interval=None, open_timeout=60, proxy=None))
        await viewer._socket.send(json.dumps({"event": "room.join", "room": "board", "id": "join-1"}))
        ack = await viewer._message()
        while ack["event"] != "ack":
            ack = await viewer._message()
        viewer.offset = offset(ack["data"]["last_event_id"])
        # The picture at once: the newest of each series, and skips between them.
        while viewer.offset < offset(ack["data"]["top"]):
            await viewer.step()
        assert not viewer.events or set(viewer.newest) == SERIES
        viewer.began_at, viewer.events, viewer.skipped = viewer.offset, 0, 0
        return viewer

    async def _message(self) -> Dict[str, Any]:
        message: Dict[str, Any] = json.loads(await self._socket.recv())
        return message

    async def step(self) -> None:
        """Takes the next message of the board."""
        message = await self._message()
        if message.get("room") != "board" or "id" not in message:
            return
        at = offset(message["id"])
        if message["event"] == "room.skip":
            assert message["data"]["from"] == self.offset + 1, f"a hole before {message}"
            assert message["data"]["reason"] == "conflated", message
            self.skipped += at - self.offset
        else:
            assert (message["event"], at) == ("sample", self.offset + 1), f"a hole before {message}"
            self.newest[message["data"]["series"]] = message["data"]["value"]
            self.events += 1
        self.offset = at

    async def watch(self, end: asyncio.Future[int]) -> None:
        """Reads until it is over, and what was published until then."""
        while not end.done() or self.offset < end.result():
            await self.step()

    async def leave(self) -> None:
        await self._socket.close()


@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.parametrize("way", ["alone", "with Redis", "behind Tidings"])
async def test_every_viewer_gets_everything(tmp_path: Path, way: str) -> None:
    made = dashboard(
        tmp_path, with_redis=way == "with Redis", upstream=way == "behind Tidings", interval_ms=INTERVAL_MS
    )
    async with made as where:
        gate = asyncio.Semaphore(CONNECTING_MAX)
        limits = httpx.Limits(max_connections=CONNECTING_MAX)
        async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=60) as http:

            async def come() -> Viewer:
                async with gate:
                    return await Viewer.come(where["address"], http)

            end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            watching = []

            async def come_and_watch() -> Viewer:
                viewer = await come()
                arrived.append(viewer)
                if len(arrived) == VIEWERS:
                    all_arrived.set()
                await viewer.watch(end)
                return viewer

            arrived: list[Viewer] = []
            all_arrived = asyncio.Event()
            watching = [asyncio.ensure_future(come_and_watch()) for _ in range(VIEWERS)]
            arriving = asyncio.ensure_future(all_arrived.wait())
            await asyncio.wait([arriving, *watching], return_when=asyncio.FIRST_COMPLETED)
            arriving.cancel()
            for task in watching:
                if task.done():
                    task.result()
            # So many rounds of samples, by what is published and not by a clock.
            async with Tidings(where["tidings"], secret=SECRET) as tidings:
                state = await tidings.room("board")
                until = offset(state["last_event_id"]) + int(SECONDS * 1000 / INTERVAL_MS) * len(SERIES)
                watcher = await come()
                while watcher.offset < until:
                    await watcher.step()
                end.set_result(watcher.offset)
                await watcher.leave()
        viewers = await asyncio.gather(*watching)
        conflated = sum(viewer.skipped for viewer in viewers)
        for viewer in viewers:
            assert viewer.offset >= end.result()
            assert viewer.events + viewer.skipped == viewer.offset - viewer.began_at
            assert set(viewer.newest) == SERIES
        samples = sum(viewer.events for viewer in viewers)
        print(
            f"{way}: {len(viewers)} of {VIEWERS} viewers got all {samples} samples; {conflated} were told as conflated"
        )
        await asyncio.gather(*(viewer.leave() for viewer in viewers))


async def test_the_page_and_who_is_refused(tmp_path: Path) -> None:
    async with dashboard(tmp_path, with_redis=False, interval_ms=100) as where:
        async with httpx.AsyncClient(base_url=f"http://{where['address']}", trust_env=False) as http:
            for path, words in (
                ("/", "<title>Dashboard</title>"),
                ("/dashboard.js", "board"),
                ("/dashboard.css", "uplot"),
            ):
                page = await http.get(path)
                assert words in page.text and page.headers["content-security-policy"].startswith("default-src 'none'")
            assert (await http.get("/ws")).json()["code"] == "token_missing"
            refused: Optional[InvalidStatus] = None
            try:
                await connect(f"ws://{where['address']}/ws", proxy=None)
            except InvalidStatus as error:
                refused = error
            assert refused is not None and refused.response.status_code == 401
            viewer = await Viewer.come(where["address"], http)
            # A viewer only listens.
            await viewer._socket.send(json.dumps({"event": "sample", "room": "board", "data": {}, "id": "1"}))
            message = await viewer._message()
            while message["event"] != "error":
                message = await viewer._message()
            assert message["data"]["code"] in ("forbidden", "unknown_event")
            await viewer.leave()
