"""Digests by which a build knows what has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable


def digest(parts: Iterable[bytes | str]) -> str:
    """96 bits of sha256 over the parts with their lengths, so that no two lists of parts are alike."""
    hashed = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        hashed.update(f"{len(raw)}:".encode())
        hashed.update(raw)
    return hashed.hexdigest()[:24]


def digest_json(value: object) -> str:
    """The ``digest`` of a JSON value, the same whatever the order of its keys."""
    return digest([json.dumps(value, sort_keys=True, separators=(",", ":"))])
