"""The typed library call gives what the command line prints."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from typing import Any

import pytest

import fitcheck
from fitcheck.errors import InputError
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.units import GIB


def test_the_example_of_the_package_is_true() -> None:
    assert doctest.testmod(fitcheck).failed == 0
    assert doctest.testmod(fitcheck).attempted == 3


def test_library_and_command_line_agree() -> None:
    report = fitcheck.check(
        "sensenova-u1-8b-mot", "RTX 4070", tier="Q6_K", mode=["low", "full"], ram=32 * GIB, display=True
    )
    code = "from fitcheck.cli.main import main; main()"
    words = "check sensenova-u1-8b-mot --gpu RTX-4070 --tier Q6_K --mode low,full --ram 32GB --display --json"
    done = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == report.to_json()


def test_a_card_and_a_machine_are_taken_as_well_as_a_name() -> None:
    card = find_card("RTX 4070")
    by_name = fitcheck.check("sensenova-u1-8b-mot", "RTX 4070", tier="Q4_K_S")
    assert fitcheck.check("sensenova-u1-8b-mot", card, tier="Q4_K_S").to_json() == by_name.to_json()
    assert fitcheck.check("sensenova-u1-8b-mot", machine_for(card), tier="Q4_K_S").to_json() == by_name.to_json()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": (0, 0)}, "--size"),
        ({"tier": "Q9"}, "no tier"),
        ({"mode": "turbo"}, "offload mode"),
        ({"ram": -1}, "--ram"),
    ],
)
def test_impossible_values_are_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fitcheck.check("sensenova-u1-8b-mot", "RTX 4070", **changes)
