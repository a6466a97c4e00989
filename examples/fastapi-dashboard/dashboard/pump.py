"""The pump, a process of its own: publishes samples in batches. It knows the room and no viewer.

python -m dashboard.pump
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import time

from tidings_client.server import BatchEvent, Tidings, TidingsError

from . import EVENT, ROOM, settings
from .sampler import Sampler

log = logging.getLogger("pump")


async def pump(tidings: Tidings, interval_s: float) -> None:
    """Publishes everything once an interval, for as long as it is not cancelled."""
    sampler, due = Sampler(), time.monotonic()
    while True:
        due = max(due + interval_s, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        try:
            viewers = (await tidings.room(ROOM))["members"]
            samples = sampler.samples(viewers)
            results = await tidings.batch([BatchEvent(EVENT, sample, room=ROOM) for sample in samples])
        except TidingsError as error:
            # The next samples are as good: nothing is kept for a Tidings that is away.
            log.warning("samples were not published: %s", error)
            continue
        for sample, result in zip(samples, results):
            if "error" in result:
                log.warning("%s was not published: %s", sample["series"], result["error"])


async def main(interval_s: float) -> None:
    async with Tidings(settings.TIDINGS_URL, secret=settings.secret()) as tidings:
        pumping = asyncio.ensure_future(pump(tidings, interval_s))
        for end in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(end, pumping.cancel)
        try:
            await pumping
        except asyncio.CancelledError:
            pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Publishes samples of this machine.")
    parser.add_argument("--interval-ms", type=int, default=1000, help="from one sample of everything to the next")
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(parser.parse_args().interval_ms / 1000))
