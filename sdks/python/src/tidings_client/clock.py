"""Time, as the client sees it: a test moves its own."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Callable, Optional, Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Tells the time, and calls when it has come."""

    def now(self) -> float:
        """Seconds since 1970. Not a monotonic clock: those may stand still while a computer sleeps, and a request must
        not be sent again when the server has forgotten its id."""
        ...

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer: ...


class SystemClock:
    """The machine's clock, and the running loop's timers."""

    def now(self) -> float:
        return time.time()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, call)


class Alarm:
    """One timer that rings when the earliest thing is due."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Optional[Timer] = None
        self._at = math.inf

    def set(self, at: float) -> None:
        """Rings at `at` and not at whatever was set before; never if that is infinite."""
        if at == self._at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = at
        if at != math.inf:
            self._timer = self._clock.call_later(max(0.0, at - self._clock.now()), self._rang)

    def _rang(self) -> None:
        self._timer = None
        self._at = math.inf
        self._ring()
