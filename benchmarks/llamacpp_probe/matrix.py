"""Every modelled architecture in every way that people place a model, against llama.cpp's own reservation.

One shape of each architecture of the catalog, and those of cases.json. What llama.cpp printed is kept in printed.json,
so that predictions are compared again without it.

usage: python benchmarks/llamacpp_probe/matrix.py [--probe PROBE] [--shapes NAME,NAME] [--ways WAY,WAY] [--again]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from cells import Cell, Compared, tell, worst
from run import CASES, options_of, predicted, probe, write_sparse_gguf

from fitcheck.errors import NotModelledError, OptionError
from fitcheck.models.families.language.known_models import known_language_model, known_language_models, language_entry
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import TensorTable

PRINTED = Path(__file__).with_name("printed.json")
CONTEXT = 8192
WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "partial": {"gpu_layers": 10},
    "experts": {"cpu": ["exps"]},
    "two": {"cards": 2},
    "q8": {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "nofa": {"flash_attention": False},
    "tensor": {"cards": 2, "split_mode": "tensor"},
}
# with tensor split the weights are really read from the file, holes and all
MOST_READ = 6 << 30
# what llama.cpp asks of a file and memory does not depend on
NEUTRAL: dict[str, Any] = {
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.layer_norm_epsilon": 1e-6,
    "attention.group_norm_epsilon": 1e-6,
    "rope.dimension_sections": [16, 24, 24, 0],
    "expert_gating_func": 2,
    "interleave_moe_layer_step": 1,
    "embedding_length_per_layer_input": 0,
    "logit_scale": 1.0,
}
# models whose layers have parts that the smallest one of their architecture lacks
BESIDE = ("gemma-4-e2b", "gemma-4-e4b", "gemma-4-26b-a4b", "llama-4-scout", "nemotron-3-super-120b-a12b", "hunyuan-7b")

# cells not within the limit, with the largest error that they may have: a likeness in these buffers
OFF = {
    "nomic-embed-text-v1.5": 0.14,  # encoders' attention of a whole batch, and their split over cards
    "all-minilm-l6-v2": 0.16,
    "gemma-4-e2b two": 0.014,  # one tensor as large as the stream on the first card
    "gemma-4-e4b two": 0.021,
    "llama-4-scout partial": 0.007,
}


def known_error(name: str, way: str) -> float:
    """What a cell may be off by, of all ways of a shape or of one."""
    return OFF.get(name, OFF.get(f"{name} {way}", 0.0))


def shapes() -> Iterator[dict[str, Any]]:
    """The first case of each name, then one model, the smallest, of each architecture that is not among them, and those
    ``BESIDE``."""
    seen: set[str] = set()
    architectures: set[str] = set()
    for case in json.loads(CASES.read_text()):
        name = case["name"].split()[0]
        if name not in seen:
            seen.add(name)
            architectures.add(case["metadata"]["general.architecture"])
            yield {**case, "name": name}
    entries = [language_entry(slug) for slug in known_language_models()]
    for entry in sorted(entries, key=lambda one: (one.parameters or 1 << 60, one.slug)):
        if entry.architecture not in architectures or entry.slug in BESIDE:
            architectures.add(entry.architecture)
            neutral = {f"{entry.architecture}.{key}": value for key, value in NEUTRAL.items()}
            neutral["tokenizer.ggml.token_type_count"] = 2
            neutral |= {f"xielu.{key}": 0.5 for key in ("alpha_n", "alpha_p", "beta", "eps")}
            shared = known_language_model(entry.slug).shared_feed_forward
            if shared:
                neutral[f"{entry.architecture}.expert_shared_feed_forward_length"] = shared
            yield {"name": entry.slug, "tier": "Q4_K_M", "metadata": {**neutral, **entry.metadata}}


def asked(shape: dict[str, Any], way: str) -> dict[str, Any]:
    """The case of a shape placed in one of the ``WAYS``."""
    return {**shape, "options": {"context": CONTEXT, **WAYS[way]}}


def applies(shape: dict[str, Any], way: str, table: TensorTable) -> bool:
    """Whether the way is one for this shape at all."""
    if way == "experts":
        return any(tensor.role == "expert" for tensor in table)
    return way != "tensor" or table.nbytes < MOST_READ


def printed(program: str, shape: dict[str, Any], ways: list[str], known: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(cell, buffers by name or the refusal) of the ways that are not known yet."""
    table = table_of(shape)
    wanted = [way for way in ways if f"{shape['name']} {way}" not in known and applies(shape, way, table)]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        write_sparse_gguf(file, shape["metadata"], table)
        for way in wanted:
            try:
                _, arguments, _ = options_of(asked(shape, way))
                yield f"{shape['name']} {way}", probe(program, file, arguments)
            except RuntimeError as problem:
                yield f"{shape['name']} {way}", " ".join(str(problem).split())[-160:]


def table_of(shape: dict[str, Any]) -> TensorTable:
    """The tensors of a shape in its tier."""
    return _table(json.dumps(shape["metadata"]), shape["tier"])


@cache
def _table(metadata: str, tier: str) -> TensorTable:
    return mixture_table(architecture_from_gguf(json.loads(metadata)), tier)


def compared(shape: dict[str, Any], way: str, theirs: Mapping[str, float]) -> Compared:
    """The worst buffer of a cell, as a share and in words."""
    case = asked(shape, way)
    options, _, cards = options_of(case)
    try:
        ours = predicted(case, table_of(shape), options, cards)
    except (OptionError, NotModelledError) as problem:
        return 1.0, f"refused here: {problem}"
    return worst(ours, theirs)


def main() -> None:
    """Compare the cells that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe")
    parser.add_argument("--shapes", default="")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--again", action="store_true", help="ask llama.cpp for cells that are known too")
    tell(_cells(parser.parse_args()))


def _cells(given: argparse.Namespace) -> Iterator[Cell]:
    ways = given.ways.split(",")
    held: dict[str, Any] = json.loads(PRINTED.read_text()) if PRINTED.exists() else {"cells": {}}
    cells = held["cells"]
    for shape in shapes():
        if given.shapes and shape["name"] not in given.shapes.split(","):
            continue
        if given.probe:
            for cell, answer in printed(given.probe, shape, ways, {} if given.again else cells):
                cells[cell] = answer
                PRINTED.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
        for way in ways:
            theirs = cells.get(f"{shape['name']} {way}")
            if theirs is not None:
                yield Cell(
                    f"{shape['name']} {way}", theirs, partial(compared, shape, way), known_error(shape["name"], way)
                )


if __name__ == "__main__":
    main()
