"""The pool that calls of a run share one after the other, with the temporaries that GGUF weights are dequantized in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitcheck.memory import dequantization
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import PipelineArchitecture
from fitcheck.models.model import Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.diffusers import packed
from fitcheck.runtimes.diffusers.activations import held_in_turn, live_in_turn, turn_of
from fitcheck.runtimes.diffusers.call_pools import CallPool, large
from fitcheck.runtimes.diffusers.offloading import Offload
from fitcheck.runtimes.diffusers.stages import Stages, stages_of
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, Event

MIB = 1 << 20
KINDS = ("Q4_K", "Q8_0", "Q6_K", "Q2_K", "Q4_0", "Q5_1")


def question(slug: str, tier: str) -> tuple[Tier, Stages]:
    model = catalog.get(slug)
    arch, found = model.architecture, model.tier(tier)
    assert isinstance(arch, PipelineArchitecture)
    assert found is not None
    usual = arch.defaults
    task = arch.tasks[0]
    references = ((usual.width, usual.height),) if task is Task.EDITING else ()
    work = Workload(task, usual.width, usual.height, 2, usual.guidance_scale, references=references)
    return found, stages_of(arch, work, Offload(""))


def test_a_weight_is_dequantized_as_its_layer_is_entered_and_gone_as_it_is_left() -> None:
    """Q8_0: two bytes an element twice, of which the first goes (``data/dequantization.json``)."""
    plain = [
        Event(ALLOCATE, 3 * MIB), Event(ENTER, path="a"), Event(ALLOCATE, 5 * MIB), Event(LEAVE, path="a"),
        Event(FREE, 0), Event(FREE, 1),
    ]  # fmt: skip
    assert dequantization.steps("Q8_0") == (2.0, 2.0, -1)
    assert list(large(plain, {"a": ("Q8_0", 2 * MIB), "b": ("Q4_K", MIB)})) == [
        Event(ALLOCATE, 3 * MIB), Event(ALLOCATE, 4 * MIB), Event(ALLOCATE, 4 * MIB), Event(FREE, 1),
        Event(ALLOCATE, 5 * MIB), Event(FREE, 2), Event(FREE, 0), Event(FREE, 3),
    ]  # fmt: skip
    assert list(large(plain)) == [one for one in plain if one.kind in (ALLOCATE, FREE)]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 40), st.integers(2, 30)), min_size=1, max_size=12),
    st.integers(1, 20),
)
def test_every_temporary_is_dropped_once_and_the_call_keeps_its_own(
    kind: str, layers: list[tuple[int, int]], elements: int
) -> None:
    events: list[Event] = []
    for number, (before, result) in enumerate(layers):
        events += [Event(ALLOCATE, before * MIB // 2), Event(ENTER, path=str(number))]
        events += [Event(ALLOCATE, result * MIB), Event(LEAVE, path=str(number)), Event(FREE, 2 * number)]
    linears = {str(number): (kind, elements * MIB) for number in range(len(layers))}
    alive: dict[int, int] = {}
    made = top = plain = 0
    for event in large(events, linears):
        if event.kind == ALLOCATE:
            alive[made], made = event.value, made + 1
            top = max(top, sum(alive.values()))
        else:
            del alive[event.value]
    assert sum(alive.values()) == sum(result * MIB for _, result in layers)
    for _, result in layers:
        plain += result * MIB
    # the peak's bytes an element are written with three digits
    assert top >= max(plain, round(0.999 * dequantization.cost(kind).peak_bytes * elements * MIB))
    pool = CallPool(1.0)
    for event in large(events, linears):
        pool.take(event)
    assert pool.reserved >= top - len(layers) * 2 * MIB  # what is smaller than a megabyte lies in no pool


@pytest.mark.parametrize("slug", ["flux.1-dev", "qwen-image"])
def test_weights_that_are_dequantized_leave_other_pieces(slug: str) -> None:
    found = {}
    for tier in ("bf16", "Q4_K_S", "Q8_0"):
        asked, stages = question(slug, tier)
        found[tier] = live_in_turn(turn_of(stages, asked))
        assert held_in_turn(stages, asked) == found[tier]
        # nothing is ever given back
        assert list(found[tier]) == sorted(found[tier])
    assert found["Q4_K_S"] != found["bf16"]
    assert found["Q4_K_S"] != found["Q8_0"]
    # a text encoder in 16 bit is the same in all three
    assert len({one[0] for one in found.values()}) == 1


def test_a_turn_is_named_after_what_is_dequantized_in_it() -> None:
    names = set()
    for tier in ("bf16", "nf4", "Q4_K_S", "Q8_0"):
        asked, stages = question("flux.1-dev", tier)
        turn = turn_of(stages, asked)
        assert [one[4] for one in turn] == ["", "", tier if tier.startswith("Q") else "", ""]
        names.add(packed.in_turn_name(turn))
    assert len(names) == 3
