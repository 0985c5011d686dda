"""Headline, memory bars and the way out speak of one cell, and the way out leads where it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

import fitcheck
from fitcheck.cli import output
from fitcheck.hardware.budget import with_larger_card
from fitcheck.hardware.catalog import common_cards, find_card
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.pages import words
from fitcheck.pages.check_page import texts_of
from fitcheck.pages.document import report_document, way_out
from fitcheck.pages.single import page_of
from fitcheck.pages.view import focus
from fitcheck.units import GB, GIB
from fitcheck.verdict.report import Report

U1, A3B = "sensenova-u1-8b-mot", "sensenova-u1-a3b-mot"
CARDS = tuple(card.slug for card in common_cards())
SOME = (
    "rtx-3050-8gb",
    "rtx-3060-12gb",
    "rtx-4060",
    "rtx-4070",
    "rtx-4090",
    "l4",
    "radeon-rx-9070-xt",
    "arc-b580",
    "tesla-t4",
)


def printed(report: Report, capsys: pytest.CaptureFixture[str]) -> str:
    """What a pipe is given."""
    output.emit(report, "table")
    return capsys.readouterr().out


@pytest.mark.parametrize("slug", [U1, A3B])
@pytest.mark.parametrize("ram", [16, 32, 64])
def test_terminal_json_and_page_speak_of_the_same_cell(slug: str, ram: int, capsys: pytest.CaptureFixture[str]) -> None:
    for card in SOME:
        report = fitcheck.check(slug, card, ram=ram * GIB)
        cell, document = report.best, report_document(report)
        said = json.loads(json.dumps(document["report"]))
        chosen = said["cells"][focus(said)]
        assert said["headline"] == 0
        assert (chosen["tier"], chosen["mode"], chosen["verdict"]) == (
            cell.tier.name, cell.placement.mode, str(cell.verdict),
        )  # fmt: skip
        lines = printed(report, capsys).splitlines()
        assert lines[0] == report.answer == said["answer"]
        first = next(line for line in lines if line.startswith(("BF16", "Q")))
        assert first.split()[:3] == [chosen["tier"], *first.split()[1:3]]
        assert chosen["mode"] in first
        assert cell.reason in report.answer or cell.verdict in (Verdict.FITS, Verdict.TIGHT)
        out, texts = way_out(document), texts_of(document)
        if cell.verdict in (Verdict.FITS, Verdict.TIGHT):
            assert out is None
            assert f"{cell.tier.name} files in mode {cell.placement.mode}" in texts["lead"]
        elif cell.flip is not None:
            assert out is not None
            assert out.removeprefix("at least ") == cell.flip.change == chosen["flip"]["change"]
            assert cell.flip.change in texts["lead"]
        page = page_of(report)
        assert 'data-in="report.cells.0."' in page
        assert texts["lead"] in page.replace("&#39;", "'")
        short = [name for name, margin in chosen["margins"].items() if margin["left"] < 0]
        if cell.verdict is Verdict.NO and cell.flip is not None and "system memory" in cell.flip.change:
            assert short == ["host RAM"], "the bar that is too long is the one that the way out shortens"


def test_the_case_that_had_three_reasons() -> None:
    """An A3B on an RTX 4090 with 32 GB: the host is short, everywhere, and system memory is what helps."""
    report = fitcheck.check(A3B, "RTX 4090", ram=32 * GIB)
    cell = report.best
    assert (cell.verdict, cell.judgement.binding) == (Verdict.NO, Constraint.RAM)
    assert "The host must hold" in report.answer
    assert cell.need < 8 * GIB
    assert way_out(report_document(report)) == "48 GB of system memory"


def test_the_smallest_amount_that_helps_is_named() -> None:
    """A 3060 with 16 GB needs 32 for the Q4_K_S files; 48 are what larger files need."""
    report = fitcheck.check(U1, "RTX 3060 12GB", ram=16 * GIB)
    assert report.best.tier.name == "Q4_K_S"
    assert way_out(report_document(report)) == "32 GB of system memory"


def with_change(change: str, machine: Machine) -> tuple[Machine, dict[str, Any]]:
    """What a person would ask next after reading ``change``."""
    patterns = {
        r"(\d+) GB of system memory": lambda n: (replace(machine, ram_total=int(n) * GIB), {}),
        r"a card with (\d+) GB": lambda n: (larger(machine, int(n) * GIB), {}),
        r"(\d+) GB more free disk": lambda n: (replace(machine, disk_free=(machine.disk_free or 0) + int(n) * GB), {}),
        r"run without a display.*": lambda: (replace(machine, gpus=(replace(machine.gpus[0], display=False),)), {}),
        r"--vram_mode (\w+)": lambda mode: (machine, {"mode": mode}),
        r"tier (.+)": lambda name: (machine, {"tier": name}),
        r"--size 1024x1024": lambda: (machine, {"size": (1024, 1024)}),
        r"--cfg 1 .*": lambda: (machine, {"cfg": 1.0}),
        r"reference images of 1024x1024": lambda: (machine, {"reference": ((1024, 1024),)}),
        r"--ctx (\d+)": lambda count: (machine, {"ctx": int(count)}),
        r"--cache-type (\w+)": lambda kind: (machine, {"cache_type": (kind, kind)}),
        r"ngl .*": lambda: (machine, {}),  # another placement of the same tier
    }
    for pattern, then in patterns.items():
        found = re.fullmatch(pattern, change)
        if found is not None:
            return then(*found.groups())  # type: ignore[operator, no-any-return]
    raise AssertionError(f"nobody could type {change!r}")


def larger(machine: Machine, size: int) -> Machine:
    """The same machine with a card of ``size`` bytes of the same kind."""
    found = with_larger_card(machine, 0, size)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("slug", "task", "ram"),
    [(U1, "t2i", 16), (U1, "t2i", 24), (U1, "editing", 32), (A3B, "t2i", 32), (A3B, "editing", 48)],
)
def test_the_way_out_leads_where_it_says(slug: str, task: str, ram: int) -> None:
    turned = 0
    for card in CARDS[::3]:
        machine = machine_for(find_card(card), ram=ram * GIB, disk=60 * GB)
        report = fitcheck.check(slug, machine, task=task)
        turned += held_its_word(report, machine, {"task": task})
    assert turned > 3


def held_its_word(report: Report, machine: Machine, asked: dict[str, Any]) -> bool:
    """Ask again with the change that the answer names; whether it named one."""
    cell, flip = report.best, report.best.flip
    if flip is None:
        return False
    then, options = with_change(flip.change, machine)
    again = {"tier": cell.tier.name, "mode": cell.placement.mode, **asked, **options}
    found = fitcheck.check(report.model.slug, then, **again).best
    assert flip.verdict.rank < cell.verdict.rank
    assert found.verdict is flip.verdict, (flip, found.judgement)
    return True


@pytest.mark.parametrize("slug", ["qwen3-30b-a3b", "llama-3.1-8b", "qwen2.5-32b"])
@pytest.mark.parametrize(("card", "ram"), [("RTX 4060", 16), ("RTX 3060 12GB", 32), ("RTX 4090", 16)])
def test_the_way_out_of_a_language_model_leads_at_least_there(slug: str, card: str, ram: int) -> None:
    machine = machine_for(find_card(card), ram=ram * GIB)
    report = fitcheck.check(slug, machine, tier="Q8_0")
    cell, flip = report.best, report.best.flip
    if cell.verdict is Verdict.FITS:
        assert flip is None
        return
    assert flip is not None
    then, options = with_change(flip.change, machine)
    found = fitcheck.check(slug, then, **{"tier": "Q8_0", **options}).best
    assert found.verdict.rank <= flip.verdict.rank < cell.verdict.rank


@pytest.mark.parametrize(
    ("card", "options", "words_"),
    [
        ("Tesla T4", {"ram": 64 * GIB}, "should run, slowly, with number formats that the card can only emulate"),
        ("RTX 4070", {"ram": 32 * GIB, "tier": "Q6_K"}, "should run, with little system memory to spare"),
        (
            "Tesla T4",
            {"ram": 32 * GIB, "tier": "Q6_K"},
            "should run, with little system memory to spare, "
            "slowly, with number formats that the card can only emulate",
        ),
        ("RTX 4070", {"ram": 64 * GIB, "max_seconds": 1.0}, "runs, but too slow to use"),
        ("RTX 3060 12GB", {"ram": 16 * GIB}, "does not run: too little system memory"),
        ("RTX 4070", {"ram": 64 * GIB, "mode": "full", "tier": "BF16"}, "does not run: too little card memory"),
        ("RTX 4090", {"ram": 64 * GIB}, "runs"),
    ],
)
def test_sentences_are_made_from_what_binds(card: str, options: dict[str, Any], words_: str) -> None:
    report = fitcheck.check(U1, card, **options)
    assert report.best.judgement.gist == words_
    document = report_document(report)
    lead = words.lead(document, way_out(document))
    if report.best.verdict is Verdict.TIGHT:
        assert lead.startswith(f"It {words_}: ")
    if report.best.judgement.binding in (Constraint.SPEED, Constraint.DTYPE):
        assert "little" not in f"{report.answer} {lead}"


def test_a_shortage_in_the_worst_case_alone_is_told_as_one() -> None:
    reason = fitcheck.check(U1, "RTX 4070", tier="Q6_K", mode="low", ram=32 * GIB).best.reason
    assert re.fullmatch(
        r"The host must hold [\d.]+ GiB of [\d.]+ GiB: [\d.]+ GiB to spare, [\d.]+ GiB short in the worst case\.",
        reason,
    )
