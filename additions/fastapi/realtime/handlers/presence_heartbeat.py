"""A page shows that somebody is there. Who is connected Tidings knows by itself; this is when he was last seen."""

import time

from tidings_client.server import EventAnswer, Webhook


async def handle_presence_heartbeat(_call: Webhook) -> EventAnswer:
    return {"ack": {"seen_at": int(time.time() * 1000)}}
