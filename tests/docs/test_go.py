"""The program of docs/go.md, as it stands there: built, and run against a server over a network that is cut.

The server is `tidings dev` from target/debug, or from the folder TIDINGS_TARGET.
"""

import os
import re
import shutil
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from network import Network

ROOT = Path(__file__).resolve().parents[2]
TIDINGS = Path(os.environ.get("TIDINGS_TARGET", ROOT / "target/debug")) / "tidings"
# Debian's packages are sources in this folder, for builds without modules and without a network.
GOPATH = Path("/usr/share/gocode")
KEPT = os.environ.get("TIDINGS_TEST_LOGS")
DEV_SECRET = b"canary-bird of the how-to in Go!".hex()
LINES_MAX = 60
WAIT_MAX_SECONDS = 60


def program():
    """The code of the page."""
    page = (ROOT / "docs/go.md").read_text()
    (code,) = re.findall(r"^```go\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return code


HAS_GO = shutil.which("go") and (GOPATH / "src/github.com/gorilla/websocket").is_dir()


@unittest.skipUnless(HAS_GO, "there is no Go here, or no gorilla/websocket")
class Go(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "main.go").write_text(program())
        env = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", cls.folder / "chat", cls.folder / "main.go"], env=env, check=True)
        (cls.folder / "dev-secret").write_text(DEV_SECRET)
        cls.env = {**os.environ, "TIDINGS_HOME": str(cls.folder), "TIDINGS_LOG": "trace"}
        log = open(Path(KEPT) / f"server-go-{os.getpid()}.log", "ab") if KEPT else subprocess.DEVNULL
        server = subprocess.Popen(
            [TIDINGS, "dev", "--listen", "127.0.0.1:0"], env=cls.env, stdout=subprocess.PIPE, stderr=log, text=True
        )
        cls.addClassCleanup(server.stdout.close)
        cls.addClassCleanup(server.wait)
        cls.addClassCleanup(server.kill)
        for line in server.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                cls.port = int(found[1])
                return
        raise AssertionError("tidings dev did not say where it is; is it built?")

    def chat(self, user, port):
        """The program, for this user."""
        ask = [TIDINGS, "token", "--user", user]
        token = subprocess.run(ask, env=self.env, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        env = {**os.environ, "URL": f"ws://127.0.0.1:{port}/ws", "TOKEN": token}
        process = subprocess.Popen([self.folder / "chat"], env=env, stdout=subprocess.PIPE, text=True)
        deadline = threading.Timer(WAIT_MAX_SECONDS, process.kill)
        deadline.start()
        for cleanup in (process.stdout.close, process.wait, process.kill, deadline.cancel):
            self.addCleanup(cleanup)
        return process

    def test_it_is_as_short_as_it_is_said_to_be_and_formatted(self):
        self.assertLessEqual(len([line for line in program().splitlines() if line.strip()]), LINES_MAX)
        unformatted = subprocess.run(["gofmt", "-l", self.folder / "main.go"], capture_output=True, text=True, check=True)
        self.assertEqual(unformatted.stdout, "")

    def test_it_misses_and_doubles_nothing_when_its_connection_breaks(self):
        network = Network(self.port)
        self.addCleanup(network.close)
        ann = self.chat("ann", network.port)
        self.assertEqual(ann.stdout.readline(), "ann: Hello\n")
        network.down()
        bob = self.chat("bob", self.port)
        heard = [bob.stdout.readline(), bob.stdout.readline()]
        self.assertEqual(heard, ["ann: Hello\n", "bob: Hello\n"])
        network.up()
        self.assertEqual(ann.stdout.readline(), "bob: Hello\n")
        network.down()
        cid = self.chat("cid", self.port)
        heard = [cid.stdout.readline() for _ in range(3)]
        # Each once, though ann's was still without an ack, or not, when her connection broke.
        self.assertEqual(heard, ["ann: Hello\n", "bob: Hello\n", "cid: Hello\n"])
        network.up()
        self.assertEqual([ann.stdout.readline(), bob.stdout.readline()], ["cid: Hello\n"] * 2)

    def test_a_refusal_ends_it_and_says_why(self):
        env = {**os.environ, "URL": f"ws://127.0.0.1:{self.port}/ws", "TOKEN": "none"}
        ended = subprocess.run([self.folder / "chat"], env=env, capture_output=True, text=True, timeout=WAIT_MAX_SECONDS)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("refused: 401", ended.stderr)


if __name__ == "__main__":
    unittest.main()
