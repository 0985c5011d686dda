"""Where weights alone are more than cards and host have, no other setting is offered, because none would run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fitcheck import api
from fitcheck.memory.weighing import Verdict
from fitcheck.runtimes import held
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.llamacpp.estimates import architecture_of, outweighs
from fitcheck.runtimes.llamacpp.options import TextOptions
from fitcheck.runtimes.llamacpp.placement import arguments_of
from fitcheck.runtimes.llamacpp.runtime import RUNTIME, _other_settings
from fitcheck.runtimes.llamacpp.weight_placement import weight_bytes
from fitcheck.units import GIB


@pytest.mark.parametrize(
    ("model", "cards", "ram"),
    [
        ("glm-4.5-air", "RTX 4070", "32GB"),
        ("qwen3-30b-a3b", "RTX 4060", "8GB"),
        ("llama-3.3-70b", "2x RTX 3060 12 GB", "8GB"),
    ],
)
def test_nothing_runs_whose_weights_are_too_large(model: str, cards: str, ram: str) -> None:
    report = api.check(model, cards, ram=ram)
    outweighed = 0
    for cell in report.cells:
        asked = TextOptions()
        search = RUNTIME._search(cell.ask.model, cell.tier, cell.ask.machine, asked, Wanted())
        if not search.too_large:
            continue
        outweighed += 1
        assert cell.verdict is Verdict.NO
        if outweighed in (1, 5):
            options = arguments_of(cell.placement, cell.workload)
            for change in _other_settings(search, options, asked):
                assert held.estimated(RUNTIME, change.ask)[1].verdict is Verdict.NO, change.words
    assert outweighed
    assert outweighed < len(report.cells)


@pytest.mark.parametrize(("short", "too_large"), [(0, False), (1, True)])
def test_weights_are_too_large_from_the_first_byte_that_lacks(short: int, too_large: bool) -> None:
    ask = api.check("qwen3-8b", "RTX 4070", tier="Q8_0", ram="32GB", vram=2 * GIB).best.ask
    options = arguments_of(ask.placement, ask.workload)
    weights = weight_bytes(architecture_of(ask), ask.tier.tensors, options)
    machine = replace(ask.machine, ram_available=weights - 2 * GIB - short)
    assert outweighs(replace(ask, machine=machine), options) is too_large
    assert outweighs(replace(ask, machine=replace(machine, gpus=())), options) is False
