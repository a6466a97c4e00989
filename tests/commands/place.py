"""Where a document's commands are run: a folder of its own, and servers at free ports that end with it."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "tests" / "commands" / "node_modules" / ".bin"
WAIT_S = 60


def blocks(readme):
    """The console blocks, as lists of lines."""
    return [block.splitlines() for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL)]


def commands(block):
    """Each command, with those of its lines that a backslash joins, and what it says is printed or typed."""
    found = []
    for line in block:
        if line.startswith("$ "):
            found.append((re.split(r"\s+# ", line[2:])[0].rstrip(), []))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0][:-1].rstrip()} {line.strip()}", [])
        elif found:
            found[-1][1].append(line)
    return found


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, is_so):
    until = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until, f"{what} is not so after {WAIT_S} s"
        time.sleep(0.02)


def is_answered(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200
    return False


class Place:
    """An empty folder that is a user's home, with `tidings`, and what package.json names, in the PATH."""

    def __init__(self, tidings, folder):
        self.folder = folder
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}"
        self.binaries = folder / "bin"
        self.binaries.mkdir()
        (self.binaries / "tidings").symlink_to(tidings)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TIDINGS")},
            "PATH": f"{self.binaries}:{INSTALLED}:{os.environ['PATH']}",
            "HOME": str(folder),
        }

    def here(self, command):
        return command.replace("127.0.0.1:7777", f"127.0.0.1:{self.port}")

    def run(self, command, timeout=WAIT_S):
        """Ends well, and what it has printed."""
        print(f"$ {self.here(command)}", flush=True)
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", self.here(command)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert ran.returncode == 0, f"{command}: {ran.returncode}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    @contextlib.contextmanager
    def started_with(self, command, **environment):
        """Runs beside what is done within; what it prints is read line by line."""
        print(f"$ {self.here(command)} &", flush=True)
        process = subprocess.Popen(
            ["bash", "-c", self.here(command)],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running = Running(process)
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            running.ended()


class Running:
    def __init__(self, process):
        self.process = process
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def ended(self):
        self.process.wait(timeout=WAIT_S)
        self.reader.join(timeout=WAIT_S)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    def type(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def has(self, count):
        wait_for(f"{count} lines of output, which are {self.lines}", lambda: len(self.lines) >= count)
        return self.lines
