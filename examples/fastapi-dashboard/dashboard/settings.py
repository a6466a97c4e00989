"""Where Tidings is, and the secret that its tokens are signed with: the same for every worker, and for the pump."""

from __future__ import annotations

import os
from pathlib import Path

TIDINGS_URL = os.environ.get("TIDINGS_URL", "http://127.0.0.1:7777")


def secret() -> str:
    """Read when it is needed, and kept by nobody else."""
    return Path(os.environ.get("TIDINGS_SECRET_FILE", "tidings.secret")).read_text(encoding="utf-8")
