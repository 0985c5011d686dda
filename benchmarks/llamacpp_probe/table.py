"""Architectures of which the catalog has no model, in a small shape of no model, against llama.cpp's own reservation.

A file of such an architecture is judged by the graph that fits its tensors. Here that graph is held against llama.cpp.
What llama.cpp printed is kept in table.json.

usage: python benchmarks/llamacpp_probe/table.py [--probe PROBE] [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cells import Cell, tell
from matrix import NEUTRAL, compared, printed

PRINTED = Path(__file__).with_name("table.json")
WAYS = ["full", "partial", "nofa"]
BASE: dict[str, Any] = {
    "block_count": 8,
    "context_length": 32768,
    "embedding_length": 2048,
    "feed_forward_length": 5632,
    "vocab_size": 32000,
    "attention.head_count": 16,
    "attention.head_count_kv": 4,
    "attention.key_length": 128,
    "attention.value_length": 128,
    "rope.dimension_count": 128,
}
_MIXTURE = {
    "expert_count": 16,
    "expert_used_count": 4,
    "expert_feed_forward_length": 1024,
    "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
}
_SHARED = {"expert_shared_count": 1, "expert_shared_feed_forward_length": 1024, "leading_dense_block_count": 1}
_WINDOW = {"attention.sliding_window": 1024}
_ALL_HEADS = {"attention.head_count_kv": 16}
_STATES = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 4096,
    "attention.head_count": 0,
    "feed_forward_length": 0,
}
_LATENT = {
    "attention.q_lora_rank": 768,
    "attention.kv_lora_rank": 256,
    "attention.key_length": 96,
    "attention.value_length": 64,
    "rope.dimension_count": 32,
    "attention.head_count_kv": 16,
}
_SPARSE = {
    **_MIXTURE,
    **_SHARED,
    "attention.q_lora_rank": 1536,
    "attention.kv_lora_rank": 512,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "rope.dimension_count": 64,
    "attention.head_count_kv": 1,
    "attention.indexer.head_count": 64,
    "attention.indexer.key_length": 128,
    "attention.indexer.top_k": 2048,
}
_NARROW = {
    "embedding_length": 768,
    "attention.head_count": 3,
    "attention.head_count_kv": 1,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "rope.dimension_count": 256,
}
_GATED = {**_MIXTURE, **_SHARED, **_WINDOW}
_EIGHTH_ATTENDS = [0, 0, 0, 0, 4, 0, 0, 0]
# layers by which llama.cpp tells Baichuan 7B, which turns by position, from 13B, which does not
SHAPES: dict[str, dict[str, Any]] = {
    "afmoe": _GATED,
    "baichuan": {"block_count": 32, **_ALL_HEADS},
    "bailingmoe": {**_MIXTURE, **_SHARED, "leading_dense_block_count": 0},
    "bloom": _ALL_HEADS,
    "chatglm": {},
    "cohere2moe": {**_MIXTURE, **_SHARED, **_WINDOW, "logit_scale": 1.0},
    "dbrx": {
        "expert_count": 16,
        "expert_used_count": 4,
        "feed_forward_length": 1024,
        "attention.clamp_kqv": 8.0,
    },
    "deepseek": {**_MIXTURE, **_SHARED},
    "deepseek32": _SPARSE,
    "dream": {},
    "exaone": {},
    "exaone-moe": {**_MIXTURE, **_SHARED, **_WINDOW},
    "falcon": {},
    "gemma": {},
    "gemma-embedding": {"attention.sliding_window": 512, "feed_forward_length": 1152, **_NARROW},
    "gemma3n": {
        "block_count": 30,
        "embedding_length_per_layer_input": 256,
        "attention.head_count": 8,
        "attention.head_count_kv": 2,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "rope.dimension_count": 256,
        "attention.sliding_window": 512,
    },
    "gpt2": _ALL_HEADS,
    "gptneox": {**_ALL_HEADS, "use_parallel_residual": True},
    "granitemoe": {
        "expert_count": 16,
        "expert_used_count": 4,
        "feed_forward_length": 1024,
        "logit_scale": 1.0,
        "residual_scale": 1.0,
        "embedding_scale": 1.0,
        "attention.scale": 0.1,
    },
    "granite_swa": {
        **_WINDOW,
        "attention.sliding_window_pattern": [1, 1, 1, 0] * 2,
        "logit_scale": 1.0,
        "residual_scale": 1.0,
        "embedding_scale": 1.0,
        "attention.scale": 0.1,
    },
    "grok": {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 2048},
    "jamba": {
        **_STATES,
        "ssm.state_size": 16,
        "ssm.time_step_rank": 128,
        "attention.head_count": 16,
        "attention.head_count_kv": _EIGHTH_ATTENDS,
        "feed_forward_length": 2048,
        "expert_count": 16,
        "expert_used_count": 2,
        "interleave_moe_layer_step": 2,
    },
    "laguna": _GATED,
    "lfm2moe": {
        **_MIXTURE,
        "leading_dense_block_count": 1,
        "shortconv.l_cache": 3,
        "attention.head_count_kv": [0, 0, 4, 0, 0, 4, 0, 4],
    },
    "mamba": {**_STATES, "ssm.state_size": 16, "ssm.time_step_rank": 128},
    "mamba2": {**_STATES, "ssm.state_size": 128, "ssm.time_step_rank": 64, "ssm.group_count": 1},
    "mellum": {**_MIXTURE, **_WINDOW},
    "minicpm3": _LATENT,
    "mpt": _ALL_HEADS,
    "nemotron": {},
    "olmo": {},
    "orion": {},
    "plamo2": {
        **_STATES,
        "ssm.state_size": 64,
        "ssm.time_step_rank": 32,
        "ssm.group_count": 0,
        "attention.head_count": 16,
        "attention.head_count_kv": _EIGHTH_ATTENDS,
        "feed_forward_length": 4096,
    },
    "plamo3": _WINDOW,
    "qwen": _ALL_HEADS,
    "qwen2moe": {**_MIXTURE, **_SHARED, "leading_dense_block_count": 0},
    "smallthinker": {**_MIXTURE, **_WINDOW},
    "stablelm": {},
    "starcoder": {},
    "step35": {**_MIXTURE, **_SHARED, **_WINDOW, "attention.sliding_window_pattern": [1, 1, 1, 0] * 2},
    "xverse": {},
}
_LAYER_NORMED = ("bloom", "dbrx", "falcon", "gpt2", "gptneox", "mpt", "nemotron", "orion", "stablelm", "starcoder")


def shape_of(name: str) -> dict[str, Any]:
    """The architecture's shape as a case of the matrix."""
    left_out = ["rope.dimension_sections"]
    left_out += ["attention.layer_norm_rms_epsilon"] if name in _LAYER_NORMED else []
    keys = {**NEUTRAL, "attention.layer_norm_rms_epsilon": 1e-6, **BASE, **SHAPES[name]}
    metadata = {f"{name}.{key}": value for key, value in keys.items() if key not in left_out}
    return {"name": name, "tier": "Q4_K_M", "metadata": {"general.architecture": name, **metadata}}


def main() -> None:
    """Compare the cells that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe")
    parser.add_argument("--only", default=",".join(SHAPES))
    tell(_cells(parser.parse_args()))


def _cells(given: argparse.Namespace) -> Iterator[Cell]:
    cells: dict[str, Any] = json.loads(PRINTED.read_text()) if PRINTED.exists() else {}
    for name in given.only.split(","):
        shape = shape_of(name)
        if given.probe:
            cells |= dict(printed(given.probe, shape, WAYS, cells))
            PRINTED.write_text(json.dumps(cells, indent=1, sort_keys=True) + "\n")
        for way in WAYS:
            theirs = cells.get(f"{name} {way}")
            if theirs is not None:
                yield Cell(f"{name} {way}", theirs, partial(compared, shape, way))


if __name__ == "__main__":
    main()
