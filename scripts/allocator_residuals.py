"""How far replays of the caching allocator are off on published rows and on the pass records under ``results/``.

Nothing is fitted: predicted reserved bytes come from ``fitcheck.runtimes.sensenova.replay``. What they were off
widens the interval of every estimate, so its 97.5th percentile and all rows go into
``fitcheck/memory/data/allocator.json``; its other blocks (context, launch queue, error of allocated) stay as they
are. Rows under a cap are left out: there the allocator gives cache back; so are rows on which another of its blocks
was fitted.

Run: python scripts/allocator_residuals.py   (needs the extra ``results``)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

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
    share = quantiles([abs(row.published / row.predicted - 1) for row in rows], n=40, method="inclusive")[-1]
    data = json.loads(TARGET.read_text("utf-8"))
    data["residuals"] = {
        "share": round(share, 4),
        "constant": data["residuals"]["constant"],
        "meaning": "97.5th percentile of how far measured reserved bytes lie from replayed ones, as a share of these,"
        " to either side; the constant in bytes covers temporaries of the small pool and workspaces of libraries, which"
        " no replay sees",
        "made_by": "scripts/allocator_residuals.py",
        "rows": [
            {
                "row": row.cell,
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
    print("share:", data["residuals"]["share"])


if __name__ == "__main__":
    main()
