"""What a message means to somebody who stands somewhere in a room's log: PROTOCOL.md §3 and §7.

The one place that decides whether an event is applied.
"""

from __future__ import annotations

from typing import Literal, Optional, Tuple

from .protocol import EpochChange, Event, LogMessage, Position, Reset, Skip, parse_event_id

Decision = Literal["accept", "reset", "move", "drop", "hole"]
"""Hand it to the application, clear what there is of the room, only move on, nothing since it was seen before, or join the
room again since something before it is missing."""


def judge(last: Optional[Position], message: LogMessage) -> Tuple[Decision, Optional[Position]]:
    """Decides about a message, and says where its reader stands then."""
    event_id = None if message.id is None else parse_event_id(message.id)
    if event_id is None:
        return "accept", last
    to = event_id[1]
    if isinstance(message, Event):
        return _advance(last, to.offset, to, "accept")
    if isinstance(message, Skip):
        return _advance(last, message.from_, to, "move")
    if isinstance(message, EpochChange):
        if last is not None and last.epoch == to.epoch:
            return "drop", last
        # The new log goes on exactly where the old one ended for this reader.
        return ("move", to) if last == Position(message.was, to.offset) else ("hole", last)
    return "reset", to


def _advance(
    last: Optional[Position], first: int, to: Position, decision: Decision
) -> Tuple[Decision, Optional[Position]]:
    """Moves to `to` if the offsets from `first` on follow without a hole."""
    if last is None or last.epoch != to.epoch:
        return "hole", last
    if to.offset <= last.offset:
        return "drop", last
    return (decision, to) if first <= last.offset + 1 else ("hole", last)


def is_old_reset(last: Optional[Position], reset: Reset) -> bool:
    """Whether a reset is no news to who stands at `last`: its answer was to somebody who stood further back."""
    to = parse_event_id(reset.id)
    if last is None or to is None or reset.reason == "too_far":
        return False
    return last.epoch == to[1].epoch and to[1].offset <= last.offset


def earlier(first: Position, second: Position, epoch: str) -> Position:
    """The position that is further back, where `epoch` is the newest."""
    return min(first, second, key=lambda position: position.offset if position.epoch == epoch else -1)
