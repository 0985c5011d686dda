"""Two builds of llama.cpp in turns on one GGUF file, each run a process and a record of its own.

usage: PYTHONPATH=. python benchmarks/llamacpp_builds/series.py FILE FOLDER --runs 12 --budget SECONDS \\
           OLD_COMMIT=OLD_LLAMA_BENCH NEW_COMMIT=NEW_LLAMA_BENCH

Records go to FOLDER/records.jsonl. A build without git prints no commit, so it is said here. Which build begins
alternates, so that a card that warms up favours neither.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from bench.engines.llamacpp.measuring import run_llamacpp
from bench.suite import bench_card
from fitcheck.records import store
from fitcheck.records.schema import LlmRecord
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions


def main() -> None:
    """Measures until the runs or the seconds are used up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("builds", nargs=2, help="COMMIT=PROGRAM")
    parser.add_argument("--runs", type=int, default=12, help="of each build")
    parser.add_argument("--budget", type=float, required=True, help="seconds")
    parser.add_argument("--model", help="its name in the catalog, where the file's name does not give it")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    deadline = time.monotonic() + given.budget
    builds = [build.partition("=")[::2] for build in given.builds]
    longest, console = 0.0, Console(stderr=True, width=160)
    with bench_card(given.device, console) as card, (given.out / "records.jsonl").open("ab") as kept:
        for turn in range(given.runs):
            if time.monotonic() + 2 * longest > deadline:
                break
            for commit, program in builds if turn % 2 == 0 else builds[::-1]:
                started = time.monotonic()
                done = run_llamacpp(
                    given.file, LlamaOptions(gpu_layers=99, flash_attention=False), repeats=5, program=program,
                    card=card, timeout=60.0, hash_file=False,
                )  # fmt: skip
                for record in done.records:
                    kept.write(store.encode(store.seal(named(record, commit, given.model))))
                    kept.flush()
                    console.print(turn, commit, [rate.samples or rate.mean for rate in record.rates or ()])
                longest = max(longest, time.monotonic() - started)
    console.print(f"{turn + 1} turns")


def named(record: LlmRecord, commit: str, slug: str | None) -> LlmRecord:
    """The record with the commit that its build does not know, and with weights of no model."""
    runtime = record.runtime.model_copy(update={"commit": commit})
    model = record.model.model_copy(update={"weights": "synthetic", "slug": slug or record.model.slug})
    return record.model_copy(update={"runtime": runtime, "model": model})


if __name__ == "__main__":
    main()
