"""Pack what a fit check needs of results/ into fitcheck/records/data/results.json, which installations carry.

Run after results/ changed: `python scripts/pack_results.py`. A test holds the two equal.
"""

from __future__ import annotations

import json
from pathlib import Path

from fitcheck.records import evidence, store

REPOSITORY = Path(__file__).parents[1]


def packed(root: Path) -> bytes:
    """The index of every record below ``root``."""
    return evidence.pack(evidence.build(json.loads(path.read_bytes()) for path in store.record_files(root)))


def main() -> None:
    evidence.INDEX.parent.mkdir(exist_ok=True)
    evidence.INDEX.write_bytes(packed(REPOSITORY / "results"))
    print(f"{evidence.INDEX}: {evidence.INDEX.stat().st_size} bytes")


if __name__ == "__main__":
    main()
