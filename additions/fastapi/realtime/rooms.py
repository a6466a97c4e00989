"""Which rooms are whose. This is the one function that your database fills in."""

from typing import List


async def rooms_of(_user: str) -> List[str]:
    """It begins with a lobby for everybody who is logged in. Later, for example:

        return [f"room:{channel.id}" for channel in await channels_of(user)]
    """
    return ["room:lobby"]
