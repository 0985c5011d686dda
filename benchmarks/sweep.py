"""Everything at once: each catalog model × tier × mode × task on each card of the database.

    python benchmarks/sweep.py [--jobs N] [--family sensenova-u1] [--models N] [--json]

Runs ``check`` as a page or a program would, without the advice on what to change. Work is split by model and task, so
that a process meets the same footprints again on card after card. Bars: 10 s of wall time on two quiet cores and
500 MB of memory over all processes. CPU seconds stand beside wall time because other programs slow the latter only.
The bars were set for SenseNova-U1's models (the default); `--family language --models 10` takes every so many-th of
another family's. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

WALL_BAR, MEMORY_BAR = 10.0, 500e6
RAM = 32 << 30


@dataclass(frozen=True)
class Part:
    """What one model and task came to on all cards. ``unknown_memory`` counts cards that cannot be asked about."""

    cells: int
    verdicts: dict[str, int]
    timed: int
    cards: int
    unknown_memory: int


def every_card(question: tuple[str, str]) -> Part:
    """One model and task, every tier and mode, on every card."""
    from fitcheck.errors import InputError
    from fitcheck.hardware.database import database
    from fitcheck.hardware.machine import machine_for
    from fitcheck.models import catalog
    from fitcheck.runtimes.base import Wanted
    from fitcheck.verdict.check import check

    slug, task = question
    model, wanted, source = catalog.get(slug), Wanted(task=task), database()
    verdicts: Counter[str] = Counter()
    timed = cards = unknown_memory = 0
    for index in range(len(source.rows)):
        try:
            report = check(model, machine_for(source.card(index), ram=RAM), wanted, advise=False)
        except InputError:
            unknown_memory += 1
            continue
        cards += 1
        for cell in report.cells:
            verdicts[str(cell.verdict)] += 1
            timed += cell.seconds is not None
    return Part(sum(verdicts.values()), dict(verdicts), timed, cards, unknown_memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes; default 2")
    parser.add_argument("--family", default="sensenova-u1", help="the models' family; default sensenova-u1")
    parser.add_argument("--models", type=int, help="at most that many models, spread over the family's; default all")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    options = parser.parse_args()

    from fitcheck.models import catalog
    from fitcheck.models.families import registry

    slugs = registry.get(options.family).slugs()
    slugs = slugs[:: max(1, -(-len(slugs) // options.models))] if options.models else slugs
    questions = [(slug, str(task)) for slug in slugs for task in catalog.get(slug).tasks]
    before = time.perf_counter()
    with multiprocessing.Pool(options.jobs) as pool:
        parts = pool.map(every_card, questions, chunksize=1)
        pool.close()
        pool.join()
    wall = time.perf_counter() - before
    children, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    verdicts: Counter[str] = Counter()
    for part in parts:
        verdicts.update(part.verdicts)
    result = {
        "cards": parts[0].cards,
        "cards of unknown memory": parts[0].unknown_memory,
        "models and tasks": len(questions),
        "cells": sum(part.cells for part in parts),
        "cells with seconds": sum(part.timed for part in parts),
        "verdicts": dict(verdicts),
        "wall seconds": round(wall, 2),
        "CPU seconds": round(sum(use.ru_utime + use.ru_stime for use in (children, own)), 2),
        # every process may reach the peak of the largest one
        "peak MB": round((options.jobs * children.ru_maxrss + own.ru_maxrss) * 1024 / 1e6),
        "jobs": options.jobs,
    }
    if options.json:
        print(json.dumps(result | {"parts": [asdict(part) for part in parts]}, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:24} {value}")
    missed = [
        name for name, over in (("wall", wall > WALL_BAR), ("memory", result["peak MB"] * 1e6 > MEMORY_BAR)) if over
    ]
    for name in missed:
        print(f"the {name} bar is missed", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
