"""What a machine has to give: constants with sources, intervals that hold real readings, more never gives less."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.errors import InputError
from fitcheck.hardware.budget import budget, reported_total, with_larger_card
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards, common_cards, find_card
from fitcheck.hardware.machine import Gpu, Link, Machine, machine_for
from fitcheck.units import GIB, MIB

DATA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fitcheck" / "hardware" / "data" / "budget.json").read_text("utf-8")
)
DISCRETE = [card for card in all_cards() if card.memory >= 2 * GIB and not card.unified_memory]
UNIFIED = [card for card in all_cards() if card.unified_memory]


def references(value: Any) -> set[str]:
    """Every source that a part of the file names."""
    if isinstance(value, dict):
        named = {value[key] for key in ("source", "firmware_source", "checked_against") if key in value}
        return named.union(*(references(part) for part in value.values()))
    return set().union(*(references(part) for part in value)) if isinstance(value, list) else set()


def test_every_constant_names_a_source_of_the_file() -> None:
    groups = {key: value for key, value in DATA.items() if key not in ("sources", "schema", "note")}
    named = set().union(*(references(group) for group in groups.values()))
    named |= {source for _, source in DATA["reported_total_mib"].values()}
    assert named <= set(DATA["sources"])
    assert all(DATA["sources"][name]["title"] and DATA["sources"][name]["read"] for name in named)
    assert len(named) >= 8


def test_reported_totals_are_of_cards_and_a_little_below_the_nominal_size() -> None:
    slugs = {card.slug: card for card in all_cards()}
    reported = DATA["reported_total_mib"]
    assert len(reported) > 5
    for slug, (mebibytes, _) in reported.items():
        assert 0.9 < mebibytes * MIB / slugs[slug].memory <= 1, slug


@pytest.mark.parametrize(
    ("query", "gibibytes"),
    [
        ("RTX 4070", 11.56),
        ("RTX 4070", 11.62),
        ("RTX 3070", 7.78),
        ("RTX 3090", 23.68),
        ("RTX 4090", 23.64),
        ("RTX 5090", 31.36),
        ("RTX 4060 Ti 16GB", 15.58),
        ("H100 SXM", 79.18),
        ("A100 PCIe 80GB", 79.25),
        ("A100 PCIe 40GB", 39.50),
        ("A30", 23.53),
        ("T4", 14.75),
        ("A770 16GB", 15.11),
    ],
)
def test_totals_that_frameworks_report_lie_in_the_interval_of_a_card_without_a_display(
    query: str, gibibytes: float
) -> None:
    vram = budget(machine_for(find_card(query), display=False)).vram
    assert vram.low - 0.01 * GIB <= gibibytes * GIB <= vram.high + 0.12 * GIB


def test_a_12_gb_desktop_card_with_a_display() -> None:
    """Users report 10.5 to 11.3 GB; the interval holds it and its best estimate lies inside."""
    given = budget(machine_for(find_card("RTX 4070"), display=True))
    assert given.vram.low <= 10.5 * GIB
    assert given.vram.high >= 11.3 * GIB
    assert 10.5 * GIB <= given.vram.best <= 11.3 * GIB
    assert "the display (attached)" in given.basis


@pytest.mark.parametrize("query", ["RTX 4070", "RTX 3060 12GB", "RX 7900 XTX", "RTX A6000", "RTX 4070 Laptop"])
def test_not_knowing_of_a_display_widens_the_interval(query: str) -> None:
    attached, headless, unknown = (
        budget(machine_for(find_card(query), display=display)).vram for display in (True, False, None)
    )
    assert unknown.low == attached.low < headless.low
    assert unknown.high == headless.high > attached.high
    assert attached.best < headless.best


def test_a_data_center_card_drives_no_display() -> None:
    card = find_card("H100 SXM")
    assert budget(machine_for(card)).vram == budget(machine_for(card, display=False)).vram


def test_check_bits_of_data_center_memory_are_not_given_away() -> None:
    assert reported_total(find_card("L40S"), 48 * GIB) == 46068 * MIB
    assert reported_total(find_card("L40"), 48 * GIB) == 45 * GIB
    assert reported_total(find_card("RTX 3060 12GB"), 12 * GIB) == 12 * GIB


def test_what_the_driver_reported_is_not_reduced_again() -> None:
    card = find_card("RTX 4070")
    assert reported_total(card, 12282 * MIB) == 12282 * MIB
    assert reported_total(card, 12288 * MIB) == 12282 * MIB


def test_an_override_is_taken_as_it_is() -> None:
    given = budget(machine_for(find_card("RTX 4070"), vram_override=9 * GIB))
    assert (given.vram.low, given.vram.best, given.vram.high) == (9 * GIB, 9 * GIB, 9 * GIB)
    assert "--vram" in given.basis


def test_live_free_memory_is_the_budget() -> None:
    gpu = Gpu(find_card("RTX 4070"), Link(), 12282 * MIB, vram_free=11000 * MIB, display=False)
    vram = budget(Machine((gpu,), detected=True)).vram
    assert (vram.low, vram.best, vram.high) == (11000 * MIB, 11000 * MIB, 11000 * MIB)


@pytest.mark.parametrize(
    ("query", "ram", "gibibytes"),
    [
        # Metal's recommended working set, as macOS reports it
        ("Apple M2", 16, 10922.67 / 1024),
        ("Apple M1 Pro", 32, 21845.34 / 1024),
        ("Apple M2 Max", 96, 72),
        ("Apple M2 Max", 64, 48),
        # amdgpu's default on 128 GB, and the firmware's largest carve-out
        ("Strix Halo", 128, 62.47),
        ("Strix Halo", 128, 96),
        ("UHD Graphics 770", 32, 16),
        # what CUDA counts on a GB10, whose MemTotal is 121.69 GiB
        ("GB10", 128, 119.6),
    ],
)
def test_shared_memory_by_the_systems_rules(query: str, ram: int, gibibytes: float) -> None:
    vram = budget(machine_for(find_card(query), ram=ram * GIB)).vram
    assert vram.low - 0.01 * GIB <= gibibytes * GIB <= vram.high + 0.01 * GIB


def test_shared_memory_of_unknown_size_asks_for_it() -> None:
    with pytest.raises(InputError, match="say how much the machine has with --ram or --vram"):
        budget(machine_for(find_card("Apple M2")))
    assert budget(machine_for(find_card("Apple M2"), vram_override=10 * GIB)).vram.best == 10 * GIB


def test_a_card_of_unknown_memory_asks_for_it() -> None:
    card = Card(slug="x", name="Some Card", vendor="Other", memory=0)
    with pytest.raises(InputError, match="how much memory Some Card has is not known"):
        budget(machine_for(card))


@pytest.mark.parametrize("position", [-1, 1, 99])
def test_a_card_that_the_machine_does_not_have(position: int) -> None:
    with pytest.raises(InputError, match="there is no card at position"):
        budget(machine_for(find_card("RTX 4070")), position)


def test_ram_given_is_less_what_the_system_takes() -> None:
    assert budget(machine_for(find_card("RTX 4070"))).ram is None
    ram = budget(machine_for(find_card("RTX 4070"), ram=32 * GIB)).ram
    assert ram is not None
    assert 26 * GIB < ram.low < ram.best < ram.high < 32 * GIB
    measured = budget(replace(machine_for(find_card("RTX 4070"), ram=32 * GIB), ram_available=17 * GIB)).ram
    assert measured is not None
    assert (measured.low, measured.high) == (17 * GIB, 17 * GIB)


SIZES = st.integers(1, 1 << 42)
DISPLAY = st.sampled_from([True, False, None])


@given(st.sampled_from(DISCRETE), SIZES, SIZES, DISPLAY)
def test_more_card_memory_never_gives_less(card: Card, one: int, other: int, display: bool | None) -> None:
    less, more = (budget(Machine((Gpu(card, Link(), size, display=display),))).vram for size in sorted((one, other)))
    assert less.low <= more.low
    assert less.best <= more.best
    assert less.high <= more.high
    assert more.high <= max(one, other)


@given(st.sampled_from(UNIFIED), SIZES, SIZES, st.one_of(st.none(), SIZES))
def test_more_shared_memory_never_gives_less(card: Card, one: int, other: int, available: int | None) -> None:
    less, more = (
        budget(Machine((Gpu(card, Link(), size),), ram_total=size, ram_available=available)).vram
        for size in sorted((one, other))
    )
    assert less.low <= more.low
    assert less.best <= more.best
    assert less.high <= more.high
    assert available is None or more.high <= available


@given(SIZES, SIZES)
def test_more_ram_never_gives_less(one: int, other: int) -> None:
    card = find_card("RTX 4070")
    less, more = (budget(machine_for(card, ram=size)).ram for size in sorted((one, other)))
    assert less is not None
    assert more is not None
    assert less.low <= more.low
    assert less.best <= more.best
    assert less.high <= more.high
    assert 0 <= more.high <= max(one, other)


@pytest.mark.parametrize("card", common_cards(), ids=lambda card: card.slug)
def test_every_usual_card_has_most_of_its_memory_to_give(card: Card) -> None:
    given = budget(machine_for(card))
    assert 0.75 * card.memory < given.vram.low <= given.vram.best <= given.vram.high < card.memory
    assert given.basis


@pytest.mark.parametrize(
    "values",
    [
        {"ram": 0},
        {"ram": -1},
        {"disk": -1},
        {"vram_override": 0},
        {"pcie_generation": 9},
        {"pcie_lanes": 3},
        {"count": 0},
    ],
)
def test_a_machine_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--"):
        machine_for(find_card("RTX 4070"), **values)


def test_a_slot_limits_a_card_and_a_card_a_slot() -> None:
    link = machine_for(find_card("RTX 4070"), pcie_generation=3, pcie_lanes=8).gpus[0].link
    assert (link.pcie_generation, link.pcie_lanes) == (3, 8)
    link = machine_for(find_card("RTX 3060 12GB"), pcie_generation=5, pcie_lanes=16).gpus[0].link
    assert (link.pcie_generation, link.pcie_lanes) == (4, 16)


def test_only_the_first_of_several_cards_has_the_display() -> None:
    several = machine_for(find_card("RTX 3090"), display=True, count=3)
    assert [gpu.display for gpu in several.gpus] == [True, False, False]


def test_a_card_with_other_memory_than_its_model_hides_as_much() -> None:
    card = find_card("RTX 4090")
    hidden = card.memory - 24564 * MIB
    assert reported_total(card, card.memory) == 24564 * MIB
    assert reported_total(card, 48 * GIB) == 48 * GIB - hidden
    assert reported_total(card, 20 * GIB) == 20 * GIB


@pytest.mark.parametrize(
    ("gibibytes", "before", "since"),
    [
        (16, 11453.25, 11.84 * GIB / 1e6),
        (24, 17179.89, 19069.67),
        (32, 22906.50, 26800.60),
        (36, 28991.03, 30150.67),
        (48, 38654.71, 40200.90),
        (64, 51539.61, 55662.79),
        (128, 96 * GIB / 1e6, 107.52 * GIB / 1e6),
    ],
)
def test_metal_takes_more_of_a_larger_pool_and_more_since_macos_26(gibibytes: int, before: float, since: float) -> None:
    """recommendedMaxWorkingSetSize in MB as llama.cpp printed it on such machines: see the source in budget.json."""
    found = budget(machine_for(find_card("M2 Max"), ram=gibibytes * GIB))
    assert found.vram.low == pytest.approx(before * 1e6, rel=1e-3)
    assert found.vram.best == pytest.approx(since * 1e6, rel=1e-3)
    assert found.basis.endswith("less before macOS 26")


@pytest.mark.parametrize(("system", "share"), [("macOS 15.6", 0.75), ("macOS 26.1", 0.84), ("macOS 16.0", 0.84)])
def test_a_system_that_tells_its_version_has_one_limit(system: str, share: float) -> None:
    machine = replace(machine_for(find_card("M4 Max"), ram=128 * GIB), operating_system=system)
    found = budget(machine)
    assert (found.vram.low, found.vram.high) == (int(128 * GIB * share),) * 2
    assert "macOS 26" not in found.basis


def test_between_the_sizes_that_were_read_the_next_larger_one_is_the_most() -> None:
    vram = budget(machine_for(find_card("M3 Ultra"), ram=96 * GIB)).vram
    assert (vram.best, vram.high) == (int(0.81 * 96 * GIB), int(0.84 * 96 * GIB))
    largest = budget(machine_for(find_card("M3 Ultra"), ram=512 * GIB)).vram
    assert largest.high == pytest.approx(498216.21e6, rel=1e-3)


def test_windows_keeps_a_part_of_a_card() -> None:
    for name in ("RTX 4070", "RTX 3070", "RX 7900 XTX"):
        here = machine_for(find_card(name), display=False)
        linux, windows = (
            budget(replace(here, operating_system=system)).vram for system in ("Linux (test)", "Windows 11")
        )
        total = reported_total(here.gpus[0].card, here.gpus[0].vram_total)
        kept = [1 - end / total for end in (windows.high, windows.best, windows.low)]
        assert kept == pytest.approx(DATA["windows_keeps"]["share"], abs=0.035)
        assert windows.low < linux.low
        assert windows.high <= linux.high
    assert "Windows keeps 5 % to 15 % of it" in budget(replace(here, operating_system="Windows 11")).basis


@given(st.sampled_from(DISCRETE), st.sampled_from([None, True, False]))
def test_windows_never_gives_more(card: Card, display: bool | None) -> None:
    here = machine_for(card, display=display)
    linux, windows = (budget(replace(here, operating_system=one)).vram for one in (None, "Windows 11"))
    assert (windows.low, windows.best, windows.high) <= (linux.low, linux.best, linux.high)
    if card.form == "datacenter":
        assert windows == linux


@pytest.mark.parametrize(("small", "large"), [("RTX 4060 Ti 8 GB", "RTX 4060 Ti 16 GB"), ("RX 7600", "RX 7600 XT")])
@pytest.mark.parametrize("system", ["Linux", "Windows 11"])
def test_a_larger_card_has_to_give_what_the_one_that_is_sold_has(small: str, large: str, system: str) -> None:
    one, other = (replace(machine_for(find_card(name)), operating_system=system) for name in (small, large))
    imagined = with_larger_card(one, 0, find_card(large).memory)
    assert imagined is not None
    have, sold = budget(imagined).vram, budget(other).vram
    assert abs(have.low - sold.low) <= 64 * MIB
    assert abs(have.best - sold.best) <= 64 * MIB
    assert abs(have.high - sold.high) <= 64 * MIB


def test_a_larger_card_hides_as_much_as_the_detected_one() -> None:
    """Of an L4's 24 GiB the driver shows 23,034 MiB: twice the memory is 24 GiB more to give, and not 25.5."""
    machine = machine_for(find_card("L4"))
    gpu = replace(machine.gpus[0], vram_total=23034 * MIB, vram_free=20000 * MIB)
    larger = with_larger_card(replace(machine, gpus=(gpu,)), 0, 48 * GIB)
    assert larger is not None
    assert budget(larger).vram.best == 20000 * MIB + 24 * GIB


def test_a_display_may_take_more_of_what_is_free_now() -> None:
    gpu = Gpu(find_card("RTX 4070"), Link(), 12282 * MIB, vram_free=11000 * MIB, display=True)
    found, swing = budget(Machine((gpu,))).vram, DATA["display_swing_mib"]["mib"]
    assert (found.low, found.best, found.high) == ((11000 - swing) * MIB, 11000 * MIB, 11000 * MIB)
    assert swing > 0


def test_what_other_programs_hold_does_not_grow_with_the_card() -> None:
    """A detected RTX 3060: the driver reports 12,282 MiB, of which 9,000 are free; 12 GB are no larger card."""
    machine = machine_for(find_card("RTX 3060 12 GB"))
    gpu = replace(machine.gpus[0], vram_total=12282 * MIB, vram_free=9000 * MIB)
    machine = replace(machine, gpus=(gpu,))
    assert with_larger_card(machine, 0, 12 * GIB) is None
    larger = with_larger_card(machine, 0, 16 * GIB)
    assert larger is not None
    grown = budget(larger).vram.best - budget(machine).vram.best
    assert 4 * GIB <= grown <= 4 * GIB + 6 * MIB


@pytest.mark.parametrize(
    ("query", "ram", "pool"), [("Steam Deck", None, 16), ("Ryzen Z1 Extreme", 24, 24), ("Ryzen AI Z2 Extreme", 16, 16)]
)
def test_a_handheld_has_one_memory(query: str, ram: int | None, pool: int) -> None:
    """The database counts it as a card's; it was judged as 16 GB on a card beside 16 GB on the host."""
    machine = machine_for(find_card(query), ram=None if ram is None else ram * GIB)
    assert machine.gpus[0].card.unified_memory
    assert machine.ram_total == machine.gpus[0].vram_total == pool * GIB
    assert budget(machine).vram.high < pool * GIB


def test_a_handhelds_bandwidth_is_that_of_128_bits() -> None:
    """Half of what the database has for the Steam Deck and the Ryzen AI Z2 Extreme."""
    rates = {
        name: find_card(name).memory_bandwidth for name in ("Steam Deck", "Steam Deck OLED", "Ryzen AI Z2 Extreme")
    }
    assert rates == {"Steam Deck": 88e9, "Steam Deck OLED": 102.4e9, "Ryzen AI Z2 Extreme": 128e9}


def test_a_card_of_the_size_that_is_there_is_no_larger_one() -> None:
    machine = machine_for(find_card("RTX 4070"), ram=32 * GIB)
    assert with_larger_card(machine, 0, 12 * GIB) is None
    larger = with_larger_card(machine, 0, 16 * GIB)
    assert larger is not None
    assert larger.gpus[0].vram_total == 16 * GIB


def test_what_the_system_takes_of_memory_is_in_mebibytes_and_of_the_firmware_in_shares() -> None:
    given = budget(machine_for(find_card("RTX 4070"), ram=32 * GIB)).ram
    assert given is not None
    shares = ((0.05, 4000), (0.032, 2000), (0.01, 500))  # data/budget.json, ram
    assert [given.low, given.best, given.high] == [int(32 * GIB * (1 - share)) - used * MIB for share, used in shares]
