"""How far replays of the caching allocator are off on published rows and on the pass records under ``results/``.

Nothing is fitted: predicted reserved bytes come from ``fitcheck.runtimes.sensenova.replay``. What they were off
widens the interval of every estimate, so all rows go into ``fitcheck/memory/data/allocator.json``; its other blocks
(context, launch queue, error of allocated) stay as they are. Rows under a cap are left out: there the allocator gives
cache back; so are rows on which another of its blocks was fitted.

Run: python scripts/allocator_residuals.py   (needs the extra ``results``)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from fitcheck.runtimes.sensenova.reserved import residual
from fitcheck.runtimes.sensenova.streaming import UPSTREAM
from fitcheck.verdict.accuracy import AccuracyRow, Part, published_rows, recorded_rows

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "fitcheck/memory/data/allocator.json"


def measured() -> Iterator[AccuracyRow]:
    """Reserved bytes of published rows, then of records without a cap, the repeats of a cell as one."""
    for row in published_rows() + recorded_rows(ROOT / "results"):
        if row.quantity == "reserved" and row.part == Part.BLIND and row.runtime == UPSTREAM:
            yield row


def main() -> None:
    rows = list(measured())
    data = json.loads(TARGET.read_text("utf-8"))
    data["residuals"] = {
        "constant": data["residuals"]["constant"],
        "meaning": "how far measured reserved bytes lie from replayed ones; what it says of a cell is worked out from"
        " the rows of the same program, upstream's or the bench's; the constant in bytes covers temporaries of the"
        " small pool and workspaces of libraries, which no replay sees",
        "made_by": "scripts/allocator_residuals.py",
        "rows": [
            {
                "row": row.cell,
                "bench": row.origin == "record",
                "reserved_gib": round(row.published, 3),
                "replayed_gib": round(row.predicted, 3),
                "off": round(row.error, 4),
            }
            for row in rows
        ],
    }
    TARGET.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    errors = [abs(row.error) for row in rows]
    print(f"{len(rows)} rows; reserved: median error {median(errors):.2%}, worst {max(errors):.2%}")
    for bench in (False, True):
        print("the bench's own:" if bench else "upstream's programs:", f"{residual(bench=bench):.2%}")


if __name__ == "__main__":
    main()
