"""What this machine does, as samples."""

from __future__ import annotations

import time
from typing import List, TypedDict

import psutil


class Sample(TypedDict):
    """One value of one series."""

    series: str
    value: float
    unit: str
    """How to show it: `ratio` (of one), `bytes`, `bytes_per_second` or `count`."""


class Sampler:
    """Reads the system's own figures."""

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._network = psutil.net_io_counters()
        psutil.cpu_percent()

    def samples(self, viewers: int) -> List[Sample]:
        """Everything as of now; rates are since the last call."""
        now, network = time.monotonic(), psutil.net_io_counters()
        seconds = max(now - self._read_at, 1e-3)
        received = (network.bytes_recv - self._network.bytes_recv) / seconds
        sent = (network.bytes_sent - self._network.bytes_sent) / seconds
        self._read_at, self._network = now, network
        return [
            {"series": "cpu", "value": psutil.cpu_percent() / 100, "unit": "ratio"},
            {"series": "memory", "value": psutil.virtual_memory().used, "unit": "bytes"},
            {"series": "swap", "value": psutil.swap_memory().used, "unit": "bytes"},
            {"series": "load", "value": psutil.getloadavg()[0], "unit": "count"},
            {"series": "network in", "value": received, "unit": "bytes_per_second"},
            {"series": "network out", "value": sent, "unit": "bytes_per_second"},
            {"series": "viewers", "value": viewers, "unit": "count"},
        ]
