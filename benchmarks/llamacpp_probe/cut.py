"""Ask llama.cpp which buffers it reserves where loading reads every weight: RPC workers, and cards that share tensors.

Workers are further processes of the probe whose stand-in cards are served (``serve=PORT``). Shapes are cut to a few
layers. Buffers are compared one by one, and of cards that share tensors the total of each as well.

usage: python benchmarks/llamacpp_probe/cut.py PROBE [--save FIXTURE] [--shapes NAME,NAME] [--places WORD]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run import CASES, options_of, predicted, probe, write_sparse_gguf

from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table

LAYERS, CONTEXT, PORT = 6, 8192, 50252
PLACES: dict[str, dict[str, Any]] = {
    "one worker, no card": {"workers": 1, "cards": 0},
    "two workers, no card": {"workers": 2, "cards": 0},
    "worker and card": {"workers": 1, "cards": 1},
    "two workers and card": {"workers": 2, "cards": 1},
    "partial": {"workers": 1, "cards": 1, "gpu_layers": 4},
    "partial, no card": {"workers": 2, "cards": 0, "gpu_layers": 4},
    "experts on host": {"workers": 1, "cards": 1, "cpu": ["exps"]},
    "experts on host, no card": {"workers": 1, "cards": 0, "cpu": ["exps"]},
    "q8_0 cache": {"workers": 1, "cards": 1, "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "no flash attention": {"workers": 1, "cards": 1, "flash_attention": False},
    "tensor, two cards": {"cards": 2, "split_mode": "tensor"},
    "tensor, four cards": {"cards": 4, "split_mode": "tensor"},
    "tensor, three cards": {"cards": 3, "split_mode": "tensor"},
    "tensor, partial": {"cards": 2, "split_mode": "tensor", "gpu_layers": 4},
    "tensor, 3 to 1": {"cards": 2, "split_mode": "tensor", "tensor_split": [3.0, 1.0]},
    "tensor, q8_0 cache": {"cards": 2, "split_mode": "tensor", "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "tensor, four cards, two sequences": {"cards": 4, "split_mode": "tensor", "sequences": 2, "unified": False},
}
SHAPES = (
    "llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-4b", "deepseek-v2-lite", "gpt-oss-20b", "falcon-h1-7b", "phi-2",
    "phi-3-mini", "glm-4-32b", "command-r-35b", "qwen3-next-80b", "qwen3.5-27b", "lfm2-1.2b",
)  # fmt: skip


def shapes() -> Iterator[dict[str, Any]]:
    """The first case of each name in ``SHAPES``, with ``LAYERS`` layers."""
    cases = json.loads(CASES.read_text())
    for name in SHAPES:
        case = next(one for one in cases if one["name"].split()[0] == name)
        metadata = dict(case["metadata"])
        count = f"{metadata['general.architecture']}.block_count"
        for key, value in metadata.items():
            if isinstance(value, list) and len(value) == metadata[count]:
                metadata[key] = value[:LAYERS]
        yield {"name": name, "tier": case["tier"], "metadata": {**metadata, count: LAYERS}}


@contextmanager
def serving(program: str, file: Path, count: int) -> Iterator[list[str]]:
    """Addresses of ``count`` workers with a stand-in card each, gone afterwards."""
    ports = range(PORT, PORT + count)
    started: list[subprocess.Popen[bytes]] = [
        subprocess.Popen([program, str(file), f"serve={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for port in ports
    ]
    time.sleep(0.5 if started else 0)
    try:
        yield [f"127.0.0.1:{port}" for port in ports]
    finally:
        for one in started:
            one.kill()
            one.wait()


def told(case: dict[str, Any], count: int) -> dict[str, float]:
    """Buffers in MiB as fitcheck predicts them, under the names of devices that llama.cpp prints."""
    addresses = tuple(f"127.0.0.1:{PORT + index}" for index in range(count))
    options, _, cards = options_of(case)
    ours = predicted(case, mixture_table(architecture_from_gguf(case["metadata"]), case["tier"]),
                     options.with_(workers=addresses), count + cards)  # fmt: skip
    names = [*(f"RPC0[{one}]" for one in addresses), *(f"CUDA{index}" for index in range(cards))]
    renamed = {}
    for key, value in ours.items():
        device, _, kind = key.partition(" ")
        renamed[f"{names[int(device[4:])] if device.startswith('CUDA') else device} {kind}"] = value
    return renamed


def main() -> None:
    """Compare every shape in every place and say how far off each is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probe")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--places", default="")
    given = parser.parse_args()
    saved = []
    for shape in shapes():
        if shape["name"] not in given.shapes.split(","):
            continue
        tensors = mixture_table(architecture_from_gguf(shape["metadata"]), shape["tier"])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.gguf"
            write_sparse_gguf(file, shape["metadata"], tensors)
            for place, how in PLACES.items():
                if given.places not in place:
                    continue
                if "cpu" in how and not any(tensor.role == "expert" for tensor in tensors):
                    continue
                options = {"context": CONTEXT, **{key: value for key, value in how.items() if key != "workers"}}
                case = {**shape, "options": options}
                with serving(given.probe, file, how.get("workers", 0)) as addresses:
                    arguments = [*options_of(case)[1], *(f"rpc={address}" for address in addresses)]
                    try:
                        printed = probe(given.probe, file, arguments)
                    except RuntimeError as problem:
                        print(f"--  {shape['name']} {place}: refused there: {' '.join(str(problem).split())[-160:]}")
                        continue
                ours = told(case, how.get("workers", 0))
                saved.append(
                    {"name": f"{shape['name']} {place}", **case, "workers": how.get("workers", 0), "printed": printed}
                )
                off = {
                    key: abs(ours.get(key, 0.0) / size - 1)
                    for key, size in printed.items()
                    if size >= 1 and "output" not in key
                }
                worst = max(off.values())
                print(f"{'ok ' if worst <= 0.005 else 'OFF'} {shape['name']} {place} {worst:.2%}", flush=True)
                for key in off if worst > 0.005 else ():
                    if off[key] > 0.0005:
                        print(f"      {key:32} llama.cpp {printed[key]:10.2f}  fitcheck {ours.get(key, 0.0):10.2f}")
    if given.save:
        given.save.write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
