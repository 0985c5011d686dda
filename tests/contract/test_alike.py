"""Machines that look alike to a runtime share their cells: each must say what it would say if it were asked alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck.hardware.card import Sourced
from fitcheck.hardware.database import database
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.models import catalog
from fitcheck.models.model import Model
from fitcheck.runtimes import held, registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.alike import look_of
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check, question_of
from fitcheck.verdict.order import order
from fitcheck.verdict.weighed_cell import cell_of
from tests.contract import toy
from tests.contract.samples import card, sample

NAMES = (*registry.names(), toy.NAME)
# beside a machine that was asked about first, one thing is another
BASE = card()
MACHINES = {
    "name": machine_for(replace(BASE, slug="other-card", name="Other Card"), ram=32 * GIB),
    "memory": machine_for(card(memory=16 * GIB), ram=32 * GIB),
    "vendor": machine_for(card("AMD"), ram=32 * GIB),
    "old generation": machine_for(card(compute_capability=(7, 5)), ram=32 * GIB),
    "unknown generation": machine_for(card(compute_capability=None), ram=32 * GIB),
    "matrix rate": machine_for(card(tensor_flops=Sourced(80e12, "test", "2026-11-26")), ram=32 * GIB),
    "no matrix rate": machine_for(card(tensor_flops=None), ram=32 * GIB),
    "bandwidth": machine_for(card(memory_bandwidth=3e11), ram=32 * GIB),
    "lanes of the card": machine_for(card(pcie_lanes=8), ram=32 * GIB),
    "slot": machine_for(BASE, ram=32 * GIB, pcie_generation=3, pcie_lanes=4),
    "shared memory": machine_for(card(unified_memory=True), ram=32 * GIB),
    "carved out": machine_for(card("AMD", unified_memory=True), ram=32 * GIB, vram_override=48 * GIB),
    "form": machine_for(card(form="datacenter"), ram=32 * GIB),
    "no screen": machine_for(BASE, ram=32 * GIB, display=False),
    "system memory": machine_for(BASE, ram=16 * GIB),
    "disk": machine_for(BASE, ram=32 * GIB, disk=10**9),
    "two cards": machine_for(BASE, ram=32 * GIB, count=2),
    "Windows": replace(machine_for(BASE, ram=32 * GIB), operating_system="Windows 11"),
    "free memory": replace(machine_for(BASE, ram=32 * GIB), ram_available=8 * GIB),
}


def alone(model: Model, machine: Machine, wanted: Wanted) -> list[Cell]:
    """The cells of a machine that shares nothing."""
    held.forget()
    tiers = tuple(model.tier_named(name) for name in wanted.tiers) or model.tiers
    runtimes = registry.serving(model, wanted.runtime)
    asks = [(runtime, ask) for runtime in runtimes for ask in runtime.asks(model, tiers, wanted, machine)]
    return order([cell_of(runtime, ask, wanted) for runtime, ask in asks])


def same(found: list[Cell], expected: list[Cell]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one, one.reason) == (other, other.reason)


@pytest.mark.parametrize("other", MACHINES)
@pytest.mark.parametrize("name", NAMES)
def test_one_thing_that_differs_is_never_overlooked(name: str, other: str) -> None:
    one, machine = sample(name), MACHINES[other]
    check(one.model, machine_for(BASE, ram=32 * GIB), one.wanted, advise=False)
    same(list(check(one.model, machine, one.wanted, advise=False).cells), alone(one.model, machine, one.wanted))


@pytest.mark.parametrize(
    ("slug", "wanted"),
    [
        ("sensenova-u1-8b-mot", Wanted(task="editing")),
        ("sensenova-u1-8b-mot", Wanted(task="vqa")),
        ("sdxl", Wanted(tiers=("fp16",))),
        ("wan2.2-t2v-a14b", Wanted(tiers=("Q4_K_M",))),
    ],
)
def test_every_fortieth_card_says_what_it_says_alone(slug: str, wanted: Wanted) -> None:
    model, source = catalog.get(slug), database()
    machines = [machine_for(source.card(index), ram=32 * GIB) for index in range(0, len(source.rows), 40)]
    question = question_of(model, machines[0], wanted)
    assert len({look_of(question, machine) for machine in machines}) < 0.8 * len(machines)
    for machine in machines:
        same(list(check(model, machine, wanted, advise=False).cells), alone(model, machine, wanted))
