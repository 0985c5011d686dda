"""The index of records: what a run, a token test and a link record say in short, and that no file takes it down."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
from record_samples import NOW, card, document, make_link, make_llm, make_pass, model, protocol, samples

from fitcheck.models.workload import Task, Workload
from fitcheck.records import packed_runs, run_index, schema, store
from fitcheck.records.run import CellKey, Run
from fitcheck.records.run_index import Index
from fitcheck.records.sampling import varied
from fitcheck.units import GIB

REPOSITORY = Path(__file__).parents[2]
KEY = CellKey.of("sensenova-u1-8b-mot", "Q4_K_M", Workload(Task.T2I), "sensenova", "pr243", "upstream", "low")
CAP = schema.Cap(bytes=8 * GIB, enforced_by="allocator-fraction")
OTHER_MODE = schema.RuntimeUsed(name="sensenova", revision="pr243", mode="full", policy="upstream", prefetch=0)

Direction = Literal["host-to-device", "device-to-host"]


def index(*records: object) -> Index:
    return run_index.build(document(record) for record in records)


def test_a_pass_in_short_says_which_cell_and_what_came_of_it() -> None:
    (run,) = index(make_pass(samples=samples(90.0, 91.0, 92.0))).rows
    assert run.cell == KEY
    assert (run.seconds, run.samples, run.step_seconds) == (91.0, 3, None)
    assert (run.allocated, run.joules, run.weights, run.cap) == (6 * GIB, 15_000.5, "real", None)
    assert (run.cards, run.tests, run.settings, run.own) == (1, (), (), False)


def test_the_words_of_the_prompt_make_no_other_cell() -> None:
    longer = schema.WorkloadSizes.of(Workload(Task.T2I, prompt_tokens=500))
    assert index(make_pass(workload=longer)).rows[0].cell == KEY


def test_runs_are_found_by_card_runtime_and_tier_and_by_what_they_bound() -> None:
    found = index(make_pass()).rows[0]
    other = replace(found, id="tier", cell=replace(found.cell, tier="Q8_0"))
    away = replace(found, id="card", card="rtx-3060-12gb")
    out, capped = replace(found, id="out", outcome="oom-gpu"), replace(found, id="cap", cap=8 * GIB)
    rows = Index((found, other, away, out, capped))
    assert [run.id for run in rows.runs_of_tier("rtx-4070", found.cell.model, "Q8_0", "sensenova")] == ["tier"]
    assert [run.id for run in rows.runs_in("rtx-4070", "sensenova")] == [found.id, "tier", "out", "cap"]
    assert [run.id for run in rows.bounding("rtx-4070", found.cell.model, "sensenova")] == ["out", "cap"]
    assert rows.runs_in("rtx-4070", "llama.cpp") == ()


@pytest.mark.parametrize(
    "other",
    [
        {"model": model(tier="Q8_0")},
        {"runtime": OTHER_MODE},
        {"workload": schema.WorkloadSizes.of(Workload(Task.T2I, width=1024))},
        {"workload": schema.WorkloadSizes.of(Workload(Task.EDITING))},
    ],
)
def test_another_tier_mode_size_or_task_is_another_cell(other: dict[str, object]) -> None:
    assert index(make_pass(**other)).rows[0].cell != KEY


def test_limits_and_failures_are_kept_with_what_they_bound() -> None:
    outcome = schema.Outcome(result="oom-gpu", allocated=11 * GIB, requested=GIB)
    (failed,) = index(make_pass(samples=(), outcome=outcome)).rows
    assert (failed.outcome, failed.requested, failed.seconds) == ("oom-gpu", GIB, None)
    (capped,) = index(make_pass(protocol=protocol(cap=CAP))).rows
    assert capped.cap == 8 * GIB


def test_a_probe_counts_for_memory_not_for_time() -> None:
    probe = make_pass(protocol=protocol(steps_run=2), samples=(schema.Sample(total=6.0, steps=(2.5, 3.5)),) * 3)
    (run,) = index(probe).rows
    assert (run.seconds, run.step_seconds) == (None, 3.0)
    assert run.allocated is not None


def test_a_token_test_says_what_was_read_and_written_and_how_fast() -> None:
    (run,) = index(make_llm()).rows
    record = make_llm()
    assert record.rates is not None
    assert [(test.prompt, test.new, test.depth, test.rate) for test in run.tests] == [
        (one.prompt_tokens, one.new_tokens, one.depth, one.mean) for one in record.rates
    ]
    assert run.setting("gpu_layers") == record.settings.gpu_layers
    assert (run.seconds, run.cell.task, run.bench) == (None, "chat", False)


def test_records_of_one_machine_are_told_from_those_of_another_and_name_nobody() -> None:
    here, again, there = (
        index(make_pass(machine=schema.MachineInfo(cpu=cpu, os="linux"))).rows[0].machine
        for cpu in ("AMD Ryzen 7", "AMD Ryzen 7", "Intel Core i5")
    )
    assert here == again != there
    assert here is not None
    assert set(here) <= set("0123456789abcdef")
    mine, yours = (index(make_pass(submitter=who)).rows[0].machine for who in ("me", "you"))
    assert mine != yours, "two people may have the same computer"


@pytest.mark.parametrize(
    ("memory", "bytes_"),
    [
        ({"process": 5 * GIB, "device": 7 * GIB, "device_before": GIB}, 5 * GIB),
        ({"device": 7 * GIB, "device_before": GIB}, 6 * GIB),
        ({"device": 7 * GIB}, None),
        ({"process": 0, "device": 0, "device_before": 0}, None),
        ({"process": 5 * GIB, "reserved": 5 * GIB}, 5 * GIB),
        ({"process": 5 * GIB, "reserved": 5 * GIB + 1}, None),
        ({"process": 5 * GIB, "allocated": 5 * GIB + 1}, None),
        ({"device": 7 * GIB, "device_before": GIB, "reserved": 7 * GIB}, None),
        ({"device": GIB, "device_before": 7 * GIB}, None),
    ],
)
def test_what_a_run_took_of_its_card(memory: dict[str, int], bytes_: int | None) -> None:
    (run,) = index(make_pass(memory=schema.Memory.model_validate(memory))).rows
    assert run.on_card == bytes_
    assert replace(run, cards=2).on_card is None, "what each of several took is not known"


@pytest.mark.parametrize(
    ("limit", "memory", "bytes_"),
    [(8 * GIB, 12 * GIB, 8 * GIB), (1 << 45, 12 * GIB, 12 * GIB), (1 << 45, None, 1 << 45)],
)
def test_no_run_ran_out_under_more_than_its_card_has(limit: int, memory: int | None, bytes_: int) -> None:
    (run,) = index(make_pass()).rows
    out = replace(run, cap=limit, outcome="oom-gpu", card_memory=memory)
    assert out.ran_out_under == replace(run, fails=limit, card_memory=memory).ran_out_under == bytes_


def test_a_record_that_a_handle_was_put_on_is_the_same_measurement(tmp_path: Path) -> None:
    """`fitcheck submit --as` keeps the credited one beside what the bench wrote."""
    plain = make_pass()
    for record in (plain, plain.model_copy(update={"submitter": "octocat"}), make_pass(created=plain.created - 60)):
        store.write(tmp_path, record)
    assert len(list(tmp_path.rglob("*.json"))) == 3
    assert len(run_index.local("rtx-4070", tmp_path).rows) == 2
    published = index(plain.model_copy(update={"submitter": "octocat"}))
    assert len((published + run_index.local("rtx-4070", tmp_path)).rows) == 2


def test_what_ran_out_under_a_limit_is_known_of_searches_that_ended_well_too() -> None:
    (run,) = index(make_pass()).rows
    searched = replace(run, id="searched", works=6 * GIB, fails=5 * GIB)
    capped = replace(run, id="capped", cap=6 * GIB)
    out, other = replace(capped, id="out", outcome="oom-gpu"), replace(run.cell, model="other")
    all_of_them = Index((run, searched, capped, out, replace(out, id="away", cell=other)))
    assert all_of_them.short_of(run.cell.model) == [searched, out]


def test_of_a_packed_file_no_more_runs_are_read_than_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = index(make_pass(), make_pass(card=card(slug="rtx-3060-12gb")), make_llm())
    file = tmp_path / "results.json"
    file.write_bytes(run_index.pack(there))
    monkeypatch.setattr(run_index, "INDEX", file)
    read: list[str] = []
    row_of = packed_runs.row_of

    def counted(values: dict[str, Any]) -> Run:
        read.append(values["card"])
        return row_of(values)

    monkeypatch.setattr(packed_runs, "row_of", counted)
    run_index.accepted.cache_clear()
    try:
        packed = run_index.accepted()
    finally:
        run_index.accepted.cache_clear()
    assert packed.cards == there.cards
    assert not packed.runs_of("rtx-9999")
    assert read == []
    assert packed.of("rtx-3060-12gb") == there.of("rtx-3060-12gb")
    assert read == ["rtx-3060-12gb"]
    assert tuple(packed.rows) == tuple(sorted(there.rows, key=lambda run: run.id))
    assert len(read) == len(there.rows)


@pytest.mark.parametrize(("block", "name"), [("memory", "rss"), ("memory", "allocated"), ("card", "memory")])
def test_less_than_nothing_is_passed_over(block: str, name: str) -> None:
    damaged = document(make_pass())
    damaged[block][name] = -1
    assert run_index.build([damaged]).rows == ()


def test_of_very_many_own_records_the_newest_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "_MOST_LOCAL", 2)
    paths = [store.write(tmp_path, make_pass(created=NOW - 5000 - number)) for number in range(4)]
    for age, path in zip((3, 1, 4, 2), paths, strict=True):
        os.utime(path, (NOW - age, NOW - age))
    assert [row.id for row in run_index.local("rtx-4070", tmp_path).rows] == [paths[1].stem, paths[3].stem]


def test_the_index_of_a_card_holds_its_records_alone() -> None:
    both = index(make_pass(), make_pass(card=card(slug="rtx-3060-12gb")), make_link(), make_llm())
    assert {row.card for row in both.of("rtx-3060-12gb").rows} == {"rtx-3060-12gb"}
    assert both.of("rtx-3060-12gb").links == ()
    assert both.of("rtx-9999") == Index()


@pytest.mark.parametrize("value", [[1], {"a": 1}])
def test_settings_of_another_kind_are_passed_over(value: object) -> None:
    damaged = document(make_llm())
    damaged["settings"]["threads"] = value
    assert run_index.build([damaged]).rows == ()


def copy(size: int, rate: float, *, pinned: bool = True, direction: Direction = "host-to-device") -> schema.CopyRate:
    return schema.CopyRate(direction=direction, pinned=pinned, bytes=size, bytes_per_second=rate)


COPIES = (
    copy(GIB, 25.1e9),
    copy(GIB >> 10, 20e9),
    copy(GIB, 9.5e9, pinned=False),
    copy(GIB, 26e9, direction="device-to-host"),
    copy(GIB >> 10, 24e9, direction="device-to-host"),
)


def test_link_rates_are_kept_by_block_size() -> None:
    (link,) = index(make_link(copies=COPIES)).links
    assert link.pinned == ((GIB >> 10, 20e9), (GIB, 25.1e9))
    assert link.pageable == ((GIB, 9.5e9),)
    assert link.device_to_host_pinned == 26e9
    assert link.matmul == {"BF16": 5.5e13}
    assert link.dequantization == {"Q4_K": 1.5e11}
    (bare,) = index(make_link(copies=None)).links
    assert (bare.pinned, bare.pageable, bare.device_to_host_pinned) == ((), (), None)


@pytest.mark.parametrize("size", [0, -1, 1 << 60])
def test_blocks_that_cannot_be_are_left_out(size: int) -> None:
    damaged = document(make_link(copies=COPIES))
    damaged["copies"][0]["bytes"] = size
    (link,) = run_index.build([damaged]).links
    assert link.pinned == ((GIB >> 10, 20e9),)


@pytest.mark.parametrize("rate", [0, -1.0, 1e-300, 1e300, float("nan"), float("inf")])
def test_rates_that_cannot_be_are_left_out(rate: float) -> None:
    damaged = document(make_link(copies=COPIES))
    damaged["copies"][0]["bytes_per_second"] = rate
    (link,) = run_index.build([damaged]).links
    assert link.pinned == ((GIB >> 10, 20e9),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(("bytes", "bytes_per_second"), ("fast", None, list[int]())),
        ("bytes", float("inf")),
        ("bytes_per_second", 10**400),
    ],
)
def test_a_link_record_of_anything_but_numbers_is_passed_over(name: str, value: object) -> None:
    damaged = document(make_link(copies=COPIES))
    damaged["copies"][0][name] = value
    assert run_index.build([damaged]).links == ()


def test_the_index_survives_packing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editing = schema.WorkloadSizes.of(Workload(Task.EDITING, references=((512, 768), (64, 64))))
    built = index(make_pass(), make_link(copies=COPIES), make_llm(), make_pass(workload=editing), make_pass(card=None))
    assert (len(built.rows), len(built.links)) == (3, 1)
    file = tmp_path / "results.json"
    file.write_bytes(run_index.pack(built))
    monkeypatch.setattr(run_index, "INDEX", file)
    run_index.accepted.cache_clear()
    try:
        assert set(run_index.accepted().rows) == set(built.rows)
        assert run_index.accepted().links == built.links
    finally:
        run_index.accepted.cache_clear()
    reordered = Index(built.rows[::-1], built.links)
    assert run_index.pack(reordered) == run_index.pack(built)
    assert [row.id for row in built.rows] == sorted(row.id for row in built.rows)
    assert len((built + built).rows) == 3


def test_the_packed_index_is_that_of_results() -> None:
    """After a change of results/ run `python scripts/pack_results.py`."""
    spec = importlib.util.spec_from_file_location("pack_results", REPOSITORY / "scripts" / "pack_results.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert run_index.INDEX.read_bytes() == script.packed(REPOSITORY / "results")


def test_own_records_count_and_damaged_files_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.write(tmp_path, make_pass())
    store.write(tmp_path, make_pass(card=card(slug="rtx-4090")))
    for name, content in (
        ("a.json", b"{"),
        ("b.json", b"[]"),
        ("c.json", b'{"kind":"pass","card":{}}'),
        ("d.json", b"\xff"),
        ("e.json", b"[" * 100_000),
        ("f.json", b'{"kind":"pass","card":1,"x":NaN}'),
    ):
        (path.parent / name).write_bytes(content)
    (path.parent / "g.json").symlink_to(tmp_path / "nowhere")
    assert [(row.id, row.own) for row in run_index.local("rtx-4070", tmp_path).rows] == [(path.stem, True)]
    assert run_index.local("rtx-9999", tmp_path) == Index()
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path))
    assert [row.cell for row in run_index.local("rtx-4070").rows] == [KEY]


def test_looking_up_is_fast_and_light(tmp_path: Path) -> None:
    """A cold process, 300 own records: less than 4 times what parsing them and the packed index takes (best of six),
    and neither pydantic nor duckdb. As a ratio it holds on any machine."""
    for number in range(300):
        store.write(tmp_path, make_pass(created=NOW - 5000 - number))
    code = (
        "import json, sys, time\n"
        "from pathlib import Path\n"
        "from fitcheck.models.workload import Task, Workload\n"
        "from fitcheck.records import run_index\n"
        "start = time.process_time()\n"
        f"index = run_index.accepted() + run_index.local('rtx-4070', Path({str(tmp_path)!r}))\n"
        "names = ('sensenova', 'pr243', 'upstream', 'low')\n"
        "key = run_index.CellKey.of('sensenova-u1-8b-mot', 'Q4_K_M', Workload(Task.T2I), *names)\n"
        "found = [row for row in index.of('rtx-4070').rows if row.cell == key]\n"
        "seconds = time.process_time() - start\n"
        f"texts = [path.read_bytes() for path in Path({str(tmp_path)!r}).glob('*/*/*.json')]\n"
        "texts.append(run_index.INDEX.read_bytes())\n"
        "start = time.process_time()\n"
        "for text in texts: json.loads(text)\n"
        "parsing = time.process_time() - start\n"
        "heavy = [n for n in ('pydantic', 'duckdb', 'rfc8785', 'httpx') if n in sys.modules]\n"
        "print(json.dumps([len(found), seconds / parsing, heavy]))\n"
    )
    best = float("inf")
    for _ in range(6):  # what else runs beside it slows the two unequally
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
        count, ratio, heavy = json.loads(done.stdout)
        assert (count, heavy) == (300, [])
        best = min(best, ratio)
        if best < 4:
            break
        time.sleep(0.05)
    assert best < 4


def test_of_runs_that_are_alike_a_dozen_are_looked_at() -> None:
    (run,) = index(make_pass()).rows
    alike = [replace(run, id=f"alike {number}") for number in range(30)]
    other = replace(run, id="other", cell=replace(run.cell, mode="full"))
    failed = replace(run, id="failed", outcome="error")
    found = [one.id for one in varied([*alike, failed, other], 40)]
    assert found == ["alike 0", "other", *(f"alike {number}" for number in range(1, 12))]
    assert varied([*alike, other], 2) == [alike[0], other]


@pytest.mark.parametrize(("warmup", "fresh", "warm"), [(0, True, False), (1, True, True), (0, False, True)])
def test_a_later_size_of_a_process_finds_what_the_passes_before_left(warmup: int, fresh: bool, warm: bool) -> None:
    (run,) = index(make_pass(protocol=protocol(warmup=warmup, fresh_process=fresh))).rows
    assert run.warm is warm
