"""What pages send, by its name: one file an event. Tidings has checked its schema, and that its sender is in the room."""

from typing import Awaitable, Callable, Mapping

from tidings_client.server import EventAnswer, Webhook

from .message_send import handle_message_send
from .presence_heartbeat import handle_presence_heartbeat
from .typing_start import handle_typing_start

EventHandler = Callable[[Webhook], Awaitable[EventAnswer]]
"""Returns the ack, and what is published in the room; raises EventRefused."""

EVENT_HANDLERS: Mapping[str, EventHandler] = {
    "message.send": handle_message_send,
    "typing.start": handle_typing_start,
    "presence.heartbeat": handle_presence_heartbeat,
}
