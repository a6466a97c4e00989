"""Where a client stands in its rooms, kept over a restart of the program.

A position is stored after the application has handled the event, never before: what was under way when a program died
comes again.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Protocol, Union

from .clock import Clock
from .protocol import Position, parse_event_id

_log = logging.getLogger("tidings_client")


class PositionStorage(Protocol):
    """Keeps the newest event id of each room. One client writes it at a time."""

    def load(self) -> Mapping[str, str]:
        """What was saved last: room to event id; empty if nothing was."""
        ...

    def save(self, positions: Mapping[str, str]) -> None:
        """Replaces what was saved. It is called once for all events that came at once, in the program's own thread. What it
        raises is logged, and the next event is another occasion."""
        ...


class FileStorage:
    """A JSON file, which is replaced as a whole: what is there is never half of it."""

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        self._path = Path(path)

    def load(self) -> Mapping[str, str]:
        """Raises `ValueError` if the file holds something else, `OSError` if it can't be read."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        positions = json.loads(text)
        if not isinstance(positions, dict):
            raise ValueError(f"{self._path} holds no positions")
        return positions

    def save(self, positions: Mapping[str, str]) -> None:
        written = self._path.with_name(f".{self._path.name}.new")
        written.write_text(json.dumps(dict(positions), indent=1), encoding="utf-8")
        os.replace(written, self._path)


class StoredPositions:
    """The positions as they are stored, and when that is brought up to date."""

    def __init__(
        self, storage: Optional[PositionStorage], clock: Clock, handled: Callable[[], Mapping[str, str]]
    ) -> None:
        """`handled` tells what the application has handled, in each room that the client follows."""
        self._storage = storage
        self._clock = clock
        self._handled = handled
        self._positions: Dict[str, str] = {}
        self._is_due = False
        for room, id in (storage.load() if storage else {}).items():
            event_id = parse_event_id(id) if isinstance(id, str) else None
            if event_id is None or event_id[0] != room:
                raise ValueError(f"the stored position {id!r} of the room {room!r} is no event id of it")
            self._positions[room] = id
        self._saved = dict(self._positions)

    @property
    def ids(self) -> Mapping[str, str]:
        return self._positions

    def get(self, room: str) -> Optional[Position]:
        event_id = parse_event_id(self._positions.get(room, ""))
        return None if event_id is None else event_id[1]

    def forget(self, room: str) -> None:
        self._positions.pop(room, None)
        self.changed()

    def changed(self) -> None:
        """Something was handled: it is saved once all that came with it is handled too."""
        if self._storage is not None and not self._is_due:
            self._is_due = True
            self._clock.call_later(0, self.save)

    def save(self) -> None:
        self._is_due = False
        if self._storage is None:
            return
        self._positions.update(self._handled())
        if self._positions == self._saved:
            return
        try:
            self._storage.save(dict(self._positions))
        except Exception:
            _log.exception("the positions could not be stored")
        else:
            self._saved = dict(self._positions)
