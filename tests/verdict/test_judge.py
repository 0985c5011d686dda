"""What a verdict must never do: get worse when there is more of something."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fitcheck
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import all_cards, find_card
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.units import GIB
from fitcheck.verdict.report import Report

SLUG = "sensenova-u1-8b-mot"
CARD = find_card("RTX 4070")
JSON_PAGE = Path(__file__).parents[2] / "docs" / "json.md"


def ranks(report: Report) -> dict[tuple[str, str], int]:
    return {(cell.tier.name, cell.placement.mode): cell.verdict.rank for cell in report.cells}


def machine(memory: int, ram: int | None, display: bool | None = None) -> Machine:
    return machine_for(replace(CARD, memory=memory * GIB), ram=None if ram is None else ram * GIB, display=display)


@given(st.integers(4, 96), st.integers(1, 32), st.integers(8, 128), st.sampled_from(["t2i", "editing", "vqa"]))
def test_more_vram_never_worsens_a_verdict(memory: int, more: int, ram: int, task: str) -> None:
    less, bigger = (ranks(fitcheck.check(SLUG, machine(size, ram), task=task)) for size in (memory, memory + more))
    for cell, rank in less.items():
        if cell[1] != "fast":  # takes what it is given, and more weights on the card need no less host memory
            assert bigger[cell] <= rank, cell


@given(st.integers(4, 96), st.integers(8, 128), st.integers(1, 64))
def test_more_system_memory_never_worsens_a_verdict(memory: int, ram: int, more: int) -> None:
    less, bigger = (ranks(fitcheck.check(SLUG, machine(memory, size))) for size in (ram, ram + more))
    assert all(bigger[cell] <= rank for cell, rank in less.items())


@given(st.integers(4, 48), st.booleans())
def test_less_vram_with_a_display_and_more_offload_need_less_of_the_card(memory: int, display: bool) -> None:
    report = fitcheck.check(SLUG, machine(memory, 64, display))
    cards = {(cell.tier.name, cell.placement.mode): cell.need for cell in report.cells}
    for tier in {name for name, _ in cards}:
        assert cards[tier, "low"] <= cards[tier, "balanced"] <= cards[tier, "full"]


def test_one_memory_for_host_and_card_must_hold_both() -> None:
    """A GB10's 128 GB hold the pinned copy and what the GPU takes; a card of its own leaves the host's part alone."""
    pooled = fitcheck.check(SLUG, "GB10", tier="BF16", mode="low").best.footprint
    apart = fitcheck.check(SLUG, "RTX 4090", tier="BF16", mode="low", ram=128 * GIB).best.footprint
    assert pooled.host.total.best == apart.host.total.best + pooled.cards[0].required.best
    assert pooled.host.total.high == apart.host.total.high + pooled.cards[0].card.high
    machines = [machine_for(find_card("Radeon 780M"), ram=size * GIB) for size in (27, 64)]
    verdicts = [fitcheck.check(SLUG, one, tier="Q4_K_S", mode="low").best for one in machines]
    assert [one.verdict for one in verdicts] == [Verdict.NO, Verdict.UNKNOWN]
    assert verdicts[0].judgement.binding is Constraint.RAM


def test_host_memory_and_disk_say_no_as_vram_does() -> None:
    short_of_ram = fitcheck.check(SLUG, "RTX 4090", tier="BF16", mode="low", ram=32 * GIB).best
    assert (short_of_ram.verdict, short_of_ram.judgement.binding) == (Verdict.NO, Constraint.RAM)
    short_of_disk = fitcheck.check(SLUG, "RTX 4090", tier="Q4_K_S", mode="low", disk=5 * 10**9).best
    assert (short_of_disk.verdict, short_of_disk.judgement.binding) == (Verdict.NO, Constraint.DISK)
    assert short_of_disk.flip is not None
    assert "9 GB more free disk" in short_of_disk.flip.change


@pytest.mark.parametrize(
    ("card", "binding", "verdict"),
    [
        ("GTX 1060 6GB", Constraint.COMPUTE_CAPABILITY, Verdict.NO),
        ("Tesla T4", Constraint.DTYPE, Verdict.TIGHT),
        ("RX 7900 XTX", Constraint.RUNTIME, Verdict.UNKNOWN),
    ],
)
def test_what_memory_cannot_mend_is_named(card: str, binding: Constraint, verdict: Verdict) -> None:
    found = fitcheck.check(SLUG, card, tier="Q4_K_S", mode="full" if "XTX" in card else "low", ram=64 * GIB).best
    assert (found.verdict, found.judgement.binding) == (verdict, binding)


def test_the_sparse_model_fits_no_12_gb_card_in_mode_full_and_says_why() -> None:
    report = fitcheck.check("sensenova-u1-a3b-mot", "RTX 4070", mode="full")
    published = [cell for cell in report.cells if cell.tier.published]
    assert published
    assert {cell.verdict for cell in published} == {Verdict.NO}
    assert any("compute" in note for note in report.notes)


def test_the_flip_really_flips() -> None:
    report = fitcheck.check(SLUG, "RTX 4070", tier="Q4_K_S", mode="full", ram=32 * GIB)
    flip = report.best.flip
    assert flip is not None
    mode = flip.change.removeprefix("--vram_mode ")
    assert fitcheck.check(SLUG, "RTX 4070", tier="Q4_K_S", mode=mode, ram=32 * GIB).best.verdict is flip.verdict


@given(st.sampled_from([card for card in all_cards() if card.memory]))
def test_every_card_in_the_database_gets_a_report_that_is_valid_json(card: Card) -> None:
    document = fitcheck.check(SLUG, card, tier="Q4_K_S").to_json()
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text) == document
    for cell in document["cells"]:
        for name in ("allocated", "reserved", "card", "required", "host"):
            span = cell[name]
            assert 0 < span["low"] <= span["best"] <= span["high"]


def test_every_field_of_the_json_is_documented() -> None:
    page = JSON_PAGE.read_text("utf-8")
    documented = set(re.findall(r"`([a-z_]+)(?:\[\])?`", page))
    document = fitcheck.check(SLUG, "RTX 4070").to_json()
    names = set(document) | set(document["machine"]) | set(document["model"]) | set(document["workload"])
    for cell in document["cells"]:
        names |= (
            set(cell)
            | set(cell["settings"])
            | set(cell["workload"])
            | set(cell["time"] or {})
            | set(cell["evidence"])
            | set(cell["flip"] or {})
        )
        for part in (*cell["phases"], *cell["margins"].values(), cell["host"]):
            names |= set(part)
    assert names <= documented | {"low", "best", "high"}, names - documented


def test_a_second_card_that_no_mode_uses_is_named() -> None:
    """Two cards cost twice as much and make a picture no sooner."""
    words = "the others stay idle"
    two = fitcheck.check("flux.1-dev", "2x RTX 3090", tier="bf16", mode="model", ram=64 * GIB)
    one = fitcheck.check("flux.1-dev", "RTX 3090", tier="bf16", mode="model", ram=64 * GIB)
    assert any(words in note for note in two.notes)
    assert not any(words in note for note in one.notes)
    assert two.best.seconds == one.best.seconds
