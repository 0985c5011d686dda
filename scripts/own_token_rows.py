"""Put this project's own llama-bench runs (``benchmarks/llamacpp_*/*.jsonl``) at the end of the published rows.

A file's lines are what its README says: ``config``, ``rows`` of ``llama-bench -o jsonl``. Adding a measurement is
adding a file and running this again; ``fit_tokens.py`` does the rest.

    python scripts/own_token_rows.py    rewrites the own rows of fitcheck/runtimes/llamacpp/data/llama_bench_rows.csv
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from fitcheck.runtimes.llamacpp import token_rates

ROOT = Path(__file__).resolve().parents[1]
ROWS = Path(token_rates.__file__).parent / "data" / "llama_bench_rows.csv"
OWN = "fitcheck, own measurement"
# build and host of a file's runs, from its folder's README; a file that is not here has today's build and names no host
FILES: dict[str, dict[str, str]] = {
    "one_card.jsonl": {"date": "2026-11-15", "ram": "95 GB/s read by 16 threads, measured on such a machine"},
    "one_card_prompts.jsonl": {"date": "2026-11-15", "ram": "95 GB/s read by 16 threads, measured on such a machine"},
    "two_cards.jsonl": {"date": "2026-11-15", "ram": ""},
    "two_cards_2025.jsonl": {"date": "2025-08-14", "ram": ""},
}
UNTIMED = ("one_card_buffers.jsonl", "host_bandwidth.jsonl")
# runs whose instruction set was chosen, which no row can say: they test (their folder's README)
CHOSEN = "variant"
# files hold random weights: of this one the router sends 512 tokens to about 28 of 128 experts (what crossed the link
# in the runs with experts on the host), so its prompts, on the card or carried, are those of a smaller model
SKEWED_ROUTERS = ("qwen3-30b-a3b",)
CARDS = {"": "CPU: Intel Xeon with AMX", "NVIDIA H100 80GB HBM3": "H100 SXM", "NVIDIA H200": "H200"}


def own_rows() -> Iterator[dict[str, str]]:
    """Rows in the columns of the published ones."""
    for path in sorted((ROOT / "benchmarks").glob("llamacpp_*/*.jsonl")):
        if path.name in UNTIMED:
            continue
        for line in path.read_text("utf-8").splitlines():
            run = json.loads(line)
            if CHOSEN in run["config"]:
                continue
            yield from rows_of(run, FILES.get(path.name, {}), f"{path.parent.name}/{path.name}")


def rows_of(run: dict[str, Any], known: dict[str, str], where: str) -> Iterator[dict[str, str]]:
    """The tests of one process that the model can be asked about: whole layers on one card or several."""
    model, tier = run["config"]["model"], run["config"]["tier"]
    for row in run.get("rows", []):
        cards = 1 if row["split_mode"] == "none" else len(row["gpu_info"].split(", "))
        if row["split_mode"] not in ("layer", "none") or set(row["tensor_split"]) - set("0./"):
            continue
        prompt = row["n_prompt"] > 0
        if prompt and model in SKEWED_ROUTERS:
            continue
        depth = f"@d{row['n_depth']}" if row["n_depth"] else ""
        yield {
            "source": OWN, "date": known.get("date", row["test_time"][:10]), "card": row["gpu_info"] or row["cpu_info"],
            "card_key": CARDS[row["gpu_info"].split(", ")[0]], "card_count": str(cards),
            "backend": "CUDA" if row["gpu_info"] else "CPU",
            "model": row["model_type"], "model_key": model, "quant": tier, "ngl": str(row["n_gpu_layers"]),
            "n_cpu_moe": str(row.get("n_cpu_moe") or ""), "flash_attn": str(int(row["flash_attn"] in (1, True))),
            "type_k": row["type_k"], "type_v": row["type_v"], "n_ubatch": str(row["n_ubatch"]),
            "threads": str(row["n_threads"]),
            "test": (f"pp{row['n_prompt']}" if prompt else f"tg{row['n_gen']}") + depth,
            "tokens_per_second": f"{settled(row['samples_ts']):.2f}", "stdev": f"{row['stddev_ts']:.2f}",
            "cpu": row["cpu_info"], "ram_type_and_speed": known.get("ram", ""), "reliability": "A",
            "notes": f"{where}; random weights",
        }  # fmt: skip


def settled(samples: list[float]) -> float:
    """The median, or the last of two: the first test of a process is often slower than the rest."""
    return samples[-1] if len(samples) < 3 else median(samples)


def main() -> None:
    """Rewrite the file's own rows, which are its last."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        kept = [row for row in reader if row["source"] != OWN]
    own = list(own_rows())
    with ROWS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *own])
    print(f"{ROWS}: {len(kept)} published rows and {len(own)} own ones")


if __name__ == "__main__":
    main()
