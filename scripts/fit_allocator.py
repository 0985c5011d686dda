"""Fits the caching allocator's slack on published rows and on the pass records under ``results/``.

Non-negative least squares on ``reserved - allocated`` with the regressors of ``fitcheck.memory.allocator``, weighted so
that relative errors of reserved count. Writes coefficients, rows, residuals to ``fitcheck/memory/data/allocator.json``
and leaves its hand-entered blocks (context, launch queue, unrecoverable share, error of allocated) as they are.

Rows of prefetching modes whose host could not keep its card busy are left out: their launch queue never filled, which
no card slower than an H100 shows.

Run: python scripts/fit_allocator.py   (needs the extra ``results``)
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from fitcheck.memory import allocator
from fitcheck.memory.estimate import cache_shape
from fitcheck.memory.sensenova import lay_out
from fitcheck.memory.weights import weights_of
from fitcheck.speed.sensenova import waits_for_host
from fitcheck.units import GIB
from fitcheck.verdict.accuracy import published_cells, recorded_cells

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "fitcheck/memory/data/allocator.json"


def main() -> None:
    names, regressors, slacks, reserved, left_out = [], [], [], [], []
    for cell in (*published_cells(), *recorded_cells(ROOT / "results")):
        if cell.reserved is None or cell.allocated is None or cell.capped:
            continue
        weights, placement = weights_of(cell.tier.tensors), cell.placement
        caches = placement.prefetch and placement.policy == "upstream"
        bench = cell.origin == "record"
        if (
            bench
            and caches
            and waits_for_host(cell.architecture, cell.tier.tensors, cell.workload, placement, cell.card)
        ):
            left_out.append(f"{cell.origin}: {cell.name}")
            continue
        laid_out, kept = lay_out(cell.architecture, weights, cell.workload, placement, cell.device)
        warm = cell.device.warm
        shape = cache_shape(cell.architecture, weights, cell.workload, placement, laid_out, warm=warm, kept=kept)
        names.append(f"{cell.origin}: {cell.name}")
        regressors.append(allocator.features(placement, shape))
        slacks.append(cell.reserved - cell.allocated)
        reserved.append(cell.reserved)
    matrix, target, total = (np.array(values, float) for values in (regressors, slacks, reserved))
    coefficients, _ = nnls(matrix / total[:, None], target / total)
    fitted = matrix @ coefficients
    ratios = target / fitted
    data = json.loads(TARGET.read_text("utf-8"))
    data["version"] = 3
    data["made_by"] = "scripts/fit_allocator.py"
    data["coefficients"] = dict(zip(allocator.FEATURES, np.round(coefficients, 4).tolist(), strict=True))
    data["spread"] = {
        "low": round(float(np.quantile(ratios, 0.05)), 3),
        "high": round(float(np.quantile(ratios, 0.95)), 3),
        "constant": 134217728,
        "meaning": "5th and 95th percentile of measured over fitted slack; constant in bytes covers what is small",
    }
    data["rows"] = [
        {
            "row": name,
            "slack_gib": round(float(measured / GIB), 3),
            "fitted_gib": round(float(expected / GIB), 3),
            "error_of_reserved": round(float((expected - measured) / whole), 4),
        }
        for name, measured, expected, whole in zip(names, target, fitted, total, strict=True)
    ]
    data["left_out"] = {"why": "the host was slower than the card, so the launch queue never filled", "rows": left_out}
    TARGET.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    errors = np.abs((fitted - target) / total)
    print(f"{len(names)} rows; reserved: median error {np.median(errors):.2%}, worst {errors.max():.2%}")
    print(data["coefficients"], data["spread"])


if __name__ == "__main__":
    main()
