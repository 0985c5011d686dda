"""How the numbers at the head of a page are known, memory and speed each."""

from __future__ import annotations

import re
from typing import Any

import pytest

import fitcheck
from fitcheck.pages.single import page_of


def said(card: str, **options: Any) -> str:
    """The words under "How we know" without markup, up to the reasons."""
    report = fitcheck.check("sensenova-u1-8b-mot", card, ram=128 << 30, **options)
    found = re.search(r"<dt>How we know</dt><dd>(.*?)<span class=\"span\">", page_of(report), re.DOTALL)
    assert found is not None
    levels = {report.best.evidence.memory.level, report.best.evidence.seconds.level}
    text = re.sub(r"<[^>]+>", "", found[1]).strip()
    assert all(level in text for level in levels)
    return text


@pytest.mark.parametrize(
    ("card", "options", "words"),
    [
        ("RTX 4070", {}, "estimated"),
        ("H100 SXM5 80GB", {"tier": "Q4_K_S", "mode": "balanced"}, "measured"),
        # records of other Hopper cards correct its seconds and say nothing of its memory
        ("H200 SXM 141GB", {"tier": "Q4_K_S", "mode": "balanced"}, "estimated memory, calibrated speed"),
    ],
)
def test_memory_and_speed_are_told_apart_where_they_differ(card: str, options: dict[str, str], words: str) -> None:
    assert said(card, **options) == words
