"""Pack what a fit check needs of results/ into fitcheck/records/data/results.json, which installations carry.

Run after results/ changed: `python scripts/pack_results.py`. A test holds the two equal.
"""

from __future__ import annotations

from pathlib import Path

from fitcheck.records import run_index, store
from fitcheck.records.validate import publishable

REPOSITORY = Path(__file__).parents[1]


def packed(root: Path) -> bytes:
    """The index of every record below ``root`` that may be published."""
    return run_index.pack(run_index.build(store.document_of(record) for record in publishable(root)))


def main() -> None:
    run_index.INDEX.parent.mkdir(exist_ok=True)
    run_index.INDEX.write_bytes(packed(REPOSITORY / "results"))
    print(f"{run_index.INDEX}: {run_index.INDEX.stat().st_size} bytes")


if __name__ == "__main__":
    main()
