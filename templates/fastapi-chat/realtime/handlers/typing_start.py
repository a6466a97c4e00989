"""Somebody types: the others see it, and nothing is stored (`ephemeral` in tidings.toml)."""

from __future__ import annotations

from chat.database import Database
from tidings_client.server import EventAnswer, Webhook

from ..rooms import channel_of


def handle_typing_start(call: Webhook, _database: Database) -> EventAnswer:
    # Refuses where there are no others.
    channel_of(call["room"])
    return {"broadcast": [{"event": "typing.start", "data": {"user": call["user"]}, "to_others": True}]}
