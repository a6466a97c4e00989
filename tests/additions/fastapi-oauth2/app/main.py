from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordRequestForm

from app import items
from app.schemas import Token, User
from app.security import authenticate_user, create_access_token, get_current_active_user


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.ready = True
    yield
    app.state.ready = False


OPEN = ("/token", "/health", "/openapi.json")


def is_let_in(request: Request) -> bool:
    return request.url.path in OPEN or "authorization" in request.headers


async def closed_by_default(request: Request):
    if not is_let_in(request):
        raise HTTPException(status_code=401, detail="Not authenticated")


def operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}-{route.name}"


app = FastAPI(
    title="Shop",
    lifespan=lifespan,
    dependencies=[Depends(closed_by_default)],
    generate_unique_id_function=operation_id,
)
app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"], allow_methods=["*"], allow_headers=["*"])
app.include_router(items.router)


@app.middleware("http")
async def no_page_is_open(request: Request, call_next):
    if not is_let_in(request):
        return JSONResponse({"detail": "Not authenticated"}, status_code=401)
    return await call_next(request)


@app.post("/token", tags=["users"])
async def login_for_access_token(form_data: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Token:
    user = authenticate_user(form_data.username, form_data.password)
    if not user:
        raise HTTPException(
            status_code=401, detail="Incorrect username or password", headers={"WWW-Authenticate": "Bearer"}
        )
    return Token(access_token=create_access_token(user.username), token_type="bearer")


@app.get("/users/me", tags=["users"])
async def read_users_me(current_user: Annotated[User, Depends(get_current_active_user)]) -> User:
    return current_user


@app.get("/health", tags=["machine"])
async def health():
    return {"ready": app.state.ready}
