"""The typed library call gives what the command line prints."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


def printed(*words: str) -> Any:
    """What a command prints with --json, in a process of its own."""
    command = [sys.executable, "-m", "fitcheck", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_runs_of_the_library_is_what_the_command_prints() -> None:
    found = fitcheck.runs("RTX 3060 12 GB", purpose="code", ram="32GB", system="windows", most=2)
    words = ("runs", "--gpu", "RTX 3060 12 GB", "--for", "code", "--ram", "32GB", "--os", "windows", "--most", "2")
    assert printed(*words) == found.to_json()
    assert " --ram 32GB --os windows --tier " in found.to_json()["purposes"][0]["rows"][0]["command"]
    several = fitcheck.runs(machine_for(find_card("RTX 3060 12 GB"), ram=32 * GIB), purpose=("code",), most=1)
    assert several.said == ("--gpu", find_card("RTX 3060 12 GB").slug)


def test_compare_of_the_library_is_what_the_command_prints() -> None:
    found = fitcheck.compare(["gpt-oss-20b", "sdxl"], ["RTX 4070", "2x RTX 3090"], ram=32 * GIB)
    words = ("compare", "gpt-oss-20b", "sdxl", "--gpu", "RTX 4070", "--gpu", "2x RTX 3090", "--ram", "32GB")
    assert printed(*words) == found.to_json()
    assert len(found.rows) == 4


def test_plan_of_the_library_is_what_the_command_prints() -> None:
    found = fitcheck.plan("gpt-oss-20b", have="RTX 3060 12 GB", ram="16GB", budget=400, tier=["MXFP4"])
    words = (
        "plan",
        "gpt-oss-20b",
        "--have",
        "RTX 3060 12 GB",
        "--ram",
        "16GB",
        "--budget",
        "400USD",
        "--tier",
        "MXFP4",
    )
    assert printed(*words) == found.to_json()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: fitcheck.runs("RTX 4070", purpose="poetry"), "--for: 'poetry'"),
        (lambda: fitcheck.runs("RTX 4070", most=0), "--most: 0"),
        (lambda: fitcheck.plan("no-such-model"), "no-such-model"),
        (lambda: fitcheck.plan("sdxl", budget="cheap"), "--budget"),
        (lambda: fitcheck.compare([], ["RTX 4070"]), "at least one model"),
        (lambda: fitcheck.compare("sdxl", ["RTX 4070"] * 65), "more than 64"),
        (lambda: fitcheck.compare("sdxl", ["RTX 4070"], system="amiga"), "--os"),
    ],
)
def test_impossible_questions_are_one_sentence(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ask()


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


def test_the_code_of_the_documentation_runs() -> None:
    text = (Path(__file__).parents[1] / "docs/python.md").read_text("utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    assert len(names["side"].rows) == 4
    assert all(step.verdict.rank < names["bought"].now.best.verdict.rank for step in names["bought"].steps)
