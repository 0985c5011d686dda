"""The figures beside a list: what is counted, how it is ordered, which floors are heard, and what a speed costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import fitcheck
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.budget import budgets_of
from fitcheck.memory.weighing import Verdict
from fitcheck.models.workload import Task
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.compare import Compared, compared
from fitcheck.verdict.lead import USUAL_BITS
from fitcheck.verdict.purposes import purpose_named
from fitcheck.verdict.ranking import MOST_SPLITS, Ranking, rank

HOUR = 3600


def ranked(purpose: str, card: str, ram: int, most: int, wanted: Wanted | None = None) -> Ranking:
    return rank(purpose_named(purpose), asked_machine(card, ram=ram * GIB), wanted or Wanted(), most=most)


def slugs(found: Ranking) -> list[str]:
    return [row.listing.slug for row in found.rows]


def test_models_that_no_board_rates_come_newest_first_and_those_of_no_day_last() -> None:
    rows = ranked("code", "RTX 3060 12 GB", 16, most=100).rows
    days = [row.listing.day for row in rows]
    assert len(set(days)) > 5
    assert days == sorted(days, key=lambda day: day or "", reverse=True)


def test_every_model_is_counted_once() -> None:
    """All of a short list are shown, miss, are too large, or are said to be unseen."""
    found = ranked("code", "RTX 3060 12 GB", 16, most=100)
    assert (found.more, found.unseen) == (0, 0)
    assert found.larger > 0
    assert len(found.rows) + len(found.misses) + found.larger == found.listed
    first = ranked("code", "RTX 3060 12 GB", 16, most=2)
    assert slugs(first) == slugs(found)[:2]
    assert first.more < len(found.rows) - 2
    assert first.unseen > 0


@pytest.mark.parametrize(("card", "ram"), [("M3 Max 64GB", 64), ("none", 32)])
def test_what_is_too_large_is_more_than_one_memory(card: str, ram: int) -> None:
    machine = asked_machine(card, ram=ram * GIB)
    (have,) = budgets_of(machine)
    most = have.vram.high if machine.gpus else (have.ram.high if have.ram else 0)
    found = rank(purpose_named("chat"), machine, Wanted(), most=1)
    weights = [(one.parameters or 0) * USUAL_BITS / 8 for one, _ in purpose_named("chat").models()]
    assert found.larger == sum(size > most for size in weights)


def test_without_a_card_more_is_listed_than_is_split_elsewhere() -> None:
    assert len(ranked("chat", "none", 32, most=MOST_SPLITS + 4).rows) == MOST_SPLITS + 4


def test_each_floor_is_heard_by_what_it_measures() -> None:
    """Tokens a second say nothing of pictures, seconds nothing of text that is read along."""
    for purpose, wanted in (("image", Wanted(min_speed=1e4)), ("code", Wanted(max_seconds=1e-3))):
        usual = ranked(purpose, "RTX 4090", 64, most=3)
        assert slugs(usual)
        assert slugs(ranked(purpose, "RTX 4090", 64, most=3, wanted=wanted)) == slugs(usual)


def test_what_lacks_the_smaller_share_is_nearer() -> None:
    misses = ranked("video", "RTX 4060", 8, most=3).misses
    assert {row.verdict for row in misses} == {Verdict.NO}
    lacks = [max(-one.left / one.available for one in row.report.best.judgement.margins) for row in misses]
    assert len(set(lacks)) == len(lacks) == 3
    assert lacks == sorted(lacks)


def test_the_command_names_a_task_that_is_not_the_models_first() -> None:
    rows = ranked("vision", "RTX 4090", 64, most=5).rows
    told = {row.listing.slug: row.command() for row in rows}
    assert told["sensenova-u1-8b-mot"].endswith("--task vqa")
    assert not any("--task" in line for slug, line in told.items() if not slug.startswith("sensenova"))


def test_who_wants_images_answered_about_is_given_models_that_see() -> None:
    seeing, chat = (purpose_named(name).models() for name in ("vision", "chat"))
    assert all(listing.sees for listing, task in seeing if task is Task.CHAT)
    assert any(task is Task.VQA for _, task in seeing)
    assert {"gemma-3-27b"} <= {listing.slug for listing, _ in seeing}
    assert "qwen3-8b" in {listing.slug for listing, _ in chat} - {listing.slug for listing, _ in seeing}


def one(model: str, cards: Sequence[str], **options: object) -> Compared:
    machine = asked_machine(list(cards), ram=64 * GIB)
    return compared(fitcheck.check(model, machine, **options), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "card", "verdict", "batch", "options"),
    [
        ("sensenova-u1-8b-mot", "RTX 4090", Verdict.FITS, 4, {"tier": "Q4_K_S", "mode": "low", "batch": 4}),
        ("sdxl", "RTX 3070", Verdict.TIGHT, 1, {"tier": "fp16", "mode": "model"}),
    ],
)
def test_a_picture_an_hour_costs_its_share_of_the_card(
    model: str, card: str, verdict: Verdict, batch: int, options: dict[str, object]
) -> None:
    found = one(model, [card], **options)
    best = found.report.best
    assert best.verdict is verdict
    assert found.price is not None
    assert best.seconds is not None
    pictures = batch * HOUR / best.seconds.best
    assert found.price_per_hourly == pytest.approx(found.price / pictures)


@pytest.mark.parametrize(
    ("model", "options", "per"),
    [
        ("sdxl", {"tier": "fp16"}, "image/h"),
        ("wan2.2-ti2v-5b", {"tier": "fp8"}, "video/h"),
        ("sensenova-u1-8b-mot", {"tier": "Q4_K_S", "task": "vqa"}, "answer/h"),
        ("qwen3-8b", {"tier": "Q4_K_M"}, "token/s"),
    ],
)
def test_a_speed_is_priced_by_what_is_made(model: str, options: dict[str, object], per: str) -> None:
    assert one(model, ["RTX 4090"], **options).to_json()["per"] == per


def test_the_price_of_cards_of_which_one_has_none_is_not_known() -> None:
    found = one("qwen2.5-32b", ["RTX 4090", "RTX 3080 12 GB"], tier="Q6_K")
    assert found.idle == 0
    assert found.price is None
    assert found.price_per_hourly is None
    assert found.watts == 450 + 350
