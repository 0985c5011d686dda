"""The command that fetches a tier's files, the same for every runtime."""

from __future__ import annotations

import shlex

from fitcheck.models.model import Tier

FOLDER = "models"


def download(tier: Tier) -> tuple[str, ...]:
    """How to get a tier's files; empty when they are here already or nobody publishes them."""
    if tier.local_path is not None or tier.repository is None:
        return ()
    if tier.file is None:
        return (f"hf download {shlex.quote(tier.repository)}",)
    return (f"hf download {shlex.quote(tier.repository)} {shlex.quote(tier.file)} --local-dir {FOLDER}",)
