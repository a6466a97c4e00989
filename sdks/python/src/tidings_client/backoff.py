"""How long to wait before the next connection."""

from __future__ import annotations

from typing import Callable

_FIRST_BOUND_S = 1.0
_LAST_BOUND_S = 30.0


class Backoff:
    """Backoff 1, 2, 4 … 30 s with full jitter: a uniform draw from zero to the bound. PROTOCOL.md §7."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` draws from [0, 1)."""
        self._failures = 0
        self._random = random

    @property
    def bound_s(self) -> float:
        """The most that `next` would wait, in seconds."""
        # Five doublings pass the last bound already.
        return min(_FIRST_BOUND_S * 2.0 ** min(self._failures, 5), _LAST_BOUND_S)

    def next(self) -> float:
        """The wait before the next attempt in seconds, and one failure more."""
        wait_s = self._random() * self.bound_s
        self._failures += 1
        return wait_s

    def reset(self) -> None:
        """Forgets the failures, after a connection that held."""
        self._failures = 0
