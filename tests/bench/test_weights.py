"""Synthetic weights are valid and repeatable, and a real file gives the same run as the same bytes made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")
pytest.importorskip("diffusers")

import torch
from tiny_engine import MODEL, T2I, Watch, run

from bench.engines.sensenova.scaled_down import tensor_table_of
from bench.engines.sensenova.weight_sources import SYNTHETIC_BLOCKS, SyntheticSource, runtime_bytes
from bench.job import Job
from fitcheck.errors import InputError
from fitcheck.memory.allocator_blocks import pinned_block
from fitcheck.models.tensors import Tensor
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import placement_of, upstream


def read(source: SyntheticSource, tensor: Tensor) -> torch.Tensor:
    into = torch.empty(runtime_bytes(tensor), dtype=torch.uint8)
    source.read(tensor, into)
    return into


@pytest.mark.parametrize("kind", sorted(SYNTHETIC_BLOCKS))
def test_blocks_are_finite_centred_and_of_the_size_of_weights(kind: str) -> None:
    from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor

    tensor = Tensor("blk", (512, 2048), kind, "mlp")
    raw = read(SyntheticSource([tensor], 0), tensor).view(512, -1)
    ours = dequantize_gguf_tensor(GGUFParameter(raw, quant_type=gguf.GGMLQuantizationType[kind])).float()
    theirs = gguf.quants.dequantize(raw.numpy(), gguf.GGMLQuantizationType[kind])
    assert ours.shape == (512, 2048)
    assert bool(ours.isfinite().all())
    assert abs(float(ours.std()) - 0.02) < 0.001
    assert abs(float(ours.mean())) < 0.0025  # Q4_0 and Q5_0 reach one step further down than up
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-3)


def test_plain_weights_norms_and_repeatability() -> None:
    weight = Tensor("a.weight", (300, 1000), "BF16", "mlp")
    other = Tensor("b.weight", (300, 1000), "BF16", "mlp")
    norm = Tensor("c.weight", (4096,), "F32", "norm")
    first, again, seeded = (SyntheticSource([weight, other, norm], seed) for seed in (0, 0, 1))
    values = read(first, weight).view(torch.bfloat16).float()
    assert abs(float(values.std()) - 0.02) < 0.0005
    assert abs(float(read(first, norm).view(torch.bfloat16).float().mean()) - 1) < 0.002
    assert torch.equal(read(first, weight), read(again, weight))
    assert not torch.equal(read(first, weight), read(first, other))
    assert not torch.equal(read(first, weight), read(seeded, weight))


def test_a_type_without_generator_is_refused() -> None:
    with pytest.raises(InputError, match="--gguf"):
        SyntheticSource([Tensor("x", (1, 256), "IQ2_XS", "mlp")], 0)


@pytest.mark.parametrize(("nbytes", "rounded"), [(1, 1), (128, 128), (129, 256), (100 << 20, 128 << 20)])
def test_pinned_rounding(nbytes: int, rounded: int) -> None:
    assert pinned_block(nbytes) == rounded


def write_gguf(path: Path, cell: Job, drop: str = "") -> None:
    """The cell's synthetic weights as a file: blocks as they are, bf16 kept, norms and convolutions widened to F32."""
    table = tensor_table_of(cell)
    source = SyntheticSource(table, cell.seed)
    writer = gguf.GGUFWriter(path, "sensenova")
    for tensor in table:
        if tensor.name == drop:
            continue
        raw = read(source, tensor)
        if tensor.quant.quantized:
            kind = gguf.GGMLQuantizationType[tensor.type]
            writer.add_tensor(tensor.name, raw.view(*tensor.shape[:-1], -1).numpy(), raw_dtype=kind)
        elif tensor.type == "BF16":
            rows = raw.view(*tensor.shape[:-1], -1).numpy()
            writer.add_tensor(tensor.name, rows, raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(tensor.name, raw.view(torch.bfloat16).float().view(tensor.shape).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_real_file_runs_as_its_bytes_do(tmp_path: Path) -> None:
    from bench.engines.sensenova.engine import PictureEngine

    cell = Job(MODEL, "Q4_K_S", placement_of(upstream("balanced", policy="ring")), T2I, device="cpu", tiny=True)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, cell)
    real = Job(
        MODEL, "Q4_K_S", placement_of(upstream("balanced", policy="ring")), T2I, device="cpu", gguf=str(path), tiny=True
    )
    engine = PictureEngine(real)
    load = engine.load(Watch())
    report = engine.run(Watch())
    synthetic_load, synthetic, _, _ = run(upstream("full"), tier="Q4_K_S")
    assert load.weights == "real"
    assert load.table_digest == synthetic_load.table_digest
    assert load.weight_bytes == synthetic_load.weight_bytes
    assert report.output_digest == synthetic.output_digest


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    from bench.engines.sensenova.engine import PictureEngine

    cell = Job(MODEL, "Q8_0", placement_of(upstream("low")), T2I, device="cpu", tiny=True)
    missing = tmp_path / "missing.gguf"
    write_gguf(missing, cell, drop="language_model.lm_head.weight")
    other = tmp_path / "other.gguf"
    write_gguf(other, Job("sensenova-u1.5-8b-mot", "Q8_0", placement_of(upstream("low")), T2I, device="cpu", tiny=True))
    for path in (missing, other, tmp_path / "absent.gguf"):
        engine = PictureEngine(
            Job(MODEL, "Q8_0", placement_of(upstream("low")), T2I, device="cpu", gguf=str(path), tiny=True)
        )
        with pytest.raises(InputError, match=path.name):
            engine.load(Watch())
    full_size = PictureEngine(
        Job(MODEL, "Q8_0", placement_of(upstream("low")), Workload(Task.T2I), device="cpu", gguf=str(other))
    )
    with pytest.raises(InputError, match=r"shape|no tensor"):
        full_size.load(Watch())
