"""What is there once the package is installed: its types' marker and version, and a client that talks."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from server import BIN, Server, token

import tidings_client
import tidings_client.asgi


async def talk() -> None:
    with tempfile.TemporaryDirectory() as home:
        async with Server(Path(home)) as server, tidings_client.Client(server.url, token=token("ann")) as client:
            room = await client.join("chat:lobby")
            await room.request("say", "hello")
            async for event in room:
                assert event.data == "hello"
                break


if __name__ == "__main__":
    package = Path(tidings_client.__file__).parent
    assert (package / "py.typed").exists() and "site-packages" in str(package), package
    assert version("tidings-client") == "0.1.0"
    try:
        import tidings_client.server
    except ModuleNotFoundError as error:
        # What it needs is asked for by name.
        assert "tidings-client[server]" in str(error)
    else:
        assert tidings_client.server.Tidings("http://127.0.0.1:7777", secret="x" * 32).mint_token("ann")
    if BIN is not None:
        asyncio.run(talk())
    print(f"Python {sys.version.split()[0]}, websockets {version('websockets')}")
