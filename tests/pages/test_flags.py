"""A record that surprises is shown with why, and one that is none takes no page down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fitcheck
from fitcheck.pages.flags import flags_of
from fitcheck.pages.record_pages import result_pages
from fitcheck.pages.single import page_of, page_of_records
from fitcheck.pages.site_inputs import gather
from fitcheck.pages.view import record_facts
from fitcheck.records import bounds, store
from fitcheck.records.findings import Rank
from fitcheck.records.record_parts import Memory, RuntimeUsed, WorkloadSizes
from fitcheck.records.schema import PassRecord
from fitcheck.units import GIB
from fitcheck.verdict.expectation import doubt

from .records import hostile, passed

# the record of the tests names no file's digest, which is flagged; what is asked here is the rest
UNVERIFIED = "neither the file's sha256 nor the tensor table's digest is given"
SLOW = "took 6 h 06 min where 16 to 32 s is estimated"
SMALL = "allocated 0.0 GiB where 3.2 GiB to 3.3 GiB is estimated"


def flags(record: PassRecord) -> list[str]:
    found = flags_of(store.document_of(store.seal(record)))
    assert found[0] == UNVERIFIED
    return found[1:]


def changed(**changes: Any) -> PassRecord:
    return passed().model_copy(update=changes)


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (passed(), []),
        (changed(model=passed().model.model_copy(update={"weights": "synthetic"})), []),  # a note is no flag
        (passed(seconds=21960.0), [SLOW]),
        (changed(memory=Memory(allocated=3300, reserved=3600)), [SMALL]),
        (passed(seconds=21960.0).model_copy(update={"memory": Memory(allocated=3300)}), [SMALL, SLOW]),
    ],
)
def test_what_surprises_is_said(record: PassRecord, found: list[str]) -> None:
    assert flags(record) == found
    page = page_of_records([record])
    assert page.count("<b>Flagged</b>") == 1 + len(found)
    assert all(words in page for words in found)
    assert record_facts(store.document_of(record))["flags"] == [UNVERIFIED, *found]


@pytest.mark.parametrize("document", [{}, {"kind": "wish"}, hostile(), {"id": float("nan")}])
def test_what_is_no_record_has_no_flags(document: dict[str, Any]) -> None:
    assert flags_of(document) == []


def test_no_page_estimates_more_than_validation_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = WorkloadSizes(
        task="interleave", width=1024, height=1024, steps=8, cfg=1.0, images=bounds.MOST_PICTURES + 1, new_tokens=10
    )
    assert flags(changed(workload=sizes, memory=Memory(allocated=3300))) == []
    monkeypatch.setattr(bounds, "MOST_PICTURES", 64)
    assert flags(changed(workload=sizes, memory=Memory(allocated=3301)))[0].startswith("allocated 0.0 GiB")


@pytest.mark.parametrize(
    "runtime",
    [
        RuntimeUsed(name="sensenova", revision="v99", mode="balanced"),
        RuntimeUsed(name="sensenova", revision="phase-aware", mode="hyper"),
    ],
)
def test_a_run_that_nobody_knows_is_noted_and_speaks_for_nothing(runtime: RuntimeUsed) -> None:
    (found,) = doubt(changed(runtime=runtime))
    assert (found.code, found.rank) == ("unknown-cell", Rank.NOTE)
    assert str(runtime.revision) in found.message
    assert str(runtime.mode) in found.message


@pytest.mark.parametrize("name", ["my-own-runner", "comfyui-of-mine"])
def test_of_a_runtime_or_model_that_nobody_knows_one_flag_is_enough(name: str) -> None:
    assert doubt(changed(runtime=RuntimeUsed(name=name))) == []
    assert doubt(changed(model=passed().model.model_copy(update={"slug": name}))) == []


def test_no_box_is_drawn_for_no_command() -> None:
    report = fitcheck.check("sensenova-u1-a3b-mot", "RTX 4090", ram=32 * GIB)
    page = page_of(report)
    assert report.best.commands == ()
    assert 'aria-label="Commands"' not in page
    assert 'aria-label="Commands"' in page_of(fitcheck.check("sensenova-u1-8b-mot", "RTX 4090", ram=32 * GIB))


def test_a_page_of_records_is_made_anew_where_the_estimator_changed_and_flags_others(tmp_path: Path) -> None:
    store.write(tmp_path, passed())
    inputs = gather(tmp_path, "rtx-4070", models="sensenova-u1-8b-mot")

    def keys(engine: str) -> dict[str, str]:
        found = result_pages(replace(inputs, engine=engine))
        return {page.address: page.key for page in found if page.template == "result.html"}

    assert keys("one")
    assert keys("one") == keys("one")
    assert keys("one").keys() == keys("other").keys()
    assert not set(keys("one").items()) & set(keys("other").items())
