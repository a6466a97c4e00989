"""A message: stored, then published. One that comes again under its id is the one that is stored."""

from __future__ import annotations

from chat.database import Database
from tidings_client.server import EventAnswer, EventRefused, Webhook

from ..rooms import channel_of


def handle_message_send(call: Webhook, database: Database) -> EventAnswer:
    channel = channel_of(call["room"])
    if call["id"] is None:
        # By which it is stored once, however often it comes.
        raise EventRefused("invalid", "a message has an id")
    message = database.store(channel, call["user"], call["data"]["content"], call["id"])
    return {"ack": message, "broadcast": [{"event": "message.send", "data": message}]}
