"""What the meters cost: the same cell with and without them, in turns, on this machine.

    python benchmarks/metering_overhead.py [--tier Q4_K_S] [--mode balanced] [--pairs 2] [--tiny --device cpu]

Prints one JSON object. The bar is an overhead of at most 1 % of the pass on a GPU. Runs take turns (with, without,
without, with…), so that a card that warms up during the measurement does not count for one side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace

from rich.console import Console

from bench.job import Request
from bench.jobs import jobs_of, label
from bench.runner import MeasuringProtocol, run_cell
from bench.suite import bench_card
from fitcheck.errors import InputError


def measure(request: Request, pairs: int, repeats: int) -> dict[str, object]:
    """Medians of all passes with meters and without, and the overhead in percent with the noise of either side."""
    (cell,) = jobs_of(request)
    protocol = MeasuringProtocol(repeats=repeats, warmup=1)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with bench_card(request.device, Console(stderr=True)) as card:
        for pair in range(pairs):
            for meters in (True, False) if pair % 2 == 0 else (False, True):
                run = run_cell(cell, replace(protocol, meters=meters), card)
                if run.outcome != "ok":
                    raise InputError(f"{label(cell)}: {run.outcome}; {run.message}")
                seconds[meters] += run.seconds
    metered, bare = statistics.median(seconds[True]), statistics.median(seconds[False])
    return {
        "cell": label(cell),
        "passes": len(seconds[True]),
        "seconds_with": round(metered, 4),
        "seconds_without": round(bare, 4),
        "overhead_percent": round(100 * (metered / bare - 1), 2),
        "spread_percent_with": round(100 * (max(seconds[True]) - min(seconds[True])) / metered, 2),
        "spread_percent_without": round(100 * (max(seconds[False]) - min(seconds[False])) / bare, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sensenova-u1-8b-mot")
    parser.add_argument("--tier", default="Q4_K_S")
    parser.add_argument("--mode", default="balanced")
    parser.add_argument("--policy", default="ring")
    parser.add_argument("--size", default=None)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    try:
        sized = {"size": given.size} if given.size else {}
        request = Request.of(
            given.model, tiers=(given.tier,), tiny=given.tiny, device=given.device,
            mode=given.mode, policy=given.policy, steps=given.steps, **sized,
        )  # fmt: skip
        print(json.dumps(measure(request, given.pairs, given.repeats)))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
