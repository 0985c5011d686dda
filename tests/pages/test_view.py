"""What a page chooses to show: the cell it speaks about, what to try next, the colour of a bar, the length of a bar."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fitcheck.pages import neighbours, view
from fitcheck.pages.charts.gauge import gauge
from fitcheck.pages.formats import write
from fitcheck.records import store

from .records import passed

GIB = 1 << 30


def cell(
    tier: str, mode: str, required: int, *, disk: int = 20, verdict: str = "fits", **changes: Any
) -> dict[str, Any]:
    made = {
        "tier": tier,
        "mode": mode,
        "verdict": verdict,
        "published": True,
        "disk": disk,
        "required": {"best": required},
        "binding": "VRAM",
        "margins": {"VRAM": {"left": 1, "available": 10}},
    }
    return made | changes


def tried(*cells: dict[str, Any]) -> list[tuple[str, str]]:
    report = {"cells": list(cells)}
    return [(cells[index]["tier"], cells[index]["mode"]) for index in view.escalation(report)]


def test_what_to_try_next_needs_less_each_time() -> None:
    found = tried(
        cell("Q8_0", "full", 20),
        cell("Q8_0", "low", 4),
        cell("Q8_0", "balanced", 6),
        cell("Q4_K_S", "low", 3, disk=14),
        cell("Q4_K_S", "balanced", 5, disk=14),
        cell("Q6_K", "low", 3, disk=16, published=False),
        cell("BF16", "low", 2, disk=35),
    )
    assert found == [("Q8_0", "balanced"), ("Q8_0", "low"), ("Q4_K_S", "low")]


def test_nothing_is_left_to_try_below_the_leanest() -> None:
    assert tried(cell("Q4_K_S", "low", 3, disk=14), cell("Q4_K_S", "full", 15, disk=14), cell("Q8_0", "low", 2)) == []


def test_what_does_not_run_here_or_needs_no_less_is_not_advised() -> None:
    found = tried(
        cell("nf4", "model", 15),
        cell("nf4", "low", 9, verdict="no"),
        cell("Q2_K", "leaf", 11, disk=14),
        cell("Q3_K", "leaf", 11, disk=15),
        cell("Q4_0", "leaf", 10, disk=16, verdict="no"),
    )
    assert found == [("Q2_K", "leaf")]


def test_what_all_files_share_is_said_once() -> None:
    def tier(source: str, file: str | None = None) -> dict[str, Any]:
        return {"source": source, "repository": "org/model-GGUF", "file": file, "published": True}

    assert view.shared_origin([tier("its header"), tier("its header")]) == ("its header", "org/model-GGUF")
    assert view.shared_origin([tier("its header"), tier("its shape")]) == (None, "org/model-GGUF")
    assert view.shared_origin([tier("its header"), tier("its header", "a.gguf")]) == ("its header", None)


@pytest.mark.parametrize(
    ("verdict", "binding", "left", "worst", "expected"),
    [
        ("no", "host RAM", -1, -2, "no"),  # short as well, though another resource binds
        ("no", "host RAM", 2, 1, "fits"),
        ("tight", "host RAM", 1, -1, "tight"),  # short in the worst case, though another resource binds
        ("tight", "speed", 2, 1, "fits"),
        ("tight", "VRAM", 1, 1, "tight"),
        ("unknown", "runtime support", -1, -1, "unknown"),
    ],
)
def test_a_bar_has_the_colour_of_its_own_resource(
    verdict: str, binding: str, left: int, worst: int, expected: str
) -> None:
    margins = {"VRAM": {"left": left, "worst": worst, "available": 10}}
    assert view.bar(cell("a", "low", 3, verdict=verdict, binding=binding, margins=margins), "VRAM") == expected


def test_the_length_of_a_bar_is_its_share_and_the_limit_is_marked_where_it_is_passed() -> None:
    assert re.findall(r'd="M0 0H([\d.]+)V', gauge(5, 20, "fits")) == ["25"]
    assert "g-limit" not in gauge(5, 20, "fits")
    over = gauge(40, 20, "no")
    assert re.findall(r'd="M0 0H([\d.]+)V', over) == ["100"]
    assert re.findall(r'class="g-limit" d="M([\d.]+) ', over) == ["50"]
    assert gauge(5, None, "fits") == ""


def test_disk_is_decimal_and_memory_binary() -> None:
    assert write(20_000_000_000, "gb") == "20.0 GB"
    assert write(20 * GIB, "gib") == "20.0 GiB"
    assert write(32 * GIB, "ram") == "32 GB"
    assert write({"low": GIB, "high": 2 * GIB, "best": GIB}, "gib_span") == "1.0 – 2.0 GiB"
    assert [write(value, "amount") for value in (0.56264, 1069.4, 14214.3)] == ["0.5626", "1069", "14,214"]


def test_neighbours_stand_by_memory_and_then_from_slow_to_fast() -> None:
    def row(name: str, memory: int, best: float | None) -> dict[str, Any]:
        return {"card": name, "memory": memory, "seconds": None if best is None else {"best": best}}

    rows = [row("fast", 12, 5.0), row("large", 24, 9.0), row("slow", 12, 50.0), row("small", 8, 1.0)]
    rows.append(row("unknown", 12, None))
    found = [one["card"] for one in neighbours.neighbours(rows, each_side=3)["slow"]]
    assert found == ["small", "unknown", "slow", "fast", "large"]
    around = neighbours.neighbours(rows, each_side=1)
    assert [one["card"] for one in around["slow"]] == ["unknown", "slow", "fast"]
    assert [one["card"] for one in around["small"]] == ["small", "unknown", "slow"]
    assert "other" not in around


def test_neighbours_by_price_leave_out_unknown_prices_but_not_the_card_itself() -> None:
    rows: list[dict[str, Any]] = [
        {"card": name, "price": price} for name, price in (("a", 300), ("b", None), ("c", 500), ("d", 400))
    ]
    assert [one["card"] for one in neighbours.by_price(rows, "d")] == ["a", "d", "c"]
    assert [one["card"] for one in neighbours.by_price(rows, "b", each_side=1)] == ["b", "a", "d"]


def test_the_quicker_card_leads_by_a_tenth_or_is_not_named() -> None:
    def side(best: float | None, verdict: str = "fits", name: str = "seconds") -> dict[str, Any]:
        return {"verdict": verdict, "seconds": None, "pace": None, name: None if best is None else {"best": best}}

    assert neighbours.quicker({"cells": [side(10), side(12)]}) == 0
    assert neighbours.quicker({"cells": [side(10, name="pace"), side(12, name="pace")]}) == 1
    assert neighbours.quicker({"cells": [side(10), side(10.5)]}) is None
    assert neighbours.quicker({"cells": [side(10), side(20, "no")]}) is None
    assert neighbours.quicker({"cells": [side(10), side(None)]}) is None


def test_many_tiers_are_folded_to_those_whose_best_cell_leads() -> None:
    cells = [cell(f"T{tier}", mode, 5, disk=tier) for tier in range(12) for mode in ("full", "low")]
    report: dict[str, Any] = {"cells": cells, "modes": {"full": "", "low": ""}, "headline": 0}
    shown, folded = view.folded(report)
    assert [report["cells"][row[0]]["tier"] for row in shown] == [f"T{tier}" for tier in range(view.MOST_TIERS)]
    assert len(shown) + len(folded) == 12
    assert view.folded({**report, "cells": cells[:4]})[1] == []


def test_a_probe_has_no_time_of_an_image() -> None:
    document: dict[str, Any] = store.document_of(passed(seconds=21.5))
    assert view.record_facts(document)["seconds"] == 21.5
    document["protocol"] = {**document["protocol"], "steps_run": 2}
    assert view.record_facts(document)["seconds"] is None


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.25, "0.25 s"),
        (9.94, "9.9 s"),
        (119.4, "119 s"),
        (125.0, "2 min 05 s"),
        (7199.0, "119 min 59 s"),
        (7200.0, "2 h 00 min"),
    ],
)
def test_times_as_people_say_them(seconds: float, written: str) -> None:
    assert write(seconds, "seconds") == written


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [
        (0.25, 0.9, "0.25 – 0.9 s"),
        (9.2, 23.4, "9.2 – 23 s"),
        (100.0, 140.0, "100 – 140 s"),
        (119.0, 130.0, "2.0 – 2.2 min"),
        (40.0, 600.0, "0.67 – 10 min"),
        (7072.0, 48840.0, "2.0 – 14 h"),
        (20.0, 20.3, "20 s"),
    ],
)
def test_both_ends_of_a_time_are_in_one_unit(low: float, high: float, written: str) -> None:
    assert write({"low": low, "best": high, "high": high}, "seconds_span") == written


def test_cells_that_say_the_same_in_a_row_are_told_once() -> None:
    one, other = {"verdict": "fits", "tier": "Q8_0"}, {"verdict": "no", "tier": "Q4_0"}
    assert view.runs_of([one, dict(one), other, one]) == [1, None, 2, 3]
    assert view.runs_of([other, {**other, "tier": "Q8_0"}, {**one, "tier": "Q4_0"}, one]) == [1, None, 2, 3]
    assert view.runs_of([one]) == [0]
    assert view.between(16 * GIB, 64 * GIB) == "16 – 64 GB"
