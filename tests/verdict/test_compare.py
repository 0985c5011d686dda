"""Compared machines say what check says of each, with prices that are known or said to be unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

import fitcheck
from fitcheck.errors import FileError, OptionError
from fitcheck.hardware.asked import asked_machine
from fitcheck.hardware.prices import parse_dollars, read_prices
from fitcheck.models.find import find_model
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.compare import Compared, compare

CARDS = ("RTX 4070", "RX 9070 XT", "2x RTX 3090")


def compared(prices: Path | None = None) -> list[Compared]:
    machines = [asked_machine(name, ram=32 * GIB) for name in CARDS]
    models = [find_model("sensenova-u1-8b-mot"), find_model("gpt-oss-20b")]
    return compare(models, machines, Wanted(), prices=None if prices is None else read_prices(prices))


def test_each_is_what_check_says() -> None:
    for one, (slug, card) in zip(
        compared(), [(slug, card) for slug in ("sensenova-u1-8b-mot", "gpt-oss-20b") for card in CARDS], strict=True
    ):
        same = fitcheck.check(slug, card, ram=32 * GIB)
        assert [(cell.verdict, cell.tier.name, cell.placement) for cell in one.report.cells] == [
            (cell.verdict, cell.tier.name, cell.placement) for cell in same.cells
        ]
        assert one.to_json()["verdict"] == str(same.best.verdict)


def test_a_file_of_prices_stands_in_and_two_cards_cost_twice(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("card,usd,date\nRTX 3090,$700,2026-11-01\n", "utf-8")
    found = {one.report.place: one for one in compared(path)}
    assert found["2 × GeForce RTX 3090"].price == 1400
    launch = {one.report.place: one.price for one in compared()}
    assert found["GeForce RTX 4070"].price == launch["GeForce RTX 4070"]
    assert launch["2 × GeForce RTX 3090"] != 1400


def test_what_does_not_surely_run_has_no_price_for_its_speed() -> None:
    for one in compared():
        runs = one.report.best.verdict.rank < 2
        assert (one.price_per_hourly is None) or runs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("card,usd\nRTX 3090,cheap\n", "line 2: 'cheap' is not a price"),
        ("card,usd\nRTX 3090,-1\n", "out of range"),
        ("card,usd\nRTX 99999,1\n", "line 2: no card is called"),
        ("name,price\nx,1\n", "lacks a head"),
    ],
)
def test_a_bad_list_of_prices_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(FileError, match=says):
        read_prices(path)


@pytest.mark.parametrize(("text", "value"), [("700USD", 700), ("$1,200", 1200), ("700 usd", 700), ("99.5", 99.5)])
def test_dollars_as_people_write_them(text: str, value: float) -> None:
    assert parse_dollars(text, "--budget") == value


@pytest.mark.parametrize("text", ["", "nan", "-3", "700EUR", "1e99"])
def test_no_amount(text: str) -> None:
    with pytest.raises(OptionError, match="--budget"):
        parse_dollars(text, "--budget")


def test_a_card_that_stays_idle_costs_nothing() -> None:
    """A runtime that does not split a model needs one of two cards; one that does needs both."""
    one, both = (found for found in compared() if len(found.report.machine.gpus) == 2)
    assert (one.report.model.slug, one.idle, both.idle) == ("sensenova-u1-8b-mot", 1, 0)
    assert one.price is not None
    assert one.watts is not None
    assert (both.price, both.watts) == (2 * one.price, 2 * one.watts)
