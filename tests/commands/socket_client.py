"""A WebSocket of a page's, without an SDK: as much of RFC 6455 as a short conversation needs."""

import base64
import json
import os
import socket

TEXT, CLOSE = 1, 8


class Refused(Exception):
    def __init__(self, status):
        super().__init__(f"the handshake was answered with {status}")
        self.status = status


class Socket:
    def __init__(self, port, path, timeout_s=30):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._file = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        head = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        self._socket.sendall("\r\n".join([*head, "", ""]).encode())
        status = int(self._file.readline().split()[1])
        while self._file.readline().strip():
            pass
        if status != 101:
            self.close()
            raise Refused(status)

    def send(self, message):
        payload = json.dumps(message).encode()
        mask = os.urandom(4)
        assert len(payload) < 126, "a short conversation"
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | TEXT, 0x80 | len(payload)]) + mask + masked)

    def receive(self):
        """The next message. Pings are left for the next connection: a conversation is over before they count."""
        while True:
            first, length = self._file.read(2)
            if length > 125:
                length = int.from_bytes(self._file.read(2 if length == 126 else 8), "big")
            payload = self._file.read(length)
            assert first & 0xF != CLOSE, f"closed with {payload}"
            if first & 0xF == TEXT:
                return json.loads(payload)

    def first(self, is_wanted):
        while True:
            message = self.receive()
            if is_wanted(message):
                return message

    def close(self):
        self._file.close()
        self._socket.close()
