"""The code of docs/collaborative-editing.md, as it stands there: people who edit one document over networks that are cut.

The server is `tidings serve` from target/debug, or from the folder TIDINGS_TARGET, with the page's configuration; the client
is the built one of sdks/typescript. What is to be installed is in package.json beside this file.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import queue
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from network import Network

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TIDINGS = Path(os.environ.get("TIDINGS_TARGET", ROOT / "target/debug")) / "tidings"
PACKAGES = HERE / "node_modules"
KEPT = os.environ.get("TIDINGS_TEST_LOGS")
SECRET = "canary-bird of the shared document"
DOCUMENT = "report"
# What the page says the length of.
SHARED = ["document.ts", "cursors.ts"]
LINES_MAX = 90
WAIT_MAX_SECONDS = 60
CUTS = 8
PASTE_LETTERS = 400_000
# One of a kind each, so that it is seen which is missing or there twice.
FIRST_LETTER = 0x4E00


def code():
    """The files of the page, by their names."""
    page = (ROOT / "docs/collaborative-editing.md").read_text()
    return dict(re.findall(r"^```ts\n// (\w+\.ts)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


def configuration():
    page = (ROOT / "docs/collaborative-editing.md").read_text()
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return toml


def token(user):
    """A token of a member of the document's room."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"sub": user, "aud": "tidings", "exp": int(time.time()) + 3600, "rooms": [f"doc:{DOCUMENT}"]}
    signed = b".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256", "typ": "JWT"}, claims))
    return b".".join((signed, part(hmac.digest(SECRET.encode(), signed, hashlib.sha256)))).decode()


def letters(whose, count):
    return "".join(chr(FIRST_LETTER + whose * 1000 + at) for at in range(count))


def ordered(text):
    return "".join(sorted(text))


class Server:
    """A server that can be killed, and started again at its port: what it had in memory is gone then."""

    def __init__(self, folder):
        self.folder = folder
        self.port = 0
        self.limits = {}
        self.start()

    def start(self):
        env = {**os.environ, "TIDINGS_AUTH__SECRET": SECRET, "TIDINGS_LOG": "trace", "TIDINGS_LOG__FORMAT": "json"}
        env |= self.limits
        command = [TIDINGS, "serve", "--config", self.folder / "tidings.toml", "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        log = open(Path(KEPT) / f"server-editing-{os.getpid()}.log" if KEPT else os.devnull, "a")
        for line in self.process.stderr:
            log.write(line)
            if json.loads(line)["message"] == "listening":
                self.port = int(json.loads(line)["address"].rpartition(":")[2])
                break
        else:
            raise AssertionError("tidings serve did not say where it is; is it built?")
        self.logging = threading.Thread(target=self._log, args=(log,), daemon=True)
        self.logging.start()

    def _log(self, log):
        with log:
            log.writelines(self.process.stderr)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.logging.join()
        self.process.stderr.close()


class Editor:
    """Somebody who edits the document, over a network of his own."""

    def __init__(self, test, user, token_of=token):
        self.network = Network(test.server.port)
        env = {
            **os.environ,
            "URL": f"ws://127.0.0.1:{self.network.port}/ws",
            "TOKEN": token_of(user),
            "DOCUMENT": DOCUMENT,
            "STORED": str(test.stored),
        }
        command = ["node", "--import", "tsx", test.folder / "editor.ts"]
        self.process = subprocess.Popen(
            command, cwd=test.folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.told = queue.Queue()
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        pipes = self.process.stdin, self.process.stdout
        # The last one first.
        for cleanup in (
            self.network.close,
            *(pipe.close for pipe in pipes),
            reader.join,
            self.process.wait,
            self.process.kill,
        ):
            test.addCleanup(cleanup)

    def _read(self):
        for line in self.process.stdout:
            self.told.put(json.loads(line))
        self.told.put({"ended": True})

    def order(self, order, **what):
        print(json.dumps({"order": order, **what}), file=self.process.stdin, flush=True)

    def wait_for(self, key):
        """What is told under this name next; what is told before it under others is past."""
        while True:
            try:
                told = self.told.get(timeout=WAIT_MAX_SECONDS)
            except queue.Empty:
                raise AssertionError(f"waiting for {key}: nothing is told") from None
            if "failed" in told and key != "failed" or "ended" in told:
                raise AssertionError(f"waiting for {key}: {told}")
            if key in told:
                return told[key]

    def state(self):
        self.order("state")
        return self.wait_for("state")


# Whoever is not installed for the gate has failed.
IS_THERE = (shutil.which("node") and PACKAGES.is_dir()) or "TIDINGS_SDKS" in os.environ


@unittest.skipUnless(IS_THERE, "there is no Node here, or nothing is installed beside this file")
class CollaborativeEditing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "tidings.toml").write_text(configuration())
        for name, text in code().items():
            (cls.folder / name).write_text(text)
        for name in ("editor.ts", "package.json", "tsconfig.json"):
            shutil.copy(HERE / name, cls.folder)
        (cls.folder / "node_modules").symlink_to(PACKAGES)

    def setUp(self):
        # A server of its own for each: what one test has written is in no other's document.
        self.server = Server(self.folder)
        self.addCleanup(lambda: self.server.kill())
        self.stored = self.folder / "stored.json"
        self.stored.write_text("null")

    def editor(self, user):
        """Somebody who has the document open."""
        editor = Editor(self, user)
        editor.opened = editor.wait_for("open")
        return editor

    def same_text(self, editors, expected):
        """The text that all of them have in the end, which has exactly these letters."""
        for editor in editors:
            editor.order("until", letters=ordered(expected))
        texts = [editor.wait_for("text") for editor in editors]
        self.assertEqual(len(set(texts)), 1)
        return texts[0]

    def type_while(self, editors, count, happens=lambda at: None, pause_ms_max=40):
        """Each types so many letters, and `happens` is called after each; gives what stands in the end."""
        for whose, editor in enumerate(editors):
            editor.order("type", letters=letters(whose, count), pauseMsMax=pause_ms_max)
        expected = set("".join(letters(whose, count) for whose in range(len(editors))))
        for at in range(count):
            for editor in editors:
                editor.wait_for("typed")
            happens(at)
        for editor in editors:
            expected -= set(editor.wait_for("erased"))
        return "".join(expected)

    def test_it_is_as_short_as_it_is_said_to_be_and_its_types_fit(self):
        lines = [line for name in SHARED for line in code()[name].splitlines() if line.strip()]
        self.assertLessEqual(len(lines), LINES_MAX)
        checked = subprocess.run([PACKAGES / ".bin/tsc"], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(checked.stdout, "")

    def test_everybody_has_every_letter_although_connections_break_while_they_type(self):
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        count = 200
        editors = [self.editor(user) for user in ("ann", "bob", "cid")]
        # Each connection breaks at some of the letters, and is back some letters later.
        due = collections.defaultdict(list)
        for editor in editors:
            for tens in chance.sample(range(0, count, 10), CUTS):
                due[tens + chance.randrange(5)].append(editor.network.down)
                due[tens + 5 + chance.randrange(5)].append(editor.network.up)

        def happens(at):
            for change in due[at]:
                change()

        with self.subTest(seed=seed):
            expected = self.type_while(editors, count, happens)
            text = self.same_text(editors, expected)
            self.assertEqual([editor.state()["resets"] for editor in editors], [[]] * 3)
            # Who comes later has all of it from the room's history.
            self.assertEqual(self.same_text([self.editor("dan")], expected), text)

    def test_a_server_that_has_lost_its_memory_gets_the_document_again(self):
        editors = [self.editor(user) for user in ("ann", "bob")]

        def happens(at):
            if at == 30:
                self.server.kill()
            elif at == 60:
                self.server.start()

        expected = self.type_while(editors, 100, happens)
        text = self.same_text(editors, expected)
        self.assertEqual([editor.state()["resets"] for editor in editors], [["unknown_epoch"]] * 2)
        self.assertEqual(self.same_text([self.editor("cid")], expected), text)

    def test_who_types_fast_sends_ten_updates_a_second_at_most(self):
        ann = self.editor("ann")
        began = time.monotonic()
        expected = self.type_while([ann], 300, pause_ms_max=10)
        self.same_text([ann], expected)
        self.assertLessEqual(ann.state()["asked"], (time.monotonic() - began) * 10 + 1)

    def test_what_is_typed_in_a_long_time_offline_is_a_few_messages(self):
        ann, bob = self.editor("ann"), self.editor("bob")
        ann.network.down()
        ann.order("type", letters=letters(0, 1000), pauseMsMax=0)
        ann.wait_for("asked")
        typed = set(letters(0, 1000)) - set(ann.wait_for("erased"))
        self.assertEqual(ann.state()["asked"], 1)
        # What has no answer after two minutes is given up by the client, and asked again.
        for _ in range(3):
            ann.order("moveOn", ms=120_000)
            ann.wait_for("asked")
        ann.network.up()
        self.same_text([ann, bob], "".join(typed))
        self.assertLessEqual(bob.state()["updates"]["ann"], 3)

    def test_what_is_more_than_a_message_may_hold_goes_in_several(self):
        ann, bob = self.editor("ann"), self.editor("bob")
        ann.network.down()
        pages = [letter * PASTE_LETTERS for letter in "abcde"]
        for page in pages:
            ann.order("paste", text=page)
        ann.network.up()
        self.same_text([ann, bob], "".join(pages))
        self.assertEqual([editor.state()["client"] for editor in (ann, bob)], ["connected"] * 2)

    def test_a_single_change_that_is_too_large_is_told_and_closes_nothing(self):
        ann = self.editor("ann")
        ann.order("paste", text="a" * (1024 * 1024))
        self.assertIn("larger than a message may be", ann.wait_for("failed"))
        self.assertEqual(ann.state()["client"], "connected")

    def test_who_is_refused_is_told(self):
        stranger = Editor(self, "eve", token_of=lambda user: "none")
        self.assertEqual(stranger.wait_for("failed")["code"], "token_malformed")

    def test_who_opens_what_is_stored_gets_only_what_came_after(self):
        ann = self.editor("ann")
        ann.order("type", letters=letters(0, 50), pauseMsMax=0)
        erased = ann.wait_for("erased")
        bob = self.editor("bob")
        stored_text = self.same_text([ann, bob], set(letters(0, 50)) - set(erased))
        bob.order("store")
        self.stored.write_text(json.dumps(bob.wait_for("stored")))
        cid = self.editor("cid")
        self.assertEqual(cid.opened, stored_text)
        ann.order("paste", text="!")
        self.same_text([ann, cid], stored_text + "!")
        self.assertEqual(cid.state()["updates"], {"ann": 1})

    def test_who_opens_what_was_stored_before_a_server_lost_its_memory_gets_the_rest(self):
        ann = self.editor("ann")
        ann.order("paste", text="stored ")
        ann.order("store")
        self.stored.write_text(json.dumps(ann.wait_for("stored")))
        ann.order("paste", text="not stored")
        self.server.kill()
        self.server.start()
        bob = self.editor("bob")
        self.assertEqual(bob.opened, "stored ")
        self.assertEqual(self.same_text([ann, bob], "stored not stored"), "stored not stored")

    def test_who_was_away_for_longer_than_the_history_lasts_gets_the_rest_from_what_is_stored(self):
        self.server.kill()
        self.server.limits = {"TIDINGS_LIMITS__HISTORY_EVENTS_MAX": "4"}
        self.server.start()
        ann, bob, cid = (self.editor(user) for user in ("ann", "bob", "cid"))
        bob.network.down()
        bob.order("paste", text="b")
        for at in range(1, 10):
            ann.order("paste", text="a")
            self.same_text([ann, cid], "a" * at)
        ann.order("store")
        self.stored.write_text(json.dumps(ann.wait_for("stored")))
        bob.order("hold")
        bob.network.up()
        self.assertEqual(bob.wait_for("reset"), "expired")
        # He does not give out what he has as if it were whole.
        bob.order("store")
        self.assertIsNone(bob.wait_for("stored"))
        bob.order("release")
        self.same_text([ann, bob, cid], "a" * 9 + "b")
        bob.order("store")
        self.assertIsNotNone(bob.wait_for("stored"))

    def test_cursors_are_seen_by_the_others(self):
        ann, bob = self.editor("ann"), self.editor("bob")
        for at in (3, 7):
            ann.order("point", at=at)
            bob.order("see", at=at)
            self.assertEqual(bob.wait_for("seen"), at)


if __name__ == "__main__":
    unittest.main()
