"""Who somebody is: a name and a password, then a cookie that is signed, so that no session is stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Optional

from .database import Database

COOKIE = "chat"
COOKIE_MAX_AGE_S = 30 * 24 * 60 * 60


def hash_of(password: str, salt: Optional[bytes] = None) -> str:
    salt = salt or secrets.token_bytes(16)
    return f"{salt.hex()}.{hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"


class Login:
    """The cookie's key comes from the application's one secret."""

    def __init__(self, database: Database, secret: str) -> None:
        self._database = database
        self._key = hmac.new(secret.encode(), b"chat cookie v1", hashlib.sha256).digest()

    def enter(self, name: str, password: str) -> Optional[str]:
        """A cookie, if the password is right or the name is new."""
        if not self._database.sign_up(name, hash_of(password)):
            known = self._database.password_of(name) or ""
            if not hmac.compare_digest(hash_of(password, bytes.fromhex(known.split(".")[0])), known):
                return None
        text = f"{name}~{int(time.time()) + COOKIE_MAX_AGE_S}"
        return f"{text}~{self._signature(text)}"

    def user(self, cookie: str) -> Optional[str]:
        text, _, signature = cookie.rpartition("~")
        if not hmac.compare_digest(self._signature(text).encode(), signature.encode()):
            return None
        name, _, until = text.rpartition("~")
        return name if int(until) > time.time() else None

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
