"""What runs on a machine says the same as the check of each row, and never less on a larger machine."""

from __future__ import annotations

import shlex

import pytest

import fitcheck
from fitcheck.errors import OptionError
from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models import catalog
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.coarseness import loss_of
from fitcheck.verdict.lead import undominated
from fitcheck.verdict.purposes import purpose_named, purposes
from fitcheck.verdict.ranking import Ranking, rank


def ranked(purpose: str, card: str, ram: int, most: int = 3, **floors: float) -> Ranking:
    machine = asked_machine(card, ram=ram * GIB)
    return rank(purpose_named(purpose), machine, Wanted(**floors), most=most)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("purpose", "card", "ram"),
    [("chat", "RTX 3060 12 GB", 16), ("code", "RTX 4090", 32), ("image", "RTX 4090", 64), ("vision", "RTX 4070", 32)],
)
def test_every_row_is_what_check_says(purpose: str, card: str, ram: int) -> None:
    found = ranked(purpose, card, ram)
    assert found.rows
    for row in (*found.rows, *found.misses):
        best = row.report.best
        same = fitcheck.check(row.listing.slug, card, task=str(row.task), tier=best.tier.name, ram=ram * GIB)
        assert (same.best.verdict, same.best.placement) == (best.verdict, best.placement)
        assert same.best.footprint.cards == best.footprint.cards
        words = shlex.split(row.command(("--gpu", card)))
        assert words[:3] == ["fitcheck", "check", row.listing.slug]


def test_rows_fit_and_are_in_order_and_misses_do_not() -> None:
    found = ranked("chat", "RTX 3060 12 GB", 16)
    scores = [found.purpose.score(row.listing) for row in found.rows]
    rated = [score.value for score in scores if score is not None]
    assert rated == sorted(rated, reverse=True)
    assert scores[: len(rated)] == [score for score in scores if score is not None]
    days = [row.listing.day for row in found.rows[len(rated) :]]
    assert days
    assert days == sorted(days, key=lambda day: day or "", reverse=True)
    assert {row.verdict for row in found.rows} == {Verdict.FITS}
    assert Verdict.FITS not in {row.verdict for row in found.misses}
    assert len({row.listing.slug for row in found.rows}) == len(found.rows)


def test_no_row_is_coarser_than_the_usual_tiers() -> None:
    found = ranked("code", "RTX 4090", 32)
    for row in found.rows:
        assert row.report.best.tier.disk_bytes >= 4.4 / 16 * row.report.model.tiers[0].disk_bytes


@pytest.mark.parametrize("purpose", ["chat", "image"])
def test_more_memory_never_lowers_the_best_rating_that_runs(purpose: str) -> None:
    best = []
    for card, ram in (("RTX 4060 Ti 8 GB", 16), ("RTX 4060 Ti 16 GB", 32), ("RTX 4090", 64)):
        found = ranked(purpose, card, ram, most=1)
        scores = [found.purpose.score(row.listing) for row in found.rows]
        best.append(max((score.value for score in scores if score is not None), default=0))
    assert best == sorted(best)
    assert best[-1] > 0


def test_a_floor_is_heard() -> None:
    for row in ranked("code", "RTX 3060 12 GB", 32, min_speed=40.0).rows:
        rate = row.report.best.rate("generation")
        assert rate is None or rate.best >= 40


def test_a_miss_says_what_memory_would_change_and_that_is_true() -> None:
    misses = ranked("image", "RTX 3060 12 GB", 32, most=6).misses
    row = next(row for row in misses if "system memory" in (row.change or ""))
    cell = row.report.best
    assert cell.flip is not None
    more = int(cell.flip.change.split(" GB")[0])
    # what is too slow is placed anew in more memory
    mode = None if cell.judgement.binding is Constraint.SPEED else cell.placement.mode
    again = fitcheck.check(
        row.listing.slug, "RTX 3060 12 GB", task=str(row.task), tier=cell.tier.name, ram=more * GIB, mode=mode
    )
    assert cell.flip.verdict in {one.verdict for one in again.cells}


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_rows_than_were_asked_for_and_the_rest_is_counted(most: int) -> None:
    found = ranked("chat", "RTX 4070", 32, most=most)
    assert len(found.rows) == most
    assert found.more >= 1  # models that are shared with the host fit too
    shown = {row.listing.slug for row in found.rows}
    assert len(shown) == most
    assert found.to_json()["more"] == found.more


def test_every_model_of_a_family_is_listed_once_with_its_size() -> None:
    listed = catalog.listed()
    assert [one.slug for one in listed] == list(catalog.slugs())
    assert all((one.parameters or 0) > 10**7 for one in listed)


def test_purposes_are_named_in_the_refusal() -> None:
    with pytest.raises(OptionError, match=r"--for: 'poetry'.*chat, code, image, video, edit, vision"):
        purpose_named("poetry")
    with pytest.raises(OptionError, match="--for: 'poetry'"):  # the second of two
        fitcheck.runs("RTX 4070", purpose="chat, poetry")
    assert {task for one in purposes() for task in one.tasks} >= {"chat", "t2i", "editing", "vqa"}


def test_a_tier_that_another_betters_is_not_looked_at() -> None:
    model = catalog.get("phi-4")
    kept = [tier.name for tier in undominated(model, model.tiers)]
    assert {"Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_NL"} <= set(kept)
    assert not {"BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"} & set(kept)
    sizes = [model.tier_named(name).disk_bytes for name in kept]
    losses = [loss_of(model, model.tier_named(name)) for name in kept]
    assert sorted(zip(sizes, losses, strict=True)) == sorted(zip(sizes, losses, strict=True), key=lambda one: -one[1])


def test_a_machine_without_a_card_has_the_room_of_its_memory() -> None:
    assert len(ranked("chat", "none", 32).rows) >= 3


def test_what_fits_is_no_miss() -> None:
    found = ranked("chat", "M3 Max 64GB", 64, most=1)
    assert Verdict.FITS not in {row.verdict for row in found.misses}


def test_a_small_card_is_used_where_a_tier_goes_in() -> None:
    for row in ranked("chat", "RTX 4060", 16, most=5).rows:
        best = row.report.best
        alone = best.tier.disk_bytes <= 0.7 * 6.9 * GIB
        assert not alone or sum(one.card.best for one in best.footprint.cards) > best.tier.disk_bytes / 2
