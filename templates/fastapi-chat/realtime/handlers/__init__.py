"""What pages send, by its name: one file an event. Tidings has checked its schema, and that its sender is in the room."""

from __future__ import annotations

from typing import Callable, Mapping

from chat.database import Database
from tidings_client.server import EventAnswer, Webhook

from .message_edit import handle_message_edit
from .message_send import handle_message_send
from .presence_heartbeat import handle_heartbeat
from .typing_start import handle_typing_start

EventHandler = Callable[[Webhook, Database], EventAnswer]
"""Returns the ack, and what is published in the room."""

EVENT_HANDLERS: Mapping[str, EventHandler] = {
    "message.send": handle_message_send,
    "message.edit": handle_message_edit,
    "typing.start": handle_typing_start,
    "presence.heartbeat": handle_heartbeat,
}
