"""Tidings for a backend: tokens for its users, everything of the HTTP API, webhooks. It needs `tidings-client[server]`.

`Tidings` is the way in. Tidings' WebSocket on the application's own port is `tidings_client.asgi`.
"""

from .requests import TidingsError
from .tidings import BatchEvent, BatchResult, EventsPage, Member, MembersPage, Node, Published, Session, Tidings
from .webhooks import Broadcast, ConnectAnswer, EventAnswer, EventRefused, Webhook, WebhookAnswer, Webhooks

__all__ = [
    "BatchEvent",
    "BatchResult",
    "Broadcast",
    "ConnectAnswer",
    "EventAnswer",
    "EventRefused",
    "EventsPage",
    "Member",
    "MembersPage",
    "Node",
    "Published",
    "Session",
    "Tidings",
    "TidingsError",
    "Webhook",
    "WebhookAnswer",
    "Webhooks",
]
