"""Weights that llama.cpp copies for the processor: buffers as it printed them, and what follows for system memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.repacked import Repacked, repacked
from fitcheck.units import GIB, MIB

RECORDS = sorted((Path(__file__).parents[3] / "results" / "cpu").glob("*/*.json"))
# printed by llama.cpp 0c1e57098 (benchmarks/llamacpp_probe, cards=0 repack=1), a build with AVX2 and no AVX-512:
# (CPU_REPACK, CPU_Mapped) in MiB
WITH_AVX2 = {
    ("llama-3.2-1b", "Q4_K_M"): (445.50, 762.81),
    ("lfm2-350m", "Q4_0"): (154.12, 199.28),
    ("ernie-4.5-0.3b", "Q2_K"): (2.53, 172.93),
}


def copies(slug: str, tier: str, name: str) -> Repacked:
    architecture = known_language_model(slug)
    found = repacked(architecture, mixture_table(architecture, tier), predicts=False)
    return next(one for one in found if one.name == name)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_the_buffers_measured_with_amx(path: Path) -> None:
    record: dict[str, Any] = json.loads(path.read_text())
    printed = {one["device"]: one["bytes"] / MIB for one in record["buffers"] if one["kind"] == "model"}
    found = copies(record["model"]["slug"], record["model"]["tier"], "AMX")
    assert found.tiles / MIB == pytest.approx(printed["AMX"], abs=0.01)
    assert found.rows / MIB == pytest.approx(printed.get("CPU_REPACK", 0.0), abs=0.01)
    assert found.span / MIB == pytest.approx(printed["CPU_Mapped"], abs=0.01)


@pytest.mark.parametrize(("model", "printed"), WITH_AVX2.items(), ids=lambda one: str(one[0]))
def test_the_buffers_printed_with_avx2(model: tuple[str, str], printed: tuple[float, float]) -> None:
    found = copies(*model, "AVX2")
    assert found.tiles == 0
    assert (found.rows / MIB, found.span / MIB) == pytest.approx(printed, abs=0.01)


@pytest.mark.parametrize("slug", ["llama-3.1-8b", "qwen3.5-27b", "deepseek-r1", "gemma-3-27b"])
@pytest.mark.parametrize("predicts", [False, True])
def test_layers_alike_are_copied_as_a_file_in_its_own_order(slug: str, predicts: bool) -> None:
    """What is worked out once for layers alike is what walking every tensor of a file says."""
    architecture = known_language_model(slug)
    for tier in ("Q4_K_M", "Q2_K", "IQ4_XS"):
        table = mixture_table(architecture, tier)
        assert table.layered is not None
        found = repacked(architecture, table, predicts)
        assert found == repacked(architecture, TensorTable(table), predicts)
        assert any(one.buffers for one in found)


def run(cards: int = 0, tier: str = "Q4_K_M", **options: Any) -> LlamaEstimate:
    architecture = known_language_model("llama-3.1-8b")
    asked = LlamaOptions(sequences=1, context=2048, **options)
    return estimate(architecture, mixture_table(architecture, tier), asked, vram=[24 * GIB] * cards)


def test_what_is_copied_is_needed_and_no_longer_read_from_the_file() -> None:
    copied, plain = run(), run(repack=False)
    usual = copied.copied[0]
    before, after = plain.footprint.host, copied.footprint.host
    assert after.process - before.process == usual.buffers
    assert before.pageable - after.pageable == usual.again
    assert copied.host.weights == usual.buffers + usual.span
    # whatever the processor, at least the smaller copy has to be there
    assert after.total.low - before.total.low == min(one.buffers for one in copied.copied) == 3204 * MIB
    assert after.total.high > before.total.high


def test_pages_that_are_locked_stay_beside_the_copy() -> None:
    free, locked = run().footprint.host.total, run(mlock=True).footprint.host.total
    assert locked.best - free.best == run().copied[0].again


def test_a_file_read_into_memory_is_there_once() -> None:
    mapped, loaded = run(), run(mmap=False)
    assert loaded.footprint.host.total.best == mapped.footprint.host.total.best
    assert loaded.host.weights < mapped.host.weights


def test_nothing_is_copied_beside_a_card_or_where_it_is_not_wanted() -> None:
    assert run(cards=1, gpu_layers=0).copied == ()
    assert run(repack=False).copied == ()


def test_types_that_no_instruction_set_copies_say_nothing() -> None:
    assert any("CPU_REPACK" in one for one in run().assumptions)
    assert not any("CPU_REPACK" in one for one in run(tier="BF16").assumptions)
