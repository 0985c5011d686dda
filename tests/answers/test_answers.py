"""What ``fitcheck check`` said before its modules moved, it says now, apart from the changes that are meant.

To see the differences by field: ``python tests/answers/ask.py --compare``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import typer
from typer.core import TyperGroup

from fitcheck.cli.main import application
from tests.answers import ask
from tests.answers.ask import Allowance, Answer, Difference

SHOWN = 60


@pytest.fixture(scope="module")
def differences() -> list[Difference]:
    return ask.compare(ask.kept_answers(), ask.ask_all(ask.questions()))


def test_every_answer_is_the_one_that_was_kept(differences: list[Difference]) -> None:
    left = ask.unexpected(differences, ask.allowances())
    listed = "\n".join(map(str, left[:SHOWN]))
    assert not left, f"{len(left)} values changed; by field:\n{ask.summary(left, 0)}\n\nthe first:\n{listed}"


def test_every_allowed_change_is_still_there(differences: list[Difference]) -> None:
    """An allowance without a difference hides the next one."""
    idle = [one for one in ask.allowances() if not any(one.covers(difference) for difference in differences)]
    assert not idle


def test_the_questions_reach_every_option() -> None:
    asked = ask.questions()
    assert len(set(asked)) == len(asked) >= 300
    assert sum("exit" in answer and answer["exit"] == ask.REFUSED for answer in ask.kept_answers().values()) >= 30
    command = typer.main.get_command(application(("check",)))
    assert isinstance(command, TyperGroup)
    options = {name for one in command.commands["check"].params for name in one.opts + one.secondary_opts}
    long = {name for name in options if name.startswith("--")} - {"--json", "--markdown", "--html", "--help"}
    words = {word for question in asked for word in question.split()}
    assert long - words == set()


# that the comparison can fail


@pytest.fixture
def one_answer() -> dict[str, Answer]:
    return dict(list(ask.kept_answers().items())[:1])


def changed(answers: Mapping[str, Answer], **values: object) -> dict[str, Answer]:
    """The same answers with other values in the first cell of the first."""
    other = copy.deepcopy(dict(answers))
    next(iter(other.values()))["cells"][0].update(values)
    return other


def test_the_same_answers_do_not_differ(one_answer: dict[str, Answer]) -> None:
    assert ask.compare(one_answer, copy.deepcopy(one_answer)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("disk", 1), ("verdict", "no way"), ("seconds", None), ("flip", {"change": "a", "verdict": "b"}), ("phases", [])],
)
def test_one_other_value_is_a_difference_of_that_field(
    one_answer: dict[str, Answer], field: str, value: object
) -> None:
    found = ask.compare(one_answer, changed(one_answer, **{field: value}))
    assert found
    assert {one.field.partition(".")[0] for one in found} == {field}


def test_one_byte_counts_and_the_tenth_digit_does_not(one_answer: dict[str, Answer]) -> None:
    cell = next(iter(one_answer.values()))["cells"][0]
    low, best, high = cell["seconds"]
    assert ask.compare(one_answer, changed(one_answer, seconds=[low, best * (1 + 1e-9), high])) == []
    assert len(ask.compare(one_answer, changed(one_answer, seconds=[low, best * (1 + 1e-8), high]))) == 1
    assert len(ask.compare(one_answer, changed(one_answer, pinned=cell["pinned"] + 1))) == 1


def test_a_cell_or_an_answer_that_is_gone_or_elsewhere_is_a_difference(one_answer: dict[str, Answer]) -> None:
    question, answer = next(iter(one_answer.items()))
    cells = answer["cells"]
    for other in (cells[1:], cells[::-1]):
        (found,) = ask.compare(one_answer, {question: {**answer, "cells": other}})
        assert found.field == "cells"
    assert [one.field for one in ask.compare(one_answer, {})] == ["question"]
    refused = ask.compare(one_answer, {question: {"exit": 2, "refused": "no", "printed": ""}})
    assert {"exit", "refused", "cells"} <= {one.field for one in refused}


def test_an_allowance_covers_its_field_alone(one_answer: dict[str, Answer]) -> None:
    found = ask.compare(one_answer, changed(one_answer, disk=1, peak="elsewhere"))
    left = ask.unexpected(found, [Allowance("*", "disk", "measured again")])
    assert [one.field for one in left] == ["peak"]
    assert "peak: 1 differences in 1 questions" in ask.summary(left)
