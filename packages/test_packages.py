"""Each package is made, installed from its file alone, without a network, and runs.

TIDINGS_BIN is the binary that they are made of; TIDINGS_PACKAGES is where they are left, a temporary folder if it is unset.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
# `canary-bird of the packages, 32 b`, in the form of the secret of `tidings dev`.
DEV_SECRET = b"canary-bird of the packages, 32b".hex()
FILES = {
    "archive": r"tidings-[\d.]+-\w+-linux-(gnu|static)\.tar\.gz",
    "deb": r"tidings_[\d.]+_\w+\.deb",
    "npm": r"tidings-server-[\d.]+\.tgz",
    "wheel": r"tidings_server-[\d.]+-py3-none-manylinux_\d+_\d+_\w+(\.musllinux_\d+_\d+_\w+)?\.whl",
}


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """What a command prints; it ends within ten minutes, and well."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=600
    )
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Packages(unittest.TestCase):
    """Made once, of a copy without what is for debuggers."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        binary = cls.folder / "tidings"
        shutil.copy(os.environ["TIDINGS_BIN"], binary)
        run("strip", binary)
        cls.is_static = "INTERP" not in run("readelf", "--program-headers", binary)
        cls.version = run(binary, "--version").split()[1]
        made = Path(os.environ.get("TIDINGS_PACKAGES", cls.folder / "packages"))
        paths = [Path(line) for line in run(HERE / "pack", binary, made).splitlines()]
        cls.packages = dict(zip(FILES, paths))

    def setUp(self) -> None:
        self.home = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def assert_works(self, program: Path) -> None:
        """It is ours, carries its documents, and serves."""
        self.assertEqual(run(program, "--version"), f"tidings {self.version}\n")
        self.assertIn("/v1/rooms/{room}/events", run(program, "docs", "http-api"))
        (self.home / "dev-secret").write_text(DEV_SECRET)
        server = subprocess.Popen(
            [program, "dev", "--listen", "127.0.0.1:0"],
            env={**os.environ, "TIDINGS_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            page = next(line.split()[1] for line in server.stdout if line.startswith("  page "))
            with urllib.request.urlopen(f"{page}health/ready", timeout=20) as answer:
                self.assertEqual(answer.status, 200)
            server.terminate()
            server.stdout.read()
            self.assertEqual(server.wait(timeout=20), 0)
        finally:
            server.kill()
            server.wait()
            server.stdout.close()

    def test_names_say_what_is_in_them(self) -> None:
        for kind, path in self.packages.items():
            self.assertRegex(path.name, f"^{FILES[kind]}$")
            self.assertIn(self.version, path.name)

    def test_the_archive_has_its_layout_and_runs_where_it_lies(self) -> None:
        with tarfile.open(self.packages["archive"]) as archive:
            names = {name.removeprefix(f"tidings-{self.version}/") for name in archive.getnames()}
            archive.extractall(self.home, filter="data")
        laid_out = {
            "bin/tidings",
            "lib/systemd/system/tidings.service",
            "share/bash-completion/completions/tidings",
            "share/doc/tidings/README.md",
            "share/doc/tidings/copyright",
            "share/doc/tidings/docs/http-api.md",
            "share/doc/tidings/tidings.schema.json",
            "share/fish/vendor_completions.d/tidings.fish",
            "share/man/man1/tidings.1.gz",
            "share/tidings/tidings.toml",
            "share/zsh/vendor-completions/_tidings",
        }
        self.assertLessEqual(laid_out, names)
        self.assertEqual({name.split("/")[0] for name in names}, {"bin", "lib", "share"})
        self.assert_works(self.home / f"tidings-{self.version}/bin/tidings")

    def test_a_static_program_needs_nothing_beside_itself(self) -> None:
        if not self.is_static:
            self.skipTest("this binary is not static")
        with tarfile.open(self.packages["archive"]) as archive:
            archive.extractall(self.home, filter="data")
        # A root in which there is nothing else, as in a container that is made of it alone.
        root = self.home / f"tidings-{self.version}"
        alone = run("unshare", "--map-root-user", f"--root={root}", "/bin/tidings", "docs", "http-api")
        self.assertIn("/v1/rooms/{room}/events", alone)

    def test_the_deb_is_installed_by_dpkg(self) -> None:
        package, root = self.packages["deb"], self.home / "root"
        for folder in ("info", "updates", "triggers"):
            (root / "var/lib/dpkg" / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        # The C library that it depends on is this machine's, of which an empty root knows nothing.
        options = [f"--root={root}", "--force-depends", "--force-not-root", "--log=/dev/null"]
        run("dpkg", *options, "--install", package)
        self.assertIn("ii  tidings", run("dpkg", f"--root={root}", "--list", "tidings"))
        depends = r"^$" if self.is_static else r"^libc6 \(>= 2\.\d+\), libgcc-s1$"
        self.assertRegex(run("dpkg-deb", "--field", package, "Depends"), depends)
        unit = (root / "usr/lib/systemd/system/tidings.service").read_text()
        self.assertIn("ExecStart=/usr/bin/tidings serve --config /etc/tidings/tidings.toml", unit)
        (root / "etc/tidings/tidings.secret").write_text("canary-bird of the package, and 32 bytes\n")
        run(root / "usr/bin/tidings", "config", "check", "--config", root / "etc/tidings/tidings.toml")
        self.assert_works(root / "usr/bin/tidings")

        # What somebody has changed stays his, over an upgrade and a removal.
        configuration = root / "etc/tidings/tidings.toml"
        configuration.write_text(configuration.read_text() + "# ours\n")
        run("dpkg", *options, "--force-confold", "--install", package)
        run("dpkg", *options, "--remove", "tidings")
        self.assertTrue(configuration.read_text().endswith("# ours\n"))
        self.assertFalse((root / "usr/bin/tidings").exists())

    def test_npm_installs_the_program(self) -> None:
        (self.home / "package.json").write_text("{}")
        # A cache of its own: nothing can come from elsewhere.
        npm = {"npm_config_cache": str(self.home / "cache"), "npm_config_offline": "true"}
        run("npm", "install", "--no-audit", "--no-fund", self.packages["npm"], cwd=self.home, **npm)
        self.assertEqual(
            run("npx", "--no-install", "tidings", "--version", cwd=self.home, **npm), f"tidings {self.version}\n"
        )
        told = json.loads((self.home / "node_modules/tidings-server/package.json").read_text())
        self.assertEqual((told["version"], told["os"]), (self.version, ["linux"]))
        self.assertEqual(told.get("libc"), None if self.is_static else ["glibc"])
        self.assertNotIn("scripts", told)
        self.assert_works(self.home / "node_modules/.bin/tidings")

    def test_pip_installs_the_program(self) -> None:
        run(sys.executable, "-m", "venv", self.home / "venv")
        scripts = self.home / "venv/bin"
        run(scripts / "pip", "install", "--no-index", self.packages["wheel"])
        self.assertEqual(run("tidings", "--version", PATH=f"{scripts}:/usr/bin:/bin"), f"tidings {self.version}\n")
        self.assertIn(f"Version: {self.version}", run(scripts / "pip", "show", "tidings-server"))
        self.assert_works(scripts / "tidings")
        run(scripts / "pip", "uninstall", "--yes", "tidings-server")
        self.assertFalse((scripts / "tidings").exists())

    def test_the_same_binary_makes_the_same_packages(self) -> None:
        again = self.home / "again"
        for line in run(HERE / "pack", self.folder / "tidings", again, "archive", "npm").splitlines():
            kind = next(kind for kind, path in self.packages.items() if path.name == Path(line).name)
            self.assertEqual(Path(line).read_bytes(), self.packages[kind].read_bytes(), kind)

    def test_what_is_no_program_for_linux_is_refused(self) -> None:
        (self.home / "text").write_text("no program")
        refused = subprocess.run(
            [HERE / "pack", self.home / "text", self.home / "made"], capture_output=True, text=True, timeout=60
        )
        self.assertNotEqual(refused.returncode, 0)
        self.assertIsNone(re.search("Traceback", refused.stderr), refused.stderr)
        self.assertIn("no ELF binary", refused.stderr)


if __name__ == "__main__":
    unittest.main()
