"""A tier is judged by what was published of it, and by its bits only where nothing was."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from fitcheck.data_files import load
from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.families.language.quality import measured
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.check import check
from fitcheck.verdict.coarseness import is_coarse, loss_of, quality_words
from fitcheck.verdict.lead import lead, undominated, worth_a_look


def test_published_divergence_decides_and_not_bits() -> None:
    """Q3_K_L has more than 4 bits a weight in DeepSeek R1, Q4_1 more than Q4_K_M; both lie beyond the gap."""
    model = catalog.get("deepseek-r1")
    assert model.tier_named("Q3_K_L").tensors.bits > 4
    coarse = {tier.name for tier in model.tiers if is_coarse(model, tier)}
    assert {"Q3_K_L", "Q4_0", "Q4_1", "IQ3_M"} <= coarse
    assert not coarse & {"IQ4_XS", "IQ4_NL", "Q4_K_S", "Q4_K_M", "Q5_0", "Q8_0"}
    assert loss_of(model, model.tier_named("Q4_1")) > loss_of(model, model.tier_named("Q4_K_M"))


def test_perplexity_decides_where_no_divergence_was_published() -> None:
    found = measured("llama-2-70b", "Q3_K_M")
    assert found is not None
    assert found.divergence is None
    model = replace(catalog.get("llama-3.3-70b"), slug="llama-2-70b")
    assert not is_coarse(model, model.tier_named("Q3_K_M"))
    assert is_coarse(model, model.tier_named("Q3_K_S"))


def test_the_gap_is_the_widest_between_neighbours_in_the_scoreboard() -> None:
    tiers = load("models.families.language", "tier_quality")["sets"][0]["tiers"]
    limit = load("verdict", "coarseness")["coarse"]["divergence"]
    kept = list(tiers)[list(tiers).index("Q5_K_M") : list(tiers).index("Q3_K_S") + 1]
    values = sorted(row[0] for name in kept for row in tiers[name].values())
    gap = max(pairwise(values), key=lambda pair: pair[1] / pair[0])
    assert gap[0] < limit < gap[1]


def test_bits_stand_in_along_the_rows_that_are_kept() -> None:
    model = catalog.get("llama-3-8b")
    for name, bits, lost in load("verdict", "coarseness")["by_bits"]["rows"]:
        found = measured(model.slug, name)
        assert found is not None
        assert found.divergence is not None
        assert lost == found.divergence.high
        assert bits == pytest.approx(model.tier_named(name).tensors.bits, abs=5e-4)
    unmeasured = [model.tier_named(name) for name in ("TQ2_0", "TQ1_0")]
    assert 0.445 < loss_of(model, unmeasured[0]) < loss_of(model, unmeasured[1]) < 2.26
    assert "2.2 bits a weight stand in" in quality_words(model, unmeasured[1])


@pytest.mark.parametrize("name", ["phi-4", "gemma-4-26b-a4b", "gpt-oss-20b"])
def test_the_tiers_worth_a_look_trade_size_for_quality(name: str) -> None:
    model = catalog.get(name)
    ladder = worth_a_look(model, model.tiers)
    assert ladder
    steps = [(tier.disk_bytes, loss_of(model, tier)) for tier in ladder]
    assert all(a[0] > b[0] and a[1] < b[1] for a, b in pairwise(steps))
    assert set(undominated(model, ladder)) == set(ladder)


MACHINES = (("RTX 4060 Laptop", 16), ("RTX 3060 12 GB", 32), ("RTX 4090", 64), ("M3 Max 64GB", 64), ("none", 32))


@pytest.mark.parametrize(("card", "ram"), MACHINES)
@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-14b", "qwen3-30b-a3b"])
def test_lists_lead_with_the_cell_that_the_check_leads_with(name: str, card: str, ram: int) -> None:
    model, have, wanted = catalog.get(name), asked_machine(card, ram=ram * GIB), Wanted()
    whole, listed = check(model, have, wanted, advise=False).best, lead(model, model.tiers, have, wanted).best
    if is_coarse(model, whole.tier):  # no list offers these
        assert not is_coarse(model, listed.tier)
        assert listed.verdict.rank >= whole.verdict.rank
    else:
        assert whole.verdict is Verdict.FITS
        assert (listed.tier.name, listed.placement) == (whole.tier.name, whole.placement)


@pytest.mark.parametrize(("card", "name"), [("RTX 4090", "qwen3-32b"), ("RTX 3060 12 GB", "qwen3-14b")])
def test_what_lies_whole_on_the_card_leads_over_finer_files_that_do_not(card: str, name: str) -> None:
    report = check(catalog.get(name), asked_machine(card, ram=64 * GIB), advise=False)
    assert report.best.tier.name == "Q4_K_M"
    finer = next(cell for cell in report.cells if cell.tier.name == "Q5_K_M")
    paces = [cell.rate("generation") for cell in (report.best, finer)]
    assert paces[0] is not None
    assert paces[1] is not None
    assert paces[0].best > 1.5 * paces[1].best > 15
