"""The tier that leads is the same whether tiers are ruled out quickly or looked at, and so is whether it fits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.machine import Machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.runtimes import held, registry
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.llamacpp.runtime import LlamaCpp
from fitcheck.units import GIB
from fitcheck.verdict.check import NothingRunsError, check
from fitcheck.verdict.lead import LeadingTier
from fitcheck.verdict.order import pace_of
from fitcheck.verdict.usual_memory import completed

CARDS = ("RTX 4060", "RTX 3060 12 GB", "RTX 4090", "2x RTX 3090", "RX 7900 XTX", "M3 Max 64GB", "none")
READ = ("gemma-2-9b", "gemma-4-26b-a4b", "qwen3.5-27b", "glm-4.5-air", "llama-3.3-70b")
WAITED = ("sd1.5", "flux.1-dev", "qwen-image", "cogvideox-2b", "wan2.1-t2v-14b", "flux.2-klein-4b")
machines = st.builds(
    lambda card, ram: completed(asked_machine(card, ram=ram * GIB)),
    st.sampled_from(CARDS),
    st.sampled_from((8, 16, 24, 32, 64, 96)),
)


@given(machine=machines, slug=st.sampled_from(READ))
@settings(max_examples=12, deadline=None)
def test_what_is_ruled_out_quickly_does_not_lead(machine: Machine, slug: str) -> None:
    model = catalog.get(slug)
    quick = LeadingTier(model, model.tiers, machine, Wanted())
    fits = quick.fits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlamaCpp, "outlook", lambda *_: ())
        slow = LeadingTier(model, model.tiers, machine, Wanted()).report
    assert quick.report.best.ask == slow.best.ask
    assert fits is (slow.best.verdict is Verdict.FITS)


@given(machine=machines.filter(lambda one: bool(one.gpus)), slug=st.sampled_from(READ), which=st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_no_placement_betters_every_outlook(machine: Machine, slug: str, which: int) -> None:
    model = catalog.get(slug)
    tier = model.tiers[which % len(model.tiers)]
    hoped = list(registry.get("llama.cpp").outlook(model, tier, Wanted(), machine))
    cells = check(model, machine, tiers=(tier,), advise=False).cells
    asked = max(cell.workload.context for cell in cells)
    for cell in cells if hoped else ():
        shorter = cell.workload.context < asked  # outlooks are of the context that is asked for
        assert shorter or any(
            one.verdict.rank <= cell.verdict.rank and pace_of(cell) <= one.pace * (1 + 1e-9) for one in hoped
        )


@given(machine=machines.filter(lambda one: bool(one.gpus)), slug=st.sampled_from(WAITED))
@settings(max_examples=25, deadline=None)
def test_nothing_runs_where_that_is_quickly_known(machine: Machine, slug: str) -> None:
    model = catalog.get(slug)
    found = LeadingTier(model, None, machine, Wanted())
    whole = check(model, machine, advise=False, head=True)
    assert found.fits is (whole.best.verdict is Verdict.FITS)
    assert not found.surely_not or whole.best.verdict is Verdict.NO
    assert found.report.best.ask == whole.best.ask


def test_that_nothing_runs_is_known_before_a_cell_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    def weighed(*_: object, **__: object) -> None:
        raise AssertionError("a cell was weighed")

    held.forget()
    machine = completed(asked_machine("GTX 1650", ram=8 * GIB))
    monkeypatch.setattr(held, "shown_and_level", weighed)
    with pytest.raises(NothingRunsError):
        check(catalog.get("flux.2-dev"), machine, advise=False, head=True, only_running=True)


@given(
    machine=machines.filter(lambda one: bool(one.gpus)), slug=st.sampled_from(READ + WAITED), which=st.integers(0, 40)
)
@settings(max_examples=15, deadline=None)
def test_what_is_quick_to_work_out_says_what_the_cell_does(machine: Machine, slug: str, which: int) -> None:
    """Seconds without what they do not hang on are the same, and the least amounts are nowhere more."""
    model = catalog.get(slug)
    tier = model.tiers[which % len(model.tiers)]
    for cell in check(model, machine, tiers=(tier,), advise=False).cells:
        runtime = registry.get(cell.placement.runtime)
        foreseen, least = runtime.foreseen(cell.ask), runtime.at_least(cell.ask)
        assert foreseen is None or cell.duration is None or foreseen == runtime.duration(cell.ask, cell.footprint)
        if least is not None:
            assert least.host.total.high <= cell.footprint.host.total.high
            for one, whole in zip(least.cards, cell.footprint.cards, strict=True):
                assert one.card.high <= whole.card.high
                assert one.required.best <= whole.required.best
