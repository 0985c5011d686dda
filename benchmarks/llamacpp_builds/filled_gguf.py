"""A GGUF file with a catalog model's real shapes and types and random valid blocks: its speed is real, its text is not.

usage: PYTHONPATH=.:benchmarks/llamacpp_probe python benchmarks/llamacpp_builds/filled_gguf.py MODEL TIER FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from run import write_sparse_gguf

from fitcheck.models.families.language import __file__ as language
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import Tensor

# where a block's half-precision scales lie (ggml-common.h: block_q4_K, block_q6_K), and what they are set to
_SCALES = {"Q4_K": (0, 2), "Q6_K": (208,)}
_SCALE = np.float16(0.002)
_FILE_TYPE = {"Q4_K_M": 15}
SEED = 20_251_126


def main(model: str, tier: str, path: Path) -> None:
    """Writes the file."""
    models = json.loads((Path(language).parent / "data" / "language_models.json").read_text("utf-8"))["models"]
    metadata = dict(models[model]["metadata"])
    tensors = mixture_table(architecture_from_gguf(metadata), tier)
    metadata.setdefault(f"{metadata['general.architecture']}.attention.layer_norm_rms_epsilon", 1e-5)
    metadata |= {"general.file_type": _FILE_TYPE[tier], "general.name": model}
    write_sparse_gguf(path, metadata, tensors)
    padded = [-(-tensor.nbytes // 32) * 32 for tensor in tensors]
    generator = np.random.default_rng(SEED)
    with path.open("r+b") as file:
        place = path.stat().st_size - sum(padded)
        for tensor, size in zip(tensors, padded, strict=True):
            file.seek(place)
            file.write(blocks(tensor, generator).tobytes())
            place += size


def blocks(tensor: Tensor, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """The tensor's bytes. Raises KeyError for a type that has no layout here."""
    if tensor.quant.name == "F32":
        return np.ones(tensor.nbytes // 4, np.float32)
    scales, size = _SCALES[tensor.quant.name], tensor.quant.block_bytes
    raw = np.frombuffer(generator.bytes(tensor.nbytes), np.uint8).reshape(-1, size).copy()
    for place in scales:
        raw[:, place : place + 2] = np.frombuffer(_SCALE.tobytes(), np.uint8)
    return raw


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
