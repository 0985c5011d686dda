"""What nobody said is assumed, the same everywhere, and the answer says so and what would change it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fitcheck
from fitcheck.cli.main import main
from fitcheck.data_files import load
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards, common_cards, find_card
from fitcheck.hardware.machine import machine_for
from fitcheck.models import catalog
from fitcheck.models.find import find_model
from fitcheck.models.workload import Task
from fitcheck.pages.document import check_document
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.purchase import offers
from fitcheck.verdict.report import Assumption, Report
from fitcheck.verdict.usual_machine import ask
from fitcheck.verdict.usual_memory import completed, usual_ram

U1 = "sensenova-u1-8b-mot"


def of(report: Report, option: str) -> Assumption | None:
    return next((one for one in report.assumed if one.option == option), None)


@pytest.mark.parametrize(
    ("card", "gib"),
    [
        ("RTX 4060", 16),
        ("RTX 3060 12GB", 32),
        ("RTX 4090", 32),
        ("RTX 4090 mobile", 32),
        ("RTX A6000", 96),
        ("RTX PRO 6000 Blackwell", 192),
        ("L4", 32),
        ("H100 SXM5 80GB", 192),
    ],
)
def test_the_usual_memory_beside_a_card(card: str, gib: int) -> None:
    assert usual_ram(find_card(card)) == gib * GIB
    filled = completed(machine_for(find_card(card)))
    assert (filled.ram_total, filled.assumed) == (gib * GIB, ("ram",))


def test_what_was_said_or_is_shared_is_left_alone() -> None:
    said = machine_for(find_card("RTX 4070"), ram=8 * GIB)
    assert completed(said) is said
    shared = machine_for(find_card("GB10"))
    assert completed(shared) is shared
    assert usual_ram(find_card("M2 Max")) is None
    two = machine_for(find_card("RTX A6000"), count=2)
    assert completed(two).ram_total == 192 * GIB


@given(st.sampled_from(all_cards()), st.integers(1, 8))
def test_every_card_has_a_usual_machine(card: Card, count: int) -> None:
    found, more = usual_ram(card, count), usual_ram(replace(card, memory=2 * card.memory), count)
    assert (found is None) == card.unified_memory
    if found is not None and more is not None and card.form != "datacenter":
        assert 16 * GIB <= found <= more


def test_every_row_of_the_data_has_a_source_and_a_day() -> None:
    for form in load("verdict", "usual_memory")["forms"].values():
        assert form["source"]
        assert form["inference"]
        assert form["read"].startswith("2026-")


def test_system_memory_is_never_unlimited() -> None:
    """An A3B in full precision keeps 99 GiB in system memory: nobody has that beside a 12 GB card."""
    report = fitcheck.check("sensenova-u1-a3b-mot", "RTX 4070", tier="BF16", mode="low")
    assert str(report.best.verdict) == "no"
    assert report.machine.ram_total == 32 * GIB
    assumed = of(report, "--ram")
    assert assumed is not None
    assert assumed.words == "32 GB of system memory, the most usual beside such a card"
    assert assumed.words in report.assumed_line
    assert report.best.flip is not None
    assert f"--ram {report.best.flip.change.split()[0]}GB" in assumed.change


def test_what_is_said_of_other_amounts_is_true() -> None:
    report = fitcheck.check(U1, "RTX 4070", tier="Q6_K")
    assumed = of(report, "--ram")
    assert assumed is not None
    cell, said = report.best, assumed.change.split("; ")
    assert len(said) == 2
    for one in said:
        amount, verdict = one.removeprefix("--ram ").split(": ")
        ram = int(amount.removesuffix("GB")) * GIB
        again = fitcheck.check(U1, "RTX 4070", ram=ram, tier=cell.tier.name)
        assert str(again.best.verdict) == verdict != str(cell.verdict)


def test_less_memory_is_judged_as_a_check_of_it_places_the_tier() -> None:
    """Mode none takes little of it: beside less it fits still, and beside very little another mode is tight."""
    report = fitcheck.check("flux.1-dev", "RTX 3090")
    cell, assumed = report.best, of(report, "--ram")
    assert assumed is not None
    assert (cell.placement.mode, assumed.change) == ("none", "--ram 8GB: tight")
    for ram in (8, 24):
        again = fitcheck.check("flux.1-dev", "RTX 3090", ram=ram * GIB, tier=cell.tier.name)
        assert str(again.best.verdict) == ("tight" if ram == 8 else "fits")


@pytest.mark.parametrize(
    ("slug", "card", "count", "tier"),
    [("gpt-oss-120b", "RTX 4090", 1, "MXFP4"), ("llama-3.3-70b", "RTX 3090", 2, "Q4_K_M")],
)
def test_a_longer_context_is_judged_as_a_check_of_it_places_the_tier(
    slug: str, card: str, count: int, tier: str
) -> None:
    """More layers on the host or a smaller cache make room for it: in the same placement both would be tight."""
    machine = machine_for(find_card(card), count=count, ram=96 * GIB)
    report, longer = (fitcheck.check(slug, machine, tier=tier, ctx=context) for context in (None, 16384))
    assert str(report.best.verdict) == str(longer.best.verdict) == "fits"
    assert report.best.placement != longer.best.placement
    named = of(report, "--ctx")
    assert named is None or named.change.endswith(("memory", "second"))


def test_nothing_is_assumed_where_all_was_said() -> None:
    machine = machine_for(find_card("H100 SXM5 80GB"), ram=256 * GIB, disk=10**12, pcie_generation=5, pcie_lanes=16)
    report = fitcheck.check(U1, machine, size=(2048, 2048), steps=8)
    assert report.assumed == ()
    assert report.assumed_line == ""


def test_disk_is_named_with_what_the_files_take() -> None:
    report = fitcheck.check(U1, "RTX 4070", tier="Q4_K_S")
    assumed = of(report, "--disk")
    assert assumed is not None
    assert assumed.words == "13.9 GB of free disk for the files"
    assert of(fitcheck.check(U1, "RTX 4070", tier="Q4_K_S", disk=10**12), "--disk") is None


def test_check_cards_and_pages_assume_the_same() -> None:
    model = catalog.get(U1)
    found = offers(common_cards(), [find_model(U1)], Wanted())
    listed = {one.card: one.reports[0] for one in (*found.fit, *found.unpriced, *found.unknown, *found.lacking)}
    assert len(listed) == len(common_cards())
    for card in common_cards()[::4]:
        checked = fitcheck.check(U1, card.slug)
        document = check_document(ask(model, card))
        assert document["command"] == f"fitcheck check {U1} --gpu {card.slug}"
        assert document["report"]["machine"]["ram"] == checked.machine.ram_total
        assert document["report"]["machine"]["assumed"] == ["ram"]
        assert document["report"]["cells"][0]["verdict"] == str(checked.best.verdict)
        assert listed[card].machine == checked.machine


def test_a_default_that_decides_is_in_the_headline() -> None:
    """The reference image of editing takes more than half of card memory in the lean modes."""
    report = fitcheck.check(U1, "RTX 4090", task="editing", mode="low", tier="Q4_K_S", ram=64 * GIB)
    assumed = of(report, "--reference")
    assert assumed is not None
    assert assumed.words == "a reference image of 2048x2048"
    small = fitcheck.check(
        U1, "RTX 4090", task="editing", mode="low", tier="Q4_K_S", ram=64 * GIB, reference=((1024, 1024),)
    )
    less = 1 - small.best.need / report.best.need
    assert less > 0.4
    assert assumed.change == f"--reference 1024x1024: {less * 100:.0f} % less card memory"
    assert of(small, "--reference") is None


def test_images_steps_and_context_are_named_where_they_decide() -> None:
    several = fitcheck.check(U1, "H100 SXM5 80GB", task="interleave", tier="BF16", mode="low")
    assert of(several, "--images") is not None
    assert of(several, "--new-tokens") is not None
    thinking = fitcheck.check(U1, "H100 SXM5 80GB", tier="BF16", mode="low", think=True)
    assert of(thinking, "--think") is not None
    assert of(fitcheck.check(U1, "H100 SXM5 80GB", tier="BF16", mode="low", think=400), "--think") is None
    assert of(several, "--steps") is not None
    distilled = fitcheck.check(U1, "RTX 4090", tier="Q4_K_S", ram=128 * GIB)
    assert of(distilled, "--steps") is None  # what the files are made for
    text = fitcheck.check("llama-3.1-8b", "RTX 4070", tier="Q6_K")
    context = of(text, "--ctx")
    assert context is not None
    assert context.words == "a context of 8192 tokens"
    assert of(fitcheck.check("llama-3.1-8b", "RTX 4070", tier="Q6_K", ctx=8192), "--ctx") is None


def test_a_default_that_decides_nothing_is_not_named() -> None:
    """A small answer on a large card: neither slot nor screen nor context changes anything there."""
    report = fitcheck.check("llama-3.2-1b", "RTX 4090", tier="Q4_K_M", ram=64 * GIB)
    assert {one.option for one in report.assumed} <= {"--disk", "--ctx"}


@settings(max_examples=15, deadline=None)
@given(
    card=st.sampled_from(common_cards()),
    task=st.sampled_from(["t2i", "editing", "interleave", "vqa"]),
    ram=st.sampled_from([None, 16, 48, 96]),
)
def test_each_value_named_was_not_said_and_each_is_named_once(card: Card, task: str, ram: int | None) -> None:
    given_: dict[str, Any] = {} if ram is None else {"ram": ram * GIB}
    report = fitcheck.check(U1, card, task=task, tier="Q4_K_S", **given_)
    options = [one.option for one in report.assumed]
    assert len(options) == len(set(options))
    assert ("--ram" in options) is (ram is None)
    assert all(one.words and one.change for one in report.assumed)


def test_the_line_is_printed_under_the_headline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for style in ("--markdown", "--json"):
        monkeypatch.setattr("sys.argv", ["fitcheck", "check", U1, "--gpu", "RTX 4070", style])
        with pytest.raises(SystemExit):
            main()
        out = capsys.readouterr().out
        if style == "--json":
            document = json.loads(out)
            assert [one["option"] for one in document["assumed"]][:2] == ["--ram", "--disk"]
        else:
            assert out.splitlines()[2].startswith("Assumed: 32 GB of system memory, the most usual beside such a card")


def test_no_context_beyond_what_the_model_was_trained_on_is_offered() -> None:
    """Llama 2 was trained on 4096 tokens, all of which are taken: nothing about them is assumed."""
    assumed = fitcheck.check("llama-2-7b", "RTX 4090", tier="Q4_K_M").assumed
    assert not [one for one in assumed if one.option == "--ctx"]


def test_a_slot_that_sets_the_pace_of_reading_is_named_where_nothing_is_written() -> None:
    """An embedding model writes no tokens; beside a card that is too small its layers are copied for each batch."""
    report = fitcheck.check("qwen3-embedding-8b", "RTX 4060", tier="Q8_0")
    slot = of(report, "--pcie")
    assert slot is not None
    assert slot.change is not None
    assert slot.change.endswith("fewer tokens a second")


def test_what_a_longer_context_costs_is_told_before_what_it_frees() -> None:
    """On a card of 8 GB twice the context moves layers to the host, which frees the card and slows every token."""
    report = fitcheck.check("qwen3-8b", "RTX 4060", tier="Q4_K_M", ram=16 * GIB)
    longer = fitcheck.check("qwen3-8b", "RTX 4060", tier="Q4_K_M", ram=16 * GIB, ctx=16384)
    assert longer.best.duration is not None
    assert report.best.duration is not None
    assumed = of(report, "--ctx")
    assert assumed is not None
    slower, faster = (one.best.duration.rate(Task.CHAT.rate) for one in (longer, report) if one.best.duration)
    assert slower is not None
    assert faster is not None
    assert assumed.change == f"--ctx 16384: {(1 - slower.best / faster.best) * 100:.0f} % fewer tokens a second"
