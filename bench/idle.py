#!/usr/bin/env python3
"""What an idle connection costs: memory of the server before, with and after N authenticated ones in three rooms each.

    cargo build --release && bench/idle.py [N]

Starts target/release/tidings on a free port with a secret of its own, and ends it. Linux only: memory is VmRSS.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BAR_BYTES = 4096


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(secret: bytes, user: str) -> str:
    claims = {"sub": user, "exp": int(time.time()) + 3600, "aud": "tidings",
              "rooms": ["all", f"team:{hash(user) % 50}", f"user:{user}"]}
    signed = b64(b'{"alg":"HS256"}') + "." + b64(json.dumps(claims).encode())
    return signed + "." + b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())


def connect(address: tuple[str, int], jwt: str) -> socket.socket:
    client = socket.create_connection(address)
    client.sendall((f"GET /ws?token={jwt} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: Upgrade\r\n"
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
    answer = b""
    # The welcome is there too: so the connection is a whole one.
    while b"session.welcome" not in answer:
        read = client.recv(4096)
        if not read:
            sys.exit(f"refused: {answer.decode(errors='replace')}")
        answer += read
    return client


def rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def settled(pid: int) -> int:
    """The memory once it does not move any more: allocators give back with a delay."""
    last, same = rss(pid), 0
    for _ in range(60):
        time.sleep(0.25)
        now = rss(pid)
        same = same + 1 if abs(now - last) < 64 * 1024 else 0
        last = now
        if same == 8:
            break
    return last


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as home:
        secret = os.urandom(32).hex()
        Path(home, "dev-secret").write_text(secret)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = probe.getsockname()
        server = subprocess.Popen(
            [ROOT / "target/release/tidings", "dev", "--listen", f"{address[0]}:{address[1]}"],
            env={**os.environ, "TIDINGS_HOME": home, "TIDINGS_LOG": "warn"},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            while b"listening" not in server.stdout.readline():
                pass
            for index in range(5):
                connect(address, token(secret.encode(), f"warm-{index}")).close()
            before = settled(server.pid)
            clients = [connect(address, token(secret.encode(), f"user-{index}")) for index in range(count)]
            held = settled(server.pid)
            for client in clients:
                client.close()
            after = settled(server.pid)
        finally:
            server.terminate()
            server.wait(10)
    each = (held - before) / count
    print(f"connections {count}\nbefore      {before / 1e6:.1f} MB\nwith        {held / 1e6:.1f} MB\n"
          f"after       {after / 1e6:.1f} MB\neach        {each:.0f} bytes of memory (bar: {BAR_BYTES})")
    sys.exit(each > BAR_BYTES)


if __name__ == "__main__":
    main()
