"""Storage types of tensors: plain dtypes and GGML block quantizations, with their exact sizes.

Block sizes are those of ggml's type traits (ggml/src/ggml-common.h); a test holds them equal to the ``gguf`` package.
Those of ik_llama.cpp are from its gguf-py/gguf/constants.py, read 2026-11-26; a few of its types keep 2 to 4 more bytes
a row, a thousandth of it, which are not counted.
"""

from __future__ import annotations

from math import prod

from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class QuantType:
    """``block_bytes`` bytes hold ``block`` consecutive elements of the last (fastest) dimension. ``reads`` names the
    one program that reads a type that llama.cpp does not; "" where it does, "nothing" for what it once did."""

    name: str
    block: int
    block_bytes: int
    ggml_id: int | None = None
    reads: str = ""

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage for each element, block scales included."""
        return 8 * self.block_bytes / self.block

    @property
    def quantized(self) -> bool:
        """Whether elements share a block with a scale; plain dtypes stand alone."""
        return self.block > 1


# name, elements a block, bytes a block, ggml type number
_GGML = [
    ("F32", 1, 4, 0),
    ("F16", 1, 2, 1),
    ("Q4_0", 32, 18, 2),
    ("Q4_1", 32, 20, 3),
    ("Q5_0", 32, 22, 6),
    ("Q5_1", 32, 24, 7),
    ("Q8_0", 32, 34, 8),
    ("Q8_1", 32, 40, 9),
    ("Q2_K", 256, 84, 10),
    ("Q3_K", 256, 110, 11),
    ("Q4_K", 256, 144, 12),
    ("Q5_K", 256, 176, 13),
    ("Q6_K", 256, 210, 14),
    ("Q8_K", 256, 292, 15),
    ("IQ2_XXS", 256, 66, 16),
    ("IQ2_XS", 256, 74, 17),
    ("IQ3_XXS", 256, 98, 18),
    ("IQ1_S", 256, 50, 19),
    ("IQ4_NL", 32, 18, 20),
    ("IQ3_S", 256, 110, 21),
    ("IQ2_S", 256, 82, 22),
    ("IQ4_XS", 256, 136, 23),
    ("I8", 1, 1, 24),
    ("I16", 1, 2, 25),
    ("I32", 1, 4, 26),
    ("I64", 1, 8, 27),
    ("F64", 1, 8, 28),
    ("IQ1_M", 256, 56, 29),
    ("BF16", 1, 2, 30),
    ("TQ1_0", 256, 54, 34),
    ("TQ2_0", 256, 66, 35),
    ("MXFP4", 32, 17, 39),
    ("NVFP4", 64, 36, 40),
    ("Q1_0", 128, 18, 41),
]
FORK = "a fork"
NOTHING = "nothing"
_FORK = [
    ("I2_S", 1, 1, 36), ("Q6_0", 32, 26, 133), ("IQ1_BN", 64, 13, 134), ("IQ2_BN", 64, 16, 135),
    ("IQ2_K", 256, 76, 137), ("IQ3_K", 256, 110, 138), ("IQ4_K", 256, 144, 139), ("IQ5_K", 256, 176, 140),
    ("IQ6_K", 256, 212, 141), ("IQ4_KS", 256, 136, 144), ("IQ2_KS", 256, 70, 145), ("IQ4_KSS", 256, 128, 146),
    ("Q8_KV", 32, 32, 151), ("IQ5_KS", 256, 168, 152), ("IQ2_KT", 256, 68, 153), ("IQ3_KT", 256, 100, 154),
    ("IQ4_KT", 256, 128, 155), ("IQ3_KS", 256, 102, 156), ("IQ2_KL", 256, 86, 157), ("IQ1_KT", 256, 56, 158),
    ("Q4_0_R8", 32, 18, 202), ("Q5_0_R4", 32, 22, 206), ("Q8_0_R8", 32, 34, 208), ("Q2_K_R4", 256, 84, 210),
    ("Q3_K_R4", 256, 110, 211), ("Q4_K_R4", 256, 144, 212), ("Q5_K_R4", 256, 176, 213), ("Q6_K_R4", 256, 210, 214),
    ("IQ2_XXS_R4", 256, 66, 216), ("IQ2_XS_R4", 256, 74, 217), ("IQ3_XXS_R4", 256, 98, 218), ("IQ1_S_R4", 32, 6, 219),
    ("IQ4_NL_R4", 32, 18, 220), ("IQ3_S_R4", 256, 110, 221), ("IQ2_S_R4", 256, 82, 222), ("IQ4_XS_R8", 256, 136, 223),
    ("IQ1_M_R4", 32, 7, 229), ("BF16_R16", 1, 2, 230), ("Q6_0_R4", 32, 26, 233), ("IQ2_BN_R4", 64, 16, 335),
    ("IQ2_K_R4", 256, 76, 337), ("IQ3_K_R4", 256, 110, 338), ("IQ4_K_R4", 256, 144, 339), ("IQ5_K_R4", 256, 176, 340),
    ("IQ4_KS_R4", 256, 136, 344), ("IQ5_KS_R4", 256, 168, 352), ("Q8_KV_R8", 32, 32, 398), ("Q8_K_R8", 256, 258, 399),
]  # fmt: skip
# repacked on disk until late 2024; today's llama.cpp repacks Q4_0 itself and refuses these (ggml.h, "removed from gguf
# files"); the fork's file lists them still
_RETIRED = [("Q4_0_4_4", 32, 18, 31), ("Q4_0_4_8", 32, 18, 32), ("Q4_0_8_8", 32, 18, 33)]
# safetensors dtypes that ggml does not have (huggingface/safetensors, safetensors/src/tensor.rs); F4 and F6 are packed
_OTHER = [
    ("F8_E4M3", 1, 1),
    ("F8_E5M2", 1, 1),
    ("F8_E8M0", 1, 1),
    ("F8_E4M3FNUZ", 1, 1),
    ("F8_E5M2FNUZ", 1, 1),
    ("F4", 2, 1),
    ("F6_E2M3", 4, 3),
    ("F6_E3M2", 4, 3),
    ("U8", 1, 1),
    ("U16", 1, 2),
    ("U32", 1, 4),
    ("U64", 1, 8),
    ("C64", 1, 8),
    ("BOOL", 1, 1),
]

TYPES: dict[str, QuantType] = {
    row[0]: QuantType(*row, reads=reads)
    for rows, reads in ((_GGML, ""), (_FORK, FORK), (_RETIRED, NOTHING))
    for row in rows
} | {row[0]: QuantType(*row) for row in _OTHER}
BY_GGML_ID: dict[int, QuantType] = {t.ggml_id: t for t in TYPES.values() if t.ggml_id is not None}

SAFETENSORS_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64"} | {row[0] for row in _OTHER})


def tensor_bytes(shape: tuple[int, ...], quant: QuantType) -> int:
    """Bytes of a tensor of ``shape`` (row-major, last dimension fastest) stored as ``quant``.

    Raises ValueError when the last dimension is not a whole number of blocks.
    """
    if shape and shape[-1] % quant.block:
        raise ValueError(f"last dimension {shape[-1]} is not a multiple of {quant.name}'s block of {quant.block}")
    return prod(shape) // quant.block * quant.block_bytes


BASE = {
    "F32": "F32", "F16": "F16", "BF16": "BF16", "Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0",
    "Q5_1": "Q5_1", "Q2_K": "Q2_K", "Q2_K_S": "Q2_K", "Q3_K_S": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_L": "Q3_K",
    "Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K", "Q6_K": "Q6_K", "IQ1_S": "IQ1_S",
    "IQ1_M": "IQ1_M", "IQ2_XXS": "IQ2_XXS", "IQ2_XS": "IQ2_XS", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S",
    "IQ3_XXS": "IQ3_XXS", "IQ3_XS": "IQ3_S", "IQ3_S": "IQ3_S", "IQ3_M": "IQ3_S", "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS", "TQ1_0": "TQ1_0", "TQ2_0": "TQ2_0", "MXFP4": "MXFP4", "MXFP4_MOE": "MXFP4",
}  # fmt: skip
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32"}
