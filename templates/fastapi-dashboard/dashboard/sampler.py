"""What this machine does, as samples."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from typing import Any, Dict, List

import psutil

from realtime.broadcaster import Broadcaster, Event, room_of
from tidings_client.server import TidingsError

from . import BOARD, EVENT, settings
from .database import Database

log = logging.getLogger(__name__)


def samples() -> List[Dict[str, Any]]:
    """Everything as of now. Each is one value of one series."""
    values = {
        "cpu": (psutil.cpu_percent() / 100, "ratio"),
        "memory": (psutil.virtual_memory().percent / 100, "ratio"),
        "load": (psutil.getloadavg()[0], "count"),
    }
    now = time.time()
    return [{"series": series, "value": value, "unit": unit, "at": now} for series, (value, unit) in values.items()]


async def sample_for_ever(database: Database, broadcaster: Broadcaster) -> None:
    """Stores everything and publishes it, once an interval: for an application of one worker."""
    while True:
        await asyncio.sleep(settings.INTERVAL_S)
        new = samples()
        try:
            database.store(BOARD, new)
            results = await broadcaster.broadcast_all([Event(room_of(BOARD), EVENT, sample) for sample in new])
            for refused in (result["error"] for result in results if "error" in result):
                log.warning("a sample was not published: %s", refused)
        except TidingsError as error:
            # They are stored, and the next are as good: nothing is kept for a Tidings that is away.
            log.warning("samples were not published: %s", error)
        except sqlite3.Error as error:
            # Nor for a disk that is full.
            log.warning("samples were not stored: %s", error)
