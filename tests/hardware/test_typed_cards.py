"""Card names as tools print them: brackets, drivers' remarks, slices, rebuilt boards, chips that share memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.errors import CardError, InputError
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.budget import budget
from fitcheck.hardware.card_names import alternatives
from fitcheck.hardware.catalog import all_cards, find_card, match_detected
from fitcheck.hardware.typed import typed_card
from fitcheck.units import GIB, MIB

PRINTED = {
    "GeForce RTX 5090 Max-Q / Mobile": "GeForce RTX 5090 Mobile",
    "VGA compatible controller: NVIDIA Corporation GB203M / GN22-X11 [GeForce RTX 5090 Max-Q / Mobile] (rev a1)": (
        "GeForce RTX 5090 Mobile"
    ),
    "AD103M [GeForce RTX 4090 Laptop GPU]": "GeForce RTX 4090 Mobile",
    "GA102 [GeForce RTX 3090]": "GeForce RTX 3090",
    "AD107M [GeForce RTX 4060]": "GeForce RTX 4060 Mobile",
    "TU116M [GeForce GTX 1660 Ti Mobile] (rev a1)": "GeForce GTX 1660 Ti Mobile",
    "AMD Radeon 8060S Graphics (gfx1151)": "Radeon 8060S",
    "AMD Radeon 8060S Graphics (RADV GFX1151)": "Radeon 8060S",
    "AMD Radeon 890M (radeonsi, gfx1150, LLVM 19.1.1, DRM 3.59, 6.11.0)": "Radeon 890M",
    "AMD Radeon RX 7900 XTX (RADV NAVI31)": "Radeon RX 7900 XTX",
    "Intel(R) Arc(TM) A380 Graphics (DG2)": "Arc A380",
    "NVIDIA Thor": "Jetson T5000",
    "Jetson AGX Thor": "Jetson T5000",
    "RTX 3060 (12GB)": "GeForce RTX 3060 12 GB",
}
LISTED = {
    "GeForce RTX 4090 Max-Q / Mobile": {"GeForce RTX 4090 Max-Q", "GeForce RTX 4090 Mobile"},
    "Navi 31 [Radeon RX 7900 XT/7900 XTX] (rev c8)": {"Radeon RX 7900 XT", "Radeon RX 7900 XTX"},
    "c4:00.0 Display controller: Advanced Micro Devices, Inc. [AMD/ATI] Strix Halo [Radeon Graphics / Radeon 8050S "
    "Graphics / Radeon 8060S Graphics] (rev d1)": {"Radeon 8050S", "Radeon 8060S"},
}


@pytest.mark.parametrize(("text", "name"), PRINTED.items())
def test_a_line_of_a_tool_is_its_card(text: str, name: str) -> None:
    assert find_card(text).name == name


@pytest.mark.parametrize(("text", "names"), LISTED.items())
def test_a_line_that_leaves_several_open_lists_them(text: str, names: set[str]) -> None:
    with pytest.raises(InputError, match="is ambiguous; choose one of") as raised:
        find_card(text)
    listed = str(raised.value).split("choose one of ")[1].rstrip(".").replace("'", "").split(", ")
    assert {find_card(one).name for one in listed} == names


def test_no_desktop_part_is_offered_for_a_laptops_name() -> None:
    with pytest.raises(InputError) as raised:
        find_card("GeForce RTX 5095 Laptop GPU")
    suggested = [card for card in all_cards() if f"'{card.name}'" in str(raised.value)]
    assert all(card.form == "laptop" for card in suggested)


def test_a_detected_line_with_a_list_is_told_apart_by_its_memory() -> None:
    found = match_detected("Navi 31 [Radeon RX 7900 XT/7900 XTX]", 24560 * MIB)
    assert found is not None
    assert found.name == "Radeon RX 7900 XTX"


def test_a_list_takes_the_line_along_where_a_part_leaves_it_out() -> None:
    listed = "Radeon RX 6800/6800 XT / Radeon RX 6900 XT"
    assert alternatives(f"Navi 21 [{listed}]") == ("Radeon RX 6800", "Radeon RX 6800 XT", "Radeon RX 6900 XT")


@given(st.text("[](){}/ -gfxMaxQmobile0123456789GB", max_size=200))
def test_alternatives_are_few_whatever_the_text(text: str) -> None:
    assert 1 <= len(alternatives(text)) <= 16


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        ("2080Ti 22GB", "GeForce RTX 2080 Ti", 22),
        ("RTX 4090 48GB", "GeForce RTX 4090", 48),
        ("AMD Instinct MI50 32GB", "Radeon Instinct MI50", 32),
    ],
)
def test_a_size_beside_the_databases_is_taken_and_said(text: str, name: str, size: int) -> None:
    found = typed_card(text)
    assert (found.card.name, found.memory) == (name, size * GIB)
    assert found.note is not None
    assert f"{size}.0 GiB" in found.note
    machine = asked_machine(text)
    assert machine.notes == (found.note,)
    assert (size - 2.5) * GIB < budget(machine).vram.best <= size * GIB


def test_a_size_of_a_name_that_means_several_cards_is_not_taken() -> None:
    with pytest.raises(CardError, match="it exists as"):
        typed_card("RTX 5060 Ti 12GB")


@pytest.mark.parametrize("text", ["M4 Pro 48GB", "Apple M4 Pro 48 GB", "Ryzen AI Max+ 395 48GB"])
def test_a_size_beside_a_chip_that_shares_memory_is_the_machines(text: str) -> None:
    machine = asked_machine(text)
    assert machine.ram_total == machine.gpus[0].vram_total == 48 * GIB
    assert machine.notes == ()
    assert asked_machine(text, ram=64 * GIB).ram_total == 64 * GIB


def test_a_slice_is_a_part_of_the_card() -> None:
    whole, slice_ = find_card("A100-SXM4-80GB"), asked_machine("NVIDIA A100-SXM4-80GB MIG 1g.10gb").gpus[0]
    vram = budget(asked_machine("NVIDIA A100-SXM4-80GB MIG 1g.10gb")).vram
    assert vram.low <= 9.75 * GIB <= vram.high
    assert slice_.mig == "1g.10gb"
    assert slice_.card.tensor_flops is not None
    assert whole.tensor_flops is not None
    assert slice_.card.tensor_flops.value == pytest.approx(whole.tensor_flops.value / 7)
    assert slice_.card.memory_bandwidth == pytest.approx((whole.memory_bandwidth or 0) / 8)


@pytest.mark.parametrize(("profile", "gibibytes"), [("1g.20gb", 19.62), ("3g.40gb", 39.50), ("7g.80gb", 79.25)])
def test_slices_show_what_drivers_print_of_them(profile: str, gibibytes: float) -> None:
    vram = budget(asked_machine(f"H100 SXM5 80GB MIG {profile}")).vram
    assert vram.low <= gibibytes * GIB <= vram.high


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("RTX 3090 MIG 1g.10gb", "cannot be cut"),
        ("A100 SXM4 80GB MIG 1g.13gb", "has no slice"),
        ("A100 SXM4 80GB MIG 9g.80gb", "has no slice"),
        ("H100 MIG 1g.10gb", "is ambiguous"),
    ],
)
def test_a_slice_that_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(CardError, match=says):
        typed_card(text)


def test_a_bare_number_is_no_card_of_2006() -> None:
    with pytest.raises(CardError, match="'Radeon RX 7900 XT 20 GB', 'Radeon RX 7900 XTX 24 GB', 'Radeon RX 7900 GRE"):
        find_card("7900")
    assert find_card("7800").name == "Radeon RX 7800 XT"
    assert find_card("7900 GTX").name == "GeForce 7900 GTX"


def test_a_slice_needs_no_word_before_it() -> None:
    plain, said = typed_card("A100 PCIe 80 GB 1g.10gb"), typed_card("A100 PCIe 80 GB MIG 1g.10gb")
    assert plain == said
    assert plain.mig == "1g.10gb"
