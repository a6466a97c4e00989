"""A truthful server in a few lines: one log per room, idempotency, resume, acks, presence left out. PROTOCOL.md §2, §3.

Its network delays every message and loses what is under way when a connection is cut.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from world import FakeSocket, SimulatedClock

EPOCH = "k3f9a1qz"


@dataclass
class _Attached:
    room: str
    joined: Dict[str, Any]
    events: Callable[[], None]


class ModelServer:
    def __init__(
        self,
        clock: SimulatedClock,
        rng: random.Random,
        history_max: Optional[int] = None,
        rate: Optional[Tuple[int, int]] = None,
    ) -> None:
        """`history_max` events are stored per room; older ones are a reset. `rate` is how many messages a second a
        connection may send, and how many at once."""
        self._clock = clock
        self._rng = rng
        self._history_max = history_max
        self.logs: Dict[str, List[Dict[str, Any]]] = {}
        self._published: Dict[str, str] = {}
        """Request id to the event that it led to."""
        self._socket: Optional[FakeSocket] = None
        self._joined: Set[str] = set()
        self._busy_until = 0.0
        self._rate = rate
        self._tokens = self._counted_at = 0.0
        self.refused = 0
        """How many messages were too fast."""
        self.rejoins = 0
        """How often a room was joined again at a position, outside of a resume."""

    @property
    def has_connection(self) -> bool:
        return self._socket is not None

    def accept(self, socket: FakeSocket) -> None:
        """Takes a connection over."""
        self._socket = socket
        self._joined.clear()
        limits: Dict[str, int] = {}
        if self._rate is not None:
            limits = {"messages_per_second": self._rate[0], "messages_burst": self._rate[1]}
            self._tokens, self._counted_at = self._rate[1], self._clock.now()
        self._later(lambda: socket.welcome(limits=limits))

    def poll(self) -> None:
        """Takes what the client has sent by now. A message of which the connection was cut before it is not here."""
        while self._socket is not None and self._socket.sent:
            message = self._socket.next()
            self._later(lambda message=message: self._serve(message))  # type: ignore[misc]

    def cut(self) -> None:
        socket, self._socket = self._socket, None
        self._joined.clear()
        if socket is not None:
            socket.cut()

    def publish(self, room: str, **rest: Any) -> str:
        log = self.logs.setdefault(room, [])
        id = f"{room}@{EPOCH}.{len(log) + 1}"
        event = {"event": "e", "room": room, "data": len(log) + 1, **rest, "id": id}
        log.append(event)
        if room in self._joined:
            self._reply(event)
        return id

    def _first_stored(self, room: str) -> int:
        count = len(self.logs.setdefault(room, []))
        return 1 if self._history_max is None else max(1, count - self._history_max + 1)

    def _serve(self, message: Dict[str, Any]) -> None:
        event, room, id = message["event"], message.get("room"), message.get("id")
        data: Any = message.get("data") or {}
        if self._is_too_fast():
            self.refused += 1
            refusal = {"code": "rate_limited", "message": "", "retry_after_ms": 50}
            return self._reply({"event": "error", "id": id, "data": refusal})
        if event == "presence.heartbeat":
            return
        if event == "room.join" and room:
            self.rejoins += "last_event_id" in data
            follow = self._attach(room, data.get("last_event_id"), data.get("history", 0))
            self._reply({"event": "ack", "id": id, "data": follow.joined})
            follow.events()
        elif event == "session.resume":
            followed = [self._attach(at.rpartition("@")[0], at) for at in data["last_event_id"].split(",")]
            rooms = {one.room: one.joined for one in followed}
            self._reply({"event": "ack", "id": id, "data": {"rooms": rooms}})
            for one in followed:
                one.events()
        elif room in self._joined and room is not None and id is not None:
            known = self._published.get(id)
            event_id = known or self.publish(room, data=message.get("data"), **{"from": "me", "re": id})
            self._published[id] = event_id
            self._reply({"event": "ack", "id": id, "data": {"event_id": event_id, "duplicate": known is not None}})
        else:
            self._reply({"event": "error", "id": id, "data": {"code": "not_joined", "message": ""}})

    def _is_too_fast(self) -> bool:
        if self._rate is None:
            return False
        per_second, burst = self._rate
        now = self._clock.now()
        self._tokens = min(burst, self._tokens + (now - self._counted_at) * per_second)
        self._counted_at = now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    def _attach(self, room: str, cursor: Optional[str], history: int = 0) -> _Attached:
        log = self.logs.setdefault(room, [])
        top, first = len(log), self._first_stored(room)
        asked = max(0, top - history) if cursor is None else int(cursor.rpartition(".")[2])
        is_lost = cursor is not None and asked + 1 < first
        recovery = "fresh" if cursor is None else "gap" if is_lost else "complete"
        start, end = f"{room}@{EPOCH}.{asked}", f"{room}@{EPOCH}.{top}"

        def events() -> None:
            self._joined.add(room)
            if is_lost:
                lost = {"from": asked + 1, "to": first - 1}
                id = f"{room}@{EPOCH}.{first - 1}"
                self._reply(
                    {"event": "room.reset", "room": room, "id": id, "data": {"reason": "expired", "lost": lost}}
                )
            for event in log[first - 1 if is_lost else asked : top]:
                self._reply(event)

        return _Attached(room, {"recovery": recovery, "last_event_id": start, "top": end, "members": 1}, events)

    def _reply(self, message: Dict[str, Any]) -> None:
        socket = self._socket
        if socket is not None:
            self._later(lambda: socket.receive(message))

    def _later(self, call: Callable[[], None]) -> None:
        """After 0 to 100 ms, in order; not at all if the connection is gone by then."""
        socket, now = self._socket, self._clock.now()
        self._busy_until = max(self._busy_until, now + self._rng.random() * 0.1)

        def arrive() -> None:
            if socket is self._socket and socket is not None and not socket.is_cut:
                call()

        self._clock.call_later(self._busy_until - now, arrive)
