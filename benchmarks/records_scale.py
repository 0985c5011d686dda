"""Scale of the records room: validating a tree, querying a million records compacted to Parquet, and the evidence for
one cell out of a million runs.

    python benchmarks/records_scale.py [--validate 10000] [--parquet 1000000] [--evidence 1000000] [--folder DIR]

Makes synthetic records in a temporary folder (10,000 and 20,000 files of 4 kB) and deletes them; the table of a
million holds the latter fifty times. Prints one JSON object with the measured seconds beside the bars; exit code 1
when a bar is missed. Bars: 10,000 records validated in 10 s; over 1,000,000 records, any one-cell query 0.3 s and the
medians of all cells 3 s; evidence for one cell out of 1,000,000 runs in memory 0.2 s, from finding the card's runs to
the cell's answer. Validation and evidence are seconds of the processor, which other load changes least; queries, which
use all processors, those of the clock.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fitcheck.hardware.catalog import common_cards, find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.records import query, schema, store
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index
from fitcheck.records.validate import validate
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check

CARDS = [
    (f"rtx-{series}0{model}-{memory}gb", f"NVIDIA GeForce RTX {series}0{model}", memory * GIB)
    for series in (2, 3, 4, 5)
    for model in (60, 70, 80, 90)
    for memory in (8, 12, 16, 24)
]
MODELS = ("sensenova-u1-8b-mot", "sensenova-u1-8b-mot-fast", "sensenova-u1-a3b-mot")
TIERS = ("BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
MODES = ("full", "fast", "balanced", "low")
SIZES = ((1024, 1024), (1536, 2720), (2048, 2048))
CELLS = list(itertools.product(CARDS, MODELS, TIERS, MODES, SIZES))
COMPACTED = 20_000  # records that are written as files and compacted; larger tables are these several times


def template() -> schema.PassRecord:
    """A complete pass; the numbers that make a cell and a measurement are replaced in each copy."""
    sample = schema.Sample(total=100.5, phases={"prefix": 1.25, "denoise": 98.5}, steps=(1.97,) * 50)
    return schema.PassRecord(
        created=1_790_000_000,
        source=schema.Source(tool="fitcheck-bench", version="0.1.0"),
        machine=schema.MachineInfo(os="linux", cpu="AMD Ryzen 7 7800X3D 8-Core Processor", ram=64 * GIB),
        software=schema.Software(fitcheck="0.1.0", python="3.12.8", torch="2.9.1", cuda="12.8"),
        model=schema.ModelRef(slug=MODELS[0], tier="Q4_K_M", weights="real", tensor_digest="0" * 64),
        runtime=schema.RuntimeUsed(name="sensenova", revision="pr243", mode="low", policy="upstream", prefetch=0),
        workload=schema.WorkloadSizes.of(Workload(Task.T2I)),
        card=schema.CardInfo(
            slug=CARDS[0][0], name=CARDS[0][1], vendor="nvidia", memory=CARDS[0][2], pci_id="10de:2786", driver="580.1"
        ),
        protocol=schema.Protocol(name="fitcheck-bench", version=1, warmup=1, repeats=5, fresh_process=True),
        samples=(sample,) * 5,
        memory=schema.Memory(
            allocated=6 * GIB,
            reserved=7 * GIB,
            process=7 * GIB + 400_000_000,
            rss=20 * GIB,
            phases=(schema.PhaseMemory(name="denoise", allocated=6 * GIB, reserved=7 * GIB),),
        ),
        outcome=schema.Outcome(result="ok"),
        transfer=schema.Transfer(bytes_streamed=500 * GIB, bytes_per_second=12.5e9),
        power=schema.Power(joules=15_000.5, seconds=100.5, watts_mean=149.3, watts_max=180.5),
    )


def documents(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """``count`` documents spread over all cells, times and memory scattered around the cell's own."""
    chance = random.Random(seed)
    base: dict[str, Any] = json.loads(store.canonical(store.document_of(template())))
    for number in range(count):
        (slug, name, memory), model, tier, mode, (width, height) = CELLS[number % len(CELLS)]
        seconds = 40 + 7 * (number % 31) + chance.uniform(-2, 2)
        samples = [
            {
                "total": round(seconds * chance.uniform(0.98, 1.02), 4) + 0.00005,
                "warmup": index == 0,
                "phases": {"prefix": 1.2345, "denoise": round(seconds * 0.9, 4) + 0.00005},
                "steps": [round(seconds / 60, 5) + 0.000005] * 8,
            }
            for index in range(6)
        ]
        yield base | {
            "created": 1_790_000_000 + number,
            "card": base["card"] | {"slug": slug, "name": name, "memory": memory},
            "model": base["model"] | {"slug": model, "tier": tier},
            "runtime": base["runtime"] | {"mode": mode},
            "workload": base["workload"] | {"width": width, "height": height},
            "samples": samples,
            "memory": base["memory"] | {"allocated": 5 * GIB + number, "phases": []},
        }


def make_tree(root: Path, count: int, seed: int = 0) -> None:
    """Records as the store writes them, without the cost of the schema and of RFC 8785: no number here is written in
    two ways, so that sorted keys are canonical already. `measure_validate` sees that all of them are valid."""
    made: set[Path] = set()
    for document in documents(count, seed):
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        identity = hashlib.sha256(text.encode()).hexdigest()
        folder = root / document["card"]["slug"] / document["model"]["slug"]
        if folder not in made:
            folder.mkdir(parents=True, exist_ok=True)
            made.add(folder)
        sealed = json.dumps({"id": identity, **document}, sort_keys=True, separators=(",", ":"))
        (folder / f"{identity}.json").write_text(f"{sealed}\n")


def multiply(source: Path, out: Path, times: int) -> None:
    """Each record of a compacted file ``times`` times, a little later and slower each time, in the order of cells."""
    import duckdb

    duckdb.connect().execute(
        "COPY (SELECT * EXCLUDE n REPLACE (id || '-' || n AS id, created + to_seconds(n) AS created, "
        "seconds * (1 + 0.001 * n) AS seconds) FROM (SELECT *, unnest(range(?)) AS n FROM read_parquet(?))) "
        "TO '" + str(out) + "' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 65536)",
        [times, str(source)],
    )


def timed(action: Any, *arguments: Any, **options: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action(*arguments, **options)
    return time.perf_counter() - start, result


def measure_validate(folder: Path, count: int) -> dict[str, Any]:
    root = folder / "valid"
    make_tree(root, count)
    start = time.process_time()
    report = validate([root])
    seconds = time.process_time() - start
    shutil.rmtree(root)
    if report.valid != count or report.rejected:
        raise SystemExit(f"validate found {report.valid} of {count} valid: {report.problems[:3]}")
    return {"records": count, "seconds": round(seconds, 2), "bar": 10 * count / 10_000}


def measure_queries(folder: Path, count: int) -> dict[str, Any]:
    root, compacted, parquet = folder / "large", folder / "compacted.parquet", folder / "records.parquet"
    made = min(count, COMPACTED)
    generation, _ = timed(make_tree, root, made, seed=1)
    compaction, rows = timed(query.compact, [root], compacted)
    if rows != made:
        raise SystemExit(f"compact wrote {rows} of {made} records")
    shutil.rmtree(root)
    count = made * (count // made)
    multiply(compacted, parquet, count // made)
    chance, cell_seconds = random.Random(2), []
    for (slug, _, _), model, tier, mode, (width, height) in chance.sample(CELLS, 20):
        sql = (
            "SELECT count(*) AS n, median(seconds), min(seconds), max(seconds), median(allocated) FROM records "
            "WHERE card = ? AND model = ? AND tier = ? AND mode = ? AND width = ? AND height = ?"
        )
        values = [slug, model, tier, mode, width, height]
        seconds, found = timed(lambda: query.rows(query.run(query.open_records(parquet), sql, values)))  # noqa: B023
        cell_seconds.append(seconds)
        least = made // len(CELLS) * (count // made)
        if not least <= found[0]["n"] <= least + count // made:
            raise SystemExit(f"a cell of {least} records or so answered {found}")
    sql = (
        "SELECT card, model, tier, runtime, mode, task, width, height, count(*), median(seconds), median(allocated) "
        "FROM records GROUP BY ALL"
    )
    medians, cells = timed(lambda: query.rows(query.run(query.open_records(parquet), sql)))
    return {
        "records": count,
        "compacted": {"records": made, "seconds": round(compaction, 1), "bytes": compacted.stat().st_size},
        "generate_seconds": round(generation, 1),
        "cells": len(cells),
        "one_cell": {"slowest_seconds": round(max(cell_seconds), 3), "queries": len(cell_seconds), "bar": 0.3},
        "all_medians": {"seconds": round(medians, 2), "bar": 3.0},
    }


def runs(count: int, seed: int = 3) -> Index:
    """``count`` runs spread over the tiers, modes and sizes of a model on the catalog's common cards, times scattered
    around what the mode takes, as 997 machines send them."""
    chance, model = random.Random(seed), catalog.get(MODELS[0])
    keys = [
        CellKey.of(
            model.slug, tier.name, Workload(Task.T2I, *size, steps=8, cfg=1.0), "sensenova", "phase-aware", policy, mode
        )
        for tier in model.tiers
        for mode, policy in zip(MODES, (None, "upstream", "upstream", "upstream"), strict=True)
        for size in SIZES
    ]
    cells = list(itertools.product(common_cards(), keys))
    found = []
    for number in range(count):
        card, key = cells[number % len(cells)]
        seconds, machine = 40 * chance.uniform(0.9, 1.1), str(number % 997)
        found.append(
            Run(str(number), card.slug, card.memory, key, "real", "ok", number, seconds=seconds, machine=machine)
        )
    return Index(tuple(found))


def measure_evidence(count: int) -> dict[str, Any]:
    """Processor seconds from a million runs in memory to the answer for one cell: the slowest of five cards, the
    quickest of three times each. What is worked out once a process, tables of tensors and footprints, is worked out
    before; nothing of what records say is."""
    index, model = runs(count), catalog.get(MODELS[0])
    gc.collect()
    gc.freeze()  # a million runs lie there for good; walking over them again is no part of an answer
    wanted = Wanted(tiers=("Q8_0",), options=(("mode", ("balanced",)),))
    slowest = 0.0
    for name in ("RTX 3060 12 GB", "RTX 4070", "RTX 4090", "RTX 5090", "H100 SXM"):
        machine = machine_for(find_card(name))
        check(model, machine, wanted, advise=False)
        tries = []
        for _ in range(3):
            index.follows.clear()
            start = time.process_time()
            report = check(model, machine, wanted, index=index, advise=False)
            tries.append(time.process_time() - start)
        slowest = max(slowest, min(tries))
        cell, how = report.best, report.best.evidence.seconds
        policy = registry.get(cell.placement.runtime).recorded(cell.placement)["policy"]
        key = CellKey.of(model.slug, "Q8_0", cell.workload, "sensenova", "phase-aware", policy, "balanced")
        slug = machine.gpus[0].card.slug
        expected = sum(1 for run in index.rows if run.card == slug and run.cell == key)
        if how.level != "measured" or how.records != expected:
            raise SystemExit(f"{name}: {how.records} records where {expected} are of the cell")
    return {"records": count, "slowest_seconds": round(slowest, 3), "bar": 0.2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--validate", type=int, default=10_000)
    parser.add_argument("--parquet", type=int, default=1_000_000)
    parser.add_argument("--evidence", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fitcheck-scale-", dir=options.folder) as name:
        if options.validate:
            figures["validate"] = measure_validate(Path(name), options.validate)
        if options.parquet:
            figures["queries"] = measure_queries(Path(name), options.parquet)
    if options.evidence:
        figures["evidence"] = measure_evidence(options.evidence)
    print(json.dumps(figures, indent=2))
    missed = []
    if "validate" in figures and figures["validate"]["seconds"] > figures["validate"]["bar"]:
        missed.append("validate")
    if "queries" in figures:
        queries = figures["queries"]
        missed += ["one_cell"] if queries["one_cell"]["slowest_seconds"] > queries["one_cell"]["bar"] else []
        missed += ["all_medians"] if queries["all_medians"]["seconds"] > queries["all_medians"]["bar"] else []
    if "evidence" in figures and figures["evidence"]["slowest_seconds"] > figures["evidence"]["bar"]:
        missed.append("evidence")
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
