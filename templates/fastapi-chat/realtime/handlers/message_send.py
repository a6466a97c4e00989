"""A message: stored, then published. One that comes again under its id is the one that is stored."""

from __future__ import annotations

from chat.database import Database
from tidings_client.server import EventAnswer, Webhook

from ..rooms import channel_of


def handle_message_send(call: Webhook, database: Database) -> EventAnswer:
    message = database.store(channel_of(call["room"]), call["user"], call["data"]["content"], call["id"])
    return {"ack": message, "broadcast": [{"event": "message.send", "data": message}]}
