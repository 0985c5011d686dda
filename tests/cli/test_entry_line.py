"""The line that the site's field shows for a card without a page of its own: run, it answers for that very card."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from fitcheck.hardware.catalog import common_cards
from fitcheck.pages import entry

PURPOSES = ("", "chat", "code", "image", "video", "edit", "vision")
OTHERS = [row for row in json.loads(entry.index(common_cards()[:5], ()))["cards"] if not row[3]]
SAMPLE = random.Random(18).sample(OTHERS, 20)


@pytest.mark.parametrize("row", SAMPLE, ids=[row[1] for row in SAMPLE])
def test_the_line_answers_for_that_card(run: Callable[..., Any], row: list[object]) -> None:
    name, slug = str(row[0]), str(row[1])
    chance = random.Random(slug)
    ram, purpose = chance.choice((16, 32, 64, 128)), chance.choice(PURPOSES)
    ran = run("runs", "--gpu", slug, "--ram", f"{ram}GB", *(["--for", purpose] if purpose else []))
    assert ran.code == 0
    assert ran.out.startswith(f"{purpose or 'chat'}: ".encode())
    assert f"Asked: {name}, {ram} GB of system memory." in ran.err
