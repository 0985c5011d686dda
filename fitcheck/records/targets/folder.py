"""Submitting to a folder: a shared drive, a stick, or a clone that its owner handles by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fitcheck.records.store import write_bytes
from fitcheck.records.targets import Payload, Receipt


def submit(payloads: Sequence[Payload], root: Path) -> Receipt:
    """Write each file below ``root``. Raises InputError when one is there with other content."""
    kept = tuple(payload.path for payload in payloads if (root / payload.path).exists())
    for payload in payloads:
        write_bytes(root, Path(payload.path), payload.content)
    sent = tuple(payload.path for payload in payloads if payload.path not in kept)
    return Receipt(str(root), sent, kept)
