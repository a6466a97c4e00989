"""The application: its page, the token that a viewer connects with, and Tidings' WebSocket on the same port.

    uvicorn dashboard.main:app --workers 4

A worker keeps nothing of its viewers: any of them may come to any worker, and back to another.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Awaitable, Callable, Dict

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from tidings_client.asgi import Attach
from tidings_client.server import Tidings

from . import settings

TOKEN_EXPIRES_IN_S = 600
"""A page asks for another token at every connect."""
PAGE = Path(__file__).resolve().parents[2] / "dashboard" / "page"
"""The page is that of `examples/dashboard`, which has the same room."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

app = FastAPI(title="Dashboard", docs_url=None, redoc_url=None, openapi_url=None)
tidings = Tidings(settings.TIDINGS_URL, secret=settings.secret())


@app.middleware("http")
async def with_policy(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@app.get("/token")
async def token(response: Response) -> Dict[str, str]:
    """Everyone may watch, each as a viewer of his own. An application with a login says here who it is."""
    response.headers["Cache-Control"] = "no-store"
    viewer = f"viewer-{secrets.token_hex(8)}"
    return {"token": tidings.mint_token(viewer, expires_in=TOKEN_EXPIRES_IN_S)}


app.mount("/", StaticFiles(directory=PAGE, html=True))
# The last that is added is the first that is asked.
app.add_middleware(Attach, path="/ws", url=settings.TIDINGS_URL)
