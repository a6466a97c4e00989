"""The secret that signs the tokens, and what is derived from it: a backend has one secret to keep."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import time
import uuid
from typing import Any, Dict, Mapping, Optional, Sequence, Union

_SECRET_BYTES_MIN = 32


class Secret:
    """A secret that no log shows."""

    __slots__ = ("_bytes",)

    def __init__(self, secret: Union[str, bytes]) -> None:
        # Editors and `openssl rand` end a file with a line break that the server leaves out too.
        self._bytes = secret.rstrip("\r\n").encode() if isinstance(secret, str) else bytes(secret)
        if len(self._bytes) < _SECRET_BYTES_MIN:
            raise ValueError(
                f"the secret has {len(self._bytes)} bytes and needs {_SECRET_BYTES_MIN}: openssl rand -hex 32 > tidings.secret"
            )

    def __repr__(self) -> str:
        return "Secret(…)"

    def _derived(self, purpose: bytes) -> bytes:
        return hmac.new(self._bytes, purpose, hashlib.sha256).digest()

    @property
    def api_key(self) -> str:
        """The key of the HTTP API, as `tidings key` prints it."""
        return self._derived(b"tidings api key v1").hex()

    @property
    def webhook_key(self) -> bytes:
        """What webhooks are signed with, where the server has no `secret_file` for them."""
        return self._derived(b"tidings webhook v1")

    def mint(
        self, user: str, rooms: Optional[Sequence[str]], claims: Optional[Mapping[str, Any]], expires_in: float
    ) -> str:
        """A token that the server believes. Its `jti` and `iat` are what it can be revoked by."""
        if not user or not isinstance(user, str):
            raise ValueError('a token is for a user: mint_token("ann")')
        if isinstance(rooms, str):
            # A text is a sequence of texts too: each of its letters would be a room.
            raise ValueError(f'rooms is a list: mint_token("{user}", rooms=["{rooms}"])')
        if not expires_in > 0:
            raise ValueError(f"a token that expires in {expires_in} seconds is none")
        now = int(time.time())
        all_claims: Dict[str, Any] = {"aud": "tidings", "jti": str(uuid.uuid4()), **(claims or {})}
        all_claims.update(sub=user, iat=now, exp=now + math.ceil(expires_in))
        if rooms is not None:
            all_claims["rooms"] = list(rooms)
        signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(all_claims)}"
        return f"{signed}.{_base64(hmac.new(self._bytes, signed.encode(), hashlib.sha256).digest())}"


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
