"""A stand-in for Tidings' HTTP API, as `docs/http-api.md` has it, which can be made to fail. It keeps what it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any, Dict, List, Optional, Tuple, Union
from urllib.parse import unquote

SECRET = "canary-bird of the tests of the server SDK"
_KEY = hmac.new(SECRET.encode(), b"tidings api key v1", hashlib.sha256).hexdigest()

Fault = Union[str, Tuple[int, Dict[str, str], bytes]]
"""What the next request gets instead of its answer: `lost before` or `lost after` it was served, `silence`, or an answer."""


def refusal(status: int, code: str, **headers: str) -> Fault:
    body = json.dumps({"status": status, "code": code, "detail": "not now"}).encode()
    return status, {"Content-Type": "application/problem+json", **headers}, body


class StandIn:
    def __init__(self) -> None:
        self.faults: List[Fault] = []
        self.asked: List[str] = []
        """Every request, as `METHOD path`."""
        self.events: List[Tuple[str, Dict[str, Any]]] = []
        """The room and the body of each event."""
        self.connections = 0
        self.open = 0
        self.open_max = 0
        self.gate = asyncio.Event()
        """Requests are answered while it is set."""
        self.gate.set()
        self._keys: Dict[str, Tuple[str, Optional[str]]] = {}
        self._ends: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> StandIn:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for writer in self._ends:
            writer.close()
        while self.open:
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        self._ends.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = head[0].split(" ")
                self.asked.append(f"{method} {path}")
                await self.gate.wait()
                fault = self.faults.pop(0) if self.faults else None
                if fault == "lost before":
                    return
                if fault == "silence":
                    await reader.read()
                    return
                status, extra, answer = (
                    fault if isinstance(fault, tuple) else self._answer(method, path, headers, body.decode())
                )
                if fault == "lost after":
                    return
                lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(answer)}"]
                lines += [f"{name}: {value}" for name, value in extra.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self._ends.discard(writer)
            writer.close()

    def _answer(self, method: str, path: str, headers: Dict[str, str], text: str) -> Tuple[int, Dict[str, str], bytes]:
        if headers.get("authorization") != f"Bearer {_KEY}":
            return _problem(401, "key_unknown", "tidings key prints it")
        path, _, query = path.partition("?")
        _, version, kind, *parts = [unquote(part) for part in path.split("/")]
        shape = "/".join([kind, *[part if index % 2 else "*" for index, part in enumerate(parts)]])
        if (method, shape) in (("POST", "rooms/*/events"), ("POST", "users/*/events")):
            room = f"user:{parts[0]}" if kind == "users" else parts[0]
            if ":" not in room:
                return _problem(404, "unknown_room", "name it in [[rooms]]")
            return self._publish(room, json.loads(text), headers.get("idempotency-key"))
        if (method, shape) == ("POST", "batch"):
            results = []
            for event in json.loads(text)["events"]:
                room = event.pop("room", None) or f"user:{event.pop('user')}"
                status, _, answer = self._publish(room, event, event.pop("idempotency_key"))
                results.append(json.loads(answer) if status == 200 else {"error": json.loads(answer)})
            return _ok({"results": results})
        answers: Dict[Tuple[str, str], object] = {
            ("GET", "rooms/*/members"): {"members": [{"user": "ann", "info": None}], "next": query},
            ("GET", "rooms/*/events"): {"events": [body for room, body in self.events if room == parts[0]]},
            ("GET", "users/*/rooms"): {"rooms": ["chat:lobby"]},
            ("POST", "users/*/disconnect"): {"connections": 2},
            ("POST", "users/*/revoke"): {"connections": 2},
            ("PUT", "users/*/rooms/*"): {"connections": 1},
            ("DELETE", "users/*/rooms/*"): {"connections": 1},
        }
        if version != "v1" or (method, shape) not in answers:
            return _problem(404, "not_found", "docs/http-api.md has the routes")
        return _ok(answers[method, shape])

    def _publish(self, room: str, body: Dict[str, Any], key: Optional[str]) -> Tuple[int, Dict[str, str], bytes]:
        text = json.dumps(body)
        if key in self._keys:
            assert key is not None
            before, event_id = self._keys[key]
            if before != text:
                return _problem(409, "idempotency_conflict", "another key")
            return _ok({"event_id": event_id, "duplicate": True})
        self.events.append((room, body))
        event_id = None if body.get("ephemeral") else f"{room}@k3f9a1qz.{len(self.events)}"
        if key is not None:
            self._keys[key] = text, event_id
        return _ok({"event_id": event_id, "duplicate": False})


def _ok(value: object) -> Tuple[int, Dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _problem(status: int, code: str, fix: str) -> Tuple[int, Dict[str, str], bytes]:
    problem = {"status": status, "code": code, "detail": f"it is {code}", "fix": fix, "request_id": "req-1"}
    return status, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode()
