"""The SDKs of this repository, packed as they would be published."""

import shutil
import subprocess
import sys

from place import ROOT


def pack(folder):
    """Each as a file in the folder, for `--sdk-from`."""
    for sdk in ("typescript", "node-server"):
        subprocess.run(["npm", "pack", "--silent", "--pack-destination", folder], cwd=ROOT / "sdks" / sdk, check=True)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, "sdks/python"]
    subprocess.run(wheel, cwd=ROOT, check=True)
    crates = ["cargo", "package", "--quiet", "--no-verify", "--allow-dirty", "-p", "tidings-protocol", "-p", "tidings"]
    target = folder / "packaged"
    subprocess.run([*crates, "--target-dir", target], cwd=ROOT, check=True)
    for crate in (target / "package").glob("*.crate"):
        shutil.copy(crate, folder)
