from typing import Annotated

from fastapi import APIRouter, Depends

from app.database import ITEMS
from app.schemas import Item, User
from app.security import get_current_active_user

router = APIRouter(prefix="/items", tags=["items"])


@router.get("/")
async def read_items(current_user: Annotated[User, Depends(get_current_active_user)]):
    return [item for item in ITEMS if item["owner"] == current_user.username]


@router.post("/", status_code=201)
async def create_item(item: Item, current_user: Annotated[User, Depends(get_current_active_user)]):
    ITEMS.append({**item.model_dump(), "owner": current_user.username})
    return ITEMS[-1]
