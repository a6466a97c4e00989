"""Where the client stands in its rooms, kept over a restart of the program. PROTOCOL.md §3 and §7.

A position is stored after the application has handled the event, never before: what was under way when a program died
comes again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Protocol, Union

from .clock import Clock
from .protocol import CURSOR_BYTES_MAX, Position, format_event_id, parse_cursor

_log = logging.getLogger("tidings_client")


class CursorStorage(Protocol):
    """Keeps a cursor: the newest event id of each room, in one text. One client writes it at a time."""

    def load(self) -> str:
        """What was saved last; empty if nothing was."""
        ...

    def save(self, cursor: str) -> None:
        """Replaces what was saved. It is called once for all events that came at once, in the event loop's thread. What it
        raises is logged, and the next event is another occasion."""
        ...


class CursorFile:
    """A text file, which is replaced as a whole: what is there is never half of it."""

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        self._path = Path(path)

    def load(self) -> str:
        """Raises `OSError` if there is a file that can't be read."""
        try:
            return self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def save(self, cursor: str) -> None:
        written = self._path.with_name(f".{self._path.name}.new")
        written.write_text(f"{cursor}\n", encoding="ascii")
        os.replace(written, self._path)


class Cursor:
    """The cursor as it is stored, and when that is brought up to date."""

    def __init__(
        self, storage: Optional[CursorStorage], clock: Clock, handled: Callable[[], Mapping[str, Position]]
    ) -> None:
        """`handled` tells how far the application has handled each room that the client follows. Raises `ValueError` if
        what is stored is no cursor, and what the storage raises."""
        self._storage = storage
        self._clock = clock
        self._handled = handled
        self._saved = "" if storage is None else storage.load()
        positions = parse_cursor(self._saved, bytes_max=None)
        if positions is None:
            raise ValueError(f"what is stored is no cursor: {self._saved[:80]!r}")
        self._positions: Dict[str, Position] = positions
        self._is_due = False

    def get(self, room: str) -> Optional[Position]:
        """How far a room was handled, as far as is known."""
        return self._positions.get(room)

    def forget(self, room: str) -> None:
        """A room that was left begins anew when it is joined again."""
        self._positions.pop(room, None)
        self.moved()

    def moved(self) -> None:
        """Something was handled: it is saved once all that came with it is handled too."""
        if self._storage is not None and not self._is_due:
            self._is_due = True
            self._clock.call_later(0, self.save)

    def save(self) -> None:
        self._is_due = False
        if self._storage is None:
            return
        self._positions.update(self._handled())
        cursor = str(self)
        if cursor == self._saved:
            return
        try:
            self._storage.save(cursor)
        except Exception:
            _log.exception("the cursor could not be stored")
        else:
            self._saved = cursor

    def __str__(self) -> str:
        return ",".join(format_event_id(room, position) for room, position in self._positions.items())

    def for_handshake(self) -> str:
        """As much of it as a handshake takes."""
        return f"{self},"[: CURSOR_BYTES_MAX + 1].rpartition(",")[0]
