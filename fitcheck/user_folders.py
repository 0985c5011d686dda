"""Where fitcheck keeps what it can do without."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CACHE = "FITCHECK_CACHE"


def cache_root(environment: Mapping[str, str] | None = None) -> Path:
    """``$FITCHECK_CACHE`` or the platform's cache folder."""
    if root := (os.environ if environment is None else environment).get(CACHE):
        return Path(root)
    import platformdirs

    return platformdirs.user_cache_path("fitcheck")
