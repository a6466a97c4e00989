import hashlib
from dataclasses import dataclass


def hash_of(password: str) -> str:
    return hashlib.scrypt(password.encode(), salt=b"one for all, as this is a test", n=2**4, r=8, p=1).hex()


@dataclass
class Row:
    username: str
    email: str
    full_name: str
    hashed_password: str
    disabled: bool = False


USERS = {
    "johndoe": Row("johndoe", "john@example.com", "John Doe", hash_of("canary-bird of john")),
    "alice": Row("alice", "alice@example.com", "Alice", hash_of("canary-bird of alice"), disabled=True),
}
ITEMS: list[dict] = []
