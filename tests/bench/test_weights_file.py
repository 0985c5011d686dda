from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from bench.engines.sensenova.scaled_down import tensor_table_of
from bench.engines.sensenova.weights_file import table_of, tier_of_file
from bench.job import Job, Request
from bench.jobs import jobs_of
from bench.predict import machine_seen, predict
from fitcheck.errors import InputError
from fitcheck.models import catalog
from fitcheck.models.quant import TYPES
from fitcheck.models.tensors import TensorTable

MODEL = "sensenova-u1-8b-mot"


def header_only(path: Path, table: TensorTable) -> str:
    """A file with the true header of ``table`` and sparse zeros for data: tens of gigabytes that take no disk."""
    writer = gguf.GGUFWriter(path, "sensenova")
    for tensor in table:
        kind = gguf.GGMLQuantizationType[tensor.type]
        writer.add_tensor_info(
            tensor.name, _bytes_shape(tensor.shape, tensor.type), np.dtype(np.uint8), tensor.nbytes, kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(-(-size // 32) * 32 + sum(-(-tensor.nbytes // 32) * 32 for tensor in table))
    return str(path)


def _bytes_shape(shape: tuple[int, ...], kind: str) -> tuple[int, ...]:
    quant = TYPES[kind]
    return (*shape[:-1], shape[-1] // quant.block * quant.block_bytes)


def tier_table(name: str) -> TensorTable:
    tier = catalog.get(MODEL).tier(name)
    assert tier is not None
    return tier.tensors


def test_a_file_is_known_by_its_table_and_not_by_its_name(tmp_path: Path) -> None:
    path = header_only(tmp_path / "model-Q8_0.gguf", tier_table("Q6_K"))
    assert tier_of_file(path, catalog.get(MODEL)) == "Q6_K"
    (cell,) = jobs_of(Request.of(MODEL, gguf=path))
    assert cell.tier == "Q6_K"
    assert table_of(cell).digest == tier_table("Q6_K").digest
    synthetic = Job(cell.model, cell.tier, cell.placement, cell.workload)
    assert predict(cell, machine_seen(None, None), True) == predict(synthetic, machine_seen(None, None), True)


def test_another_models_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    other = catalog.get("sensenova-u1-a3b-mot").tiers[0].tensors
    path = header_only(tmp_path / "SenseNova-U1-8B-MoT-Q4_K_S.gguf", other)
    with pytest.raises(InputError, match=r"another model's file|not this model's file"):
        jobs_of(Request.of(MODEL, gguf=path))
    with pytest.raises(InputError, match=r"another model's file|not this model's file"):
        jobs_of(Request.of(MODEL, tiers=("BF16",), gguf=path))


def test_a_file_of_no_known_tier_asks_what_to_count_it_as(tmp_path: Path) -> None:
    half = TensorTable(
        type(t)(
            t.name,
            t.shape,
            "Q8_0" if t.layer is not None and t.layer < 20 and t.type == "Q6_K" else t.type,
            t.role,
            t.layer,
            t.branch,
        )
        for t in tier_table("Q6_K")
    )
    path = header_only(tmp_path / "mixed.gguf", half)
    with pytest.raises(InputError, match=r"none of .* tiers; say which one .* --tier, the nearest is"):
        jobs_of(Request.of(MODEL, gguf=path))
    (cell,) = jobs_of(Request.of(MODEL, tiers=("Q6_K",), gguf=path))
    assert table_of(cell).nbytes == half.nbytes != tensor_table_of(cell).nbytes
