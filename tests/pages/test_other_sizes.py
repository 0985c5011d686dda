"""The same question at other sizes, as a page shows it."""

from __future__ import annotations

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.models import catalog
from fitcheck.pages.document import slim_json
from fitcheck.pages.other_sizes import Reports, steps
from fitcheck.pages.view import pace
from fitcheck.verdict.cell_json import cell_json, interval_json
from fitcheck.verdict.ranking import summary_json
from fitcheck.verdict.usual_machine import ask


@pytest.mark.parametrize(
    ("slug", "contexts"),
    [
        ("qwen2.5-7b", ["4,096", "8,192", "16,384", "32,768"]),
        ("llama-2-7b", []),  # trained on 4096 tokens, at which the page answers already
        ("bge-m3", []),  # nothing is kept between texts
    ],
)
def test_contexts_reach_as_far_as_the_model_was_trained(slug: str, contexts: list[str]) -> None:
    asked = ask(catalog.get(slug), find_card("RTX 4090"))
    rows = steps(Reports(asked, asked.report(advise=False)))
    assert [row["value"] for row in rows] == [f"{one} tokens" for one in contexts]


@pytest.mark.parametrize(("slug", "rate"), [("bge-m3", "prompt"), ("qwen2.5-7b", "generation")])
def test_lists_and_pages_tell_the_pace_that_the_command_tells(slug: str, rate: str) -> None:
    """Tokens read a second by a model that writes none, written by others; seconds of neither."""
    report = ask(catalog.get(slug), find_card("RTX 4090")).report(advise=False)
    told = interval_json(report.best.rate(rate))
    assert told is not None
    assert summary_json(report)["pace"] == told
    task = str(report.workload.task)
    for cell in (cell_json(report.best), slim_json(report.best)):
        assert pace(cell, task) == told
