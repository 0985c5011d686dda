"""Commands as a shell runs them: arguments in, exit code and bytes out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import fitcheck.cli.main as entry


@dataclass(frozen=True)
class Ran:
    code: int
    out: bytes
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Run:
    """Runs commands in an empty folder with its own place for local records."""
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path / "local"))
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["fitcheck", *map(str, arguments)])
        capfdbinary.readouterr()
        code = 0
        try:
            entry.main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capfdbinary.readouterr()
        return Ran(code, captured.out, captured.err.decode())

    return run_command


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A complete pass, as it lies in a repository's results."""
    stored = Path(__file__).parents[1] / "records" / "data" / "v1" / "pass.json"
    file = tmp_path / "pass.json"
    file.write_bytes(stored.read_bytes())
    return file
