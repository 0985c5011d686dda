"""How much slower a card's vendor and generation are, and how wide that is where nobody measured."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.data_files import load
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.speed.generations import is_measured, left_out, slowness, times_later_images
from fitcheck.speed.rates import rates_of

HOPPER, BLACKWELL, ADA = find_card("H100 SXM"), find_card("RTX 5090"), find_card("RTX 4090")
AMPERE = find_card("RTX 3090")
AMD, INTEL = find_card("Radeon PRO W7900"), find_card("Arc A770 16 GB")


def width(name: str) -> float:
    """High over low of the factor on seconds."""
    found = slowness(find_card(name))
    return found.high / found.low


def test_the_reference_is_as_fast_as_its_shares_say() -> None:
    found = slowness(HOPPER)
    assert (found.low, found.best, found.high) == (1.0, 1.0, 1.0)


def test_a_measured_generation_has_its_level_and_an_unmeasured_one_its_vendors() -> None:
    assert slowness(AMD).best == pytest.approx(2.566, rel=1e-3), "5.52 s a step where the H100's shares say 2.15"
    assert slowness(BLACKWELL).best == pytest.approx(0.848, rel=1e-3)
    assert slowness(ADA).best == pytest.approx(0.919, rel=1e-3), "one forward of three denoisers on an L40S"
    assert slowness(AMPERE).best == pytest.approx((0.848 * 0.919) ** (1 / 3), rel=1e-3), "the mean of three"
    assert slowness(INTEL).best == pytest.approx((slowness(AMPERE).best * 2.566) ** 0.5, rel=1e-3), "between vendors"


def test_the_less_was_measured_the_wider() -> None:
    assert width("H100 SXM") < width("RTX 5090") < width("RTX 5070") < width("RTX 3090") < width("Arc A770 16 GB")
    assert width("RTX 4090") == pytest.approx(width("RTX 5070")), "beside another card of the generation"
    assert width("L40S") == pytest.approx(width("RTX 5090")), "machines of a card that was measured differ"
    assert width("Arc A770 16 GB") > 20, "vendors differ by more than ten times in what they reach of their rates"


def test_prompts_say_how_vendors_differ() -> None:
    shares = {row["architecture"]: row["slowness"] for row in load("speed", "generations")["prompts"]}
    assert shares["Xe-HPG"] > 4 * shares["all"]


@pytest.mark.parametrize(("card", "apart"), [(AMD, 0.05), (BLACKWELL, 0.05), (ADA, 0.001)], ids=["amd", "5090", "4090"])
def test_what_was_measured_lies_inside_where_it_is_left_out(card: Card, apart: float) -> None:
    """As if nobody had measured the generation: wider, and the measured level inside. Ada is where the others lie."""
    known, blind = slowness(card), slowness(replace(card, architecture=left_out(card.architecture)))
    assert blind.low < known.best < blind.high
    assert blind.high / blind.low > known.high / known.low
    assert blind.best != pytest.approx(known.best, rel=apart)


def test_a_vendor_is_known_by_any_of_its_generations() -> None:
    assert is_measured(ADA)
    assert is_measured(AMD)
    assert not is_measured(INTEL)
    assert not is_measured(replace(AMD, architecture=left_out(AMD.architecture)))
    assert is_measured(replace(BLACKWELL, architecture=left_out(BLACKWELL.architecture)))
    assert times_later_images(ADA)
    assert not times_later_images(AMD)


@given(st.sampled_from([HOPPER, BLACKWELL, ADA, AMPERE, AMD, INTEL]))
def test_no_rate_passes_what_is_published(card: Card) -> None:
    rates, factor = rates_of(card), slowness(card)
    assert rates is not None
    assert card.tensor_flops is not None
    assert card.memory_bandwidth is not None
    assert rates.matrix.low <= rates.matrix.best <= rates.matrix.high <= card.tensor_flops.value
    assert rates.elementwise.high <= card.memory_bandwidth
    assert log(rates.matrix.best / rates.matrix.low) >= log(factor.high / factor.best) - 1e-9


def test_few_generations_and_few_vendors_tell_less_of_the_next() -> None:
    """The mean of n is uncertain itself: the next lies around it by 1 + 1/n of their variance."""
    table = load("speed", "generations")
    within = table["within"]["value"]

    def by_vendor(kind: str) -> list[list[float]]:
        vendors = sorted({row["vendor"] for row in table[kind]})
        return [[log(row["slowness"]) for row in table[kind] if row["vendor"] == vendor] for vendor in vendors]

    def variance(parts: list[list[float]]) -> float:
        squares = sum((value - sum(part) / len(part)) ** 2 for part in parts for value in part)
        return squares / sum(len(part) - 1 for part in parts)

    kinds = [by_vendor(kind) for kind in ("measured", "prompts")]
    generation = variance([part for parts in kinds for part in parts])
    vendor = variance([[sum(part) / len(part) for part in parts] for parts in kinds])
    of_nvidia = sum(row["vendor"] == "NVIDIA" for row in table["measured"])
    next_generation = within**2 + generation * (1 + 1 / of_nvidia)
    next_vendor = within**2 + generation + vendor * (1 + 1 / len(kinds[0]))
    assert width(AMPERE.name) == pytest.approx(exp(2 * 1.645 * sqrt(next_generation)))
    assert width(INTEL.name) == pytest.approx(exp(2 * 1.645 * sqrt(next_vendor)))
