"""Records of a program that reports tokens a second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from evidence_records import CARD, SLUG, best

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.records.run import CellKey, Run, TokenTest
from fitcheck.records.run_index import Index
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.cell import Cell
from fitcheck.verdict.check import check
from fitcheck.verdict.evidence import ask_of

TEXT = catalog.get("llama-3.1-8b")


def answer(index: Index | None, *options: tuple[str, object], card: str = CARD) -> Cell:
    chosen = {"cache_type": ("f16", "f16"), **dict(options)}
    wanted = Wanted(tiers=("Q4_K_M",), options=tuple(sorted(chosen.items())))
    return check(TEXT, machine_for(find_card(card)), wanted, index=index, advise=False).cells[0]


def tokens(prompt: float | None = 2000.0, new: float | None = 70.0, number: int = 0, **changes: Any) -> Run:
    """A llama-bench record of all layers on an RTX 4070, with its usual tests."""
    tests = [TokenTest(512, 0, 0, prompt)] if prompt else []
    tests += [TokenTest(0, 128, 0, new)] if new else []
    key = CellKey(TEXT.slug, "Q4_K_M", "chat", (), "llama.cpp", None, None, None)
    settings = (("backend", "CUDA"), ("flash_attention", "on"), ("gpu_layers", 99))
    found = Run(f"t{number}", SLUG, 12 * GIB, key, "real", "ok", number, bench=False, machine=f"m{number}")
    return replace(found, **{"tests": tuple(tests), "settings": settings, **changes})


def rate(one: Cell, name: str) -> float:
    found = one.rate(name)
    assert found is not None
    return found.best


def test_tokens_a_second_of_the_cell_are_the_answer() -> None:
    found = answer(Index((tokens(),)), ("ngl", 99))
    assert rate(found, "prompt") == pytest.approx(2000.0)
    assert rate(found, "generation") == pytest.approx(70.0)
    assert found.evidence.seconds.level == "measured"
    assert {name for name, one in found.evidence.rates if one.level == "measured"} == {"prompt", "generation"}
    assert best(found) == pytest.approx(512 / rate(found, "prompt") + 128 / rate(found, "generation"))


def test_a_test_at_a_depth_that_costs_much_corrects_and_is_not_the_cell() -> None:
    deep = tokens(tests=(TokenTest(0, 128, 60_000, 30.0),))
    found = answer(Index((deep,)), ("ngl", 99))
    assert dict(found.evidence.rates)["generation"].level == "calibrated"
    assert rate(found, "generation") > 45


def test_a_rate_alone_is_measured_and_the_other_is_not() -> None:
    found = answer(Index((tokens(prompt=None),)), ("ngl", 99))
    levels = {name: one.level for name, one in found.evidence.rates}
    assert levels == {"prompt": "estimated", "generation": "measured"}
    assert found.evidence.seconds.level == "estimated"
    assert rate(found, "prompt") == rate(answer(None, ("ngl", 99)), "prompt")


def test_token_records_of_the_card_correct_its_other_placements_and_contexts() -> None:
    plain = answer(None, ("ngl", 99))
    slow = tuple(tokens(rate(plain, "prompt") / 2, rate(plain, "generation") / 2, n) for n in range(3))
    other = ("cache_type", ("q8_0", "q8_0"))
    before, after = (answer(index, ("ngl", 99), other) for index in (None, Index(slow)))
    for name in ("prompt", "generation"):
        assert rate(after, name) == pytest.approx(rate(before, name) / 2, rel=0.25)
    assert after.evidence.seconds.level == "calibrated"
    # what one machine's host reads a second says less of another's
    before, after = (answer(index, ("ngl", 0)) for index in (None, Index(slow)))
    assert rate(after, "generation") == pytest.approx(rate(before, "generation"), rel=0.15)


@pytest.mark.parametrize(
    "settings",
    [
        (("gpu_layers", 99), ("split_mode", "row")),
        (("gpu_layers", 99), ("tags", "tensor-overrides")),
        (("backend", "Vulkan"), ("gpu_layers", 99)),
        (("gpu_layers", "many"),),
        (("gpu_layers", 99), ("type_k", "q1_9")),
        (("gpu_layers", 99), ("ubatch", 0)),
    ],
)
def test_token_records_of_what_is_not_modelled_change_nothing(settings: tuple[tuple[str, object], ...]) -> None:
    index = Index((tokens(settings=settings),))
    assert answer(index, ("ngl", 99)).duration == answer(None, ("ngl", 99)).duration


def test_made_up_weights_do_not_say_how_many_experts_a_prompt_reads() -> None:
    key = CellKey("gpt-oss-20b", "MXFP4", "chat", (), "llama.cpp", None, None, None)
    for weights, names in (("synthetic", ["generation"]), ("real", ["prompt", "generation"])):
        run = tokens(cell=key, weights=weights)
        ask = ask_of(run)
        assert ask is not None
        assert [one.name for one in registry.get("llama.cpp").observed(run, ask)] == names
    dense, ask = tokens(weights="synthetic"), ask_of(tokens())
    assert ask is not None
    assert len(list(registry.get("llama.cpp").observed(dense, ask))) == 2


def test_two_cards_are_not_one() -> None:
    two = tokens(cards=2)
    assert ask_of(two) is not None
    found = answer(Index((two,)), ("ngl", 99))
    assert found.evidence.seconds.level == "calibrated"
    assert rate(found, "generation") != pytest.approx(70.0, rel=0.03)


def test_a_test_of_a_short_context_does_not_measure_the_memory_of_a_long_one() -> None:
    index = Index((tokens(process=5 * GIB),))
    for context, level in ((512 + 128, "calibrated"), (8192, "calibrated")):
        found = answer(index, ("ngl", 99), ("ctx", context))
        assert found.evidence.memory.level == level
        assert found.memory.card.best != 5 * GIB
    stated = (("context", 8192), ("flash_attention", "on"), ("gpu_layers", 99), ("sequences", 4))
    index = Index((tokens(process=5 * GIB, settings=stated),))
    found = answer(index, ("ngl", 99), ("ctx", 8192))
    assert (found.evidence.memory.level, found.memory.card.best) == ("measured", 5 * GIB)


def test_files_that_are_mapped_do_not_count_as_system_memory() -> None:
    mapped, read = (tokens(rss=6 * GIB, settings=(("gpu_layers", 99), ("mmap", mmap))) for mmap in (True, False))
    assert answer(Index((mapped,)), ("ngl", 99)).evidence.host.level == "estimated"
    assert answer(Index((read,)), ("ngl", 99)).evidence.host.level == "calibrated"
