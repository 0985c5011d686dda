"""``fitcheck cards``: what is listed, what a filter finds, JSON with sources, plain text on pipes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fitcheck.cli import buying, cards
from fitcheck.errors import InputError
from fitcheck.hardware.catalog import all_cards, common_cards, find_card


def run(*arguments: str) -> Any:
    app = typer.Typer()
    cards.register(app)
    app.command(hidden=True)(lambda: None)
    result = CliRunner().invoke(app, ["cards", *arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def names(result: Any) -> list[str]:
    return [line.split("\t")[0] for line in result.stdout.splitlines()[1:]]


def fitting(result: Any) -> list[list[str]]:
    """The rows of both tables, with a price and without."""
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    return [row for row in rows if len(row) == len(buying.COLUMNS) and row[0] != "card"]


def fits(result: Any) -> list[str]:
    return [row[0] for row in fitting(result)]


def test_the_usual_choices_come_without_a_filter() -> None:
    result = run()
    assert names(result) == [card.name for card in common_cards()]
    assert f"{len(all_cards()):,} cards are known" in result.stderr
    assert "known" not in result.stdout


def test_words_of_a_filter_need_no_quotes() -> None:
    assert names(run("rtx", "40", "laptop")) == names(run("rtx 40 laptop"))


def test_models_behind_the_first_are_models() -> None:
    both = run("--under", "600", "--fits", "qwen3-8b", "sdxl")
    assert both.stdout == run("--under", "600", "--fits", "qwen3-8b", "--fits", "sdxl").stdout
    assert fits(both)


def test_too_slow_stands_apart() -> None:
    result = run("--fits", "qwen3.6-27b", "--min-speed", "20", "--under", "700")
    assert all(float(row[4].split()[2]) >= 20 for row in fitting(result) if row[4] != "unknown")
    assert "GeForce RTX 4060 (299 USD)" in next(
        line for line in result.stdout.splitlines() if line.startswith("too slow to use: ")
    )
    with pytest.raises(InputError, match="--min-speed goes with --fits"):
        run("--min-speed", "20")


def test_the_cheapest_card_that_runs_a_model() -> None:
    result = run("--fits", "sensenova-u1-8b-mot", "--under", "600", "--ram", "64GB")
    assert tuple(result.stdout.splitlines()[0].split("\t")) == buying.COLUMNS
    rows = [row for row in fitting(result) if row[1] != "unknown"]
    prices = [float(row[1].replace(",", "")) for row in rows]
    assert len(prices) > 5
    assert prices == sorted(prices)
    assert prices[-1] <= 600
    assert {row[2] for row in rows} == {"fits"}


def test_no_card_is_dropped() -> None:
    data = json.loads(run("--fits", "sensenova-u1-8b-mot", "--under", "300", "--json").stdout)
    groups = ("fit", "unpriced", "unknown", "dearer", "lacking")
    assert sorted(one["card"] for name in groups for one in data[name]) == sorted(card.slug for card in common_cards())
    assert {one["card"] for one in data["unknown"]} >= {"radeon-rx-9070-xt", "arc-b580"}
    assert all(one["price_usd"] is None for one in data["unpriced"])
    said = run("--fits", "sensenova-u1-8b-mot", "--under", "300").stdout
    assert "price unknown" in said
    assert "verdict unknown: " in said
    assert "Radeon RX 9070 XT (599 USD)" in said


def test_what_fits_comes_before_what_is_tight_and_cheaper() -> None:
    rows = [row for row in fitting(run("--fits", "qwen-image")) if row[1] != "unknown"]
    verdicts = [row[2] for row in rows]
    assert verdicts == sorted(verdicts)
    assert set(verdicts) == {"fits", "tight"}
    dear = min(float(row[1].replace(",", "")) for row in rows if row[2] == "fits")
    assert dear > min(float(row[1].replace(",", "")) for row in rows if row[2] == "tight")


def test_a_price_at_the_limit_is_within_it() -> None:
    assert "GeForce RTX 4070" in fits(run("--fits", "sensenova-u1-8b-mot", "--under", "599"))
    assert "GeForce RTX 4070" not in fits(run("--fits", "sensenova-u1-8b-mot", "--under", "598.99"))


def test_prices_of_a_person_stand_in(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("card,usd\nRTX 4070 SUPER,555\n", "utf-8")
    found = {row[0]: row[1] for row in fitting(run("--fits", "sensenova-u1-8b-mot", "--prices", str(path)))}
    assert found["GeForce RTX 4070 SUPER"] == "555"
    assert found["GeForce RTX 4080 SUPER"] == "999"
    assert found["RTX A6000"] == "unknown"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("RTX 4070,555,yesterday", "line 2: 'yesterday' is not a date; write it like 2026-11-01"),
        ("RTX 4070,555,2026-02-30", "'2026-02-30' is not a date"),
        ("RTX 4070,many,", "line 2: 'many' is not a price"),
    ],
)
def test_a_line_of_prices_that_cannot_be_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"card,usd,date\n{line}\n", "utf-8")
    with pytest.raises(InputError, match=reason):
        run("4070", "--prices", str(path))


def test_prices_as_spreadsheets_write_them(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text('card,usd,date\nRTX 4070,"$1,050.50", 2026-11-01 \nRTX 4060,300,\n', "utf-8")
    found = {
        row["slug"]: row["launch_price_usd"] for row in json.loads(run("--prices", str(path), "--json").stdout)["cards"]
    }
    assert (found["rtx-4070"]["value"], found["rtx-4070"]["read"]) == (1050.5, "2026-11-01")
    assert (found["rtx-4060"]["value"], found["rtx-4060"]["read"]) == (300, "")


def test_several_models_must_all_run() -> None:
    one, both = (
        set(fits(run("--ram", "16GB", *(word for name in models for word in ("--fits", name)))))
        for models in (("qwen3-8b",), ("qwen3-8b", "sensenova-u1-8b-mot"))
    )
    assert both < one
    assert "GeForce RTX 3060 12 GB" in one - both


def test_an_empty_answer_says_the_nearest_way() -> None:
    said = run("--fits", "sensenova-u1-8b-mot", "--ram", "16GB", "--under", "400").stdout
    assert "the cheapest that runs it is " in said
    assert "With 32 GB of system memory" in said


def test_the_nearest_card_is_one_of_use_where_any_is() -> None:
    """A 70B on the cheapest card that holds it writes two tokens a second: the next card up is no nearer then."""
    nearest = run("--fits", "qwen3-32b", "--under", "200").stdout
    cheapest = fits(run("--fits", "qwen3-32b", "--under", "9999"))[0]
    assert f"the cheapest that runs it is {cheapest} (" in nearest
    assert ", too slow to use." not in nearest
    slow = run("--fits", "llama-3.3-70b", "--under", "300").stdout
    assert "the cheapest that runs it is GeForce RTX 3060 12 GB (329 USD), too slow to use." in slow


@pytest.mark.parametrize("price", ["260", "260USD", "$260", " 260.00 usd "])
def test_a_price_is_typed_as_for_a_plan(price: str) -> None:
    assert run("--under", price).stdout == run("--under", "260").stdout


def test_system_memory_counts_where_cards_are_compared() -> None:
    little = fits(run("--fits", "sensenova-u1-8b-mot", "--ram", "16GB"))
    assert set(little) < set(fits(run("--fits", "sensenova-u1-8b-mot", "--ram", "64GB")))
    assert "GeForce RTX 4070" not in little
    assert fits(run("rtx 5070 ti desktop", "--fits", "sensenova-u1-8b-mot")) == ["GeForce RTX 5070 Ti"]


def test_a_price_alone_lists_what_it_buys() -> None:
    found = run("--under", "260")
    assert names(found)[:2] == ["GeForce RTX 3050 8 GB", "GeForce RTX 5050"]
    unpriced = sum(line.split("\t")[5] == "?" for line in found.stdout.splitlines()[1:])
    assert f"Nobody has recorded a price of the last {unpriced};" in found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--fits", "nothing"),
        ("--fits", "sensenova-u1-8b-mot", "--under", "nan"),
        ("--fits", "sensenova-u1-8b-mot", "--under", "0"),
        ("--fits", "sensenova-u1-8b-mot", "--ram", "much"),
        ("--under", "0"),
        ("--ram", "32GB"),
    ],
)
def test_mistakes_about_buying_are_one_sentence(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"--|model"):
        run(*words)


def test_all_of_them() -> None:
    result = run("--all")
    assert len(names(result)) == len(all_cards()) > 2000
    assert result.stderr == ""


def test_a_line_is_tab_separated_on_a_pipe() -> None:
    lines = run("rtx 4070").stdout.splitlines()
    assert tuple(lines[0].split("\t")) == cards.COLUMNS
    assert all(line.count("\t") == len(cards.COLUMNS) - 1 for line in lines)
    row = next(line.split("\t") for line in lines if line.startswith("GeForce RTX 4070\t"))
    assert row == ["GeForce RTX 4070", "rtx-4070", "12", "504", "58.29", "599", "2023-04-12"]


@pytest.mark.parametrize(
    ("text", "expected", "unexpected"),
    [
        ("4070 ti", "GeForce RTX 4070 Ti SUPER", "GeForce RTX 4070"),
        ("RTX 4070 LAPTOP", "GeForce RTX 4070 Mobile", "GeForce RTX 4070"),
        ("nvidia blackwell datacenter", "B200", "GeForce RTX 5090"),
        ("ad104", "GeForce RTX 4070", "GeForce RTX 4090"),
        ("apple m4", "Apple M4 Max", "Apple M3"),
    ],
)
def test_every_word_of_a_filter_must_occur(text: str, expected: str, unexpected: str) -> None:
    found = names(run(text))
    assert expected in found
    assert unexpected not in found


def test_unknown_values_are_question_marks() -> None:
    row = next(line for line in run("rtx 4090 d").stdout.splitlines() if line.startswith("GeForce RTX 4090 D\t"))
    assert row.split("\t")[5] == "?"


def test_shared_memory_is_called_that() -> None:
    assert cards.row(find_card("Apple M4 Max"))[2] == "shared"
    assert cards.row(find_card("GB10"))[2] == "128"


@pytest.mark.parametrize("text", ["rtx 4711", "zzz", "[bold]", "x" * 1000, "\x00"])
def test_a_filter_that_finds_nothing_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match="FILTER: no card matches") as raised:
        run(text)
    assert len(str(raised.value)) < 300


def test_json_has_a_source_beside_each_rate_and_price() -> None:
    document = json.loads(run("rtx-4070", "--json").stdout)
    assert document["schema"] == cards.SCHEMA
    card = next(card for card in document["cards"] if card["slug"] == "rtx-4070")
    assert card["memory"] == 12 * 2**30
    assert card["compute_capability"] == "8.9"
    assert card["tensor_flops"]["value"] == pytest.approx(58.3e12, rel=0.01)
    assert "derived: 184 tensor cores" in card["tensor_flops"]["source"]
    assert card["launch_price_usd"]["value"] == 599
    assert card["launch_price_usd"]["read"].startswith("2026-")


def test_json_of_every_card_has_the_same_keys() -> None:
    document = json.loads(run("--all", "--json").stdout)
    assert len({tuple(card) for card in document["cards"]}) == 1
    assert len(document["cards"]) == len(all_cards())


@pytest.mark.parametrize(("columns", "slug"), [(80, False), (160, True)])
def test_a_terminal_gets_a_table_with_whole_names(
    columns: int, slug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    cards._table([find_card("RTX 4070 Ti Super"), find_card("Apple M4 Max")])
    printed = capsys.readouterr().out
    assert "GeForce RTX 4070 Ti SUPER" in printed
    assert "2024-01-08" in printed
    assert "88.2" in printed
    assert ("rtx-4070-ti-super" in printed) == slug
    assert "\t" not in printed
