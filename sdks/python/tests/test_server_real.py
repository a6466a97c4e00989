"""`tidings_client.server` with a real server, and what clients see of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, AsyncIterator, List, Tuple

import pytest
import pytest_asyncio
from server import BIN, SECRET, WAIT_S, Server

from tidings_client import Client, ConnectionFailed, Event
from tidings_client.server import BatchEvent, Tidings, TidingsError

pytestmark = pytest.mark.skipif(BIN is None, reason="TIDINGS_BIN names no server")

README = Path(__file__).resolve().parents[1] / "README.md"


async def soon(awaited: Any) -> Any:
    return await asyncio.wait_for(awaited, WAIT_S)


@pytest_asyncio.fixture
async def both(tmp_path: Path) -> AsyncIterator[Tuple[Server, Tidings]]:
    async with Server(tmp_path, "[user_rooms]\nenabled = true\n") as server:
        async with Tidings(f"http://{server.address}", secret=SECRET) as tidings:
            yield server, tidings


def next_events(room: Any, count: int) -> "asyncio.Future[List[Event[Any]]]":
    events: List[Event[Any]] = []
    heard: asyncio.Future[List[Event[Any]]] = asyncio.get_running_loop().create_future()

    def hear(event: Event[Any]) -> None:
        events.append(event)
        if len(events) == count:
            heard.set_result(events)

    room.on_event(hear)
    return heard


async def test_what_is_published_is_heard_and_stored_and_one_event_for_one_key(both: Tuple[Server, Tidings]) -> None:
    server, tidings = both
    async with Client(server.url, token=tidings.mint_token("ann")) as ann:
        room = await soon(ann.join("chat:1"))
        heard = next_events(room, 3)
        first = await tidings.publish("chat:1", "news", {"hi": 1}, idempotency_key="key-1")
        again = await tidings.publish("chat:1", "news", {"hi": 1}, idempotency_key="key-1")
        assert (first["duplicate"], again) == (False, {**first, "duplicate": True})
        with pytest.raises(TidingsError, match="idempotency_conflict"):
            await tidings.publish("chat:1", "news", 2, idempotency_key="key-1")
        await tidings.publish("chat:1", "image", b"\x00\xff")
        assert (await tidings.publish("chat:1", "typing", ephemeral=True))["event_id"] is None
        assert [(event.event, event.data) for event in await soon(heard)] == [
            ("news", {"hi": 1}),
            ("image", b"\x00\xff"),
            ("typing", None),
        ]
        stored = (await tidings.history("chat:1", limit=10))["events"]
        assert [event["id"] for event in stored][0] == first["event_id"] and len(stored) == 2
        assert [member["user"] for member in (await tidings.members("chat:1"))["members"]] == ["ann"]
        assert (await tidings.room("chat:1"))["members"] == 1
        assert first["event_id"] is not None
        await tidings.redact("chat:1", first["event_id"])
        assert "news" not in [event["event"] for event in (await tidings.history("chat:1"))["events"]]


async def test_a_batch_to_rooms_and_users(both: Tuple[Server, Tidings]) -> None:
    server, tidings = both
    async with Client(server.url, token=tidings.mint_token("bob")) as bob:
        await soon(bob.join("chat:1"))
        heard = next_events(bob.room("user:bob"), 2)
        events = [
            BatchEvent("mail", 1, user="bob"),
            BatchEvent("mail", 2, room="no room's name"),
            BatchEvent("mail", 3, user="bob"),
        ]
        assert ["error" in result for result in await tidings.batch(events)] == [False, True, False]
        assert [event.data for event in await soon(heard)] == [1, 3]
        assert not (await tidings.publish_to_user("bob", "mail", 4))["duplicate"]


async def test_users_their_rooms_and_sent_away(both: Tuple[Server, Tidings]) -> None:
    server, tidings = both

    async def rooms() -> List[str]:
        return [room for room in await tidings.user_rooms("ann") if room != "user:ann"]

    token = tidings.mint_token("ann")
    async with Client(server.url, token=token) as ann:
        await soon(ann.join("chat:1"))
        assert await rooms() == ["chat:1"]
        assert await tidings.join("ann", "mine:2") == 1
        assert await tidings.leave("ann", "chat:1") == 1
        assert await rooms() == ["mine:2"]
        presence = await tidings.presence("ann")
        assert (presence["online"], presence["connections"]) == (True, 1)
        assert len(await tidings.sessions("ann")) == 1
        closed = asyncio.Event()
        ann.on_state(lambda state: closed.set() if state == "closed" else None)
        assert await tidings.disconnect("ann") == 1
        await soon(closed.wait())
        assert ann.fault is not None and ann.fault.status == 4006
    await tidings.revoke("ann")
    with pytest.raises(ConnectionFailed):
        async with Client(server.url, token=token):
            pass
    await tidings.revoke_token("a-token")
    assert len(await tidings.nodes()) == 1
    assert (await tidings.rooms())["rooms"] == []


@pytest.mark.parametrize("user", [".", ".."])
async def test_a_user_who_is_called_like_a_step_in_a_path_is_one(both: Tuple[Server, Tidings], user: str) -> None:
    server, tidings = both
    async with Client(server.url, token=tidings.mint_token(user)) as client:
        await soon(client.join("chat:1"))
        assert "chat:1" in await tidings.user_rooms(user)
        presence = await tidings.presence(user)
        assert (presence["user"], presence["online"]) == (user, True)
        assert await tidings.leave(user, "chat:1") == 1
        assert await tidings.revoke(user) == 1


async def test_errors_have_the_servers_code_its_fix_and_the_requests_name(both: Tuple[Server, Tidings]) -> None:
    server, tidings = both
    async with Tidings(f"http://{server.address}", key="0" * 64) as stranger:
        with pytest.raises(TidingsError) as fault:
            await stranger.user_rooms("ann")
    error = fault.value
    assert (error.code, error.status, bool(error.fix), bool(error.request_id)) == ("key_unknown", 401, True, True)
    with pytest.raises(TidingsError, match="invalid"):
        await tidings.publish("chat:1", "room.reset", {})


async def test_the_readmes_ten_lines(
    both: Tuple[Server, Tidings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = both
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    program = next(block for block in blocks if "tidings_client.server" in block and "asyncio.run" in block)
    assert len(program.strip().splitlines()) <= 15 and "127.0.0.1:7777" in program
    monkeypatch.setenv("TIDINGS_SECRET", SECRET.decode())
    program = program.replace("127.0.0.1:7777", server.address)
    # In a thread of its own: it has an event loop of its own.
    await asyncio.to_thread(exec, compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert "stored as chat:lobby@" in capsys.readouterr().out
