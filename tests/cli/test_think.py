"""``--think [TOKENS]``: an option whose value may be left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Run

U1 = "sensenova-u1-8b-mot"
ASK = ("--gpu", "RTX 4090", "--ram", "64GB", "--tier", "BF16", "--mode", "low", "--json")


def workload(run: Run, *words: object) -> dict[str, Any]:
    """What was asked, as the answer says it."""
    done = run("check", *words)
    assert done.code in (0, 1), done.err
    found: dict[str, Any] = json.loads(done.out)["cells"][0]["workload"]
    return found


def test_thoughts_with_and_without_a_number(run: Run) -> None:
    assert workload(run, U1, *ASK)["think"] is None
    assert workload(run, U1, *ASK, "--think")["think"] == 380
    assert workload(run, U1, "--think", *ASK)["think"] == 380
    assert workload(run, "--think", U1, *ASK)["think"] == 380
    assert workload(run, U1, *ASK, "--think", 240)["think"] == 240
    assert workload(run, "--think", 240, U1, *ASK)["think"] == 240
    assert workload(run, U1, *ASK, "--think=90")["think"] == 90


@pytest.mark.parametrize("value", ["0", "300000", "-5", "1.5", "many"])
def test_what_is_no_number_of_tokens_is_said(run: Run, value: str) -> None:
    done = run("check", U1, *ASK, f"--think={value}")
    assert done.code == 2
    assert done.err.startswith("fitcheck: --think: ")


def test_the_command_thinks_too_and_the_first_image_is_told(run: Run) -> None:
    done = run("check", U1, "--think", *ASK[:-1])
    assert b" --think " in done.out
    assert "first image of a process" in done.err
    assert "380 tokens are assumed" in done.err
