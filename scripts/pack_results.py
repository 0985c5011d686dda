"""Pack what a fit check needs of results/ into fitcheck/records/data/results.json, which installations carry.

Run after results/ changed: `python scripts/pack_results.py`. A test holds the two equal.
"""

from __future__ import annotations

from pathlib import Path

from fitcheck.records import evidence, store
from fitcheck.records.validate import publishable

REPOSITORY = Path(__file__).parents[1]


def packed(root: Path) -> bytes:
    """The index of every record below ``root`` that may be published."""
    return evidence.pack(evidence.build(store.document_of(record) for record in publishable(root)))


def main() -> None:
    evidence.INDEX.parent.mkdir(exist_ok=True)
    evidence.INDEX.write_bytes(packed(REPOSITORY / "results"))
    print(f"{evidence.INDEX}: {evidence.INDEX.stat().st_size} bytes")


if __name__ == "__main__":
    main()
