"""The database: users, channels, who is in them, what was said, and whose each socket is."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Any, Dict, List, Optional

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL, seen_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS members (
  channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL REFERENCES users, PRIMARY KEY (channel, user)
) STRICT;
CREATE TABLE IF NOT EXISTS messages (
  seq INTEGER PRIMARY KEY, channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL, content TEXT NOT NULL,
  at INTEGER NOT NULL, edited_at INTEGER, request_id TEXT NOT NULL, UNIQUE (user, request_id)
) STRICT;
CREATE INDEX IF NOT EXISTS messages_of_channel ON messages (channel, seq);
CREATE TABLE IF NOT EXISTS sockets (id TEXT PRIMARY KEY, user TEXT NOT NULL) STRICT;
INSERT OR IGNORE INTO channels VALUES (1, 'General');
"""
GENERAL = 1
"""The channel that everyone is in."""
MESSAGE = "SELECT seq, channel, user, content, at, edited_at FROM messages"
BUSY_S = 5.0
"""For so long a statement waits for another process."""

Message = Dict[str, Any]


def now_ms() -> int:
    return int(time.time() * 1000)


class Database:
    """For any thread: a statement at a time."""

    def __init__(self, file: str) -> None:
        self._lock = threading.Lock()
        self._sqlite = sqlite3.connect(file, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
        self._sqlite.row_factory = sqlite3.Row
        self._turn_to_wal()
        self._sqlite.execute("PRAGMA foreign_keys = ON")
        self._sqlite.executescript(SCHEMA)

    def _turn_to_wal(self) -> None:
        """Of several processes that open a new file at once SQLite refuses some, and does not wait there by itself."""
        until = time.monotonic() + BUSY_S
        while True:
            try:
                self._sqlite.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def close(self) -> None:
        with self._lock:
            self._sqlite.close()

    def password_of(self, user: str) -> Optional[str]:
        rows = self._ask("SELECT password FROM users WHERE name = ?", user)
        return rows[0]["password"] if rows else None

    def sign_up(self, user: str, password: str) -> bool:
        """Whether nobody had the name."""
        with self._lock, self._sqlite:
            self._sqlite.execute("BEGIN IMMEDIATE")
            made = self._sqlite.execute("INSERT OR IGNORE INTO users (name, password) VALUES (?, ?)", (user, password))
            if made.rowcount == 0:
                return False
            self._sqlite.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (GENERAL, user))
            return True

    def seen(self, user: str, at: int) -> None:
        """That his page has shown itself."""
        self._run("UPDATE users SET seen_at = ? WHERE name = ?", at, user)

    def channels_of(self, user: str) -> List[Dict[str, Any]]:
        sql = "SELECT id, name FROM channels JOIN members ON channel = id WHERE user = ? ORDER BY id"
        return [dict(row) for row in self._ask(sql, user)]

    def is_channel(self, channel: int) -> bool:
        return bool(self._ask("SELECT 1 FROM channels WHERE id = ?", channel))

    def is_member(self, channel: int, user: str) -> bool:
        return bool(self._ask("SELECT 1 FROM members WHERE channel = ? AND user = ?", channel, user))

    def create_channel(self, name: str) -> int:
        return self._run("INSERT INTO channels (name) VALUES (?)", name).lastrowid or 0

    def add_member(self, channel: int, user: str) -> None:
        self._run("INSERT OR IGNORE INTO members VALUES (?, ?)", channel, user)

    def remove_member(self, channel: int, user: str) -> None:
        self._run("DELETE FROM members WHERE channel = ? AND user = ?", channel, user)

    def store(self, channel: int, user: str, content: str, request_id: str) -> Message:
        """Stores a message, or finds it: a page sends it again, under the same id, if it has no answer."""
        sql = "INSERT OR IGNORE INTO messages (channel, user, content, at, request_id) VALUES (?, ?, ?, ?, ?)"
        self._run(sql, channel, user, content, now_ms(), request_id)
        return dict(self._ask(f"{MESSAGE} WHERE user = ? AND request_id = ?", user, request_id)[0])

    def edit(self, channel: int, seq: int, user: str, content: str) -> Optional[Message]:
        """None, if no message of this user's is there under that number."""
        sql = "UPDATE messages SET content = ?, edited_at = ? WHERE channel = ? AND seq = ? AND user = ?"
        if self._run(sql, content, now_ms(), channel, seq, user).rowcount == 0:
            return None
        return dict(self._ask(f"{MESSAGE} WHERE seq = ?", seq)[0])

    def messages(self, channel: int, limit: int) -> List[Message]:
        """The newest, ascending."""
        rows = self._ask(f"{MESSAGE} WHERE channel = ? ORDER BY seq DESC LIMIT ?", channel, limit)
        return [dict(row) for row in reversed(rows)]

    def user_of_socket(self, id: str) -> Optional[str]:
        rows = self._ask("SELECT user FROM sockets WHERE id = ?", id)
        return rows[0]["user"] if rows else None

    def add_socket(self, id: str, user: str) -> None:
        self._run("INSERT OR IGNORE INTO sockets VALUES (?, ?)", id, user)

    def remove_socket(self, id: str) -> None:
        self._run("DELETE FROM sockets WHERE id = ?", id)

    def _ask(self, sql: str, *values: Any) -> List[sqlite3.Row]:
        with self._lock:
            return self._sqlite.execute(sql, values).fetchall()

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        with self._lock:
            return self._sqlite.execute(sql, values)
