"""Somebody types: the others see it, and nothing is stored (`ephemeral` in tidings.toml)."""

from tidings_client.server import EventAnswer, Webhook


async def handle_typing_start(call: Webhook) -> EventAnswer:
    return {"broadcast": [{"event": "typing.start", "data": {"user": call["user"]}, "to_others": True}]}
