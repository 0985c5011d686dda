"""Ask llama-server which buffers it reserves for a model and a second one that drafts, and compare with fitcheck.

Both are files with real metadata and a hole where the weights would be, loaded on the processor; what is printed is
saved as a fixture of the test suite.

usage: python benchmarks/llamacpp_probe/draft.py LLAMA_SERVER [--save FIXTURE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from run import MIB, write_sparse_gguf

from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.runtimes.llamacpp.arguments import DRAFT, LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.drafting import draft_options

TIER = "Q4_K_M"
QWEN3 = {
    "general.architecture": "qwen3",
    "qwen3.block_count": 36,
    "qwen3.context_length": 40960,
    "qwen3.embedding_length": 4096,
    "qwen3.feed_forward_length": 12288,
    "qwen3.vocab_size": 151936,
    "qwen3.attention.head_count": 32,
    "qwen3.attention.head_count_kv": 8,
    "qwen3.attention.key_length": 128,
    "qwen3.attention.value_length": 128,
    "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
}
SMALL = {
    **QWEN3,
    "qwen3.block_count": 28,
    "qwen3.embedding_length": 1024,
    "qwen3.feed_forward_length": 3072,
    "qwen3.attention.head_count": 16,
}
CASES: tuple[dict[str, Any], ...] = (
    {"context": 8192},
    {"context": 16384, "sequences": 2},
    {"context": 8192, "sequences": 1, "draft_type_k": "q8_0", "draft_type_v": "q8_0"},
    {"context": 8192, "micro_batch": 1024, "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    {"context": 4096, "draft_tokens": 16},
    {"context": 5000, "sequences": 3, "unified": True},
)
_BUFFER = re.compile(r"CPU(?:_Mapped)?\s+(model|KV|compute|output) buffer size =\s+([\d.]+) MiB")
_FLAGS = {
    "context": "-c", "sequences": "-np", "draft_type_k": "-ctkd", "draft_type_v": "-ctvd", "micro_batch": "-ub",
    "cache_type_k": "-ctk", "cache_type_v": "-ctv", "draft_tokens": "--spec-draft-n-max",
}  # fmt: skip


def printed(server: str, model: Path, draft: Path, case: dict[str, Any]) -> list[dict[str, float]]:
    """Buffers of model and draft in MiB, as the server prints them before it ends for want of a vocabulary."""
    flags = [text for name, value in case.items() if name in _FLAGS for text in (_FLAGS[name], str(value))]
    flags += ["--kv-unified"] if case.get("unified") else []
    command = [
        server,
        "-m",
        str(model),
        "-md",
        str(draft),
        "--spec-type",
        DRAFT,
        "--no-warmup",
        "--no-repack",
        "-fit",
        "off",
    ]
    command += ["-lv", "5", "-ngl", "0", "-ngld", "0", "--port", "8931", *flags]
    quiet = os.environ | {"GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=quiet)
    found: list[dict[str, float]] = [{}, {}]
    second = 0
    for line in (done.stdout + done.stderr).splitlines():
        second |= "loading draft model" in line
        if (match := _BUFFER.search(line)) is not None:
            found[second][match[1]] = float(match[2])
    return found


def predicted(case: dict[str, Any]) -> list[dict[str, float]]:
    """The same by fitcheck."""
    options = LlamaOptions(gpu_layers=0, speculative=DRAFT, repack=False, **case)
    found = []
    for metadata, asked in ((QWEN3, options), (SMALL, draft_options(options))):
        architecture = architecture_from_gguf(metadata)
        host = estimate(architecture, mixture_table(architecture, TIER), asked).host
        amounts = {"model": host.weights, "KV": host.kv_cache, "compute": host.compute, "output": host.output}
        found.append({name: round(amount / MIB, 2) for name, amount in amounts.items()})
    return found


def main() -> None:
    """Compare every case and say how far off each is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    saved = []
    with tempfile.TemporaryDirectory() as folder:
        model, draft = (Path(folder) / name for name in ("model.gguf", "draft.gguf"))
        for file, metadata in ((model, QWEN3), (draft, SMALL)):
            write_sparse_gguf(file, metadata, mixture_table(architecture_from_gguf(metadata), TIER))
        for case in CASES:
            theirs, ours = printed(given.server, model, draft, case), predicted(case)
            saved.append({"options": case, "printed": theirs})
            off = [abs(ours[at][name] / value - 1) for at in (0, 1) for name, value in theirs[at].items() if value]
            print(f"{case}: {len(off)} buffers, worst {max(off, default=1.0):.2%}")
            if max(off, default=1.0) > 0.001:
                print(f"    printed {theirs}, here {ours}")
    if given.save:
        given.save.write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
