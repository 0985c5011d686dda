"""RPC workers, and cards that share tensors, against llama.cpp's own reservation: loading reads every weight there.

Workers are further processes of the probe whose stand-in cards are served (``serve=PORT``). Shapes are cut to a few
layers. Buffers are compared one by one, and of cards that share tensors the total of each as well. What llama.cpp
printed is kept in cut.json, so that predictions are compared again without it.

usage: python benchmarks/llamacpp_probe/cut.py [--probe PROBE] [--shapes NAME,NAME] [--places WORD] [--again]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cells import Cell, Compared, tell, worst
from run import CASES, options_of, predicted, probe, write_sparse_gguf

from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import TensorTable

PRINTED = Path(__file__).with_name("cut.json")
LAYERS, CONTEXT, PORT = 6, 8192, 50252
PLACES: dict[str, dict[str, Any]] = {
    "one worker": {"workers": 1, "cards": 0},
    "two workers": {"workers": 2, "cards": 0},
    "worker and card": {"workers": 1, "cards": 1},
    "two workers and card": {"workers": 2, "cards": 1},
    "worker and card, partial": {"workers": 1, "cards": 1, "gpu_layers": 4},
    "two workers, partial": {"workers": 2, "cards": 0, "gpu_layers": 4},
    "worker and card, experts on host": {"workers": 1, "cards": 1, "cpu": ["exps"]},
    "worker, experts on host": {"workers": 1, "cards": 0, "cpu": ["exps"]},
    "worker and card, q8_0 cache": {"workers": 1, "cards": 1, "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "worker and card, no flash attention": {"workers": 1, "cards": 1, "flash_attention": False},
    "tensor, two cards": {"cards": 2, "split_mode": "tensor"},
    "tensor, four cards": {"cards": 4, "split_mode": "tensor"},
    "tensor, three cards": {"cards": 3, "split_mode": "tensor"},
    "tensor, partial": {"cards": 2, "split_mode": "tensor", "gpu_layers": 4},
    "tensor, 3 to 1": {"cards": 2, "split_mode": "tensor", "tensor_split": [3.0, 1.0]},
    "tensor, q8_0 cache": {"cards": 2, "split_mode": "tensor", "cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "tensor, four cards, two sequences": {"cards": 4, "split_mode": "tensor", "sequences": 2, "unified": False},
}
SHAPES = (
    "llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-4b", "gpt-oss-20b", "falcon-h1-7b", "phi-2", "phi-3-mini", "glm-4-32b",
    "command-r-35b", "qwen3-next-80b", "qwen3.5-27b", "lfm2-1.2b",
)  # fmt: skip


def shape_named(name: str) -> dict[str, Any]:
    """The first case of that name, with ``LAYERS`` layers."""
    case = next(one for one in json.loads(CASES.read_text()) if one["name"].split()[0] == name)
    metadata = dict(case["metadata"])
    count = f"{metadata['general.architecture']}.block_count"
    for key, value in metadata.items():
        if isinstance(value, list) and len(value) == metadata[count]:
            metadata[key] = value[:LAYERS]
    return {"name": name, "tier": case["tier"], "metadata": {**metadata, count: LAYERS}}


def table_of(shape: dict[str, Any]) -> TensorTable:
    """The tensors of a shape in its tier."""
    return mixture_table(architecture_from_gguf(shape["metadata"]), shape["tier"])


def asked(shape: dict[str, Any], place: str) -> dict[str, Any]:
    """The case of a shape in one of the ``PLACES``."""
    how = {key: value for key, value in PLACES[place].items() if key != "workers"}
    return {**shape, "options": {"context": CONTEXT, **how}}


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


def printed(program: str, file: Path, shape: dict[str, Any], place: str) -> dict[str, float] | str:
    """Buffers in MiB by device and kind, or why llama.cpp refuses."""
    with serving(program, file, PLACES[place].get("workers", 0)) as addresses:
        arguments = [*options_of(asked(shape, place))[1], *(f"rpc={address}" for address in addresses)]
        try:
            return probe(program, file, arguments)
        except RuntimeError as problem:
            return " ".join(str(problem).split())[-160:]


def told(shape: dict[str, Any], place: str) -> dict[str, float]:
    """The same as fitcheck predicts them, under the names of devices that llama.cpp prints."""
    count = PLACES[place].get("workers", 0)
    addresses = tuple(f"127.0.0.1:{PORT + index}" for index in range(count))
    case = asked(shape, place)
    options, _, cards = options_of(case)
    ours = predicted(case, table_of(shape), options.with_(workers=addresses), count + cards)
    names = [*(f"RPC0[{one}]" for one in addresses), *(f"CUDA{index}" for index in range(cards))]
    renamed = {}
    for key, value in ours.items():
        device, _, kind = key.partition(" ")
        renamed[f"{names[int(device[4:])] if device.startswith('CUDA') else device} {kind}"] = value
    return renamed


def compared(shape: dict[str, Any], place: str, theirs: Mapping[str, float]) -> Compared:
    """The worst buffer of a cell, as a share and in words."""
    return worst(told(shape, place), theirs)


def ask(program: str, shape: dict[str, Any], places: list[str], cells: dict[str, Any]) -> None:
    """Fill ``cells`` with what llama.cpp says of the places."""
    if not places:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        write_sparse_gguf(file, shape["metadata"], table_of(shape))
        for place in places:
            cells[f"{shape['name']}: {place}"] = printed(program, file, shape, place)


def applies(shape: dict[str, Any], place: str) -> bool:
    """Whether the place is one for this shape at all."""
    return "cpu" not in PLACES[place] or any(tensor.role == "expert" for tensor in table_of(shape))


def main() -> None:
    """Compare the cells that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--places", default="")
    parser.add_argument("--again", action="store_true", help="ask llama.cpp for cells that are known too")
    tell(_cells(parser.parse_args()))


def _cells(given: argparse.Namespace) -> Iterator[Cell]:
    cells: dict[str, Any] = json.loads(PRINTED.read_text()) if PRINTED.exists() else {}
    for shape in map(shape_named, given.shapes.split(",")):
        places = [place for place in PLACES if given.places in place and applies(shape, place)]
        if given.probe:
            unknown = [place for place in places if given.again or f"{shape['name']}: {place}" not in cells]
            ask(given.probe, shape, unknown, cells)
            PRINTED.write_text(json.dumps(cells, indent=1, sort_keys=True) + "\n")
        for place in places:
            theirs = cells.get(f"{shape['name']}: {place}")
            if theirs is not None:
                yield Cell(f"{shape['name']} {place}", theirs, partial(compared, shape, place))


if __name__ == "__main__":
    main()
