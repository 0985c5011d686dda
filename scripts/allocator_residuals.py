"""How far replays of the caching allocator are off on published rows and on the pass records under ``results/``.

Nothing is fitted: predicted reserved bytes come from ``fitcheck.runtimes.sensenova.replay``. What they were off
widens the interval of every estimate, so the 2.5th and 97.5th percentile and all rows go into
``fitcheck/memory/data/allocator.json``; its other blocks (context, launch queue, error of allocated) stay as they
are. Rows under a cap are left out: there the allocator gives cache back.

Run: python scripts/allocator_residuals.py   (needs the extra ``results``)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from fitcheck.records.evidence import build
from fitcheck.records.store import record_files
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Runtime
from fitcheck.runtimes.sensenova.streaming import UPSTREAM
from fitcheck.units import GIB

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "fitcheck/memory/data/allocator.json"


def measured(runtime: Runtime) -> Iterator[tuple[str, Ask, int]]:
    """Name, ask and reserved bytes of every published row, then of every record that ended well without a cap."""
    for one in runtime.published():
        if one.reserved is not None:
            yield f"published: {one.name}", one.ask, one.reserved
    index = build(json.loads(path.read_bytes()) for path in record_files(ROOT / "results"))
    for run in index.rows:
        ask = runtime.ask_of(run) if run.cell.runtime == runtime.name else None
        if run.outcome == "ok" and run.cap is None and run.reserved is not None and ask is not None:
            yield f"record: {_name(ask)}", ask, run.reserved


def _name(ask: Ask) -> str:
    work, mode = ask.workload, ask.placement.mode + ("/ring" if ask.placement.get("policy") == "ring" else "")
    parts = (ask.model.name.removeprefix("SenseNova-"), ask.tier.name, ask.placement.revision, str(work.task))
    return " ".join((*parts, f"{work.width}x{work.height} cfg {work.cfg:g}", mode))


def main() -> None:
    rows = []
    runtime = registry.get(UPSTREAM)
    for name, ask, reserved in measured(runtime):
        rows.append((name, reserved, runtime.footprint(ask).cards[ask.gpu].reserved.best))
    ratios = [measured / predicted - 1 for _, measured, predicted in rows]
    cuts = quantiles(ratios, n=40, method="inclusive")
    data = json.loads(TARGET.read_text("utf-8"))
    data["residuals"] = {
        "low": round(cuts[0], 4),
        "high": round(cuts[-1], 4),
        "constant": data["residuals"]["constant"],
        "meaning": "2.5th and 97.5th percentile of measured over replayed reserved bytes, less 1; the constant in bytes"
        " covers temporaries of the small pool and workspaces of libraries, which no replay sees",
        "made_by": "scripts/allocator_residuals.py",
        "rows": [
            {
                "row": name,
                "reserved_gib": round(measured / GIB, 3),
                "replayed_gib": round(predicted / GIB, 3),
                "off": round(predicted / measured - 1, 4),
            }
            for name, measured, predicted in rows
        ],
    }
    TARGET.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    errors = [abs(predicted / measured - 1) for _, measured, predicted in rows]
    print(f"{len(rows)} rows; reserved: median error {median(errors):.2%}, worst {max(errors):.2%}")
    print({name: data["residuals"][name] for name in ("low", "high")})


if __name__ == "__main__":
    main()
