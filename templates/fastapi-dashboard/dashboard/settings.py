"""Where everything is: from the environment, as `.env.example` has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

DATABASE = os.environ.get("DATABASE", "dashboard.db")
TIDINGS_URL = os.environ.get("TIDINGS_URL", "http://127.0.0.1:7777")
REDIS_URL: Optional[str] = os.environ.get("REDIS_URL") or None
INTERVAL_S = float(os.environ.get("INTERVAL_S", "1"))
"""From one sample of everything to the next."""


def secret() -> str:
    """The one that Tidings has too. Read when it is needed, and kept by nobody else."""
    return Path(os.environ.get("TIDINGS_SECRET_FILE", "tidings.secret")).read_text(encoding="utf-8").strip()
