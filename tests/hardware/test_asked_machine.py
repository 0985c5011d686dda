"""The machine that a question is about: cards by name, with a count before it, bounded."""

from __future__ import annotations

import pytest

from fitcheck.errors import CardError, InputError
from fitcheck.hardware.asked import MOST_CARDS, asked_machine
from fitcheck.units import GIB


@pytest.mark.parametrize("text", ["2x RTX 3090", "2 x RTX 3090", "2× RTX 3090", "2X  rtx 3090"])
def test_a_count_before_a_name_is_that_many_cards(text: str) -> None:
    counted, repeated = asked_machine(text), asked_machine(["RTX 3090", "RTX 3090"])
    assert counted == repeated
    assert [gpu.index for gpu in counted.gpus] == [0, 1]


@pytest.mark.parametrize("text", ["0x RTX 3090", "17x RTX 3090", "9999x RTX 3090"])
def test_a_count_that_no_machine_holds_is_refused(text: str) -> None:
    with pytest.raises(CardError, match="give 1 to 16"):
        asked_machine(text)


def test_many_names_are_bounded_too() -> None:
    with pytest.raises(CardError, match=f"at most {MOST_CARDS}"):
        asked_machine(["RTX 3090"] * (MOST_CARDS + 1))


def test_a_name_without_a_space_after_the_x_is_a_name() -> None:
    with pytest.raises(InputError, match="no card is called"):
        asked_machine("2xyz")


@pytest.mark.parametrize("text", ["none", "None", "cpu", " no "])
def test_a_machine_without_a_card_can_be_asked_about(text: str) -> None:
    machine = asked_machine(text, ram=16 << 30)
    assert machine.gpus == ()
    assert machine.ram_total == 16 << 30


def test_none_excludes_cards_and_their_memory() -> None:
    with pytest.raises(CardError, match="exclude each other"):
        asked_machine(["none", "RTX 3090"])
    with pytest.raises(CardError, match="no card memory"):
        asked_machine("none", vram=8 << 30)


@pytest.mark.parametrize(
    ("name", "vram", "ram", "carved"),
    [
        ("Radeon 8060S", 96, 32, 96),  # the operating system has 32 GiB: the rest was set aside
        ("Radeon 8060S", 64, 128, 0),  # a limit on memory that both share
        ("Radeon 8060S", 64, 64, 64),  # half of 128 GB each
        ("Apple M4 Max", 96, 64, 0),  # nothing can be set aside there
        ("RTX 3090", 24, 16, 0),  # memory of its own
    ],
)
def test_what_firmware_set_aside_is_not_the_systems(name: str, vram: int, ram: int, carved: int) -> None:
    (gpu,) = asked_machine(name, vram=vram << 30, ram=ram << 30).gpus
    assert gpu.carved == carved << 30


def test_the_system_is_taken_as_typed() -> None:
    same = (("Win11", "Windows"), ("windows 10", "Windows"), ("WSL2", "Linux in WSL"))
    for typed, found in (("linux", "Linux"), ("Windows", "Windows"), ("wsl", "Linux in WSL"), *same):
        assert asked_machine("RTX 4070", system=typed).operating_system == found
    assert asked_machine("M4 Max", ram=64 * GIB, system="macOS").operating_system == "macOS"
    assert asked_machine("M4 Max", ram=64 * GIB, system="mac").operating_system == "macOS"
    assert asked_machine("RTX 4070").operating_system is None
    with pytest.raises(CardError, match="choose from linux, windows, wsl, macos"):
        asked_machine("RTX 4070", system="beos")


@pytest.mark.parametrize(
    ("text", "slug", "count"),
    [
        ("7900 XTX", "radeon-rx-7900-xtx", 1),
        ("7900xtx", "radeon-rx-7900-xtx", 1),
        ("2x7900 XTX", "radeon-rx-7900-xtx", 2),
        ("6800 XT", "radeon-rx-6800-xt", 1),
        ("6600", "radeon-rx-6600", 1),
        ("9070 XT x2", "radeon-rx-9070-xt", 2),
        ("3090*2", "rtx-3090", 2),
        ("3090 * 2", "rtx-3090", 2),
        ("4090x2", "rtx-4090", 2),
        ("2 x 3090", "rtx-3090", 2),
        ("Radeon HD 4870 X2", "radeon-hd-4870-x2", 1),
    ],
)
def test_a_number_before_an_x_is_a_count_only_where_a_name_follows(text: str, slug: str, count: int) -> None:
    assert [gpu.card.slug for gpu in asked_machine(text).gpus] == [slug] * count


def test_cards_that_a_plus_joins_are_several() -> None:
    assert [gpu.card.slug for gpu in asked_machine("3090+3070").gpus] == ["rtx-3090", "rtx-3070"]
    assert [gpu.card.slug for gpu in asked_machine("2x3090+4090").gpus] == ["rtx-3090", "rtx-3090", "rtx-4090"]
    assert [gpu.card.name for gpu in asked_machine("Ryzen AI Max+ 395", ram=64 * GIB).gpus] == ["Radeon 8060S"]


def test_a_list_does_not_hold_none() -> None:
    with pytest.raises(CardError, match="names cards and none"):
        asked_machine("4090,none")


@pytest.mark.parametrize(
    ("text", "name", "ram"),
    [
        ("MacBook Pro M3 Max 64GB", "Apple M3 Max", 64 * GIB),
        ("Mac mini (M4) 24GB", "Apple M4", 24 * GIB),
        ("Apple Mac Studio M2 Ultra 192GB", "Apple M2 Ultra", 192 * GIB),
    ],
)
def test_a_mac_is_its_chip(text: str, name: str, ram: int) -> None:
    machine = asked_machine(text)
    assert [gpu.card.name for gpu in machine.gpus] == [name]
    assert machine.ram_total == ram


def test_a_chip_that_shares_memory_is_in_a_machine_once() -> None:
    for text in ("2x M3 Max", "dual Mac mini M4", "DGX Spark x2"):
        with pytest.raises(CardError, match="2 of them are 2 machines; name it once"):
            asked_machine(text, ram=64 * GIB)
    assert len(asked_machine(["Strix Halo", "RTX 3090"], ram=64 * GIB).gpus) == 2  # a card beside the chip
    assert len(asked_machine("4x MI300A", ram=512 * GIB).gpus) == 4


def test_a_plain_m4_is_apples_and_the_tesla_is_called_so() -> None:
    assert asked_machine("M4", ram=16 * GIB).gpus[0].card.name == "Apple M4"
    assert asked_machine("M4 24GB").ram_total == 24 * GIB
    assert asked_machine("Tesla M4").gpus[0].card.memory == 4 * GIB


def test_a_chip_by_its_compilers_name_is_its_cards() -> None:
    with pytest.raises(CardError, match="ambiguous; choose one of 'Radeon 8040S', 'Radeon 8050S', 'Radeon 8060S'"):
        asked_machine("AMD Radeon Graphics (gfx1151)", ram=64 * GIB)
    assert asked_machine("Radeon 8060S Graphics (gfx1151)", ram=64 * GIB).gpus[0].card.name == "Radeon 8060S"
    with pytest.raises(CardError, match="no card is called"):
        asked_machine("AMD Radeon Graphics (gfx9999)")


@pytest.mark.parametrize("before", ["2x", "2 x ", "2*", "2 × ", "dual ", "Two "])
@pytest.mark.parametrize("behind", ["{}x2", "{} x 2", "{} (x2)", "{}*2", "{} (×2)"])
@pytest.mark.parametrize("name", ["7900 XTX", "RTX 4060 Ti 16GB", "A100 80GB PCIe", "RTX 3090"])
def test_a_count_means_the_same_before_a_name_and_behind_it(before: str, behind: str, name: str) -> None:
    one = asked_machine(name).gpus[0].card
    if name.endswith("0") or " " in behind or "*" in behind:  # "Tix2" is no sign
        assert [gpu.card for gpu in asked_machine(behind.format(name)).gpus] == [one, one]
    assert [gpu.card for gpu in asked_machine(before + name).gpus] == [one, one]


@pytest.mark.parametrize(
    ("card", "system", "words"),
    [
        ("RTX 4070", "macos", "GeForce RTX 4070 needs Linux or Windows, not macOS: CUDA has no release for macOS"),
        ("M3 Max", "windows", "Apple M3 Max needs macOS, not Windows"),
        ("M3 Max", "wsl", "Apple M3 Max needs macOS, not WSL"),
    ],
)
def test_a_system_without_a_driver_for_the_card_is_refused(card: str, system: str, words: str) -> None:
    with pytest.raises(CardError, match=words):
        asked_machine(card, ram=64 * GIB, system=system)


@pytest.mark.parametrize(("card", "system"), [("RX 6900 XT", "macos"), ("M1", "linux"), ("none", "macos")])
def test_a_system_that_nothing_is_known_against_is_taken(card: str, system: str) -> None:
    assert asked_machine(card, ram=16 * GIB, system=system).operating_system is not None
