import hmac

from fastapi import APIRouter, Form, HTTPException, Request

PASSWORDS = {"ann": "canary-bird of ann"}

router = APIRouter()


async def current_user(request: Request) -> str:
    user = request.session.get("user")
    if user is None:
        raise HTTPException(status_code=401, detail="Not logged in")
    return user


@router.post("/login")
async def log_in(request: Request, name: str = Form(), password: str = Form()):
    if not hmac.compare_digest(PASSWORDS.get(name, "").encode(), password.encode()) or name not in PASSWORDS:
        raise HTTPException(status_code=401, detail="Wrong name or password")
    request.session["user"] = name
    return {"user": name}
