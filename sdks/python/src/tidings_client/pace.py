"""How fast the client sends: its share of what the server takes of one connection. PROTOCOL.md §7.

Half of the server's burst, so that what the network brings at once is no flood there.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

_NEARLY = 1e-6
"""What floating point may lose of a token."""


class Pace:
    """A bucket of tokens, of which every message takes one. Before the first welcome, and with a server that names no
    limits, it never ends."""

    def __init__(self) -> None:
        self._share = math.inf
        self._per_second = math.inf
        self._tokens = math.inf
        self._counted_at = 0.0

    @property
    def share(self) -> float:
        """So many go at once, and so many requests are without an answer at a time."""
        return self._share

    def welcomed(self, limits: Mapping[str, Any], now: float) -> None:
        """A connection begins, with the limits that its welcome tells."""
        burst, per_second = limit_of(limits, "messages_burst"), limit_of(limits, "messages_per_second")
        is_limited = burst < math.inf and per_second < math.inf
        self._share = float(max(1, burst // 2)) if is_limited else math.inf
        self._per_second = per_second
        self._tokens = self._share
        self._counted_at = now

    def has_token(self, now: float) -> bool:
        """Whether a message may go now."""
        self._refill(now)
        return self._tokens >= 1 - _NEARLY

    def take(self, now: float) -> None:
        """A message goes. One that is not held back takes a token only if there is one."""
        if self.has_token(now):
            self._tokens = max(0.0, self._tokens - 1)

    def next_token_at(self) -> float:
        """When there will be one, after `has_token` said that there is none."""
        # A part of a token may be less time than a clock's number can say: later it has to be.
        least = math.nextafter(self._counted_at, math.inf)
        return max(self._counted_at + (1 - self._tokens) / self._per_second, least)

    def _refill(self, now: float) -> None:
        if self._share < math.inf:
            self._tokens = min(self._share, self._tokens + (now - self._counted_at) * self._per_second)
            self._counted_at = now


def limit_of(limits: Mapping[str, Any], name: str) -> float:
    """A limit of the welcome's; infinite if it names none."""
    limit: Any = limits.get(name)
    is_limit = isinstance(limit, (int, float)) and not isinstance(limit, bool) and limit > 0
    return limit if is_limit else math.inf
