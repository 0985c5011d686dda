"""Language models as people ask for them: names × tiers × machines, each with its best placement.

    python benchmarks/language_sweep.py [--names 120] [--tiers 6] [--machines 60] [--jobs 2] [--json]

Every question looks for the placement that leads, as `fitcheck check NAME --gpu CARD --tier TIER` does, without the
advice on what to change. Machines are the common cards, alone, in pairs and with less memory beside them, and
processors alone. Bar: 60 s of wall time on two quiet cores for 120 × 6 × 60; smaller runs are held to their share of
it. Exits with 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

BAR, WHOLE = 60.0, 120 * 6 * 60
TIERS = ("Q4_K_M", "Q8_0", "Q5_K_M", "IQ4_XS", "Q3_K_M", "Q6_K")
GIB = 1 << 30


@dataclass(frozen=True)
class Part:
    """What one name came to on all machines."""

    questions: int
    verdicts: dict[str, int]


def machines(count: int) -> list[tuple[tuple[str, ...], int]]:
    """(cards, bytes of system memory) of ``count`` machines, the plain ones first."""
    from fitcheck.hardware.catalog import common_cards

    cards = [card.slug for card in common_cards()]
    found: list[tuple[tuple[str, ...], int]] = [((slug,), 64 * GIB) for slug in cards]
    found += [((slug, slug), 128 * GIB) for slug in cards]
    found += [(("none",), size * GIB) for size in (16, 64)]
    found += [((slug,), 16 * GIB) for slug in cards]
    return found[:count]


def every_machine(work: tuple[str, tuple[str, ...], int]) -> Part:
    """One name, its tiers, every machine."""
    import fitcheck.cli  # noqa: F401 - looks for cycles as seldom as every command does
    from fitcheck.hardware.asked import asked_machine
    from fitcheck.models import catalog
    from fitcheck.runtimes.base import Wanted
    from fitcheck.verdict.check import check

    slug, names, count = work
    model = catalog.get(slug)
    # a model that comes in files of its own kind alone is asked about in those
    tiers = [tier for name in names if (tier := model.tier(name)) is not None] or list(model.tiers[: len(names)])
    verdicts: Counter[str] = Counter()
    for cards, ram in machines(count):
        report = check(model, asked_machine(list(cards), ram=ram), Wanted(), tiers=tiers, advise=False)
        verdicts.update(str(cell.verdict) for cell in report.cells)
    return Part(sum(verdicts.values()), dict(verdicts))


def names(count: int) -> list[str]:
    """Every so many-th name of the language models, so that few of them still are of every kind."""
    from fitcheck.models.families import registry

    every = list(registry.get("language").slugs())
    step = max(len(every) // max(count, 1), 1)
    return every[::step][:count]


def main() -> int:
    """Measure, print, and compare with the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=120)
    parser.add_argument("--tiers", type=int, default=len(TIERS))
    parser.add_argument("--machines", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    work = [(slug, TIERS[: asked.tiers], asked.machines) for slug in names(asked.names)]
    start = time.perf_counter()
    with multiprocessing.Pool(asked.jobs) as pool:
        parts = pool.map(every_machine, work, chunksize=1)
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdicts: Counter[str] = Counter()
    for part in parts:
        verdicts.update(part.verdicts)
    questions = sum(part.questions for part in parts)
    found = {
        "questions": questions,
        "verdicts": dict(verdicts),
        "wall_seconds": wall,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "bar_seconds": BAR * questions / WHOLE,
        "parts": [asdict(part) for part in parts] if asked.json else None,
    }
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        print(
            f"{questions} questions in {wall:.1f} s of wall time, {found['cpu_seconds']:.1f} s of CPU, on {asked.jobs} "
            f"processes; the bar for so many is {found['bar_seconds']:.1f} s. {dict(verdicts)}"
        )
    return 0 if wall <= BAR * questions / WHOLE else 1


if __name__ == "__main__":
    sys.exit(main())
