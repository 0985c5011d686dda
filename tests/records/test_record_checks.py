"""The three ranks: what cannot be is rejected, what surprises is flagged, the rest is noted; a fast rig is welcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_samples import (
    NOW,
    as_json,
    card,
    document,
    make_external,
    make_link,
    make_llm,
    make_pass,
    model,
    protocol,
    resealed,
    samples,
)

from fitcheck.models.workload import Task, Workload
from fitcheck.records import checks, schema, store
from fitcheck.records.findings import Finding, Rank, flag
from fitcheck.records.validate import ValidationReport, check_record, validate
from fitcheck.units import GIB, MIB

MEMORY = make_pass().memory


def findings(record: Any, now: float = NOW) -> dict[str, Rank]:
    parsed, found = check_record(store.encode(record), now)
    assert parsed is not None
    return {finding.code: finding.rank for finding in found}


@pytest.mark.parametrize("maker", [make_pass, make_link, make_llm, make_external])
def test_a_believable_record_has_no_findings(maker: Any) -> None:
    assert findings(maker()) == {}


def memory(**changes: int | tuple[schema.PhaseMemory, ...] | None) -> schema.Memory:
    return MEMORY.model_copy(update=changes)


REJECTED: dict[str, tuple[str, Any]] = {
    "a scaled-down model": ("tiny", lambda: make_pass(tags=("tiny",))),
    "peak over the card": ("peak-over-card", lambda: make_pass(memory=memory(device=13 * GIB))),
    "allocated over the card": (
        "peak-over-card",
        lambda: make_pass(memory=memory(allocated=13 * GIB, reserved=13 * GIB)),
    ),
    "a phase over the card": (
        "peak-over-card",
        lambda: make_pass(memory=memory(phases=(schema.PhaseMemory(name="x", process=20 * GIB),))),
    ),
    "allocated over reserved": ("allocated-over-reserved", lambda: make_pass(memory=memory(allocated=8 * GIB))),
    "a phase over the whole": (
        "phase-over-total",
        lambda: make_pass(memory=memory(phases=(schema.PhaseMemory(name="x", allocated=6 * GIB + 1),))),
    ),
    "over its cap": (
        "peak-over-cap",
        lambda: make_pass(protocol=protocol(cap=schema.Cap(bytes=6 * GIB, enforced_by="allocator-fraction"))),
    ),
    "less pinned than asked": ("pinned-rounding", lambda: make_pass(memory=memory(pinned_rounded=1))),
    "more host memory than there is": ("host-over-ram", lambda: make_pass(memory=memory(rss=65 * GIB))),
    "faster than the link": (
        "over-link",
        lambda: make_pass(transfer=schema.Transfer(bytes_per_second=33e9)),
    ),
    "more bytes than the link carries in the time": (
        "over-link",
        lambda: make_pass(transfer=schema.Transfer(bytes_streamed=4000 * GIB)),
    ),
    "a copy faster than the link": (
        "over-link",
        lambda: make_link(
            copies=(schema.CopyRate(direction="device-to-host", pinned=True, bytes=1, bytes_per_second=40e9),)
        ),
    ),
    "pinning less than asked": (
        "pinned-rounding",
        lambda: make_link(pinning=(schema.PinRate(bytes=2, seconds=1, taken=1),)),
    ),
    "a context larger than the card": ("peak-over-card", lambda: make_link(context_bytes=13 * GIB)),
    "more energy than the limit allows": (
        "energy-over-limit",
        lambda: make_pass(power=schema.Power(joules=30_000.0, seconds=100.0)),
    ),
    "a mean over the limit": ("energy-over-limit", lambda: make_pass(power=schema.Power(watts_mean=230.0))),
    "a mean over the maximum": (
        "mean-over-max",
        lambda: make_pass(power=schema.Power(watts_mean=150.0, watts_max=140.0)),
    ),
    "a mean clock over the maximum": (
        "mean-over-max",
        lambda: make_pass(power=schema.Power(sm_clock_mean=2500.0, sm_clock_max=2400.0)),
    ),
    "from the future": ("future", lambda: make_pass(created=NOW + 7200)),
    "no time at all": ("zero-time", lambda: make_pass(samples=(schema.Sample(total=0.0),))),
    "phases longer than the run": (
        "parts-over-total",
        lambda: make_pass(samples=(schema.Sample(total=1.0, phases={"a": 0.9, "b": 0.9}),) * 3),
    ),
    "steps longer than the run": (
        "parts-over-total",
        lambda: make_pass(samples=(schema.Sample(total=1.0, steps=(0.1,) * 50),)),
    ),
    "a mean below every sample": (
        "mean-outside-samples",
        lambda: make_llm(rates=(schema.TokenRate(prompt_tokens=1, new_tokens=0, mean=1.0, samples=(2.0, 2.1)),)),
    ),
    "a rate of nothing": (
        "no-tokens",
        lambda: make_llm(rates=(schema.TokenRate(prompt_tokens=0, new_tokens=0, mean=1.0),)),
    ),
    "buffers over the card": (
        "peak-over-card",
        lambda: make_llm(buffers=(schema.Buffer(kind="model", device="CUDA0", bytes=13 * GIB),)),
    ),
    "an empty limit search": ("empty-limit", lambda: make_pass(limit=schema.Limit(attempts=3))),
    "a limit search out of order": ("limit-order", lambda: make_pass(limit=schema.Limit(works=1, fails=2, attempts=3))),
}

FLAGGED: dict[str, tuple[str, Any]] = {
    "an unknown runtime": ("unknown-runtime", lambda: make_pass(runtime=schema.RuntimeUsed(name="my-fork"))),
    "an unknown model": ("unknown-model", lambda: make_pass(model=model(slug="my-model"))),
    "an unknown card": ("unknown-card", lambda: make_pass(card=card(slug="voodoo-2"))),
    "an unknown storage type": ("unknown-type", lambda: make_pass(model=model(quant_bytes={"Q9_X": 1}))),
    "a card of another size": (
        "card-memory",
        lambda: make_pass(card=card(memory=20 * GIB)),
    ),
    "a card of unknown size": ("no-card-memory", lambda: make_pass(card=card(memory=None))),
    "a model without digest": ("unverified-model", lambda: make_pass(model=model(tensor_digest=None))),
    "a wide spread": ("spread", lambda: make_pass(samples=samples(100.0, 130.0, 100.0))),
    "a wide spread of rates": (
        "spread",
        lambda: make_llm(rates=(schema.TokenRate(prompt_tokens=1, new_tokens=0, mean=10.0, stddev=5.0),)),
    ),
    "success without a sample": ("no-sample", lambda: make_pass(samples=(), transfer=None)),
    "torch's memory spilled on Windows": (
        "spilled",
        lambda: make_pass(
            memory=schema.Memory(allocated=13 * GIB, reserved=14 * GIB), machine=schema.MachineInfo(os="windows")
        ),
    ),
    "torch's memory spilled under WSL": (
        "spilled",
        lambda: make_pass(
            memory=schema.Memory(allocated=13 * GIB),
            machine=schema.MachineInfo(os="linux", os_version="6.6.87.2-microsoft-standard-WSL2"),
        ),
    ),
    "a coherent link": (
        "over-pcie",
        lambda: make_pass(
            card=card(slug="gh200", name="NVIDIA GH200 480GB", memory=96 * GIB, pcie_generation_max=5),
            transfer=schema.Transfer(bytes_per_second=350e9),
        ),
    ),
    "a fast unstated link": (
        "fast-link",
        lambda: make_pass(card=card(pcie_generation_max=None), transfer=schema.Transfer(bytes_per_second=70e9)),
    ),
    "a process over the whole card": (
        "process-over-device",
        lambda: make_pass(memory=memory(process=(MEMORY.device or 0) + 65 * MIB)),
    ),
    "energy that is more than power times time": (
        "energy-and-power",
        lambda: make_pass(power=schema.Power(joules=18_000.0, seconds=100.0, watts_mean=120.0)),
    ),
    "energy that is not power times time": (
        "energy-and-power",
        lambda: make_pass(power=schema.Power(joules=1000.0, seconds=100.0, watts_mean=150.0)),
    ),
}

NOTED: dict[str, tuple[str, Any]] = {
    "a capped card": (
        "capped",
        lambda: make_pass(protocol=protocol(cap=schema.Cap(bytes=8 * GIB, enforced_by="allocator-fraction"))),
    ),
    "synthetic weights": ("synthetic", lambda: make_pass(model=model(weights="synthetic"))),
    "a probe": ("probe", lambda: make_pass(protocol=protocol(steps_run=4))),
    "an out-of-memory run": (
        "failed",
        lambda: make_pass(
            samples=(), outcome=schema.Outcome(result="oom-gpu", phase="denoise", allocated=11 * GIB, requested=2 * GIB)
        ),
    ),
    "a reading that missed the peak": ("missed-peak", lambda: make_pass(memory=memory(process=6 * GIB))),
    "throttling": ("throttled", lambda: make_pass(power=schema.Power(throttle_reasons=("sw-thermal-slowdown",)))),
    "an old run": ("old", lambda: make_pass(created=NOW - 3 * 365 * 86400)),
    "another number of repeats": ("repeats", lambda: make_pass(protocol=protocol(repeats=5))),
    "another number of steps": (
        "step-count",
        lambda: make_pass(samples=(schema.Sample(total=101.0, steps=(2.0,) * 8),) * 3),
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_is_rejected(name: str) -> None:
    code, make = REJECTED[name]
    assert findings(make()).get(code) is Rank.REJECT


@pytest.mark.parametrize("name", FLAGGED)
def test_what_surprises_is_flagged_and_kept(name: str) -> None:
    code, make = FLAGGED[name]
    found = findings(make())
    assert found.get(code) is Rank.FLAG
    assert Rank.REJECT not in found.values()


@pytest.mark.parametrize("name", NOTED)
def test_the_rest_is_noted(name: str) -> None:
    code, make = NOTED[name]
    found = findings(make())
    assert found.get(code) is Rank.NOTE
    assert Rank.REJECT not in found.values()


def test_meters_that_differ_by_a_rounding_agree() -> None:
    near = make_pass(memory=memory(process=(MEMORY.device or 0) + 63 * MIB))
    exact = make_link(pinning=(schema.PinRate(bytes=2, seconds=1, taken=2),))
    assert (findings(near), findings(exact)) == ({}, {})
    whole = card().memory or 0
    assert findings(make_pass(memory=memory(device=whole + 4 * MIB))) == {}
    assert findings(make_pass(memory=memory(device=whole + 4 * MIB + 1))) == {"peak-over-card": Rank.REJECT}


def test_a_run_that_failed_may_have_taken_nothing() -> None:
    outcome = schema.Outcome(result="oom-gpu")
    assert "no-memory" not in findings(make_pass(samples=(), outcome=outcome, memory=schema.Memory(allocated=0)))


def test_steps_are_counted_where_a_task_has_any() -> None:
    sizes = schema.WorkloadSizes.of(Workload(Task.VQA, references=((512, 512),), new_tokens=8))
    assert "step-count" not in findings(
        make_pass(workload=sizes, samples=(schema.Sample(total=9.0, steps=(1.0,)),) * 3)
    )


def test_a_very_fast_rig_is_not_refused() -> None:
    fast = card(
        slug="rtx-5090",
        name="NVIDIA GeForce RTX 5090",
        memory=32607 * MIB,
        power_limit_watts=600.0,
        pcie_generation_max=5,
    )
    record = make_pass(
        card=fast,
        samples=samples(0.9, 0.91, 0.92),
        transfer=schema.Transfer(bytes_streamed=50 * GIB, bytes_per_second=57e9),
        power=schema.Power(joules=540.0, seconds=0.9, watts_mean=600.0, watts_max=640.0),
    )
    assert findings(record) == {}


def test_two_cards_have_twice_the_memory_power_and_links() -> None:
    both = card(count=2, memory=2 * 12282 * MIB)
    rates, power = schema.Transfer(bytes_per_second=50e9), schema.Power(watts_mean=380.0, watts_max=390.0)
    record = make_pass(card=both, memory=memory(device=20 * GIB), power=power, transfer=rates)
    assert findings(record) == {}


def test_link_limit_is_lanes_times_rate() -> None:
    assert checks.link_limit(card(pcie_generation_max=3, pcie_width_max=8)) == pytest.approx(7.88e9)
    assert checks.link_limit(card(pcie_generation_max=None)) is None
    assert checks.link_limit(None) is None


def stored(root: Path, *records: Any) -> ValidationReport:
    for record in records:
        store.write(root, record)
    return validate([root], NOW)


def codes(report: ValidationReport) -> list[str]:
    return sorted(problem.finding.code for problem in report.problems)


def test_a_tree_of_good_records_is_clean(tmp_path: Path) -> None:
    report = stored(tmp_path, make_pass(), make_link(), make_llm(), make_external())
    assert (report.files, report.valid, report.problems, report.rejected) == (4, 4, [], False)


def test_a_record_in_the_wrong_place_is_rejected(tmp_path: Path) -> None:
    path = store.write(tmp_path, make_pass())
    wrong = tmp_path / "rtx-4090" / path.parent.name
    wrong.mkdir(parents=True)
    path.rename(wrong / path.name)
    report = validate([tmp_path], NOW)
    assert codes(report) == ["misplaced"]
    assert report.rejected


def test_a_file_without_an_id_is_told_that_and_no_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(as_json({key: value for key, value in document(make_pass()).items() if key != "id"}))
    assert [problem.finding.code for problem in validate([path], NOW).problems] == ["no-id"]


def test_a_single_file_may_lie_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(store.encode(make_pass()))
    report = validate([file], NOW)
    assert codes(report) == ["file-name"]
    assert not report.rejected


def test_the_same_measurement_under_two_notes_is_flagged(tmp_path: Path) -> None:
    report = stored(tmp_path, make_pass(), make_pass(notes="again", submitter="octocat"))
    assert codes(report) == ["duplicate"]
    assert report.valid == 2


def test_the_estimator_may_add_its_doubt(tmp_path: Path) -> None:
    store.write(tmp_path, make_pass())

    def doubt(record: schema.PassRecord) -> list[Finding]:
        return [flag("far-from-estimate", f"estimated half of {record.memory.allocated}")]

    report = validate([tmp_path], NOW, doubt=doubt)
    assert codes(report) == ["far-from-estimate"]


def test_furniture_of_a_results_tree_is_no_record(tmp_path: Path) -> None:
    store.write(tmp_path, make_pass())
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "record-v1.json").write_text("{}")
    assert validate([tmp_path], NOW).problems == []


def test_a_forged_record_needs_more_than_a_fitting_id() -> None:
    forged = document(make_pass())
    forged["memory"]["device"] = 99 * GIB
    _, found = check_record(resealed(forged), NOW)
    assert [finding.code for finding in found] == ["peak-over-card"]


@pytest.mark.parametrize(("task", "refused"), [("interleave", False), ("editing", True)])
def test_only_an_interleaved_answer_may_start_from_no_image(task: str, refused: bool) -> None:
    record = make_pass()
    sizes = record.workload.model_copy(update={"task": task, "images": 1, "references": ()})
    assert ("empty-workload" in findings(record.model_copy(update={"workload": sizes}))) is refused
