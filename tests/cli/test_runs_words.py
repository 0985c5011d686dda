"""What a list of models and a plan say of what they did not look at."""

from __future__ import annotations

import pytest

import fitcheck
from fitcheck.cli import plan, runs
from fitcheck.cli.listing import LEADING
from fitcheck.units import GIB


@pytest.mark.parametrize(("purpose", "said"), [("vision", True), ("chat", False)])
def test_chat_models_are_said_to_be_judged_without_what_sees(
    capsys: pytest.CaptureFixture[str], purpose: str, said: bool
) -> None:
    for one in fitcheck.runs("RTX 5090", ram=64 * GIB, purpose=purpose).purposes:
        runs.tell(one, ())
    told = capsys.readouterr().err
    assert ("without the mmproj file that sees" in told) is said
    assert LEADING in told


def test_a_plan_whose_budget_buys_no_card_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    found = fitcheck.plan("flux.1-dev", max_seconds=30, budget=300)
    assert not found.cards.fit
    plan.tell(found)
    nearest = found.cards.nearest
    assert nearest is not None
    assert not nearest.slow
    assert f"the cheapest that runs it is {nearest.card.name} ({nearest.price:,.0f} USD)." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("card", "ram", "said"),
    [
        ("Strix Halo", 64, "No card goes beside memory that is shared"),
        ("RTX 4060 Mobile", 64, "Nothing that goes into this machine and the budget betters it."),
    ],
)
def test_a_plan_without_steps_says_why(capsys: pytest.CaptureFixture[str], card: str, ram: int, said: str) -> None:
    plan.tell(fitcheck.plan("gpt-oss-120b", have=card, ram=ram * GIB, min_speed=200))
    assert said in capsys.readouterr().out
