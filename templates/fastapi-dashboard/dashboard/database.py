"""The database: users, who watches which board, and the samples of the last hour."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Any, Dict, List, Optional, Sequence

from . import BOARD

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS watchers (
  board TEXT NOT NULL, user TEXT NOT NULL REFERENCES users, PRIMARY KEY (board, user)
) STRICT;
CREATE TABLE IF NOT EXISTS samples (
  id INTEGER PRIMARY KEY, board TEXT NOT NULL, series TEXT NOT NULL, value REAL NOT NULL, unit TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS samples_of_board ON samples (board, at);
"""
KEPT_S = 3600
SAMPLES_MAX = 1000
"""That a page begins with."""
BUSY_S = 5.0
"""For so long a statement waits for another process."""


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
        if self._run("INSERT OR IGNORE INTO users VALUES (?, ?)", user, password) == 0:
            return False
        return self.add_watcher(BOARD, user)

    def boards_of(self, user: str) -> List[str]:
        return [row["board"] for row in self._ask("SELECT board FROM watchers WHERE user = ? ORDER BY board", user)]

    def add_watcher(self, board: str, user: str) -> bool:
        """Whether there is such a user."""
        if self.password_of(user) is None:
            return False
        self._run("INSERT OR IGNORE INTO watchers VALUES (?, ?)", board, user)
        return True

    def remove_watcher(self, board: str, user: str) -> None:
        self._run("DELETE FROM watchers WHERE board = ? AND user = ?", board, user)

    def store(self, board: str, samples: Sequence[Dict[str, Any]]) -> None:
        rows = [(board, sample["series"], sample["value"], sample["unit"], sample["at"]) for sample in samples]
        with self._lock:
            self._sqlite.executemany(
                "INSERT INTO samples (board, series, value, unit, at) VALUES (?, ?, ?, ?, ?)", rows
            )
            self._sqlite.execute("DELETE FROM samples WHERE board = ? AND at < ?", (board, time.time() - KEPT_S))

    def samples(self, board: str) -> List[Dict[str, Any]]:
        """The newest, ascending."""
        sql = "SELECT series, value, unit, at FROM samples WHERE board = ? ORDER BY at DESC, id DESC LIMIT ?"
        return [dict(row) for row in reversed(self._ask(sql, board, SAMPLES_MAX))]

    def _ask(self, sql: str, *values: Any) -> List[sqlite3.Row]:
        with self._lock:
            return self._sqlite.execute(sql, values).fetchall()

    def _run(self, sql: str, *values: Any) -> int:
        with self._lock:
            return self._sqlite.execute(sql, values).rowcount
