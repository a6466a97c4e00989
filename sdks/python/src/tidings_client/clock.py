"""Time, as the client sees it: a test moves its own."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Callable, Optional, Protocol

_SET_BACK_MIN_S = 0.5
"""What two clocks differ by less than this is how they are read, and how one of them is trimmed."""


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Tells the time, and calls when it has come."""

    def now(self) -> float:
        """Seconds since some moment, which nobody sets back. They go on while a computer sleeps: a request must not be sent
        again when the server has forgotten its id."""
        ...

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer: ...


class SystemClock:
    """The machine's clock, and the running loop's timers.

    A monotonic clock may stand still while the machine sleeps, and the other one may be set back: it goes by the other one,
    and takes back what that was set back.
    """

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()
        self._set_back = 0.0

    def now(self) -> float:
        wall = time.time()
        ahead = wall - time.monotonic()
        if ahead < self._ahead - _SET_BACK_MIN_S:
            self._set_back += self._ahead - ahead
        self._ahead = ahead
        return wall + self._set_back

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
