"""The machine that a question is about: cards by name, with a count before it, bounded."""

from __future__ import annotations

import pytest

from fitcheck.errors import CardError, InputError
from fitcheck.hardware.asked import MOST_CARDS, asked_machine


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
