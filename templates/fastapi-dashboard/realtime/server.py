"""The application: its routes, Tidings' WebSocket on the same port, and a lifespan that closes everything.

    uvicorn realtime.server:app --env-file .env

A worker keeps nothing of its viewers: any of them may come to any worker, and back to another.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, AsyncIterator, Dict, List

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from redis.asyncio import Redis

from dashboard import settings
from dashboard.database import Database
from dashboard.login import COOKIE, COOKIE_MAX_AGE_S, Login
from dashboard.sampler import sample_for_ever
from tidings_client.asgi import Attach

from .broadcaster import Broadcaster, room_of
from .redis_pubsub import RedisPubSub

PAGE = Path(__file__).resolve().parents[1] / "page"


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    secret = settings.secret()
    database = Database(settings.DATABASE)
    broadcaster = Broadcaster(settings.TIDINGS_URL, secret)
    app.state.database, app.state.broadcaster, app.state.login = database, broadcaster, Login(database, secret)
    redis = Redis.from_url(settings.REDIS_URL) if settings.REDIS_URL else None
    # With Redis the samples come from dashboard.pump, or from whatever else sends them.
    work = RedisPubSub(redis, broadcaster).run() if redis else sample_for_ever(database, broadcaster)
    working = asyncio.create_task(work)
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if redis:
            await redis.aclose()
        await broadcaster.close()
        database.close()


app = FastAPI(title="Dashboard", lifespan=lifespan)


class Credentials(BaseModel):
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")
    password: str = Field(min_length=1, max_length=128)


def database_of(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def broadcaster_of(request: Request) -> Broadcaster:
    broadcaster: Broadcaster = request.app.state.broadcaster
    return broadcaster


def user_of(request: Request) -> str:
    """Who asks; 401 without a login."""
    login: Login = request.app.state.login
    user = login.user(request.cookies.get(COOKIE, ""))
    if user is None:
        raise HTTPException(401, "log in first")
    return user


def watcher_of(board: str, user: str = Depends(user_of), database: Database = Depends(database_of)) -> str:
    """Only who may watch the board goes on."""
    if board not in database.boards_of(user):
        raise HTTPException(403, "this board is not yours to watch")
    return user


@app.post("/login", status_code=204)
def log_in(given: Credentials, request: Request, response: Response) -> None:
    """A name that nobody has is signed up, else its password has to be right."""
    cookie = request.app.state.login.enter(given.name, given.password)
    if cookie is None:
        raise HTTPException(401, "this name has another password")
    response.set_cookie(COOKIE, cookie, max_age=COOKIE_MAX_AGE_S, httponly=True, samesite="strict")


@app.get("/me")
def me(user: str = Depends(user_of), database: Database = Depends(database_of)) -> Dict[str, Any]:
    boards = [{"name": board, "room": room_of(board)} for board in database.boards_of(user)]
    return {"user": user, "boards": boards}


# It runs in the event loop, as everything that has to do with the broadcaster.
@app.get("/token")
async def token(
    response: Response,
    user: str = Depends(user_of),
    database: Database = Depends(database_of),
    broadcaster: Broadcaster = Depends(broadcaster_of),
) -> Dict[str, str]:
    """What a page connects with. Authentication is before the upgrade: Tidings lets nobody in without one."""
    response.headers["Cache-Control"] = "no-store"
    return {"token": broadcaster.token(user, database.boards_of(user))}


@app.get("/boards/{board}/samples")
def samples(
    board: str, _watcher: str = Depends(watcher_of), database: Database = Depends(database_of)
) -> Dict[str, List[Dict[str, Any]]]:
    """The newest that are stored: what a page begins with."""
    return {"samples": database.samples(board)}


@app.put("/boards/{board}/watchers/{user}", status_code=204)
async def add_watcher(
    board: str,
    user: str,
    _watcher: str = Depends(watcher_of),
    database: Database = Depends(database_of),
    broadcaster: Broadcaster = Depends(broadcaster_of),
) -> None:
    if not database.add_watcher(board, user):
        raise HTTPException(404, "there is no such user")
    await broadcaster.add(user, room_of(board))


@app.delete("/boards/{board}/watchers/{user}", status_code=204)
async def remove_watcher(
    board: str,
    user: str,
    _watcher: str = Depends(watcher_of),
    database: Database = Depends(database_of),
    broadcaster: Broadcaster = Depends(broadcaster_of),
) -> None:
    """Whoever is taken out sees nothing more. A token that he has already names the board until it ends: ten minutes at most."""
    database.remove_watcher(board, user)
    await broadcaster.remove(user, room_of(board))


app.mount("/", StaticFiles(directory=PAGE, html=True))
# The last that is added is the first that is asked.
app.add_middleware(Attach, path="/ws", url=settings.TIDINGS_URL)
