"""A page shows that somebody is there. Who is connected Tidings knows by itself; this is when he was last seen."""

from __future__ import annotations

from chat.database import Database, now_ms
from tidings_client.server import EventAnswer, Webhook


def handle_heartbeat(call: Webhook, database: Database) -> EventAnswer:
    at = now_ms()
    database.seen(call["user"], at)
    return {"ack": {"seen_at": at}}
