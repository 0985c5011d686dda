"""What a stranger asks for is bounded before it is computed, and no file of theirs takes another one down."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import NOW, card, document, make_pass, protocol, resealed

from fitcheck.errors import InputError
from fitcheck.records import bounds, run_index, schema, store
from fitcheck.records.bounded import MAX_DEPTH, walk
from fitcheck.records.findings import Finding, Rank
from fitcheck.records.validate import accepted, check_record, publishable, validate

HUGE = schema.WorkloadSizes(task="interleave", width=1024, height=1024, steps=50, images=4096, new_tokens=10_000_000)


def estimated(root: Path) -> tuple[int, list[str]]:
    asked: list[schema.PassRecord] = []

    def doubt(record: schema.PassRecord) -> list[Finding]:
        asked.append(record)
        return []

    report = validate([root], NOW, doubt)
    return len(asked), [p.finding.code for p in report.problems if p.finding.code == "not-estimated"]


def test_a_record_beyond_the_bound_is_judged_without_the_estimate(tmp_path: Path) -> None:
    store.write(tmp_path, make_pass())
    path = store.write(tmp_path, make_pass(workload=HUGE))
    assert estimated(tmp_path) == (1, ["not-estimated"])
    assert path.stem in {record.id for record in accepted(tmp_path, NOW)[0]}


def test_many_records_within_the_bound_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds.Allowance.__init__, "__defaults__", (70,))
    for created in range(5):
        sizes = HUGE.model_copy(update={"images": bounds.MOST_PICTURES, "new_tokens": created})
        store.write(tmp_path, make_pass(created=NOW - 100 - created, workload=sizes))
    assert estimated(tmp_path) == (2, ["not-estimated"] * 3)


SIZES = st.builds(
    schema.WorkloadSizes,
    task=st.sampled_from(["t2i", "editing", "interleave", "vqa", "chat"]),
    images=st.none() | st.integers(0, 4096),
    references=st.none() | st.lists(st.tuples(st.integers(1, 65536), st.integers(1, 65536)), max_size=64).map(tuple),
    new_tokens=st.none() | st.integers(0, 10_000_000),
)


@given(st.lists(SIZES, max_size=200))
def test_the_work_of_any_records_is_bounded(workloads: list[schema.WorkloadSizes]) -> None:
    allowance = bounds.Allowance()
    taken = [bounds.pictures(sizes) for sizes in workloads if allowance.refuse(sizes) is None]
    assert all(1 <= pictures <= bounds.MOST_PICTURES for pictures in taken)
    assert sum(taken) + allowance.left == bounds.MOST_TOGETHER
    assert allowance.left >= 0


REJECTED: list[dict[str, Any]] = [
    {"memory": schema.Memory(allocated=0, reserved=1 << 30)},
    {"memory": schema.Memory(rss=0)},
    {"workload": HUGE.model_copy(update={"images": 0})},
    {"workload": HUGE.model_copy(update={"steps": 0})},
    {"card": card(memory=0), "memory": schema.Memory()},
    {"protocol": protocol(cap=schema.Cap(bytes=0, enforced_by="mig"))},
    {"protocol": protocol(steps_run=0)},
    {"samples": (schema.Sample(total=5e-324),)},
    {"limit": schema.Limit(attempts=1, works=0)},
    {"memory": schema.Memory(allocated=20 << 30, reserved=20 << 30)},
    {"notes": "see /home/ann/run.log"},
]


@pytest.mark.parametrize("change", REJECTED, ids=lambda change: next(iter(change)))
def test_nothing_that_is_rejected_is_published(change: dict[str, Any], tmp_path: Path) -> None:
    good, bad = store.write(tmp_path, make_pass()), store.write(tmp_path, make_pass(**change))
    records, left_out = accepted(tmp_path, NOW)
    assert [record.id for record in records] == [good.stem]
    assert {problem.path for problem in left_out} == {bad}
    assert [record.id for record in publishable(tmp_path)] == [good.stem]


def test_a_record_with_anothers_id_is_not_published(tmp_path: Path) -> None:
    good = store.write(tmp_path, make_pass())
    changed = json.loads(good.read_bytes()) | {"notes": "changed"}
    good.with_name("f" * 64 + ".json").write_text(json.dumps(changed))
    assert [record.id for record in accepted(tmp_path, NOW)[0]] == [good.stem]


def test_each_file_of_a_tree_stands_alone(tmp_path: Path) -> None:
    good = store.write(tmp_path, make_pass())
    beside = good.parent
    os.mkfifo(beside / "fifo.json")
    (beside / "latin.json").write_bytes(b'{"id":"\xff"}')
    (beside / "zero.json").symlink_to("/dev/zero")
    (beside / "deep.json").write_text("[" * 100_000)
    with (beside / "sparse.json").open("wb") as file:
        file.truncate(1 << 40)
    with nested(beside, 1500):
        started = time.monotonic()
        records, left_out = accepted(tmp_path, NOW)
        assert [record.id for record in records] == [good.stem]
        assert len(left_out) == 6
        assert len(list(store.record_files(tmp_path))) == 6
        assert time.monotonic() - started < 5


@contextmanager
def nested(folder: Path, depth: int) -> Iterator[None]:
    """So many folders one in the other, deeper than a path can be named, taken away afterwards."""
    handles = [os.open(folder, os.O_RDONLY)]
    for _ in range(depth):
        os.mkdir("d", dir_fd=handles[-1])
        handles.append(os.open("d", os.O_RDONLY, dir_fd=handles[-1]))
        if len(handles) > 2:
            os.close(handles.pop(0))
    for handle in handles:
        os.close(handle)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", str(folder / "d")], check=True)


def test_a_walk_ends_whatever_the_folders_are(tmp_path: Path) -> None:
    deepest = tmp_path
    for number in range(MAX_DEPTH + 3):
        deepest = deepest / f"d{number}"
    deepest.mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path)
    found = list(walk(tmp_path))
    assert found == [tmp_path / "loop", tmp_path.joinpath(*(f"d{n}" for n in range(MAX_DEPTH)))]
    with pytest.raises(InputError, match="cannot be read"):
        list(walk(tmp_path / "nothing"))


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(document(make_pass()))


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(FIELDS), value=VALUE, inner=st.booleans(), pick=st.integers(0, 40))
def test_any_value_in_an_own_record_is_passed_over_or_sound(name: str, value: Any, inner: bool, pick: int) -> None:
    values = document(make_pass())
    if inner and isinstance(values[name], dict):
        keys = sorted(values[name])
        values[name][keys[pick % len(keys)]] = value
    else:
        values[name] = value
    index = run_index.build([values])
    assert run_index.Index() + index + index == run_index.Index() + index
    for row in index.rows:
        assert hash(row.id) is not None
        assert all(v is None or (isinstance(v, int | float) and 0 <= v < 2**60) for v in (row.allocated, row.seconds))


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(FIELDS), value=VALUE)
def test_any_value_in_a_record_is_judged(name: str, value: Any) -> None:
    try:
        content = resealed(document(make_pass()) | {name: value})
    except (ValueError, OverflowError, TypeError):
        content = json.dumps(document(make_pass()) | {name: value}).encode()
    parsed, found = check_record(content, NOW)
    assert parsed is not None or found[0].rank is Rank.REJECT
