"""Holds the whole conversation of PROTOCOL.md with a running server, by the library `websockets`.

Written against the protocol page alone. The server is TIDINGS_TEST_URL, its tokens TIDINGS_TEST_TOKENS (a JSON
object: name to token); ../README.md says what that server has to offer. Arguments are the names of cases to run alone.
"""

import json
import struct
import sys
import time
import traceback

from dialogue import (
    HOST, MESSAGE_BYTES_MAX, RUN, TOKENS, UPGRADE, WAIT_S, Client, Refused, both_refused, connect_refused, equal, get,
    new_id, offset, room, two,
)  # fmt: skip

# A connection ends at most so long after its token's end (30 s of grace, and the rest of the token's own time).
TOKEN_END_WAIT_S = 40

cases = []


def case(function):
    cases.append(function)
    return function


# ------------------------------------------------------------------------------------------- handshake


@case
def welcome_says_who_and_what():
    with Client() as alice:
        equal(alice.welcome["rooms"], [], "rooms")
        equal(alice.welcome["heartbeat_ms"], 30000, "heartbeat_ms")
        equal(alice.welcome["limits"]["text_message_bytes"], MESSAGE_BYTES_MAX, "limits")
        assert alice.welcome["session"] and isinstance(alice.welcome["features"], list)


@case
def token_by_header_subprotocol_and_query():
    bearer = {"Authorization": f"Bearer {TOKENS['alice']}"}
    with Client(token_in_query=False, headers=bearer) as alice, Client() as other:
        equal(alice.user, other.user, "user")
    offered = ["tidings.v1", f"tidings.token.{TOKENS['alice']}"]
    with Client(token_in_query=False, subprotocols=offered) as alice:
        equal(alice.ws.subprotocol, "tidings.v1", "subprotocol")
    with Client(headers={"Authorization": "Basic YTpi"}):
        pass  # not Bearer, so no token: the query's counts


@case
def the_first_token_is_final():
    headers = {"Authorization": f"Bearer {TOKENS['malformed']}"}
    both_refused(401, "token_malformed", headers, token=TOKENS["alice"])


@case
def each_token_refusal():
    both_refused(401, "token_missing")
    for name, code in (
        ("malformed", "token_malformed"), ("expired", "token_expired"),
        ("wrong_secret", "token_signature"), ("wrong_claims", "token_claims"),
    ):  # fmt: skip
        both_refused(401, code, token=TOKENS[name])
        problem = json.loads(connect_refused(401, user=name).body)
        equal(problem["code"], code, "as the library sees it")


@case
def origin():
    for foreign in ("http://elsewhere.example", "null"):
        problem = both_refused(403, "origin_not_allowed", {"Origin": foreign}, token=TOKENS["alice"])
    problem = both_refused(
        403, "origin_not_allowed", {"Origin": "http://elsewhere.example"}, token=TOKENS["expired"]
    )
    assert "elsewhere.example" in problem["fix"], f"the fix names no origin: {problem['fix']}"
    own = f"http://{HOST}"
    with Client(origin=own):
        pass
    _, headers, _ = get({"Origin": own}, token=TOKENS["alice"])
    equal(headers["Access-Control-Allow-Origin"], own, "CORS")


@case
def invalid_cursor():
    for cursor in ("nonsense", "open:a@k3f9a1qz.x", "x" * 4097):
        both_refused(400, "invalid_cursor", token=TOKENS["alice"], last_event_id=cursor)


@case
def not_a_websocket_request():
    token = TOKENS["alice"]
    status, _, problem = get(token=token)
    equal((status, problem["code"]), (426, "upgrade_required"), "plain GET")
    for name, value in (("Sec-WebSocket-Key", "short"), ("Connection", "keep-alive")):
        status, _, problem = get(UPGRADE | {name: value}, token=token)
        equal((status, problem["code"]), (400, "bad_upgrade"), name)
    status, headers, _ = get(UPGRADE | {"Sec-WebSocket-Version": "12"}, token=token)
    equal((status, headers["Sec-WebSocket-Version"]), (426, "13"), "version 12")


@case
def client_version():
    newer = {"Sec-WebSocket-Protocol": "tidings.v9"}
    status, _, problem = get(UPGRADE | newer, token=TOKENS["alice"])
    equal((status, problem["code"]), (409, "client_version"), "upgrade")
    equal(get(newer, token=TOKENS["alice"])[0], 426, "a plain GET is never 409")


@case
def connection_limit_and_takeover():
    held = [Client("limited") for _ in range(5)]
    try:
        both_refused(429, "connection_limit", token=TOKENS["limited"])
        assert int(connect_refused(429, user="limited").headers["Retry-After"]) >= 0
        session = held[0].welcome["session"]
        with Client("limited", session=session) as heir:
            held[0].closed_with(4009)
            assert heir.welcome["session"] != session, "each welcome has a new session"
            equal(heir.request("room.list"), {"rooms": []}, "rooms don't carry over")
    finally:
        for client in held:
            client.ws.close()


# ------------------------------------------------------------------------------------------- rooms


@case
def join_list_leave():
    with Client() as alice:
        name = room()
        ack = alice.request("room.join", name, {})
        equal((ack["recovery"], ack["members"]), ("fresh", 1), "ack")
        equal(ack["last_event_id"], ack["top"], "an empty room's position")
        assert ack["top"].startswith(f"{name}@") and offset(ack["top"]) == 0, ack
        equal(alice.request("room.list"), {"rooms": [name]}, "room.list")
        equal(alice.request("room.leave", name), {}, "room.leave")
        equal(alice.request("room.list"), {"rooms": []}, "room.list")


@case
def publish_reaches_everyone_with_its_position():
    with two() as (alice, bob, name):
        id = new_id()
        ack = alice.request("said", name, {"content": "Hello"}, id)
        equal(ack["duplicate"], False, "duplicate")
        for client in (alice, bob):
            said = client.event("said", name)
            equal((said["id"], said["re"], said["from"]), (ack["event_id"], id, alice.user), "envelope")
            equal(said["data"], {"content": "Hello"}, "data")
            assert abs(said["at"] / 1000 - time.time()) < 60, said["at"]


@case
def data_is_carried_as_it_came():
    with two() as (alice, bob, name):
        data = '{"b":1.0,"a":123456789012345678901234567890,"b":[ ],"c":"\\u00e9"}'
        alice.ws.send(f'{{"event":"said","room":"{name}","data":{data}}}')
        assert f'"data":{data}' in bob.event("said", name)["raw"]
        alice.send("said", name)
        equal(bob.event("said", name)["data"], None, "absent data")


@case
def depth():
    with Client() as alice:
        name = alice.joined()
        alice.request("said", name, json.loads("[" * 32 + "]" * 32))
        id = new_id()
        nested = "[" * 33 + "]" * 33
        alice.invalid(f'{{"event":"said","room":"{name}","id":"{id}","data":{nested}}}', id)


@case
def members_and_presence():
    with Client("alice") as alice:
        name = alice.joined()
        with Client("bob") as bob:
            bob.joined(name)
            came = alice.event("presence.join", name)["data"]
            equal((came["user"], came["info"]), (bob.user, None), "presence.join")
            equal(bob.request("presence.update", name, {"info": {"status": "away"}}), {}, "ack")
            changed = alice.event("presence.update", name)["data"]
            equal((changed["user"], changed["info"]), (bob.user, {"status": "away"}), "presence.update")
            equal(changed["rev"], came["rev"] + 1, "rev")
            snapshot = alice.request("room.members", name)
            users = [member["user"] for member in snapshot["members"]]
            equal(users, sorted([alice.user, bob.user]), "members")
            equal(snapshot["rev"], changed["rev"], "rev")
            page = alice.request("room.members", name, {"limit": 1})
            rest = alice.request("room.members", name, {"after": page["next"]})
            equal([m["user"] for m in page["members"] + rest["members"]], users, "pages")
            bob.request("room.leave", name)
        left = alice.event("presence.leave", name)["data"]
        equal((left["user"], left["rev"]), (bob.user, changed["rev"] + 1), "presence.leave")


@case
def heartbeat_is_acked():
    with Client() as alice:
        equal(alice.request("presence.heartbeat"), {}, "ack")


@case
def history_and_its_pages():
    with Client() as alice:
        name = alice.joined()
        ids = [alice.request("said", name, n)["event_id"] for n in range(5)]
        newest = alice.request("room.history", name, {"limit": 2})
        equal([event["id"] for event in newest["events"]], ids[3:], "the newest")
        older = alice.request("room.history", name, {"before": newest["next"], "limit": 100})
        equal([event["data"] for event in older["events"]], [0, 1, 2], "before them")
        assert older.get("next") is None, "nothing is older"
        with Client("bob") as bob:
            ack = bob.request("room.join", name, {"history": 2})
            equal((ack["recovery"], ack["last_event_id"], ack["top"]), ("fresh", ids[2], ids[4]), "ack")
            equal([bob.next_in(name)["id"] for _ in range(2)], ids[3:], "what follows")


@case
def others_get_it_and_the_sender_a_skip():
    with two() as (alice, bob, name):
        alice.request("others", name, {"secret": 1})
        heard, skip = bob.event("others", name), alice.event("room.skip", name)
        equal(skip["id"], heard["id"], "the skip's position")
        equal(skip["data"], {"from": offset(heard["id"]), "reason": "excluded"}, "the skip")
        equal(
            alice.request("room.history", name)["events"],
            [],
            "what was excluded is not in the asker's history",
        )


@case
def binary_both_ways():
    with two() as (alice, bob, name):
        id, payload = new_id(), bytes(range(256)) * 4
        header = json.dumps({"event": "image", "room": name, "id": id}).encode()
        alice.ws.send(struct.pack(">H", len(header)) + header + payload)
        ack = alice.answer(id)
        for client in (alice, bob):
            image = client.event("image", name)
            assert image["payload"] == payload, "the payload was altered"
            equal((image["id"], image["from"], image["re"]), (ack["event_id"], alice.user, id), "header")
            assert "data" not in image
        alice.invalid(b"\xff\xff{}")


@case
def auto_join():
    with Client("auto") as auto, Client("alice") as alice:
        equal(auto.welcome["rooms"], ["open:auto"], "rooms")
        assert auto.welcome["last_event_id"].startswith("open:auto@")
        alice.joined("open:auto")
        alice.request("said", "open:auto", RUN)
        said = auto.event("said", "open:auto")
        equal((said["data"], offset(said["id"])), (RUN, offset(auto.welcome["last_event_id"]) + 1), "event")


# ------------------------------------------------------------------------------------------- resume


@case
def a_cut_and_last_event_id():
    with Client("alice") as alice:
        alice.joined("open:auto")
        auto = Client("auto")
        start = auto.welcome["last_event_id"]
        auto.cut()
        missed = [alice.request("said", "open:auto", n)["event_id"] for n in range(3)]
        with Client("auto", last_event_id=start) as auto:
            equal(auto.welcome["last_event_id"], start, "the position before what follows")
            missed.append(alice.request("said", "open:auto", 3)["event_id"])
            equal([auto.next_in("open:auto")["id"] for _ in range(4)], missed, "replay, then live")


@case
def resume_by_message_keeps_live_events_behind():
    with Client("alice") as alice:
        names = sorted([alice.joined(), alice.joined()])
        bob = Client("bob")
        cursor = ",".join(bob.request("room.join", name, {})["top"] for name in names)
        bob.cut()
        missed = {name: [alice.request("said", name, n)["event_id"] for n in range(2)] for name in names}
        with Client("bob", resume="wait") as bob:
            ack = bob.request("session.resume", data={"last_event_id": cursor})["rooms"]
            for name, position in zip(names, cursor.split(","), strict=True):
                got = ack[name]
                equal(
                    (got["recovery"], got["last_event_id"], got["top"]),
                    ("complete", position, missed[name][-1]),
                    name,
                )
                equal([bob.next_in(name)["id"] for _ in range(2)], missed[name], name)


@case
def resume_asks_each_rule_again():
    with Client() as alice:
        refused = {room("closed"): "forbidden", room("nowhere"): "unknown_room"}
        cursor = ",".join(f"{name}@k3f9a1qz.1" for name in refused)
        ack = alice.request("session.resume", data={"last_event_id": cursor})["rooms"]
        equal(ack, {name: {"error": code} for name, code in refused.items()}, "ack")


@case
def one_id_alone_resets_the_other_rooms():
    with Client("alice") as alice:
        alice.joined("open:auto")
        alice.request("said", "open:auto", 1)
        known = alice.request("said", alice.joined(), 1)["event_id"]
        with Client("auto", last_event_id=known) as auto:
            equal(auto.event("room.reset", "open:auto")["data"]["reason"], "no_position", "reason")


@case
def positions_that_this_log_never_had():
    with Client() as alice:
        name = alice.joined()
        top = alice.request("said", name, 1)["event_id"]
        epoch = top.rpartition("@")[2].partition(".")[0]
        other = "00000000" if epoch != "00000000" else "11111111"
        for position, reason in (
            (f"{name}@{other}.5", "unknown_epoch"),
            (f"{name}@{epoch}.1000", "too_far"),
        ):
            with Client("bob") as bob:
                ack = bob.request("room.join", name, {"last_event_id": position})
                equal((ack["recovery"], ack["top"]), ("gap", top), reason)
                assert ack["last_event_id"] in (position, None), ack
                reset = bob.next_in(name)
                equal(
                    (reset["event"], reset["data"]["reason"]), ("room.reset", reason), "what follows the ack"
                )
                if reason == "unknown_epoch":
                    equal(reset["data"]["lost"], None, "lost, across unrelated epochs")


@case
def joining_again_moves_the_position():
    with Client() as alice:
        name = room()
        start = alice.request("room.join", name, {})["top"]
        ids = [alice.request("said", name, n)["event_id"] for n in range(2)]
        equal([alice.next_in(name)["id"] for _ in ids], ids, "live")
        equal(alice.request("room.join", name, {"last_event_id": start})["recovery"], "complete", "recovery")
        equal([alice.next_in(name)["id"] for _ in ids], ids, "replay")


@case
def checkpoints():
    with Client(checkpoints=1) as alice:
        name = room()
        top = alice.request("room.join", name, {})["top"]
        alice.take(
            lambda m: m["event"] == "session.checkpoint" and top in m["data"]["last_event_id"].split(",")
        )


@case
def idempotency():
    with Client() as alice:
        name, id = alice.joined(), new_id()
        first = alice.request("said", name, {"n": 1}, id)
        again = alice.request("said", name, {"n": 1}, id)
        equal((again["event_id"], again["duplicate"]), (first["event_id"], True), "the second ack")
        alice.refused("idempotency_conflict", "said", name, {"n": 2}, id)
    with Client() as alice:
        alice.joined(name)
        again = alice.request("said", name, {"n": 1}, id)
        equal((again["event_id"], again["duplicate"]), (first["event_id"], True), "on another connection")
        equal(len(alice.request("room.history", name)["events"]), 1, "stored events")


# ------------------------------------------------------------------------------------------- handlers, refusals


@case
def a_handler_answers_and_broadcasts():
    with two() as (alice, bob, name):
        ack = alice.request("message.send", data={"channelId": name, "content": "Hello"})
        equal(ack["stored"], True, "the handler's own result")
        equal(bob.event("message.send", name)["data"]["content"], "Hello", "the broadcast")
        alice.request("slow")


@case
def a_panic_costs_its_own_call():
    with Client() as alice:
        alice.refused("internal", "panic")
        equal(alice.request("presence.heartbeat"), {}, "afterwards")


@case
def schema():
    with Client() as alice:
        alice.request("typed", data={"n": 1})
        equal(alice.refused("schema", "typed", data={"n": "one"})["pointer"], "/n", "pointer")


@case
def rules_refuse_by_name():
    with Client() as alice:
        alice.refused("forbidden", "room.join", room("closed"), {})
        alice.refused("unknown_room", "room.join", room("nowhere"), {})
        alice.refused("forbidden", "said", alice.joined(room("read")), 1)
        alice.refused("unknown_event", "nobody.handles.this")
        name = room()
        for event, data in (
            ("said", 1), ("room.members", {}), ("room.history", {}), ("presence.update", {"info": 1}),
        ):  # fmt: skip
            alice.refused("not_joined", event, name, data)


@case
def presence_info_has_a_limit():
    with Client() as alice:
        name = alice.joined()
        alice.request("presence.update", name, {"info": "x" * 4000})
        alice.refused("too_large", "presence.update", name, {"info": "x" * 4097})


@case
def what_is_no_message():
    with Client() as alice:
        name, id = alice.joined(), new_id()
        for raw in (
            "",
            "{",
            "[]",
            "7",
            '{"data":1}',
            '{"event":""}',
            '{"event":"a b"}',
            f'{{"event":"{"x" * 65}"}}',
        ):
            alice.invalid(raw)
        for rest in (
            f'"event":"said","room":"{name}","more":1', '"event":"said","event":"said"',
            '"event":"said","\\u0065vent":"said"', '"event":"said","room":"a b"', '"event":"said","room":"a@b"',
            f'"event":"said","room":"{"x" * 129}"', '"event":"room.reset","room":"open:a"', '"event":"ack"',
            f'"event":"room.join","room":"{name}","data":{{"histroy":1}}', '"event":"room.join"',
        ):  # fmt: skip
            alice.invalid(f'{{"id":"{id}",{rest}}}', id)
        alice.invalid(f'{{"event":"room.join","room":"{name}"}}')
        equal(alice.request("presence.heartbeat"), {}, "afterwards")


@case
def room_limit():
    with Client() as alice:
        names = [room() for _ in range(101)]
        # By session.resume, which the rate of joins does not count.
        cursor = ",".join(f"{name}@k3f9a1qz.0" for name in names)
        assert len(cursor) <= 4096
        ack = alice.request("session.resume", data={"last_event_id": cursor})["rooms"]
        equal([a for a in ack.values() if "error" in a], [{"error": "room_limit"}], "the 101st")
        alice.refused("room_limit", "room.join", room(), {})


@case
def rate_limit():
    with Client("limited") as client:
        ids = [new_id() for _ in range(100)]
        for id in ids:
            client.send("room.list", id=id)
        refusals = []
        for id in ids:
            try:
                client.answer(id)
            except Refused as refused:
                refusals.append(refused)
        assert 0 < len(refusals) <= 60, f"{len(refusals)} of 100 were refused"
        for refused in refusals:
            equal(refused.code, "rate_limited", "code")
            assert refused.data["retry_after_ms"] > 0, refused.data


@case
def refresh():
    with Client() as alice:
        expires = alice.request("session.refresh", data={"token": TOKENS["alice"]})["expires_at"]
        assert expires, "expires_at"
        for name in ("bob", "expired", "wrong_secret"):
            # The page does not say which final code; that it is refused is what counts.
            try:
                alice.request("session.refresh", data={"token": TOKENS[name]})
            except Refused as refused:
                assert refused.code in ("forbidden", "invalid"), f"{name}: {refused}"
            else:
                raise AssertionError(f"the token {name} was accepted")


# ------------------------------------------------------------------------------------------- frames, close codes


@case
def ping_is_answered():
    with Client() as alice:
        assert alice.ws.ping(b"tidings").wait(WAIT_S), "no pong"


@case
def size_limit():
    with Client() as alice:
        name = alice.joined()
        frame = f'{{"event":"said","room":"{name}","data":"%s"}}'
        alice.ws.send(frame % ("x" * (MESSAGE_BYTES_MAX - len(frame) + 2)))
        alice.event("said", name)
        alice.ws.send(frame % ("x" * (MESSAGE_BYTES_MAX - len(frame) + 3)))
        alice.closed_with(1009)
    with Client() as alice:
        alice.ws.send(bytes(MESSAGE_BYTES_MAX + 1))
        alice.closed_with(1009)


@case
def a_broken_frame_closes_with_1002():
    for broken in (
        b"\x81\x02{}",
        b"\x83\x80\0\0\0\0",
        b"\xc1\x80\0\0\0\0",
    ):  # unmasked, reserved opcode, reserved bit
        with Client() as alice:
            alice.ws.socket.sendall(broken)
            alice.closed_with(1002)


@case
def text_that_is_not_utf8_closes_with_1007():
    with Client() as alice:
        alice.ws.send(b'{"event":"\xff"}', text=True)
        alice.closed_with(1007)


@case
def a_close_is_answered():
    alice = Client()
    alice.ws.close(1000)
    equal(alice.ws.protocol.close_rcvd.code, 1000, "close code")
    assert alice.ws.protocol.close_rcvd_then_sent is False, "the client closed first"


@case
def a_token_that_ends_closes_with_4300():
    with Client("short_lived") as client:
        client.closed_with(4300, within=TOKEN_END_WAIT_S)


def main():
    passed = 0
    only = set(sys.argv[1:])
    chosen = [function for function in cases if not only or function.__name__ in only]
    for function in chosen:
        try:
            function()
            passed += 1
            print(f"ok {function.__name__}", flush=True)
        except Exception as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__]
            print(f"not ok {function.__name__}: line {lines[-1]}: {type(error).__name__} {error}", flush=True)
    print(f"{passed} passed, {len(chosen) - passed} failed, 0 skipped")
    return passed != len(chosen)


if __name__ == "__main__":
    sys.exit(main())
