"""Somebody types: the others see it, and nothing is stored (`ephemeral` in tidings.toml)."""

from tidings_client.server import EventAnswer, EventRefused, Webhook


async def handle_typing_start(call: Webhook) -> EventAnswer:
    if call["room"] is None:
        raise EventRefused("invalid", "typing is for a room")
    return {"broadcast": [{"event": "typing.start", "data": {"user": call["user"]}, "to_others": True}]}
