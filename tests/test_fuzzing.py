"""Readers, commands and writers under hostile input and kills, for a moment: `python tests/fuzzing/fuzz.py`, `kills.py`
and `commands.py` do the same for longer."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("forks, and reads /proc", allow_module_level=True)

sys.path.append(str(Path(__file__).parent / "fuzzing"))

import commands
import fuzz
import kills
from readers import READERS
from reading import Reader

SECONDS = float(os.environ.get("FITCHECK_FUZZ_SECONDS", "1"))
POINTS = int(os.environ.get("FITCHECK_KILLS", "2"))
CORPUS = [(one, path) for one in READERS for path in fuzz.corpus(one.name)]


@pytest.mark.parametrize("reader", READERS, ids=lambda one: one.name)
def test_a_reader_answers_or_refuses(reader: Reader) -> None:
    outcome = fuzz.fuzz(reader, SECONDS, seed=os.getpid() if "FITCHECK_FUZZ_SECONDS" in os.environ else 0)
    assert outcome.findings == {}
    assert outcome.answers + outcome.refusals == outcome.cases
    assert outcome.cases > 0
    assert outcome.peak < 1 << 30


@pytest.mark.parametrize(("reader", "path"), CORPUS, ids=[f"{one.name}-{path.name}" for one, path in CORPUS])
def test_what_fuzzing_has_found_is_mended(reader: Reader, path: Path) -> None:
    kind, words = fuzz.attempt(reader, path.read_bytes())
    assert kind in ("answer", "refusal"), words
    assert words.count("\n") == 0


def _breaks() -> None:
    raise ZeroDivisionError("by nothing")


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (_breaks, "ZeroDivisionError"),
        (os.abort, "the worker ended with -6"),
        (lambda: bytearray(1 << 31), "MemoryError"),
    ],
)
def test_the_driver_sees_what_goes_wrong(breaks: Callable[[], object], words: str) -> None:
    reader = Reader("broken", lambda chance: b"", lambda data, room: breaks())
    assert words in " ".join(fuzz.fuzz(reader, 0.3).findings)


@pytest.mark.parametrize("surface", kills.surfaces(), ids=lambda one: one.name)
def test_a_kill_loses_nothing(surface: kills.Surface) -> None:
    assert kills.run(surface, POINTS) == POINTS


def test_a_half_written_record_is_seen(tmp_path: Path) -> None:
    kills.write_records(tmp_path)
    look = kills.no_half_record("own")
    look(tmp_path)
    path = next((tmp_path / "own").rglob("*.json"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(AssertionError, match=r"\.json: \d+ bytes"):
        look(tmp_path)


def test_commands_on_hostile_files_end_well() -> None:
    commands.warm()
    ended = list(commands.attempts(8, seed=0, trees=0))
    assert len(ended) >= 8
    assert [(words, one.problems()) for words, one in ended if one.problems()] == []


def test_a_command_that_ends_badly_is_seen(tmp_path: Path) -> None:
    assert commands.command(["no-such-command"], tmp_path, {}).problems() == []
    bad = commands.Ended(1, "\x1b[31m", "Traceback\n", 11.0)
    assert bad.problems() == ["11.0 s", "a traceback", "'\\x1b' reaches the terminal"]
    assert commands.Ended(None, "", "", 0.0).problems() == ["exit code None"]
    assert commands.Ended(2, "", "a\nb\n", 0.0).problems() == ["2 lines on stderr"]


def test_damage_is_the_same_for_the_same_seed() -> None:
    for reader in READERS:
        first, second = reader.case(random.Random(7)), reader.case(random.Random(7))
        assert first == second
