"""Real-time rooms for this FastAPI application: who may connect, the socket on its port, and what it tells its rooms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Awaitable, Callable, Dict, List, Optional, Union

from fastapi import FastAPI, HTTPException, Request, Response

from tidings_client.asgi import Attach
from tidings_client.server import Tidings

TOKEN_EXPIRES_IN_S = 600
"""A page asks for another token at every connect."""
URL = os.environ.get("TIDINGS_URL", "http://127.0.0.1:7777")
_secret = Path(os.environ.get("TIDINGS_SECRET_FILE", "tidings.secret")).read_text(encoding="utf-8").strip()

tidings = Tidings(URL, secret=_secret)
"""For the whole application: `await tidings.publish(room, event, data)` and the rest of the HTTP API."""

UserOf = Callable[[Request], Awaitable[Optional[Union[str, int]]]]
RoomsOf = Callable[[str], Awaitable[List[str]]]


def mount(app: FastAPI, user_of: UserOf, rooms_of: RoomsOf) -> None:
    """The token's route and the socket. `user_of` is who is logged in, `rooms_of` which rooms are his."""

    @app.get("/realtime/token")
    async def token(request: Request, response: Response) -> Dict[str, str]:
        known = await user_of(request)
        if known is None or known == "":
            raise HTTPException(401, "log in first")
        user = str(known)
        response.headers["Cache-Control"] = "no-store"
        return {"token": tidings.mint_token(user, rooms=await rooms_of(user), expires_in=TOKEN_EXPIRES_IN_S)}

    # The last that is added is the first that is asked: after every other middleware.
    app.add_middleware(Attach, path="/ws", url=URL)
