"""A network that breaks when it is told to: a TCP proxy on a free port."""

from __future__ import annotations

import asyncio
from typing import Set


class Proxy:
    """Hands on what comes, both ways, to a port of this machine."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._server: asyncio.Server = None  # type: ignore[assignment]
        self._writers: Set[asyncio.StreamWriter] = set()
        self.accepted = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    def cut(self) -> None:
        """Breaks every connection, without a goodbye to anybody."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        while self._writers:
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, to_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._hand_on(reader, to_writer), self._hand_on(to_reader, writer))
        finally:
            for one in pair:
                one.transport.abort()
            self._writers -= pair

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                data = await reader.read(1 << 16)
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut
        writer.transport.abort()
