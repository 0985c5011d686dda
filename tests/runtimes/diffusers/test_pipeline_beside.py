"""What lies beside a pipeline and was not measured, disk offload, and every mode at once."""

from __future__ import annotations

import pytest

from fitcheck.errors import OptionError
from fitcheck.hardware.catalog import find_card
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers.offloading import MODES, offload_of, policy_of, recorded_placement
from fitcheck.runtimes.diffusers.options import PipelineOptions
from fitcheck.runtimes.diffusers.workloads import modes_of
from fitcheck.runtimes.recorded import machine_with
from fitcheck.units import GIB

RUNTIME = registry.get("diffusers")


def ask_for(tier: str, **options: object) -> Ask:
    """FLUX.1 [dev] on an RTX 4090."""
    machine = machine_with(find_card("RTX 4090"), None)
    model = catalog.get("flux.1-dev")
    found = model.tier(tier)
    assert found is not None
    wanted = Wanted(tiers=(tier,), options=tuple(options.items()))
    return next(iter(RUNTIME.asks(model, [found], wanted, machine)))


def test_what_was_not_measured_is_unknown_with_one_sentence_and_lower_bounds() -> None:
    plain = ask_for("bf16", mode=("group-leaf-stream",))
    ask = ask_for("bf16", mode=("group-leaf-stream",), offload_to_disk=True)
    assert ask.placement != plain.placement
    assert RUNTIME.platform(plain) is None
    found = RUNTIME.platform(ask)
    assert found is not None
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason.endswith(".")
    assert found.least is not None
    assert found.least.cards[0].required.high <= RUNTIME.footprint(plain).cards[0].required.low


def test_groups_on_disk_leave_system_memory_to_what_is_being_loaded() -> None:
    disk = RUNTIME.footprint(ask_for("bf16", mode=("group-leaf-stream",), offload_to_disk=True)).host
    pinned = RUNTIME.footprint(ask_for("bf16", mode=("group-leaf-stream",))).host
    assert (disk.pinned, disk.pageable) == (0, 0)
    assert disk.total.high < pinned.total.low
    # all components are built in system memory before hooks move them away
    assert disk.total.best / GIB == pytest.approx(31.42 + 1.27, abs=0.02)


def test_disk_offload_is_of_groups_alone_and_not_of_torchao() -> None:
    assert not offload_of(ask_for("bf16", mode=("model",), offload_to_disk=True).placement).disk
    refused = RUNTIME.platform(ask_for("torchao-int8", mode=("group-leaf",), offload_to_disk=True))
    assert refused is not None
    assert refused.verdict is Verdict.NO
    assert "torchao" in refused.reason


def test_switches_survive_a_record() -> None:
    placement = ask_for("bf16", mode=("group-leaf",), offload_to_disk=True, controlnet=True).placement
    assert policy_of(placement) == "controlnet+disk"
    assert recorded_placement(placement.revision, placement.mode, "controlnet+disk") == placement


def test_auto_stands_for_every_mode() -> None:
    assert modes_of(PipelineOptions(mode=("auto",)), MODES) == MODES
    assert modes_of(PipelineOptions(mode=("model", "auto")), ("none", "model")) == ("model", "none")
    with pytest.raises(OptionError, match="auto"):
        modes_of(PipelineOptions(mode=("best",)), MODES)


def test_groups_on_disk_bring_back_sixteen_bit_where_the_decode_is_cast_to_thirty_two() -> None:
    model, machine = catalog.get("sdxl"), machine_with(find_card("RTX 4090"), None)
    for disk, verdict in ((True, Verdict.NO), (False, None)):
        wanted = Wanted(tiers=("fp16",), options=(("mode", ("group-leaf",)), ("offload_to_disk", disk)))
        found = RUNTIME.platform(next(iter(RUNTIME.asks(model, model.tiers[:1], wanted, machine))))
        assert (None if found is None else found.verdict) is verdict
