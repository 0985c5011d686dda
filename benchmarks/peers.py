"""fitcheck beside other estimators on the same GGUF headers, against what llama.cpp printed for them.

Truth are the buffers of the test fixtures (llama.cpp's own reservation on a stand-in card, see llamacpp_probe) and of
the published rows that put everything on one card. Each estimator gets the same file: real metadata and tensor table,
no weights. Peers live in an environment of their own:

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install hf-mem modelinfo-cli
    python benchmarks/peers.py --peers /tmp/peers/bin --out docs/peers.md
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "llamacpp_probe"))
from run import options_of, write_sparse_gguf

from fitcheck.models.families.language.known_models import _data, known_language_model
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.gguf import read_gguf
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp import LlamaOptions, parse_build
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.units import GIB, MIB

ROOT = Path(__file__).parents[1]
# published rows with everything on one card and all three buffers printed; the tier as llama-quantize names it
PUBLISHED = {26: "IQ4_XS", 34: "Q4_K_M", 55: "Q4_K_M", 56: "Q4_0"}


@dataclass(frozen=True)
class Truth:
    """What llama.cpp printed, in MiB: all weights, attention cache with recurrent state, compute buffer on the card."""

    name: str
    metadata: dict[str, Any]
    tensors: TensorTable
    options: LlamaOptions
    weights: float
    cache: float
    compute: float

    @property
    def total(self) -> float:
        return self.weights + self.cache + self.compute


@dataclass(frozen=True)
class Answer:
    """An estimator's numbers in MiB; ``None`` where it gives none."""

    weights: float | None
    cache: float | None
    total: float | None


def captured() -> list[Truth]:
    """Cases of the newest capture that run on one card without overrides, and hold one sequence."""
    found = []
    for case in json.loads((ROOT / "tests/runtimes/llamacpp/fixtures/llamacpp_probe_2026-11.json").read_text()):
        options, _, cards = options_of(case)
        plain = not (options.overrides or options.gpu_layers is not None or options.cache_on_host)
        if cards != 1 or not plain or options.slots != 1 or options.full_sliding_cache:
            continue
        printed = case["printed"]
        architecture = architecture_from_gguf(case["metadata"])
        cache = sum(size for key, size in printed.items() if key.split()[1] in ("KV", "RS"))
        weights = sum(size for key, size in printed.items() if key.endswith(" model"))
        tensors = mixture_table(architecture, case["tier"])
        compute = printed["CUDA0 compute"]
        found.append(Truth(case["name"], case["metadata"], tensors, options, weights, cache, compute))
    return found


def published() -> list[Truth]:
    data = resources.files("fitcheck.runtimes.llamacpp").joinpath("data/published")
    readings = json.loads(data.joinpath("llamacpp_rows.json").read_text())["rows"]
    rows = list(csv.DictReader(data.joinpath("llamacpp.csv").read_text().splitlines()))
    found = []
    for index, tier in PUBLISHED.items():
        row, reading = rows[index], readings[str(index)]
        metadata = _data()["models"][reading["model"]]["metadata"]
        tensors = mixture_table(known_language_model(reading["model"]), tier, imatrix=tier.startswith("IQ"))
        given = {**reading["options"], "build": parse_build(reading["options"].get("build"))}
        options = LlamaOptions(
            **{"sequences": 1, "context": int(row["n_ctx"]), "micro_batch": int(row["n_ubatch"]),
               "flash_attention": row["fa"] != "0", **given}
        )  # fmt: skip
        host = next(tensor.nbytes for tensor in tensors if tensor.name == "token_embd.weight") / MIB
        weights = float(row["model_buffer_gpu_mib"]) + float(row["model_buffer_cpu_mib"] or host)
        name = f"published row {index}: {row['model']}"
        truth = Truth(name, metadata, tensors, options, weights, float(row["kv_mib"]), float(row["compute_gpu_mib"]))
        found.append(truth)
    return found


def fitcheck(truth: Truth, file: Path) -> Answer:
    header = read_gguf(file)
    architecture = architecture_from_gguf(header.metadata, header.tensors)
    result = estimate(architecture, header.tensors, truth.options, vram=[96 * GIB])
    weights = (result.cards[0].weights + result.host.weights) / MIB
    cache = (result.kv_cache + result.recurrent) / MIB
    return Answer(weights, cache, weights + cache + result.cards[0].compute / MIB)


_HF_MEM = """
import json, sys
from hf_mem.gguf import parse_gguf_metadata
raw = open(sys.argv[1], "rb").read(64 << 20)
found = parse_gguf_metadata(raw_metadata=raw, experimental=True, max_model_len=int(sys.argv[2]),
                            kv_cache_dtype=sys.argv[3], batch_size=1)
weights = sum(component.bytes_count for component in found.components.values())
cache = found.kv_cache.cache_size if found.kv_cache else None
print(json.dumps([weights, cache]))
"""


def hf_mem(folder: Path) -> Callable[[Truth, Path], Answer]:
    def ask(truth: Truth, file: Path) -> Answer:
        kind = truth.options.cache_type_k.upper()
        arguments = [str(folder / "python"), "-c", _HF_MEM, str(file), str(truth.options.context), kind]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            return Answer(None, None, None)
        weights, cache = json.loads(done.stdout.splitlines()[-1])
        total = weights + cache if cache is not None else None
        return Answer(*(None if value is None else value / MIB for value in (weights, cache, total)))

    return ask


_SIZE = r"([\d.]+) (GB|MB)"


def modelinfo(folder: Path) -> Callable[[Truth, Path], Answer]:
    def ask(truth: Truth, file: Path) -> Answer:
        arguments = [str(folder / "modelinfo"), "--context", str(truth.options.context), str(file)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)

        def size(label: str) -> float | None:
            match = re.search(label + r"\D*?" + _SIZE, done.stdout)
            return None if match is None else float(match[1]) * (1024 if match[2] == "GB" else 1)

        return Answer(size("Weights:"), size("KV Cache:"), size(r"VRAM \(est\):"))

    return ask


def errors(truth: Truth, answer: Answer) -> tuple[float | None, float | None, float | None]:
    pairs = ((answer.weights, truth.weights), (answer.cache, truth.cache), (answer.total, truth.total))
    return tuple(None if ours is None else ours / theirs - 1 for ours, theirs in pairs)  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True, help="bin folder of the peers' environment")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    estimators: dict[str, Callable[[Truth, Path], Answer]] = {
        "fitcheck": fitcheck,
        "hf-mem": hf_mem(given.peers),
        "modelinfo-cli": modelinfo(given.peers),
    }
    versions = subprocess.run(
        [str(given.peers / "pip"), "list", "--format", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    rows = []
    for truth in [*published(), *captured()]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.gguf"
            write_sparse_gguf(file, truth.metadata, truth.tensors)
            rows.append((truth, {name: errors(truth, ask(truth, file)) for name, ask in estimators.items()}))
    given.out.write_text(page(rows, list(estimators), versions))


def page(rows: list[tuple[Truth, dict[str, Any]]], names: list[str], versions: str) -> str:
    """The whole document: sums first, then every row."""

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:+.1%}"

    installed = [line for line in versions.splitlines() if line.split("==")[0] in ("hf-mem", "modelinfo-cli")]
    lines = [
        "# Beside other estimators",
        "",
        "Made by `benchmarks/peers.py`; every estimator read the same GGUF header. Errors are against what llama.cpp",
        "printed: all weights, the attention cache with recurrent state, and their sum with the card's compute buffer.",
        f"Peers: {', '.join(installed)}. – means that the estimator gives no such number or refuses the file.",
        "hf-mem gives weights and cache only, so its total has no compute buffer; modelinfo-cli adds a fixed overhead.",
        "hf-mem gives weights and cache only, so its total has no compute buffer; modelinfo-cli adds a fixed sum.",
        "(all but the published ones) are also fixtures of fitcheck's own tests: fitcheck replays the rules by which",
        "llama.cpp reserves memory, and its graphs were written with these captures at hand.",
        "",
        "| estimator | rows answered | weights, median (worst) | cache, median (worst) | total, median (worst) |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        cells = []
        answered = sum(found[name][0] is not None for _, found in rows)
        for part in range(3):
            values = [abs(found[name][part]) for _, found in rows if found[name][part] is not None]
            cells.append(f"{median(values):.2%} ({max(values):.1%})" if values else "–")
        lines.append(f"| {name} | {answered} of {len(rows)} | {' | '.join(cells)} |")
    lines += ["", "| row | " + " | ".join(f"{name}: weights, cache, total" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for truth, found in rows:
        cells = [", ".join(shown(value) for value in found[name]) for name in names]
        lines.append(f"| {truth.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
