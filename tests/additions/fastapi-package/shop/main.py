import os

from fastapi import Depends, FastAPI
from starlette.middleware.sessions import SessionMiddleware

from shop.login import current_user, router


def create_app() -> FastAPI:
    app = FastAPI(title="Shop")
    app.add_middleware(SessionMiddleware, secret_key=os.environ.get("SECRET_KEY", "canary-bird: a key of development"))
    app.include_router(router)

    @app.get("/me")
    async def me(user: str = Depends(current_user)):
        return {"user": user}

    return app
