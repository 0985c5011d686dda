"""llama-bench on the processor alone, by instruction set, threads and kind of quant, on files of random valid blocks.

usage: python benchmarks/llamacpp_cpu/series.py BIN FILES OUT.jsonl --budget SECONDS [--threads 1,2,4,8,16]
           [--variants haswell,icelake,sapphirerapids] [--plan small|all]
with PYTHONPATH=.:benchmarks/llamacpp_probe:benchmarks/llamacpp_builds

BIN is the folder of a llama.cpp built with GGML_CPU_ALL_VARIANTS (``build.sh``): a run sees one variant of it.
Lines of OUT are as ``benchmarks/llamacpp_h100`` has them: ``config``, ``rows`` of llama-bench, written when a process
is done; the most telling come first, and what the budget does not reach is left out. Weights are packed anew and, for
some files, left as they lie (``--repack``), as they are beside a card.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filled_gguf import main as fill

KINDS = ("Q4_0", "Q8_0", "Q6_K", "Q5_K_M", "Q3_K_M", "Q2_K", "IQ4_XS", "IQ3_XXS", "IQ2_XXS", "BF16")
PROGRAM = "llama-bench"
SMALL, DENSE, EXPERTS = "llama-3.2-1b", "llama-3.1-8b", (("qwen3-30b-a3b", "Q4_K_M"), ("gpt-oss-20b", "MXFP4"))


@dataclass(frozen=True)
class Run:
    """One process of llama-bench: a file, a variant, threads and tests."""

    model: str
    tier: str
    variant: str
    threads: tuple[int, ...]
    prompt: int = 128
    tokens: int = 16
    repack: str = "1"

    def arguments(self) -> str:
        """As llama-bench takes them."""
        threads = ",".join(map(str, self.threads))
        return f"-p {self.prompt} -n {self.tokens} -t {threads} --repack {self.repack} -r 2"


def plan(variants: list[str], threads: list[int], everything: bool) -> Iterator[Run]:
    """Threads first, then models of the usual size, then kinds of quant."""
    few = (threads[0], threads[-1])
    for variant in variants:
        yield Run(SMALL, "Q4_K_M", variant, tuple(threads))
        yield Run(SMALL, "Q4_K_M", variant, few, repack="0")
    for variant in variants[::-1] if everything else ():
        yield Run(DENSE, "Q4_K_M", variant, few[1:], 512, 32, repack="1,0")
        for model, tier in EXPERTS:
            yield Run(model, tier, variant, few[1:], 512, 32, repack="1,0")
    for kind in KINDS:
        for variant in variants:
            yield Run(SMALL, kind, variant, few if kind in ("Q4_0", "Q8_0", "BF16") else few[1:])


def only(variant: str, built: Path, into: Path) -> Path:
    """A folder of links to llama-bench and one variant of its processor's code."""
    folder = into / variant
    folder.mkdir(exist_ok=True)
    for file in built.iterdir():
        mine = not file.name.startswith("libggml-cpu-") or file.name == f"libggml-cpu-{variant}.so"
        link = folder / file.name
        if mine and file.name != PROGRAM and not link.exists():
            link.symlink_to(file.resolve())
    # a copy, because variants are looked for where the program itself lies
    program = folder / PROGRAM
    return program if program.exists() else Path(shutil.copy(built / PROGRAM, program))


def measure(run: Run, program: Path, file: Path, timeout: float) -> dict[str, Any]:
    """The line of one process."""
    started = time.monotonic()
    words = [str(program), "-m", str(file), *run.arguments().split(), "-o", "jsonl"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
    config = {"model": run.model, "tier": run.tier, "variant": run.variant, "args": run.arguments(), "r": 2}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        out = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
        return {"config": config, "rc": -9, "wall": timeout, "rows": rows(out), "tail": []}
    wall = round(time.monotonic() - started, 2)
    return {"config": config, "rc": done.returncode, "wall": wall, "rows": rows(done.stdout),
            "tail": done.stderr.splitlines()[-3:] if done.returncode else []}  # fmt: skip


def rows(printed: str) -> list[dict[str, Any]]:
    """What llama-bench printed, a JSON object a line."""
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{") and line.endswith("}")]


def main() -> None:
    """Measures until the plan or the seconds are used up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("built", type=Path)
    parser.add_argument("files", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float, required=True)
    parser.add_argument("--threads", default="1,2,4,8,16")
    parser.add_argument("--variants", default="haswell,icelake,sapphirerapids")
    parser.add_argument("--plan", choices=("small", "all"), default="all")
    given = parser.parse_args()
    deadline = time.monotonic() + given.budget
    threads = [int(word) for word in given.threads.split(",")]
    with tempfile.TemporaryDirectory(dir=given.files) as links, given.out.open("a", encoding="utf-8") as kept:
        for run in plan(given.variants.split(","), threads, given.plan == "all"):
            left = deadline - time.monotonic()
            if left < 5:
                break
            file = given.files / f"{run.model}-{run.tier}.gguf"
            if not file.exists():
                fill(run.model, run.tier, file)
            line = measure(run, only(run.variant, given.built, Path(links)), file, left)
            print(json.dumps(line), file=kept, flush=True)
            print(run, line["rc"], line["wall"], [(r["n_threads"], r["n_prompt"], r["avg_ts"]) for r in line["rows"]],
                  *line["tail"], flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
