import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from fitcheck.models.quant import BY_GGML_ID, TYPES, tensor_bytes


@pytest.mark.parametrize("kind", list(GGMLQuantizationType), ids=lambda kind: kind.name)
def test_block_sizes_are_ggml_s(kind: GGMLQuantizationType) -> None:
    block, size = GGML_QUANT_SIZES[kind]
    ours = BY_GGML_ID[kind.value]
    assert (ours.name, ours.block, ours.block_bytes) == (kind.name, block, size)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("Q2_K", 2.625), ("Q3_K", 3.4375), ("Q4_K", 4.5), ("Q5_K", 5.5), ("Q6_K", 6.5625), ("Q8_0", 8.5), ("BF16", 16)],
)
def test_bits_per_weight(name: str, bits: float) -> None:
    assert TYPES[name].bits_per_weight == bits


def test_tensor_bytes() -> None:
    assert tensor_bytes((12288, 4096), TYPES["Q4_K"]) == 12288 * 4096 // 256 * 144
    assert tensor_bytes((), TYPES["F32"]) == 4
    with pytest.raises(ValueError, match="multiple"):
        tensor_bytes((4, 100), TYPES["Q6_K"])
