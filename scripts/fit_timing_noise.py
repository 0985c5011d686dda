"""Fit ``fitcheck/records/data/timing_noise.json`` on the records in results/: how much equal runs differ.

    python scripts/fit_timing_noise.py

Pooled within the states of each series (same ask, versions and conditions); flagged records are left out. No record is
known by name: what counts is that it was repeated.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from pathlib import Path

from fitcheck.records.regressions.intake import read_records
from fitcheck.records.regressions.noise import DATA, Squares
from fitcheck.records.regressions.tracked_runs import run_of

ROOT = Path(__file__).parents[1]


def main() -> int:
    taken = read_records([ROOT / "results"], now=time.time())
    repeats = defaultdict(list)
    for run in map(run_of, taken.records):
        for found in run.measured.values():
            if not found.metric.exact:
                repeats[run.series, run.state, found.metric].append((run.id, found.values))
    units: dict[str, Squares] = defaultdict(Squares)
    fitted_on: dict[str, set[str]] = defaultdict(set)
    for (_, _, metric), rows in repeats.items():
        if metric.name in ("seconds", "joules", "rss"):  # one metric a unit: steps are the same seconds again
            units[metric.unit].add([values for _, values in rows])
            if len(rows) > 1:
                fitted_on[metric.unit] |= {name[:12] for name, _ in rows}
    document = {
        "note": "Standard deviations of logarithms, pooled over states of one series, with their degrees of freedom. "
        "run: medians of runs around their state's mean; value: timed passes around their run's. factor: mean variance "
        "of a run's median in units of a pass's. Unit bytes is the host's resident memory.",
        "script": "scripts/fit_timing_noise.py",
        "units": {
            unit: {
                "run_sd": round(math.sqrt(found.runs / found.runs_df), 6),
                "run_df": found.runs_df,
                # a metric with one value a run scatters from run to run only
                "value_sd": round(math.sqrt(found.values / found.values_df), 6) if found.values_df else 0.0,
                "value_df": found.values_df,
                "factor": round(found.factor, 4),
                "repeated_records": sorted(fitted_on[unit]),
            }
            for unit, found in sorted(units.items())
            if found.runs_df
        },
    }
    DATA.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(DATA)
    return 0


if __name__ == "__main__":
    sys.exit(main())
