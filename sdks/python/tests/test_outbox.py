"""Which request goes when: what was asked later of a room must not take effect before."""

from __future__ import annotations

import math
from typing import Any, List, Optional, Set

from tidings_client.outbox import Entry, Outbox, Purpose


def push(outbox: Outbox, id: str, event: str, room: Optional[str], purpose: Purpose, data: Any = None) -> None:
    outbox.push(Entry(id, purpose, event, room, data, 0.0))


def sendable(outbox: Outbox, now: float, joined: Optional[Set[str]] = None) -> List[str]:
    """The ids of everything that can be sent now, by a client that is in these rooms; in all, if none are named."""
    ids: List[str] = []
    while True:
        entry = outbox.next_to_send(now, lambda room: joined is None or room in joined)
        if entry is None:
            return ids
        ids.append(entry.id)


def later(outbox: Outbox, id: str, retry_after_ms: Optional[float], now: float) -> Entry:
    entry = outbox.get(id)
    assert entry is not None
    outbox.retry_later(entry, retry_after_ms, now)
    return entry


async def test_a_join_waits_for_the_leave_of_its_room_and_other_rooms_wait_for_nothing() -> None:
    outbox = Outbox()
    push(outbox, "leave", "room.leave", "a", "application")
    push(outbox, "join", "room.join", "a", "join", {})
    push(outbox, "say", "say", "a", "application", 1)
    push(outbox, "other", "room.join", "b", "join", {})
    assert sendable(outbox, 0) == ["leave", "other"]
    later(outbox, "leave", 100, 0)
    assert sendable(outbox, 0.05) == []
    assert sendable(outbox, 0.1) == ["leave"]
    outbox.take("leave")
    assert sendable(outbox, 0.1) == ["join", "say"]


async def test_what_waits_holds_its_own_room_and_what_has_none_holds_what_has_none() -> None:
    outbox = Outbox()
    push(outbox, "a1", "say", "a", "application")
    push(outbox, "n1", "order", None, "application")
    assert sendable(outbox, 0) == ["a1", "n1"]
    later(outbox, "a1", 1000, 0)
    push(outbox, "a2", "say", "a", "application")
    push(outbox, "b1", "say", "b", "application")
    push(outbox, "n2", "order", None, "application")
    assert sendable(outbox, 0) == ["b1", "n2"]
    assert sendable(outbox, 1) == ["a1"], "it goes again alone"
    push(outbox, "b2", "say", "b", "application")
    assert sendable(outbox, 1) == ["b2"]
    outbox.take("a1")
    assert sendable(outbox, 1) == ["a2"]


async def test_what_was_refused_for_now_goes_again_in_the_order_in_which_it_was_asked() -> None:
    outbox = Outbox()
    for id in ("one", "two", "three"):
        push(outbox, id, "say", "a", "application")
    assert sendable(outbox, 0) == ["one", "two", "three"]
    # Whatever the server refuses of what is on its way, and however it says when to come again.
    later(outbox, "one", 300, 0)
    later(outbox, "two", 100, 0)
    outbox.take("three")
    assert [sendable(outbox, 0.1), sendable(outbox, 0.3)] == [[], ["one"]]
    later(outbox, "one", 100, 0.3)
    assert [sendable(outbox, 0.35), sendable(outbox, 0.4)] == [[], ["one"]]
    outbox.take("one")
    assert sendable(outbox, 0.4) == ["two"]


async def test_the_clients_own_question_is_none_of_the_applications_requests_and_holds_nobody() -> None:
    outbox = Outbox()
    for number in range(256):
        push(outbox, f"say-{number}", "say", "a", "application")
    push(outbox, "who", "room.members", "a", "question")
    sent = sendable(outbox, 0)
    assert [sent[0], len(sent)] == ["who", 257]
    later(outbox, "who", 1000, 0)
    outbox.take("say-0")
    push(outbox, "more", "say", "a", "application")
    assert sendable(outbox, 0) == ["more"]
    outbox.withdraw("more")
    outbox.withdraw("who")
    assert [outbox.get("who"), outbox.get("more") is None] == [None, False], "what is on its way has an answer to come"


async def test_the_clients_own_come_first_and_nothing_overtakes_a_resume() -> None:
    outbox = Outbox()
    push(outbox, "say", "say", "a", "application")
    push(outbox, "rejoin", "room.join", "a", "rejoin", {})
    push(outbox, "resume", "session.resume", None, "resume", {})
    assert outbox.is_resuming
    assert sendable(outbox, 0) == ["resume"]
    outbox.take("resume")
    assert sendable(outbox, 0) == ["rejoin", "say"]
    assert [entry.id for entry in outbox.disconnected()] == []
    assert sendable(outbox, 0) == ["say"], "a resume takes the place of the client's own"


async def test_the_wait_before_a_retry_grows_and_has_an_end() -> None:
    outbox = Outbox()
    push(outbox, "say", "say", "a", "application")
    assert [later(outbox, "say", None, 0).retry_at for _ in range(40)][::13] == [1, 14, 27, 30]
    assert later(outbox, "say", 1e9, 0).retry_at == 120
    assert outbox.next_deadline() == 120
    outbox.take("say")
    assert outbox.next_deadline() == math.inf


async def test_what_is_asked_of_a_room_waits_for_the_join_that_lets_it_in_wherever_that_stands() -> None:
    outbox = Outbox()
    push(outbox, "say", "say", "a", "application")
    push(outbox, "other", "say", "b", "application")
    push(outbox, "join", "room.join", "a", "join", {})
    push(outbox, "more", "say", "a", "application")
    assert sendable(outbox, 0, {"b"}) == ["other", "join"]
    later(outbox, "join", 100, 0)
    assert [sendable(outbox, 0.05, {"b"}), sendable(outbox, 0.1, {"b"})] == [[], ["join"]]
    outbox.take("join")
    assert sendable(outbox, 0.1, {"a", "b"}) == ["say", "more"]


async def test_what_is_asked_of_a_room_that_is_joined_does_not_wait_for_another_join_of_it() -> None:
    outbox = Outbox()
    push(outbox, "join", "room.join", "a", "join", {})
    push(outbox, "say", "say", "a", "application")
    assert sendable(outbox, 0, {"a"}) == ["join", "say"]
