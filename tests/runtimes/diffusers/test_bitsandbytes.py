"""bitsandbytes' weights beside what an H100 held: no constant was fitted on these records."""

from __future__ import annotations

from math import prod

import pytest

from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.tiers import PipelineTable, component_table
from fitcheck.records.run_index import accepted
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers.runtime import RUNTIME
from fitcheck.runtimes.diffusers.weights import left_behind, scales_left
from fitcheck.units import GIB

# model, tier, mode: GiB allocated and reserved (2026-11-28, diffusers 0.42.1, bitsandbytes 0.50.2)
MEASURED = (
    ("flux.1-dev", "nf4", "none", 17.924, 20.324),
    ("flux.1-dev", "nf4", "model", 8.994, 9.008),
    ("flux.1-dev", "int8", "model", 22.407, 23.191),
    ("flux.2-klein-4b", "int8", "model", 11.452, 11.508),
    ("flux.2-klein-4b", "nf4", "none", 12.161, 14.645),
    ("sdxl", "int8", "none", 9.457, 13.326),
    ("wan2.2-ti2v-5b", "int8", "none", 26.843, 31.773),
    ("wan2.1-t2v-1.3b", "nf4", "none", 20.442, 22.482),
    ("qwen-image", "nf4", "model", 15.697, 15.846),
    ("sd3.5-large", "nf4", "model", 10.211, 10.328),
    ("z-image-turbo", "nf4", "model", 7.769, 7.789),
)


def recorded(model: str, tier: str, mode: str) -> Ask:
    runs = (run for run in accepted().rows if run.cell.runtime == RUNTIME.name)
    asks = (ask for run in runs if (ask := RUNTIME.ask_of(run)) is not None)
    return next(ask for ask in asks if (ask.model.slug, ask.tier.name, ask.placement.mode) == (model, tier, mode))


def test_records_say_what_stands_here() -> None:
    runs = [run for run in accepted().rows if run.cell.runtime == RUNTIME.name and run.cell.tier in ("nf4", "int8")]
    known = {(run.cell.model, run.cell.tier, run.cell.mode): run for run in runs if run.outcome == "ok"}
    for model, tier, mode, allocated, reserved in MEASURED:
        run = known[model, tier, mode]
        assert run.allocated is not None
        assert run.reserved is not None
        assert (run.allocated / GIB, run.reserved / GIB) == pytest.approx((allocated, reserved), abs=0.001)
        assert RUNTIME.host_bytes(run) is None, "the loader decides that"


@pytest.mark.parametrize(("model", "tier", "mode", "allocated", "reserved"), MEASURED)
def test_memory_is_as_measured(model: str, tier: str, mode: str, allocated: float, reserved: float) -> None:
    card = RUNTIME.footprint(recorded(model, tier, mode)).cards[0]
    assert card.allocated.best / GIB == pytest.approx(allocated, rel=0.015)
    assert card.allocated.low / GIB <= allocated <= card.allocated.high / GIB
    assert card.reserved.low / GIB <= reserved <= card.reserved.high / GIB


def test_eight_bits_stay_on_the_card_and_others_do_not() -> None:
    model = catalog.get("flux.1-dev")
    found = {name: left_behind(model.tier_named(name), "transformer") for name in ("int8", "nf4", "bf16", "Q8_0")}
    assert found.pop("int8") / 1e9 == pytest.approx(11.9, abs=0.1)  # a byte for each of 11.9 billion
    assert set(found.values()) == {0}
    assert left_behind(model.tier_named("int8"), "text_encoder_2") == 0


def test_scales_of_four_bits_are_those_of_the_tensor_table() -> None:
    model = catalog.get("flux.2-klein-4b")
    table = model.tier_named("nf4").tensors
    assert isinstance(table, PipelineTable)
    for component, how in table.parts:
        listed = [one for one in component_table(component, how).tensors if one.name.endswith(".absmax")]
        found = scales_left(model.tier_named("nf4"), component.name)
        assert found == pytest.approx(sum(4 * prod(one.shape) for one in listed), rel=1e-6)
        assert (found > 0) == (how.name == "nf4")
    assert all(scales_left(model.tier_named(name), "transformer") == 0 for name in ("int8", "bf16", "Q8_0"))


def test_scales_stay_on_the_card_where_layers_move_in_groups() -> None:
    # as an H100 held
    allocated = RUNTIME.footprint(recorded("flux.2-klein-4b", "nf4", "group-leaf-stream")).cards[0].allocated
    assert allocated.best / GIB == pytest.approx(2.654, rel=0.01)


@pytest.mark.parametrize(
    ("tier", "mode", "verdict"),
    [
        ("nf4", "none", None),
        ("nf4", "model", None),
        ("nf4", "group-leaf", Verdict.NO),
        ("nf4", "sequential", Verdict.NO),
        ("nf4", "group-leaf-stream", Verdict.UNKNOWN),
        ("int8", "model", None),
        ("int8", "group-leaf", Verdict.UNKNOWN),
        ("nf4+t5-nf4", "sequential", Verdict.NO),
    ],
)
def test_modes_that_move_such_weights(tier: str, mode: str, verdict: Verdict | None) -> None:
    model, machine = catalog.get("flux.1-dev"), asked_machine("RTX 4090", ram=64 * GIB)
    wanted = Wanted(options=(("mode", (mode,)),))
    (ask,) = RUNTIME.asks(model, (model.tier_named(tier),), wanted, machine)
    found = RUNTIME.platform(ask)
    assert (None if found is None else found.verdict) == verdict
    if verdict is Verdict.NO:
        assert found is not None
        assert "mode model works" in found.reason
