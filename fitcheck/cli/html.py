"""``--html FILE``: one self-contained page, where the extra ``html`` is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fitcheck.errors import MissingExtraError, extra

if TYPE_CHECKING:
    from fitcheck.records.schema import AnyRecord
    from fitcheck.verdict.report import Report


def _single() -> Any:
    try:
        from fitcheck.pages import single
    except ImportError as error:
        raise MissingExtraError(f"--html needs {error.name}; {extra('html')}.") from error
    return single


def write_report(report: Report, path: Path, command: str) -> None:
    """The page of a check. Raises InputError when the extra is missing or the file cannot be written."""
    _single().write(report, path, command)


def write_records(records: Sequence[AnyRecord], path: Path) -> None:
    """The page of a bench run's records. Raises InputError as ``write_report`` does."""
    _single().write_records(records, path)
