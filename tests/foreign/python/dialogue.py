"""One client's side of a conversation: messages in and out, acks awaited, refusals told apart, plain GETs.

It knows the form of PROTOCOL.md's messages. What has to be answered to which is client.py's. Every wait has a bound.
"""

import http.client
import json
import os
import secrets
import socket
import struct
import time
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

URL = os.environ["TIDINGS_TEST_URL"]
TOKENS = json.loads(os.environ["TIDINGS_TEST_TOKENS"])
HOST = urlsplit(URL).netloc
RUN = secrets.token_hex(4)
WAIT_S = 5
MESSAGE_BYTES_MAX = 64 * 1024
ABSENT = object()

counter = iter(range(1 << 30))


def room(kind="open"):
    """A room that no other case and no other run uses."""
    return f"{kind}:{RUN}-{next(counter)}"


def offset(event_id):
    return int(event_id.rpartition(".")[2])


def equal(got, wanted, what="value"):
    assert got == wanted, f"{what}: {got!r}, not {wanted!r}"


class Refused(Exception):
    """The server answered with an `error`."""

    def __init__(self, data):
        super().__init__(f"error {data}")
        self.code, self.data = data["code"], data


class Client:
    def __init__(
        self, user="alice", *, headers=None, subprotocols=None, origin=None, token_in_query=True, **query
    ):
        if token_in_query:
            query["token"] = TOKENS[user]
        uri = f"{URL}?{urlencode(query)}" if query else URL
        self.ws = connect(
            uri, additional_headers=headers, subprotocols=subprotocols, origin=origin, compression=None, proxy=None,
            open_timeout=WAIT_S, close_timeout=WAIT_S, ping_interval=None, legacy=True,
        )  # fmt: skip
        self.waiting = []
        try:
            message = self.receive()
        except BaseException:
            self.ws.close()
            raise
        equal(message["event"], "session.welcome", "first message")
        self.welcome = message["data"]
        self.user = self.welcome["user"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ws.close()

    def cut(self):
        """Ends the connection as a network does: without a close frame."""
        self.ws.socket.shutdown(socket.SHUT_RDWR)
        self.ws.close()

    def receive(self):
        """The next message off the wire; a binary one has `payload` beside its header."""
        raw = self.ws.recv(timeout=WAIT_S)
        if isinstance(raw, str):
            return json.loads(raw) | {"raw": raw}
        (length,) = struct.unpack(">H", raw[:2])
        return json.loads(raw[2 : 2 + length]) | {"payload": raw[2 + length :]}

    def take(self, wanted):
        """The first message that fits, those that came before it being kept in their order."""
        for index, message in enumerate(self.waiting):
            if wanted(message):
                return self.waiting.pop(index)
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            message = self.receive()
            if wanted(message):
                return message
            self.waiting.append(message)
        raise TimeoutError

    def event(self, name, in_room=None):
        return self.take(lambda m: m["event"] == name and (in_room is None or m.get("room") == in_room))

    def next_in(self, in_room):
        """The next message of a room that has a position."""
        return self.take(
            lambda m: m.get("room") == in_room and "id" in m and not m["event"].startswith("presence.")
        )

    def send(self, event, in_room=None, data=ABSENT, id=None):
        message = {"event": event}
        message |= {} if in_room is None else {"room": in_room}
        message |= {} if data is ABSENT else {"data": data}
        message |= {} if id is None else {"id": id}
        self.ws.send(json.dumps(message))

    def answer(self, id):
        """The ack's data. Raises what an error says."""
        message = self.take(lambda m: m["event"] in ("ack", "error") and m.get("id") == id)
        if message["event"] == "error":
            assert message["data"]["message"], "an error has a sentence for people"
            raise Refused(message["data"])
        return message["data"]

    def request(self, event, in_room=None, data=ABSENT, id=None):
        """Sends and awaits the ack. What is too fast is sent again with the same id when the server says so (§3)."""
        id = id or new_id()
        until = time.monotonic() + WAIT_S
        while True:
            self.send(event, in_room, data, id)
            try:
                return self.answer(id)
            except Refused as refused:
                if refused.code != "rate_limited" or time.monotonic() > until:
                    raise
                time.sleep(refused.data["retry_after_ms"] / 1000)

    def refused(self, code, event, in_room=None, data=ABSENT, id=None):
        try:
            got = self.request(event, in_room, data, id)
        except Refused as refused:
            equal(refused.code, code, f"{event} in {in_room}")
            return refused.data
        raise AssertionError(f"{event} in {in_room} was acked with {got}, not refused with {code}")

    def invalid(self, raw, id=None):
        """Sends bytes that are no message; the error has to carry the id if there is one."""
        self.ws.send(raw)
        message = self.take(lambda m: m["event"] == "error" and m.get("id") == id)
        equal(message["data"]["code"], "invalid", repr(raw)[:60])

    def joined(self, in_room=None, **data):
        in_room = in_room or room()
        self.request("room.join", in_room, data)
        return in_room

    def closed_with(self, code, within=WAIT_S):
        until = time.monotonic() + within
        try:
            while time.monotonic() < until:
                self.ws.recv(timeout=max(0.1, until - time.monotonic()))
        except ConnectionClosed as closed:
            got = closed.rcvd.code if closed.rcvd else None
            equal(got, code, "close code")
            return
        raise TimeoutError


def new_id():
    return f"{RUN}-{next(counter)}"


@contextmanager
def two():
    """alice and bob in one fresh room."""
    with Client("alice") as alice, Client("bob") as bob:
        shared = alice.joined()
        bob.joined(shared)
        yield alice, bob, shared


def connect_refused(status, **dial):
    try:
        with Client(**dial):
            pass
    except InvalidStatus as refusal:
        equal(refusal.response.status_code, status, "status")
        return refusal.response
    raise AssertionError(f"connected, where {status} was expected")


UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


def get(headers=None, **query):
    """A GET of the same URL by plain HTTP: (status, headers, problem)."""
    parts = urlsplit(URL)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WAIT_S)
    try:
        connection.request(
            "GET", parts.path + (f"?{urlencode(query)}" if query else ""), headers=headers or {}
        )
        answer = connection.getresponse()
        if answer.status == 101:
            return 101, answer.headers, {}
        body = answer.read()
        equal(answer.headers.get_content_type(), "application/problem+json", "content type")
        problem = json.loads(body)
        equal(problem["status"], answer.status, "status in the body")
        for field in ("type", "title", "detail", "code", "fix"):
            assert problem.get(field), f"the problem has no {field}: {problem}"
        return answer.status, answer.headers, problem
    finally:
        connection.close()


def both_refused(status, code, headers=None, **query):
    """The upgrade and the plain GET give the same refusal."""
    for sent in (UPGRADE | (headers or {}), headers or {}):
        got, _, problem = get(sent, **query)
        equal((got, problem.get("code")), (status, code), "upgrade" if "Upgrade" in sent else "plain GET")
    return problem
