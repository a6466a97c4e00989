"""The client and a real server: what an application sees, over networks that break and servers that end."""

from __future__ import annotations

import asyncio
import random
import ssl
from pathlib import Path
from typing import Any, Awaitable, Callable, List, Optional, TypeVar

import pytest
from proxy import Proxy
from server import BIN, NO_RATES, SECRET, WAIT_S, Server, certify, token

from tidings_client import Client, ConnectionFailed, Event, Published, RequestError, Reset, Room, RoomEvents
from tidings_client.clock import SystemClock
from tidings_client.connection import Socket, SocketOwner, World
from tidings_client.protocol import Frame, encode
from tidings_client.server import Tidings, TidingsError
from tidings_client.websocket import ask, dial

pytestmark = pytest.mark.skipif(BIN is None, reason="TIDINGS_BIN names no server")

T = TypeVar("T")

HASTY = World(SystemClock(), lambda: random.random() / 50, dial, ask)
"""The world as it is, but for a backoff that takes a fiftieth of the time."""


async def soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, WAIT_S)


async def until(client: Client, state: str) -> None:
    """Waits for a state of the client."""
    reached = asyncio.get_running_loop().create_future()

    def told(now: str) -> None:
        if now == state and not reached.done():
            reached.set_result(None)

    unsubscribe = client.on_state(told)
    await soon(reached)
    unsubscribe()


async def told(subscribe: Callable[[Callable[[Any], object]], Callable[[], None]]) -> Any:
    """Waits for what a listener is told next."""
    heard: asyncio.Queue[Any] = asyncio.Queue()
    unsubscribe = subscribe(heard.put_nowait)
    value = await soon(heard.get())
    unsubscribe()
    return value


async def take(events: RoomEvents, count: int) -> List[Any]:
    return [(await soon(events.__anext__())).data for _ in range(count)]


def client_of(user: str, url: str, **options: Any) -> Client:
    return Client(url, token=token(user), **options)


async def test_a_talk(server: Server) -> None:
    async with client_of("ann", server.url) as ann, client_of("bob", server.url) as bob:
        room = await soon(ann.join("chat:lobby"))
        published: Published = await soon(room.request("say", {"text": "é — \0"}))
        assert not published["duplicate"] and published["event_id"] == room.last_event_id
        await soon(room.request("image", b"\0\xff"))
        theirs = await soon(bob.join("chat:lobby", history=2))
        said, image = [await soon(theirs.__aiter__().__anext__()) for _ in range(2)]
        assert [said.event, said.room, said.from_, said.id] == ["say", "chat:lobby", "ann", published["event_id"]]
        assert [said.data, image.data] == [{"text": "é — \0"}, b"\0\xff"]
        assert said.at is not None and said.re is not None
        typing = asyncio.ensure_future(told(lambda listener: room.on("typing", listener)))
        await asyncio.sleep(0)
        assert theirs.send("typing", {"now": True})
        event: Event[Any] = await typing
        assert [event.from_, event.id, event.data] == ["bob", None, {"now": True}]
        history = await soon(room.history())
        assert [event.data for event in history.events] == [said.data, image.data]
        assert [member.user for member in (await soon(room.members())).members] == ["ann", "bob"]
        await soon(theirs.leave())
        with pytest.raises(RequestError) as failed:
            await soon(theirs.request("say", 1))
        assert failed.value.code == "not_joined"
        assert [ann.user, ann.limits["text_message_bytes"], ann.is_degraded] == ["ann", 65536, False]


async def test_presence(server: Server) -> None:
    async with client_of("ann", server.url) as ann:
        room = await soon(ann.join("chat:lobby"))
        seen: asyncio.Queue[Any] = asyncio.Queue()
        room.presence.on_change(lambda members: seen.put_nowait(dict(members)))
        assert await soon(seen.get()) == {"ann": None}
        async with client_of("bob", server.url) as bob:
            theirs = await soon(bob.join("chat:lobby"))
            assert await soon(seen.get()) == {"ann": None, "bob": None}
            await soon(theirs.presence.update({"mood": "fine"}))
            assert await soon(seen.get()) == {"ann": None, "bob": {"mood": "fine"}}
            assert room.presence.count == 2
        assert await soon(seen.get()) == {"ann": None}, "who is gone for good has no grace"


class Counted:
    """A socket's owner, and how often the server has said that something was too fast."""

    def __init__(self, owner: SocketOwner) -> None:
        self._owner = owner
        self.rate_limited = 0
        self.heard = owner.heard
        self.closed = owner.closed

    def received(self, frame: Frame) -> None:
        self.rate_limited += '"rate_limited"' in str(frame)
        self._owner.received(frame)


async def test_256_requests_at_once_arrive_in_order_and_none_is_too_fast(server: Server) -> None:
    connections: List[Counted] = []

    async def count(url: str, token: Optional[str], owner: SocketOwner) -> Socket:
        connections.append(Counted(owner))
        return await dial(url, token, connections[-1])

    world = World(SystemClock(), random.random, count, ask)
    async with client_of("ann", server.url, world=world) as ann, client_of("bob", server.url) as bob:
        room, theirs = await soon(ann.join("chat:r")), await soon(bob.join("chat:r"))
        asked = asyncio.gather(*[_answer(room, number) for number in range(256)])
        assert await take(theirs.__aiter__(), 256) == list(range(256))
        assert len(await soon(asked)) == 256
    assert [connection.rate_limited for connection in connections] == [0]


async def test_presence_is_current_after_nobody_listened_for_a_while(server: Server) -> None:
    async with client_of("ann", server.url) as ann, client_of("bob", server.url) as bob:
        theirs = await soon(bob.join("chat:lobby"))
        seen: asyncio.Queue[Any] = asyncio.Queue()
        stop = theirs.presence.on_change(lambda members: seen.put_nowait(sorted(members)))
        assert await soon(seen.get()) == ["bob"]
        stop()
        await soon(ann.join("chat:lobby"))
        theirs.presence.on_change(lambda members: seen.put_nowait(sorted(members)))
        assert await soon(seen.get()) == ["ann", "bob"]


async def test_the_largest_message_arrives_and_a_larger_one_costs_nobody_the_connection(server: Server) -> None:
    async with client_of("ann", server.url) as ann:
        room = await soon(ann.join("chat:lobby"))
        empty = room.request("say", "")
        await soon(empty)
        for data, name in (("é" * 40_000, "text_message_bytes"), (bytes(70_000), "binary_message_bytes")):
            with pytest.raises(RequestError, match=name):
                await soon(room.request("say", data))
        rest = ann.limits["text_message_bytes"] - len(encode("say", "chat:lobby", "", empty.id))
        await soon(room.request("say", "a" * rest))
        assert ann.state == "connected"


async def test_refusals_of_rooms_and_events(server: Server) -> None:
    async with client_of("ann", server.url) as ann:
        for name, code in (("mine:of-others", "forbidden"), ("nowhere", "unknown_room")):
            with pytest.raises(RequestError) as failed:
                await soon(ann.join(name))
            assert failed.value.code == code
        with pytest.raises(RequestError) as failed:
            await soon(ann.request("order", 1))
        assert failed.value.code == "unknown_event" and failed.value.message


async def test_refused_handshakes_say_why(server: Server, tmp_path: Path) -> None:
    for bad, code in (
        (token("ann", ttl_s=-90), "token_expired"),
        (token("ann") + "x", "token_signature"),
        (None, "token_missing"),
    ):
        with pytest.raises(ConnectionFailed) as failed:
            async with Client(server.url, token=bad):
                raise AssertionError("it was let in")
        assert failed.value.state == "refused" and failed.value.fault is not None
        assert [failed.value.fault.status, failed.value.fault.code] == [401, code]
        assert code in str(failed.value) and "; " in failed.value.fault.message, "with what would help"
    with pytest.raises(ConnectionFailed) as failed:
        async with Client(f"{server.url}?last_event_id=nonsense", token=token("ann")):
            raise AssertionError("it was let in")
    assert failed.value.fault is not None and failed.value.fault.code == "invalid_cursor"


async def test_a_token_that_is_refused_is_asked_for_anew(server: Server) -> None:
    asks: List[bool] = []

    async def provider(*, fresh: bool) -> str:
        asks.append(fresh)
        return token("ann", ttl_s=60 if fresh else -90)

    async with Client(server.url, token=provider) as client:
        assert client.user == "ann"
    assert asks == [False, True]


async def test_rooms_that_the_server_joins_by_itself(server: Server) -> None:
    async with Client(server.url, token=token("ann", rooms=["mine:ann"])) as client:
        room = client.room("mine:ann")
        assert room.is_joined
        events = room.events()
        await soon(room.request("note", 1))
        assert await take(events, 1) == [1]


async def test_what_was_missed_comes_and_what_was_under_way_counts_once(tmp_path: Path) -> None:
    async with Server(tmp_path, NO_RATES) as server, Proxy(server.port) as proxy:
        async with client_of("ann", proxy.url, world=HASTY) as ann, client_of("bob", server.url) as bob:
            room, theirs = await soon(ann.join("chat:r")), await soon(bob.join("chat:r"))
            events = room.events()
            expected: List[Any] = []
            for turn in range(8):
                for number in range(20):
                    expected.append([turn, number])
                    await soon(theirs.request("say", [turn, number]))
                    if number == 10:
                        proxy.cut()
                expected.append([turn, "own"])
                request = room.request("say", [turn, "own"])
                proxy.cut()
                await soon(request)
            said = await take(events, len(expected))
            assert sorted(said, key=repr) == sorted(expected, key=repr), "each once"
            of_bob = [data for data in said if data[1] != "own"]
            assert of_bob == sorted(of_bob)
            assert proxy.accepted > 8


async def test_a_server_that_comes_back_empty_is_a_reset_and_requests_survive_it(server: Server) -> None:
    async with client_of("ann", server.url) as ann:
        room = await soon(ann.join("chat:r"))
        await soon(room.request("say", "before"))
        resets: List[Reset] = []
        events = room.events(on_reset=resets.append)
        await server.kill()
        await until(ann, "reconnecting")
        request = room.request("say", "meanwhile")
        await server.start()
        published: Published = await soon(request)
        assert not published["duplicate"]
        assert await take(events, 1) == ["meanwhile"]
        assert [(reset.reason, reset.lost) for reset in resets] == [("unknown_epoch", None)]


async def test_a_drain_is_no_loss(server: Server) -> None:
    async with client_of("ann", server.url) as ann:
        room = await soon(ann.join("chat:r"))
        await server.drain()
        await until(ann, "reconnecting")
        await server.start()
        await until(ann, "connected")
        await soon(room.request("say", 1))


async def test_its_own_place_is_taken_over_by_who_comes_back(tmp_path: Path) -> None:
    async with Server(tmp_path, "connections_per_user_max = 1") as server, Proxy(server.port) as proxy:
        async with client_of("ann", proxy.url, world=HASTY) as ann:
            room = await soon(ann.join("chat:r"))
            for number in range(3):
                proxy.cut()
                await soon(room.request("say", number))
            second = client_of("ann", server.url)
            second.connect()
            while second.fault is None:
                await asyncio.sleep(0.01)
            assert [second.fault.status, second.fault.code] == [429, "connection_limit"]
            await second.close()


async def read_all(room: Room, count: int, pause: Callable[[], Awaitable[None]]) -> List[int]:
    seen: List[int] = []
    async for event in room:
        seen.append(event.data)
        if len(seen) == count:
            break
        if len(seen) % 100 == 0:
            await pause()
    return seen


async def test_a_slow_reader_gets_everything_and_holds_nobody_up(tmp_path: Path) -> None:
    count = 3000
    async with Server(tmp_path, NO_RATES) as server:
        async with client_of("ann", server.url) as ann, client_of("bob", server.url) as bob:
            room, theirs = await soon(ann.join("chat:r")), await soon(bob.join("chat:r"))
            heard: List[int] = []
            all_heard = asyncio.get_running_loop().create_future()

            def hear(event: Event[Any]) -> None:
                heard.append(event.data)
                if len(heard) == count:
                    all_heard.set_result(None)

            room.on_event(hear)
            for first in range(0, count, 200):
                await soon(asyncio.gather(*[_answer(theirs, number) for number in range(first, first + 200)]))
            await soon(all_heard)
            assert heard == list(range(count))
            assert await soon(read_all(room, count, lambda: asyncio.sleep(0))) == list(range(count))


async def _answer(room: Room, number: int) -> Any:
    return await room.request("say", number)


async def test_over_tls_a_context_says_whom_to_believe(tmp_path: Path) -> None:
    certify(tmp_path)
    tls = f'[tls]\ncertificate_file = "{tmp_path}/server.pem"\nkey_file = "{tmp_path}/server.key"\n'
    context = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    async with Server(tmp_path, tls) as server:
        url = server.url.replace("ws://", "wss://")
        async with client_of("ann", url, ssl=context) as ann:
            room = await soon(ann.join("chat:r"))
            await soon(room.request("say", 1))
            # Who is refused asks once more by a plain GET, over TLS too.
            refused = Client(url, token="none", ssl=context)
            with pytest.raises(ConnectionFailed) as failed:
                await soon(refused.__aenter__())
            assert failed.value.fault is not None and failed.value.fault.code == "token_malformed"
        answer = await ask(url.replace("wss://", "https://"), "none", ssl=context)
        assert answer.status == 401
        async with Tidings(f"https://{server.address}", secret=SECRET, ssl=context) as tidings:
            assert (await tidings.publish("chat:r", "say", 2))["duplicate"] is False
            with pytest.raises(TidingsError, match="certificate"):
                await Tidings(f"https://{server.address}", secret=SECRET).nodes()
        # Nobody of this system's certifies that server: that is told, and may change.
        stranger = client_of("ann", url)
        stranger.connect()
        while stranger.fault is None:
            await asyncio.sleep(0.01)
        assert stranger.state == "connecting" and "certificate" in stranger.fault.message
        await stranger.close()
    with pytest.raises(ValueError, match="write wss://"):
        Client("ws://127.0.0.1:1/ws", ssl=context)
    with pytest.raises(ValueError, match="write https://"):
        Tidings("http://127.0.0.1:1", secret=SECRET, ssl=context)
