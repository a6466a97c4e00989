"""The examples of the wire protocol that all of its implementations run: vectors/README.md."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, Union

from tidings_client import protocol

VECTORS = Path(__file__).resolve().parents[3] / "vectors"

KINDS = {
    protocol.Event: "event",
    protocol.Ack: "ack",
    protocol.Refusal: "error",
    protocol.Welcome: "welcome",
    protocol.PresenceChange: "presence",
    protocol.PresenceChanges: "presence_changes",
    protocol.PresenceCount: "presence_count",
    protocol.Skip: "skip",
    protocol.EpochChange: "epoch",
    protocol.Reset: "reset",
    protocol.RoomJoined: "joined",
    protocol.RoomLeft: "left",
    protocol.Checkpoint: "checkpoint",
    protocol.Reconnect: "reconnect",
    protocol.Degraded: "degraded",
    protocol.Unknown: "unknown",
    protocol.Invalid: "invalid",
}


def read(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def text_of(vector: Dict[str, Any]) -> str:
    if "text" in vector:
        return str(vector["text"])
    return "".join(part if isinstance(part, str) else part[0] * part[1] for part in vector["parts"])


def as_vector(message: protocol.ServerMessage) -> Dict[str, Any]:
    """A message as vectors have it."""
    seen = {name.rstrip("_"): value for name, value in dataclasses.asdict(message).items()}
    seen["kind"] = KINDS[type(message)]
    if isinstance(message, protocol.Reset):
        lost = seen["lost"]
        seen["lost"] = lost and {"from": lost[0], "to": lost[1]}
        if not seen.pop("has_state"):
            del seen["state"]
    if isinstance(message, protocol.Event) and isinstance(message.data, bytes):
        seen["payload_hex"] = seen.pop("data").hex()
    # The client keeps its beat by itself, and has no use for the server's limits here.
    seen.pop("limits", None)
    return seen


def test_every_file_of_vectors_is_run_by_somebody() -> None:
    assert sorted(path.name for path in VECTORS.glob("*.json")) == [
        "client_machine.json",  # test_machine.py
        "client_messages.json",
        "close_codes.json",
        "cursors.json",
        "server_messages.json",
    ]


def test_what_a_server_sends() -> None:
    vectors: List[Dict[str, Any]] = read("server_messages.json")
    for vector in vectors:
        frame: Union[str, bytes] = bytes.fromhex(vector["hex"]) if "hex" in vector else text_of(vector)
        expected = {name: value for name, value in vector["expect"].items() if name != "heartbeat_ms"}
        assert as_vector(protocol.decode(frame)) == expected, vector["name"]
    assert {vector["expect"]["kind"] for vector in vectors} == set(KINDS.values())


def test_what_a_client_may_send() -> None:
    valid = [vector for vector in read("client_messages.json") if "expect" in vector]
    assert valid
    for vector in valid:
        name, expected = vector["name"], vector["expect"]
        payload = bytes.fromhex(expected["payload_hex"]) if "payload_hex" in expected else None
        # Strict JSON has no such number as 1e999 is to Python.
        value = payload if payload is not None else _finite(json.loads(expected["data"]))
        frame = protocol.encode(expected["event"], expected["room"], value, expected["id"])
        if isinstance(frame, bytes):
            end = 2 + int.from_bytes(frame[:2], "big")
            sent = json.loads(frame[2:end])
            assert frame[end:] == payload, name
        else:
            sent = json.loads(frame)
            assert sent.get("data") == value, name
        assert [sent.get(field) for field in ("event", "room", "id")] == [
            expected[field] for field in ("event", "room", "id")
        ], name


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return value


def test_cursors_and_event_ids() -> None:
    vectors = read("cursors.json")
    for vector in vectors["cursors"]:
        cursor = protocol.parse_cursor(text_of(vector))
        seen = None if cursor is None else {room: f"{at.epoch}.{at.offset}" for room, at in cursor.items()}
        assert seen == vector["expect"], vector
    for vector in vectors["event_ids"]:
        id = protocol.parse_event_id(text_of(vector))
        seen_id = None if id is None else protocol.format_event_id(*id)
        assert seen_id == (text_of(vector) if vector["valid"] else None), vector


def test_close_codes() -> None:
    for vector in read("close_codes.json"):
        assert protocol.reaction(vector["code"]) == vector["reaction"], vector


def test_numbers_that_python_does_not_read_by_itself() -> None:
    event = protocol.decode('{"event":"e","data":[' + "9" * 5000 + ",1]}")
    assert isinstance(event, protocol.Event) and event.data == [float("inf"), 1]
    assert isinstance(protocol.decode('{"event":"e","data":NaN}'), protocol.Invalid)
    assert isinstance(protocol.decode("[" * 100_000), protocol.Invalid)


def test_half_of_a_surrogate_pair_is_sent_as_an_escape() -> None:
    frame = protocol.encode("e", None, "\ud800 é")
    assert isinstance(frame, str) and json.loads(frame.encode())["data"] == "\ud800 é"
