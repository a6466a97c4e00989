"""What Tidings asks and tells this application, signed: what pages send, and the ends of connections."""

from __future__ import annotations

from chat.database import Database
from tidings_client.server import EventAnswer, EventRefused, Webhook, Webhooks

from .handlers import EVENT_HANDLERS
from .rooms import RoomManager


def serve(webhooks: Webhooks, rooms: RoomManager, database: Database) -> None:
    @webhooks.on("event")
    def event(call: Webhook) -> EventAnswer:
        rooms.connected(call["session"], call["user"])
        handler = EVENT_HANDLERS.get(call["event"])
        if handler is None:
            raise EventRefused("unknown_event", f"nothing serves {call['event']}")
        return handler(call, database)

    @webhooks.on("disconnect")
    def disconnect(call: Webhook) -> None:
        rooms.disconnected(call["session"])
