"""A backend that believes what Standard Webhooks' own library for Python has verified: tests/webhooks/README.md."""

import base64
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

WEBHOOK = Webhook(os.environ["WEBHOOK_SECRET"])
STRANGER = Webhook("whsec_" + base64.b64encode(bytes([7]) * 32).decode())


def refuses(webhook: Webhook, body: str, headers: dict[str, str]) -> bool:
    try:
        webhook.verify(body, headers)
    except WebhookVerificationError:
        return True
    return False


def answer(headers: dict[str, str], body: str) -> tuple[dict, dict]:
    event = WEBHOOK.verify(body, headers)
    earlier = str(int(headers["webhook-timestamp"]) - 1)
    forged = {
        "body": refuses(WEBHOOK, body + " ", headers),
        "id": refuses(WEBHOOK, body, {**headers, "webhook-id": "msg_another"}),
        "timestamp": refuses(WEBHOOK, body, {**headers, "webhook-timestamp": earlier}),
        "secret": refuses(STRANGER, body, headers),
    }
    if not all(forged.values()):
        raise ValueError(f"a forgery was taken: {forged}")
    if event["id"] != headers["webhook-id"]:
        raise ValueError("the event has another id")
    answers = {
        "dev.tidings.connect": {"allow": True, "rooms": ["chat:lobby"]},
        "dev.tidings.join": {"allow": True},
        "dev.tidings.event": {"ack": {"verified_by": "python"}},
    }
    return event, answers.get(event["type"], {})


def tell(line: dict) -> None:
    # By one write: requests are served side by side, and `print` would write the end of the line by itself.
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, said = 200, {}
        try:
            event, said = answer(headers, body)
            told = {"verified": event["type"]}
        except Exception as error:
            status, told = 401, {"refused": repr(error)}
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        tell(told)

    def log_message(self, *_arguments: object) -> None:
        """What it has to say goes to stdout."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
tell({"url": f"http://127.0.0.1:{server.server_port}/tidings"})
# Whoever has started it ends it by letting go.
sys.stdin.read()
