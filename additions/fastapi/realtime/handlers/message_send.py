"""A message. Store it here, before it is published, and unique by (user, id): one that comes again under its id, because an
answer got lost, is the one that is stored."""

import time

from tidings_client.server import EventAnswer, EventRefused, Webhook


async def handle_message_send(call: Webhook) -> EventAnswer:
    if call["room"] is None:
        raise EventRefused("invalid", "a message is for a room")
    message = {"user": call["user"], "content": call["data"]["content"], "at": int(time.time() * 1000)}
    return {"ack": message, "broadcast": [{"event": "message.send", "data": message}]}
