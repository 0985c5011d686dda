"""A SenseNova-U1 file from disk: what its name says of its steps, and the records of its tier."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "models"))
from gguf_files import STRING, gguf, pair

import fitcheck
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.family import distilled_steps
from fitcheck.records import run_index
from fitcheck.records.run import Run
from fitcheck.records.run_index import Index
from fitcheck.verdict.report import Report

SLUG = "sensenova-u1-8b-mot"
DISTILLED, PLAIN = "SenseNova-U1-8B-MoT-8step-Q4_K_S.gguf", "SenseNova-U1-8B-MoT-Q4_K_S.gguf"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the header of the published Q4_K_S under a name, beside a user who has no records."""
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path / "records"))
    rows = [(one.name, one.shape, one.type) for one in catalog.get(SLUG).tier_named("Q4_K_S").tensors]
    head = gguf([pair("general.architecture", STRING, "sensenova")], rows)
    return lambda name: head.write(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "steps"),
    [(DISTILLED, 8), (DISTILLED.upper(), 8), (PLAIN, None), ("model-18step-Q4_K_S.gguf", None)],
)
def test_a_name_says_how_many_steps_its_weights_are_distilled_to(file: str, steps: int | None) -> None:
    assert distilled_steps(file) == steps


@pytest.mark.parametrize(("file", "steps", "cfg"), [(DISTILLED, 8, 1.0), (PLAIN, 50, 4.0)])
@pytest.mark.parametrize("named", [False, True])
def test_distilled_files_take_their_steps_without_guidance_and_others_upstreams_defaults(
    write: Write, file: str, steps: int, cfg: float, named: bool
) -> None:
    """By itself and as the tier of a catalog model; what is asked for goes first."""
    path = write(file)

    def asked(**options: Any) -> Report:
        if named:
            return fitcheck.check(SLUG, "RTX 4070", gguf=path, mode="low", **options)
        return fitcheck.check(str(path), "RTX 4070", mode="low", **options)

    found = asked().workload
    assert (found.steps, found.cfg) == (steps, cfg)
    other = asked(steps=20, cfg=2.0).workload
    assert (other.steps, other.cfg) == (20, 2.0)


def genuine() -> Run:
    """A finished run of the published Q4_K_S on an H100 with real weights."""
    usual = min(
        (
            row
            for row in run_index.accepted().rows
            if (row.cell.model, row.cell.tier, row.cell.mode, row.cell.task) == (SLUG, "Q4_K_S", "full", "t2i")
            and row.outcome == "ok"
            and ("steps", 8) in row.cell.sizes
            and ("width", 2048) in row.cell.sizes
        ),
        key=lambda row: row.id,
    )
    return replace(usual, cap=None, weights="real", seconds=12.5)


def test_a_file_from_disk_is_judged_with_the_records_of_its_card_and_tier(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, known = write(DISTILLED), Index((genuine(),))
    monkeypatch.setattr(run_index, "accepted", lambda: known)
    here = fitcheck.check(str(path), "H100 SXM", mode=("full", "low"))
    named = fitcheck.check(SLUG, "H100 SXM", tier="Q4_K_S", mode=("full", "low"))
    assert here.model.slug == SLUG
    for report in (here, named):
        cells = {cell.placement.mode: cell for cell in report.cells}
        assert cells["full"].tier.name == "Q4_K_S"
        assert (cells["full"].evidence.level, cells["full"].evidence.records) == ("measured", 1)
        assert cells["low"].evidence.level == "calibrated"
        seconds = cells["full"].seconds
        assert seconds is not None
        assert seconds.best == pytest.approx(12.5)
    elsewhere = fitcheck.check(str(path), "RTX 4070", mode="low")
    assert {cell.evidence.level for cell in elsewhere.cells} == {"estimated"}


def test_a_users_own_records_count_for_a_file_as_well(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(DISTILLED)
    own = Index((genuine(),))
    monkeypatch.setattr(run_index, "accepted", Index)
    monkeypatch.setattr(run_index, "local", lambda card: own if card == own.rows[0].card else Index())
    found = fitcheck.check(str(path), "H100 SXM", mode="full")
    assert {cell.evidence.level for cell in found.cells} == {"measured"}


def test_a_file_given_for_a_tier_is_that_tier_where_their_tensors_are_the_same(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever it is called: then records of the tier are records of the file."""
    known = Index((genuine(),))
    monkeypatch.setattr(run_index, "accepted", lambda: known)
    (cell,) = fitcheck.check(SLUG, "H100 SXM", gguf=write("mine-8step.gguf"), mode="full").cells
    assert (cell.tier.name, cell.evidence.level) == ("Q4_K_S", "measured")
    rows = [
        (one.name, one.shape, "Q8_0" if one.type == "Q4_K" else one.type)
        for one in catalog.get(SLUG).tier_named("Q4_K_S").tensors
    ]
    other = gguf([pair("general.architecture", STRING, "sensenova")], rows).write(tmp_path / "other.gguf")
    (cell,) = fitcheck.check(SLUG, "H100 SXM", gguf=other, mode="full").cells
    assert cell.tier.name.endswith("(other.gguf)")
    assert cell.evidence.level != "measured"
