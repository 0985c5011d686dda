"""A GGUF file with a catalog model's real shapes and types and random valid blocks: its speed is real, its text is not.

usage: PYTHONPATH=.:benchmarks/llamacpp_probe python benchmarks/llamacpp_builds/filled_gguf.py MODEL TIER FILE
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from run import write_sparse_gguf

from fitcheck.models.families.language import __file__ as language
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import Tensor

# where a block's half-precision scales lie (ggml-common.h: block_q4_K and the others), and what they are set to
_SCALES = {
    "Q4_0": (0,), "Q5_0": (0,), "Q8_0": (0,), "Q4_1": (0, 2), "Q5_1": (0, 2),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "IQ4_NL": (0,), "IQ4_XS": (0,), "IQ3_S": (0,), "IQ3_XXS": (0,), "IQ2_S": (0,), "IQ2_XS": (0,), "IQ2_XXS": (0,),
}  # fmt: skip
_SCALE = np.float16(0.002)
# block_mxfp4 begins with an exponent: 2^(118 - 127)
_MXFP4_EXPONENT = 118
# llama.h: enum llama_ftype
_FILE_TYPE = {
    "Q4_0": 2, "Q8_0": 7, "Q5_0": 8, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16,
    "Q5_K_M": 17, "Q6_K": 18, "IQ2_XXS": 19, "IQ2_XS": 20, "IQ3_XXS": 23, "IQ4_NL": 25, "IQ3_S": 26, "IQ2_S": 28,
    "IQ2_M": 29, "IQ4_XS": 30, "BF16": 32, "MXFP4": 38,
}  # fmt: skip
SEED = 20_251_126


def main(model: str, tier: str, path: Path) -> None:
    """Writes the file."""
    models = json.loads((Path(language).parent / "data" / "language_models.json").read_text("utf-8"))["models"]
    metadata, tied = dict(models[model]["metadata"]), models[model].get("tied_embeddings", False)
    tensors = mixture_table(replace(architecture_from_gguf(metadata), tied_embeddings=tied), tier)
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
    if tensor.quant.name in ("F16", "BF16"):
        return halves(tensor, generator)
    size = tensor.quant.block_bytes
    raw = np.frombuffer(generator.bytes(tensor.nbytes), np.uint8).reshape(-1, size).copy()
    if tensor.quant.name == "MXFP4":
        raw[:, 0] = _MXFP4_EXPONENT
        return raw
    for place in _SCALES[tensor.quant.name]:
        raw[:, place : place + 2] = np.frombuffer(_SCALE.tobytes(), np.uint8)
    return raw


def halves(tensor: Tensor, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """16-bit weights around nought: the upper half of a float is a bfloat16."""
    values = generator.standard_normal(tensor.nbytes // 2, np.float32) * np.float32(0.02)
    if tensor.quant.name == "F16":
        return values.astype(np.float16)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
