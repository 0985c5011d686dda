"""Where a user's own measurements are kept. Apart from the store, so that looking does not load the schema."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "FITCHECK_RECORDS"


def local_root() -> Path:
    """``$FITCHECK_RECORDS`` or the platform's data folder."""
    if root := os.environ.get(ENVIRONMENT):
        return Path(root)
    import platformdirs

    return Path(platformdirs.user_data_dir("fitcheck", appauthor=False)) / "records"
