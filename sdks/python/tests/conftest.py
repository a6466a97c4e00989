from __future__ import annotations

from pathlib import Path
from typing import AsyncIterator

import pytest_asyncio
from proxy import Proxy
from server import Server


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A real server."""
    home = tmp_path / "server"
    home.mkdir()
    async with Server(home) as server:
        yield server


@pytest_asyncio.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """A network between a client and that server."""
    async with Proxy(server.port) as proxy:
        yield proxy
