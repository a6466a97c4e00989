"""An edit, by whoever wrote it."""

from __future__ import annotations

from chat.database import Database
from tidings_client.server import EventAnswer, EventRefused, Webhook

from ..rooms import channel_of


def handle_message_edit(call: Webhook, database: Database) -> EventAnswer:
    data = call["data"]
    message = database.edit(channel_of(call["room"]), data["seq"], call["user"], data["content"])
    if message is None:
        raise EventRefused("forbidden", "only your own messages can be edited")
    return {"ack": message, "broadcast": [{"event": "message.edit", "data": message}]}
