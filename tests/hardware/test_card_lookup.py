"""A name means one card, several, or none. Never a similar one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.errors import InputError
from fitcheck.hardware import processors
from fitcheck.hardware.card_names import parse
from fitcheck.hardware.catalog import all_cards, common_cards, find_card, match_detected
from fitcheck.hardware.database import database, slug, slugs
from fitcheck.units import GIB, MIB

EXACT = {
    "RTX 4070": "GeForce RTX 4070",
    "rtx4070": "GeForce RTX 4070",
    "rtx-4070": "GeForce RTX 4070",
    "4070": "GeForce RTX 4070",
    "NVIDIA GeForce RTX 4070": "GeForce RTX 4070",
    "  geforce   RTX-4070 12GB ": "GeForce RTX 4070",
    "RTX 4070 12 GB": "GeForce RTX 4070",
    "RTX 4070 12G": "GeForce RTX 4070",
    "RTX 4060 Ti 16G": "GeForce RTX 4060 Ti 16 GB",
    "RTX 4070 Super": "GeForce RTX 4070 SUPER",
    "RTX 4070 Ti": "GeForce RTX 4070 Ti",
    "RTX 4070 Ti Super": "GeForce RTX 4070 Ti SUPER",
    "RTX 4070 AD103": "GeForce RTX 4070 AD103",
    "RTX 4070 GDDR6": "GeForce RTX 4070 GDDR6",
    "RTX 4070 Laptop": "GeForce RTX 4070 Mobile",
    "NVIDIA GeForce RTX 4070 Laptop GPU": "GeForce RTX 4070 Mobile",
    "RTX 4060 Ti 16GB": "GeForce RTX 4060 Ti 16 GB",
    "4060 ti 8 gb": "GeForce RTX 4060 Ti 8 GB",
    "RTX 3090": "GeForce RTX 3090",
    "RTX 3080 12GB": "GeForce RTX 3080 12 GB",
    "RTX 4090": "GeForce RTX 4090",
    "RTX 4090 D": "GeForce RTX 4090 D",
    "RTX 4090D": "GeForce RTX 4090 D",
    "H200": "H200 SXM 141 GB",
    "B200": "B200",
    "B300": "B300",
    "GB200": "GB200",
    "H100 SXM": "H100 SXM5 80 GB",
    "H100 PCIe": "H100 PCIe 80 GB",
    "H100 NVL": "H100 NVL 94 GB",
    "NVIDIA H100 80GB HBM3": "H100 SXM5 80 GB",
    "A100 80GB PCIe": "A100 PCIe 80 GB",
    "A100-SXM4-40GB": "A100 SXM4 40 GB",
    "T4": "Tesla T4",
    "L4": "L4",
    "L40S": "L40S",
    "A6000": "RTX A6000",
    "RTX 6000 Ada": "RTX 6000 Ada Generation",
    "RTX PRO 6000": "RTX PRO 6000 Blackwell",
    "RX 7900 XTX": "Radeon RX 7900 XTX",
    "MI300X": "Radeon Instinct MI300X",
    "AMD Instinct MI300X OAM": "Radeon Instinct MI300X",
    "Arc B580": "Arc B580",
    "Intel(R) Arc(TM) B580 Graphics": "Arc B580",
    "Apple M4 Max": "Apple M4 Max",
    "M4 Max": "Apple M4 Max",
    "DGX Spark": "GB10",
    "Strix Halo": "Radeon 8060S",
    "GTX 1080 Ti": "GeForce GTX 1080 Ti",
}

AMBIGUOUS = {
    "RTX 4060 Ti": ["RTX 4060 Ti 8 GB", "RTX 4060 Ti 16 GB"],
    "RTX 5060 Ti": ["RTX 5060 Ti 8 GB", "RTX 5060 Ti 16 GB"],
    "RTX 3080": ["RTX 3080 10 GB", "RTX 3080 12 GB"],
    "RTX 3060": ["RTX 3060 8 GB", "RTX 3060 12 GB"],
    "RTX 2060": ["RTX 2060 6 GB", "RTX 2060 12 GB"],
    "H100": ["H100 PCIe 80 GB", "H100 SXM5 80 GB"],
    "A100": ["A100 PCIe 40 GB", "A100 SXM4 40 GB", "A100 PCIe 80 GB", "A100 SXM4 80 GB"],
    "V100": ["Tesla V100 PCIe 16 GB", "Tesla V100 SXM2 32 GB"],
    "A770": ["Arc A770 8 GB", "Arc A770 16 GB"],
}


@pytest.mark.parametrize(("query", "name"), EXACT.items())
def test_a_name_as_people_and_drivers_write_it(query: str, name: str) -> None:
    assert find_card(query).name == name


@pytest.mark.parametrize(("query", "candidates"), AMBIGUOUS.items())
def test_an_ambiguous_name_lists_names_that_work(query: str, candidates: list[str]) -> None:
    with pytest.raises(InputError, match="is ambiguous; choose one of") as raised:
        find_card(query)
    message = str(raised.value)
    assert message.startswith("--gpu:")
    listed = message.split("choose one of ")[1].rstrip(".").replace("'", "").split(", ")
    assert set(candidates) <= set(listed)
    resolved = {find_card(candidate).slug for candidate in listed}
    assert len(resolved) == len(listed)


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("3060", "'RTX 3060 12 GB', 'RTX 3060 8 GB'"),  # sold from January 2021 and October 2022
        ("RTX 4060 Ti", "'RTX 4060 Ti 8 GB', 'RTX 4060 Ti 16 GB'"),
        ("A770", "'Arc A770 8 GB', 'Arc A770 16 GB'"),  # of one day
    ],
)
def test_of_several_cards_the_one_that_came_out_first_is_named_first(query: str, listed: str) -> None:
    with pytest.raises(InputError) as raised:
        find_card(query)
    assert str(raised.value).endswith(f"is ambiguous; choose one of {listed}.")


@pytest.mark.parametrize(
    ("query", "suggestion"),
    [
        ("RTX 4075", "RTX 4070"),
        ("RX 6500", "Radeon RX 6500 XT"),
        ("RTX 4070 16GB", "RTX 4070 12 GB"),
        ("Radeon RX 9070 XTX", "Radeon RX 9070 XT"),
        ("MSI GeForce RTX 4070 VENTUS 2X 12G OC", "GeForce RTX 4070"),
        ("ASUS TUF RTX 4070 Ti SUPER", "GeForce RTX 4070 Ti SUPER"),
        ("GIGABYTE AORUS RTX 5060 Ti 16G", "GeForce RTX 5060 Ti 16 GB"),
        ("M4 Max 64GB", "it exists as 'Apple M4 Max'"),
        ("zzz", "`fitcheck cards 4070`"),
    ],
)
def test_an_unknown_name_gets_suggestions_and_no_card(query: str, suggestion: str) -> None:
    with pytest.raises(InputError, match="no card is called") as raised:
        find_card(query)
    assert suggestion in str(raised.value)


@pytest.mark.parametrize(
    "query", ["", "   ", "???", "NVIDIA", "gpu", "12GB", "\x00", "🎮", "GeForce", "RTX", "x" * 5000]
)
def test_what_is_no_name_is_refused_in_one_sentence(query: str) -> None:
    with pytest.raises(InputError) as raised:
        find_card(query)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


def test_every_card_is_found_by_its_name_and_by_its_slug() -> None:
    for card in all_cards():
        assert find_card(card.name) == card
        assert find_card(card.slug) == card


def test_the_card_within_a_longer_name_is_suggested_alone() -> None:
    with pytest.raises(InputError) as raised:
        find_card("ASUS TUF RTX 4070 Ti SUPER OC")
    assert str(raised.value).endswith("did you mean 'GeForce RTX 4070 Ti SUPER'?")


@pytest.mark.parametrize(
    ("typed", "give"),
    [
        ("Ryzen 7 8845HS", "the Radeon 780M inside it"),
        ("Intel Core Ultra 7 258V", "the Arc 140V Mobile inside it"),
        ("i7-13700K", "the graphics inside it"),
        ("Ryzen 5 5600G", "the graphics inside it"),
        ("Snapdragon X Elite", "the graphics inside it"),
        ("N100", "the graphics inside it"),
    ],
)
def test_a_processor_is_told_from_a_card(typed: str, give: str) -> None:
    with pytest.raises(InputError) as raised:
        find_card(typed)
    assert f"{typed!r} is a processor; give {give}" in str(raised.value)
    assert "'none' for the processor alone" in str(raised.value)


def test_what_a_processor_has_inside_is_a_card_with_a_source() -> None:
    data = json.loads((Path(processors.__file__).parent / "data" / "processors.json").read_bytes())
    for name, (graphics, source) in data["processors"].items():
        assert find_card(graphics).name == graphics
        assert data["sources"][source]["url"].startswith("https://")
        assert processors.processor_hint(f"AMD {name} APU") == processors.processor_hint(name)


def test_no_card_is_taken_for_a_processor() -> None:
    """Those that carry a processor's name are found before anything is said of processors."""
    hinted = [card.name for card in all_cards() if processors.processor_hint(card.name)]
    assert all(name.startswith("Xeon Phi") or (name.startswith("Ryzen") and name.endswith("GPU")) for name in hinted)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("Intel UHD 770", "UHD Graphics 770"), ("UHD 630", "UHD Graphics 630"), ("Intel Arc 140V", "Arc 140V Mobile")],
)
def test_graphics_inside_processors_as_people_call_them(typed: str, name: str) -> None:
    assert find_card(typed).name == name


def test_sizes_in_names_are_mebibytes() -> None:
    assert parse("GeForce 210 512 MB").memory == 512
    assert parse("RTX 3060 12 GB").memory == parse("RTX 3060 12G").memory == 12 * 1024
    assert parse("Radeon HD 6480G").memory is None
    assert parse("GeForce 940M").memory is None


def test_max_q_names_a_laptop_part_already() -> None:
    assert parse("RTX 2070 Max-Q Laptop GPU").markers == parse("RTX 2070 with Max-Q Design").markers == {"max-q"}


def test_every_alias_is_found() -> None:
    aliased = [card for card in all_cards() if card.aliases]
    assert len(aliased) > 10
    for card in aliased:
        for alias in card.aliases:
            assert find_card(alias) == card, alias


# made for laptops alone, so the plain name, which drivers and people use, can mean nothing else
LAPTOP_ONLY = ("GeForce RTX 2050", "GeForce GTX 1650 Ti")


def test_laptop_and_desktop_parts_never_mix() -> None:
    """A name without a laptop word never gives a laptop part where a desktop part has that name, and the reverse."""
    checked = 0
    for card in all_cards():
        if card.form != "laptop" or not card.name.startswith("GeForce RTX"):
            continue
        checked += 1
        plain = card.name.replace(" Mobile", "").replace(" Max-Q", "")
        assert parse(card.name).markers, card.name
        try:
            found = find_card(plain)
        except InputError:
            continue
        assert found.form == "desktop" or plain in LAPTOP_ONLY, (plain, found.name)
    assert checked > 30


def test_max_q_and_mobile_are_different_cards() -> None:
    assert find_card("RTX 2080 Max-Q").name == "GeForce RTX 2080 Max-Q"
    assert find_card("GeForce RTX 2080 with Max-Q Design").name == "GeForce RTX 2080 Max-Q"
    assert find_card("RTX 2080 Mobile").name == "GeForce RTX 2080 Mobile"
    assert find_card("RTX 2080").form == "desktop"


@pytest.mark.parametrize("query", ["i740 graphics", "INTEL I740 GRAPHICS", "i740-Graphics", "Intel i740  graphics"])
def test_a_whole_name_means_its_card_though_a_word_of_it_says_nothing_elsewhere(query: str) -> None:
    """Beside cards called i740 4 MB and i740 8 MB."""
    assert find_card(query).name == "i740 Graphics"


@given(st.sampled_from([card.name for card in all_cards()]), st.data())
def test_case_spaces_hyphens_and_maker_do_not_matter(name: str, data: st.DataObject) -> None:
    card = find_card(name)
    spaced = name.replace(" ", data.draw(st.sampled_from([" ", "  ", "-", " - "])))
    cased = data.draw(st.sampled_from([spaced.lower(), spaced.upper(), spaced]))
    maker = data.draw(st.sampled_from(["", f"{card.vendor} "])) if card.vendor in ("NVIDIA", "AMD", "Intel") else ""
    assert find_card(maker + cased) == card


@given(st.text(max_size=60))
def test_any_text_is_a_card_or_a_sentence(text: str) -> None:
    try:
        found = find_card(text)
    except InputError as error:
        message = str(error)
    else:
        message = "--gpu: found" if found in all_cards() else "a card of no database"
    assert message.startswith("--gpu: ")


def test_the_usual_choices() -> None:
    cards = common_cards()
    assert 35 <= len(cards) <= 50
    assert len({card.slug for card in cards}) == len(cards)
    assert {"rtx-4070", "rtx-3060-12gb", "rtx-4090", "rtx-5090", "h100-sxm5-80gb"} <= {card.slug for card in cards}
    for card in cards:
        assert card.tensor_flops is not None, card.name
        assert card.memory_bandwidth is not None, card.name
        assert card.pcie_generation is not None, card.name
        assert find_card(card.slug) == card


@pytest.mark.parametrize(
    ("name", "mebibytes", "slug"),
    [
        ("NVIDIA GeForce RTX 4060 Ti", 16380, "rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 8188, "rtx-4060-ti-8gb"),
        ("NVIDIA GeForce RTX 3080", 10240, "rtx-3080-10gb"),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", 8188, "rtx-4070-mobile"),
        ("NVIDIA H100 80GB HBM3", 81559, "h100-sxm5-80gb"),
        ("NVIDIA H200", 143771, "h200-sxm-141gb"),
        ("NVIDIA B300 SXM6 AC", 275040, "b300"),
        ("NVIDIA GH200 480GB", 97871, "gh200-96gb"),
        ("NVIDIA A10", 23028, "a10-pcie"),
        ("NVIDIA L40S", 46068, "l40s"),
        ("Tesla T4", 15360, "tesla-t4"),
        ("Tesla V100-SXM2-32GB", 32768, "tesla-v100-sxm2-32gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "rtx-pro-6000-blackwell-server"),
        ("NVIDIA GB10", None, "gb10"),
        ("AMD Radeon RX 7900 XTX", 24560, "radeon-rx-7900-xtx"),
        ("Intel Arc A770", 16 * 1024, "arc-a770-16gb"),
        ("Apple M2 Max", 64 * 1024, "apple-m2-max"),
    ],
)
def test_drivers_names_with_the_memory_they_report(name: str, mebibytes: int | None, slug: str) -> None:
    found = match_detected(name, None if mebibytes is None else mebibytes * MIB)
    assert found is not None
    assert found.slug == slug


def test_a_detected_name_that_stays_ambiguous_is_no_card() -> None:
    assert match_detected("NVIDIA GeForce RTX 4060 Ti", None) is None
    assert match_detected("NVIDIA GeForce RTX 9999", 12 * GIB) is None
    assert match_detected("", None) is None


def test_slugs_of_many_names_are_those_of_each() -> None:
    names = database().names()
    assert slugs(names) == [slug(name) for name in names]


@pytest.mark.parametrize(
    "typed",
    ["AMD Radeon(TM) Graphics", "Intel(R) Graphics", "Intel(R) Iris(R) Xe Graphics", "iGPU", "integrated graphics"],
)
def test_the_name_that_drivers_give_to_many_is_no_card_of_another_maker(typed: str) -> None:
    with pytest.raises(InputError) as raised:
        find_card(typed)
    assert "is what the graphics inside many processors are called" in str(raised.value)
    named = re.findall(r"'([^']+)'", str(raised.value).removeprefix(f"--gpu: {typed!r}"))
    assert [find_card(name).name for name in named] == named
