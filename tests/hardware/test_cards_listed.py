"""Several cards as people write them in one ``--gpu``."""

from __future__ import annotations

import pytest

from fitcheck.errors import CardError
from fitcheck.hardware.asked import asked_machine


@pytest.mark.parametrize(
    "text",
    ["2x RTX 3090", "2 x RTX 3090", "2xRTX 3090", "RTX 3090 x2", "RTX 3090 (x2)", "dual RTX 3090", "Two RTX 3090",
     "RTX 3090, RTX 3090", "RTX 3090 + RTX 3090", "RTX 3090 & RTX 3090", "2x 3090"],
)  # fmt: skip
def test_two_cards_are_two(text: str) -> None:
    assert [gpu.card.slug for gpu in asked_machine(text).gpus] == ["rtx-3090"] * 2


def test_a_list_may_mix_cards_and_counts() -> None:
    names = [gpu.card.name for gpu in asked_machine("RTX 4090, 2x Tesla P40").gpus]
    assert names == ["GeForce RTX 4090", "Tesla P40", "Tesla P40"]


def test_a_plus_within_a_name_parts_nothing() -> None:
    assert len(asked_machine("Ryzen AI Max+ 395", ram=128 << 30).gpus) == 1


@pytest.mark.parametrize("text", ["0x RTX 3090", "17xRTX 3090", "RTX 3090 x99", "RTX 3090, nothing", "two"])
def test_a_list_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(CardError):
        asked_machine(text)


def test_a_slice_of_no_card_is_asked_for_its_card() -> None:
    with pytest.raises(CardError, match="names no card; write it with its slice"):
        asked_machine("MIG 1g.10gb")
