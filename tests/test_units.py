"""What is typed is read in the unit of what it is: files and disks in powers of ten, memory in powers of two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fitcheck
from fitcheck.cli.options import Question, machine_of
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.units import GB, GIB, format_gb, format_gib, parse_disk, parse_memory


def test_a_download_of_13_88_gb_does_not_fit_on_13_gb() -> None:
    free = machine_of(Question(model="m", gpu=["RTX 4090"], disk="13GB")).disk_free
    assert free == 13 * 10**9
    cell = fitcheck.check("sensenova-u1-8b-mot", "RTX 4090", tier="Q4_K_S", mode="low", disk=free).best
    assert (cell.verdict, cell.judgement.binding) == (Verdict.NO, Constraint.DISK)
    assert cell.flip is not None
    assert cell.flip.change == "1 GB more free disk"


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("13GB", 13 * GB),
        ("13", 13 * GB),
        ("13 gb", 13 * GB),
        ("1TB", 10**12),
        ("500MB", 5 * 10**8),
        ("13GiB", 13 * GIB),
    ],
)
def test_disk_is_decimal_unless_it_says_binary(written: str, amount: int) -> None:
    assert parse_disk(written, "--disk") == amount


@pytest.mark.parametrize(("written", "amount"), [("13GB", 13 * GIB), ("13", 13 * GIB), ("13GiB", 13 * GIB)])
def test_memory_is_binary_however_it_is_written(written: str, amount: int) -> None:
    assert parse_memory(written, "--ram") == amount


@given(st.integers(1, 10**6))
def test_an_amount_reads_back_as_it_is_printed(amount: int) -> None:
    assert parse_disk(format_gb(amount * 10**7), "--disk") == amount * 10**7
    assert parse_memory(format_gib(amount * GIB, 0), "--ram") == amount * GIB
