"""Too slow to use is an answer of its own: the floor a person sets or the usual one, in tokens a second or seconds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fitcheck
from fitcheck.cli.main import main
from fitcheck.data_files import load
from fitcheck.errors import OptionError
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.workload import Task, Workload
from fitcheck.speed.duration import Duration
from fitcheck.speed.floor import Floor, floor_of, speed_words, too_slow
from fitcheck.units import GIB, Interval, format_speeds
from fitcheck.verdict.report import Report

U1 = "sensenova-u1-8b-mot"


def large(**wanted: Any) -> Report:
    """72 billion weights on 12 GB of card memory: most of them are read from the host."""
    return fitcheck.check("qwen2.5-72b", "RTX 4070", tier="Q4_K_M", ngl=15, ram=128 * GIB, **wanted)


def test_a_72b_model_that_writes_a_token_a_second_does_not_plainly_fit() -> None:
    report = large()
    rate = report.best.rate("generation")
    assert rate is not None
    assert rate.best < 5
    assert (report.best.verdict, report.best.judgement.binding) == (Verdict.TIGHT, Constraint.SPEED)
    assert " runs, but too slow to use: " in report.answer
    assert " fits " not in report.answer
    assert "where 5 are needed to read along" in report.answer
    assert report.floor == Floor(min_speed=5.0, usual=True)


def test_whoever_is_content_with_less_says_so() -> None:
    report = large(min_speed=0.1)
    assert report.best.verdict is Verdict.FITS
    assert report.floor == Floor(min_speed=0.1)
    assert "where 400 are asked for with --min-speed" in large(min_speed=400).answer


@pytest.mark.parametrize(("most", "verdict"), [(5.0, Verdict.TIGHT), (600.0, Verdict.FITS)])
def test_seconds_an_image_have_a_floor_too(most: float, verdict: Verdict) -> None:
    cell = fitcheck.check(U1, "RTX 4070", ram=64 * GIB, mode="low", tier="Q4_K_S", max_seconds=most).best
    assert cell.verdict is verdict
    if verdict is Verdict.TIGHT:
        assert cell.judgement.binding is Constraint.SPEED
        assert cell.reason.startswith("Runs, but too slow to use: ")
        assert "5.0 s is asked for with --max-seconds" in cell.reason


def test_a_batch_is_measured_by_its_images_and_an_answer_as_a_whole() -> None:
    took = Duration(Interval(90.0, 100.0, 110.0), "compute")
    floor = Floor(max_seconds=30.0)
    assert (
        too_slow(Workload(Task.T2I), took, floor) == "90 to 110 s an image, where 30 s is asked for with --max-seconds"
    )
    assert too_slow(Workload(Task.T2I, batch=4), took, floor) is None
    assert too_slow(Workload(Task.INTERLEAVE, images=3), took, floor) is not None
    assert too_slow(Workload(Task.INTERLEAVE, images=4), took, floor) is None
    assert "an answer" in (too_slow(Workload(Task.VQA, batch=4), took, floor) or "")
    assert "a video" in (too_slow(Workload(Task.T2V, frames=81), took, floor) or "")


def test_a_video_may_take_longer_than_an_image() -> None:
    half_an_hour = Duration(Interval(1700.0, 1800.0, 1900.0), "compute")
    for task, enough in ((Task.T2I, False), (Task.EDITING, False), (Task.T2V, True), (Task.I2V, True)):
        assert (too_slow(Workload(task), half_an_hour, floor_of(None, None, task)) is None) is enough


def test_what_is_unknown_is_not_too_slow() -> None:
    assert too_slow(Workload(Task.T2I), None, Floor(max_seconds=1.0)) is None
    assert too_slow(Workload(Task.CHAT), Duration(None, "?"), Floor(min_speed=5.0, max_seconds=1.0)) is None


@given(st.floats(0.1, 1e3), st.floats(0.1, 1e3), st.floats(1, 3))
def test_a_faster_run_is_never_slower_to_use(rate: float, floor: float, faster: float) -> None:
    def slow(speed: float) -> bool:
        span = Interval(speed / 2, speed, speed * 2)
        found = Duration(None, "?", rates=(("generation", span),))
        return too_slow(Workload(Task.CHAT), found, Floor(min_speed=floor)) is not None

    assert slow(rate) == (rate < floor)
    assert slow(rate * faster) <= slow(rate)


@given(st.floats(1e-6, 1e4), st.floats(1, 10), st.floats(1, 10))
def test_no_speed_reads_zero(low: float, more: float, most: float) -> None:
    span = Interval(low, low * more, low * more * most)
    assert all(float(one) > 0 for one in format_speeds(span))
    assert not speed_words(span).startswith("0 to")


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (Interval(0.4, 1.2, 2.9), "0.4 to 2.9 tokens a second"),
        (Interval(0.04, 0.1, 0.2), "0.04 to 0.20 tokens a second"),
        (Interval(12.0, 15.0, 20.0), "12 to 20 tokens a second"),
    ],
)
def test_speeds_as_people_read_them(span: Interval[float], words: str) -> None:
    assert speed_words(span) == words


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["min_speed", "max_seconds"])
def test_floors_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')}: "):
        fitcheck.check("llama-3.1-8b", "RTX 4070", tier="Q4_K_M", **{name: value})  # type: ignore[arg-type]


def test_tokens_a_second_of_a_picture_are_refused_with_what_to_give_instead() -> None:
    with pytest.raises(OptionError, match="give --max-seconds"):
        fitcheck.check(U1, "RTX 4070", min_speed=5)


def test_the_usual_floors_say_where_they_come_from() -> None:
    data = load("speed", "floor")
    assert "MLPerf" in data["text"]["source"]
    assert data["pictures"]["reason"]
    assert data["videos"]["reason"]
    assert all(data[kind]["read"] for kind in ("text", "pictures", "videos"))


def test_the_command_line_says_it_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", U1, "--gpu", "RTX 4070", "--ram", "64GB", "--tier", "Q4_K_S", "--max-seconds", "2", "--json"]
    monkeypatch.setattr("sys.argv", ["fitcheck", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    document = json.loads(capsys.readouterr().out)
    assert ended.value.code == 3
    assert document["floor"] == {"min_speed": None, "max_seconds": 2.0, "usual": False}
    assert document["cells"][0]["binding"] == "speed"
    assert "runs, but too slow to use" in document["answer"]


def test_what_would_make_it_quick_enough_does() -> None:
    report = fitcheck.check("qwen2.5-14b", "RTX 4060", tier="Q8_0", ram=64 * GIB)
    assert report.best.judgement.binding is Constraint.SPEED
    flip = report.best.flip
    assert flip is not None
    assert flip.verdict is Verdict.FITS
