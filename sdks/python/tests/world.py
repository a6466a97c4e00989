"""A world that a test moves: its clock, its random numbers and its network."""

from __future__ import annotations

import asyncio
import heapq
import json
import random
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple, Union
from urllib.parse import parse_qs, urlsplit

from tidings_client.connection import Answer, SocketOwner, World
from tidings_client.protocol import Frame

# Less than any time that means something, more than what floating point loses on the way.
_TOLERANCE_S = 1e-6


async def settled() -> None:
    """Lets everything run that can."""
    loop = asyncio.get_running_loop()
    # What is ready to run is the loop's own, but there is no other way to know that nothing is.
    ready = getattr(loop, "_ready")  # noqa: B009
    while ready:
        await asyncio.sleep(0)


class SimulatedTimer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Optional[Callable[[], None]] = call

    def cancel(self) -> None:
        self.call = None


class SimulatedClock:
    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._timers: List[Tuple[float, int, SimulatedTimer]] = []
        self._set = 0

    def now(self) -> float:
        return self._now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> SimulatedTimer:
        timer = SimulatedTimer(call)
        self._set += 1
        heapq.heappush(self._timers, (self._now + delay_s, self._set, timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Moves on, from timer to timer."""
        end = self._now + seconds
        await settled()
        while self._timers and self._timers[0][0] <= end + _TOLERANCE_S:
            at, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, at)
            if timer.call is not None:
                timer.call()
                await settled()
        self._now = max(self._now, end)


class FakeSocket:
    """The client's end of a connection; a test is the other end."""

    waiting = 0

    def __init__(self, url: str, token: Optional[str], owner: SocketOwner) -> None:
        self.url = url
        self.token = token
        self.sent: Deque[Frame] = deque()
        """What the client has sent, and the test not yet looked at."""
        self.closed_with: Optional[int] = None
        self.is_cut = False
        self._owner = owner

    @property
    def query(self) -> Dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.url).query).items()}

    def send(self, frame: Frame) -> None:
        if not self.is_cut and self.closed_with is None:
            self.sent.append(frame)

    def close(self, code: int) -> None:
        self.closed_with = code if self.closed_with is None else self.closed_with

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""

    def next(self) -> Dict[str, Any]:
        """The oldest message that the client has sent and nobody looked at; none is an empty one."""
        if not self.sent:
            return {}
        message: Dict[str, Any] = json.loads(self.sent.popleft())
        return message

    def receive(self, message: Union[Mapping[str, Any], str, bytes]) -> None:
        frame = message if isinstance(message, (str, bytes)) else json.dumps(message)
        if not self.is_cut:
            self._owner.received(frame)

    def ping(self) -> None:
        """The server pings, which is no message."""
        self._owner.heard()

    def welcome(self, **data: Any) -> None:
        fields: Dict[str, Any] = {"session": "s", "user": "me", "rooms": [], "last_event_id": ""}
        fields.update({"heartbeat_ms": 30000, "limits": {}, "features": []}, **data)
        self.receive({"event": "session.welcome", "data": fields})

    def ack(self, id: str, data: Any = None) -> None:
        self.receive({"event": "ack", "id": id, "data": data})

    def refuse(self, id: str, code: str, **data: Any) -> None:
        self.receive({"event": "error", "id": id, "data": {"code": code, "message": "", **data}})

    def cut(self, code: Optional[int] = None) -> None:
        """The connection ends; without a code, it just breaks."""
        if not self.is_cut:
            self.is_cut = True
            self._owner.closed(code, "")


class Simulation:
    """A simulated world; `sockets` has every connection that was begun, the last one last."""

    def __init__(
        self,
        seed: int = 1,
        clock: Optional[SimulatedClock] = None,
        draw: Optional[Callable[[], float]] = None,
    ) -> None:
        """`draw` in the place of random numbers."""
        self.clock = clock or SimulatedClock()
        self.sockets: List[FakeSocket] = []
        self.failures: Deque[Exception] = deque()
        """How handshakes fail, one after the other."""
        self.answers: Deque[Answer] = deque()
        """What plain requests are answered with, one after the other."""
        self.asked: List[Tuple[str, Optional[str]]] = []
        """The plain requests that were made: URL and token."""
        self.dialled_at: List[float] = []
        """When handshakes were begun."""
        self.world = World(self.clock, draw or random.Random(seed).random, self._dial, self._ask)

    @property
    def socket(self) -> FakeSocket:
        return self.sockets[-1]

    @property
    def dialled(self) -> int:
        return len(self.dialled_at)

    async def next_socket(self) -> FakeSocket:
        """Moves on to the next connection."""
        before = len(self.sockets)
        while len(self.sockets) == before:
            await self.clock.advance(0.5)
        return self.socket

    async def _dial(self, url: str, token: Optional[str], owner: SocketOwner) -> FakeSocket:
        self.dialled_at.append(self.clock.now())
        if self.failures:
            raise self.failures.popleft()
        socket = FakeSocket(url, token, owner)
        self.sockets.append(socket)
        return socket

    async def _ask(self, url: str, token: Optional[str]) -> Answer:
        self.asked.append((url, token))
        if not self.answers:
            raise ConnectionRefusedError("nobody listens")
        return self.answers.popleft()
