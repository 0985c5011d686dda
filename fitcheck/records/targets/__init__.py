"""Where records are sent: a folder, a git repository, a dataset on a hub. Only ``Payload``s are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class Payload:
    """One file: ``path`` below ``results/`` with forward slashes, and its exact bytes."""

    path: str
    content: bytes

    @property
    def git_blob(self) -> str:
        """The id that git gives this content (sha1 object format)."""
        header = b"blob %d\0" % len(self.content)
        return hashlib.sha1(header + self.content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Receipt:
    """``place`` is where it went (a folder, branch or address), ``sent`` the paths that were new there, ``kept`` those
    that it already had. ``next_step`` says what is left for a person to do."""

    place: str
    sent: tuple[str, ...]
    kept: tuple[str, ...]
    next_step: str = ""


def batch_name(payloads: Sequence[Payload]) -> str:
    """12 hex digits that name a set of files: the same set has the same name, in any order."""
    paths = sorted(payload.path for payload in payloads)
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()[:12]


def batch_title(payloads: Sequence[Payload]) -> str:
    """The title of the commit or pull request that adds them."""
    records = sum(payload.path.endswith(".json") for payload in payloads)
    return f"Add {records} result{'s' if records != 1 else ''} ({batch_name(payloads)})"
