"""Who is in a room: the list, and what changes it. PROTOCOL.md §3 and §7."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from connected import connected, joined
from world import settled


class Presence:
    """What the tests of presence say and look at."""

    def __init__(self, it: Any) -> None:
        self.it = it
        self.seen: List[str] = []

    def told(self, members: Mapping[str, Any]) -> None:
        self.seen.append(",".join(f"{user}{'' if info is None else info}" for user, info in sorted(members.items())))

    async def page(self, asked: Dict[str, Any], users: str, rev: int, **fields: Any) -> None:
        members = [{"user": user, "info": None} for user in users.split()]
        self.it.socket.ack(asked["id"], {"members": members, "rev": rev, **fields})
        await settled()

    def one(self, change: str, user: str, rev: int) -> None:
        data = {"user": user, "info": None, "rev": rev}
        self.it.socket.receive({"event": f"presence.{change}", "room": "r", "data": data})

    def changes(self, first: int, rev: int, **data: Any) -> None:
        for name in ("joins", "updates"):
            if name in data:
                data[name] = [{"user": user, "info": info} for user, info in data[name].items()]
        self.it.socket.receive({"event": "presence.changes", "room": "r", "data": {**data, "from": first, "rev": rev}})


async def test_presence_the_list_then_deltas_a_hole_asks_again_and_a_reconnect_too() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        room.presence.on_change(presence.told)
        asked = it.sent()
        assert asked["event"] == "room.members"
        presence.one("join", "cid", 8)
        await presence.page(asked, "ann", 7, next="ann")
        page = it.sent()
        assert page["data"] == {"after": "ann", "limit": 1000}
        await presence.page(page, "bob", 7)
        assert presence.seen == ["ann,bob,cid"]
        presence.one("leave", "ann", 9)
        presence.one("leave", "ann", 9)
        presence.one("join", "dan", 11)
        assert presence.seen == ["ann,bob,cid", "bob,cid"]
        again = it.sent()
        assert again["event"] == "room.members", "something was missed"
        await presence.page(again, "dan", 11)
        assert presence.seen[-1] == "dan"
        await it.reconnected()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        after = it.sent()
        assert [after["event"], room.presence.members] == ["room.members", {"dan": None}]
        await presence.page(after, "", 1)
        assert presence.seen[-1] == ""


async def test_presence_of_a_large_room_several_changes_in_one_message() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        room.presence.on_change(presence.told)
        # While the pages come, ann goes and dan comes behind them, eve comes and goes.
        await presence.page(it.sent(), "ann bob", 7, next="bob", count=3)
        presence.changes(6, 9, joins={"dan": None}, leaves=["ann"])
        await presence.page(it.sent(), "cid dan eve", 10, count=4)
        assert presence.seen == ["bob,cid,dan,eve"], "where the first page was, the changes go on"
        presence.changes(10, 12, leaves=["eve", "nobody"], updates={"bob": 1})
        presence.changes(9, 12, leaves=["bob"])
        assert [presence.seen[-1], room.presence.count, it.sent()] == ["bob1,cid,dan", 3, {}]
        presence.changes(13, 13, joins={"me": 2})
        assert presence.seen[-1] == "bob1,cid,dan,me2", "one's own change is one like any other"
        presence.changes(15, 18, leaves=["bob"])
        again = it.sent()
        assert again["event"] == "room.members", "14 was missed"
        presence.changes(19, 19, joins={"fay": None})
        presence.changes(22, 22, joins={"gus": None})
        await presence.page(again, "cid", 18)
        assert presence.seen[-1] == "cid,fay"
        third = it.sent()
        assert third["event"] == "room.members", "and 20 while it was asked for"
        await presence.page(third, "cid gus", 22)
        assert presence.seen[-1] == "cid,gus"


async def test_presence_of_a_room_that_tells_only_how_many_a_number_no_list_no_question() -> None:
    async with connected() as it:
        room = await it.join("r")
        seen: List[Any] = []
        room.presence.on_change(lambda members: seen.append((len(members), room.presence.count)))

        def count(members: int, rev: int) -> None:
            data = {"members": members, "rev": rev}
            it.socket.receive({"event": "presence.count", "room": "r", "data": data})

        count(5, 3)
        count(9, 7)
        it.socket.ack(it.sent()["id"], {"members": [], "rev": 5, "count": 6})
        await settled()
        count(8, 6)
        count(4000, 90)
        assert [seen, it.sent()] == [[(0, 9), (0, 4000)], {}]


async def test_what_waits_for_the_list_is_bounded() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        room.presence.on_change(presence.told)
        first = it.sent()
        for rev in range(1, 4098):
            presence.one("update", "ann", rev)
        second = it.sent()
        assert second["event"] == "room.members", "too much came meanwhile: the list is asked for anew"
        await presence.page(first, "old", 0)
        await presence.page(second, "ann", 4097)
        assert presence.seen == ["ann"]


async def test_the_list_is_asked_for_after_a_reconnect_however_much_the_application_has_waiting() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        room.presence.on_change(presence.told)
        await presence.page(it.sent(), "ann", 1)
        requests = [room.request("say", number) for number in range(256)]
        await it.reconnected()
        it.socket.ack(it.sent()["id"], {"rooms": {"r": joined("r", 0, "complete")}})
        asked = it.sent()
        assert asked["event"] == "room.members", "it is the client's own, and none of the application's 256"
        for request in requests:
            it.socket.ack(request.id)
        await presence.page(asked, "ann bob", 4)
        assert presence.seen == ["ann", "ann,bob"]


async def test_a_list_that_could_not_be_had_is_asked_for_again_after_a_while_as_long_as_the_room_is_joined() -> None:
    async with connected() as it:
        room = await it.join("r")
        presence = Presence(it)
        stop = room.presence.on_change(presence.told)
        for wait_s in (1, 2):
            it.socket.refuse(it.sent()["id"], "forbidden")
            await it.clock.advance(wait_s - 0.1)
            assert it.sent() == {}
            await it.clock.advance(0.1)
        # Neither does no answer at all end it.
        stuck = it.sent()
        for _ in range(12):
            await it.clock.advance(10)
            it.socket.ping()
            it.socket.sent.clear()
        await it.clock.advance(3)
        presence.one("join", "bob", 8)
        await presence.page(it.sent(), "ann", 7)
        assert presence.seen == ["ann,bob"] and stuck["event"] == "room.members"
        # Where nobody listens any more, nobody asks.
        presence.one("join", "dan", 11)
        it.socket.refuse(it.sent()["id"], "internal", retry_after_ms=10)
        stop()
        await it.clock.advance(1)
        assert it.sent() == {}


async def test_who_listens_again_is_told_who_is_here_now() -> None:
    async with connected() as it:
        room = await it.join("r")
        first, second = Presence(it), Presence(it)
        stop = room.presence.on_change(first.told)
        stop_too = room.presence.on_change(first.told)
        await first.page(it.sent(), "bob", 1)
        stop()
        presence = room.presence
        assert [first.seen, dict(presence.members)] == [["bob", "bob"], {"bob": None}]
        stop_too()
        first.one("join", "ann", 2)
        presence.on_change(second.told)
        assert second.seen == [], "what was known is old"
        await second.page(it.sent(), "ann bob", 2)
        first.one("leave", "bob", 3)
        assert [first.seen, second.seen] == [["bob", "bob"], ["ann,bob", "ann"]]
