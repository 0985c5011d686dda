"""The same question at other sizes, as a page shows it."""

from __future__ import annotations

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.models import catalog
from fitcheck.pages.other_sizes import Reports, steps
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
