"""How ``scripts/token_widths.py`` widens what few cards, machines or makers tell."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import t as student

from fitcheck.runtimes.llamacpp.token_rows import BenchRow, bench_rows

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("token_widths")


def one_row_on(*cards: str) -> list[BenchRow]:
    rows = bench_rows()[0]
    return [next(row for row in rows if row.card == card and row.placement == "card") for card in cards]


def test_a_maker_without_rows_is_as_wide_as_one_more_of_those_that_ran(widths: ModuleType) -> None:
    rows = one_row_on("RTX 3090", "Apple M2 Ultra", "RX 7900 XTX")
    half = widths.new_maker(rows, np.array([0.3, 0.4, 0.5]))
    assert half == pytest.approx(student.ppf(0.95, 3) * math.sqrt(0.5 / 3))
    assert half > widths.new_maker([*rows, *rows], np.array([0.3, 0.4, 0.5, 0.3, 0.4, 0.1]))


def test_a_new_generation_is_no_narrower_than_is_usual_for_the_worst(widths: ModuleType) -> None:
    rows = one_row_on("RTX 3090", "RTX 4080 SUPER", "Radeon 8060S")
    pools = sorted({widths.pool_of(row) for row in rows})
    found = widths.new_generations(rows, np.array([0.1, 0.2, 0.6]), pools)
    assert found["NVIDIA CUDA"] == pytest.approx((0.2 + 0.6) / 2)
    assert max(found.values()) == pytest.approx(0.6)


def test_experts_are_off_no_less_than_dense_rows_and_as_much_as_their_own_cards_say(widths: ModuleType) -> None:
    dense = {"whole": 0.2, "pools": {"calm": 0.1, "wild": 0.5, "own": 0.1}, "generations": {"calm": 0.3, "wild": 0.6}}
    mixture = {"whole": 0.24, "usual": {("own", "a card"): 0.4}, "generations": {"calm": 0.4}}
    found = widths.mixture_units(mixture, dense)
    assert found["pools"] == pytest.approx({"calm": 0.24, "wild": 0.5, "own": (0.4 + 3 * 0.24) / 4})
    assert found["generations"] == {"calm": 0.4, "wild": 0.6}


def test_few_machines_lean_on_what_is_usual_for_the_phase(widths: ModuleType) -> None:
    rows = one_row_on("RTX 3090", "Apple M2 Ultra")
    errors = np.array([0.4, 0.6])
    out = widths.LeftOut(rows, np.zeros((2, 2)), errors, errors, errors, errors)
    alone = widths.regime_units(out, [0, 1], None)
    assert alone["whole"] == pytest.approx(0.5)
    leaning = widths.regime_units(out, [0, 1], {"whole": 0.1})
    assert leaning["whole"] == pytest.approx((0.4 + 0.6 + 3 * 0.1) / 5)
    assert leaning["pools"]["NVIDIA CUDA"] == pytest.approx((0.4 + 3 * leaning["whole"]) / 4)


def test_cards_that_kernels_are_little_tuned_for_do_not_widen_the_others(widths: ModuleType) -> None:
    near, apart = one_row_on("RTX 3090", "Apple M2 Ultra", "RX 7900 XTX"), one_row_on("GTX 1070 Ti", "Arc B580")
    far = widths.tails([*((row, 2.0) for row in near), *((row, 7.0) for row in apart)], near[0].regime.split(",")[0])
    assert (far.settled, far.unsettled, far.both) == (2.0, 7.0, 7.0)
    assert (far.of("NVIDIA CUDA"), far.of("NVIDIA CUDA before Turing"), far.of("Intel Vulkan")) == (2.0, 7.0, 7.0)
    alike = widths.tails([*((row, 2.0) for row in near), *((row, 1.0) for row in apart)], near[0].regime.split(",")[0])
    assert (alike.settled, alike.unsettled) == (2.0, 2.0)


def test_a_row_whose_host_nobody_described_says_little_about_what_is_read_of_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("fit_tokens")
    rows = [row for row in script.usable(bench_rows()[0]) if not row.prompt]
    sure = dict(zip([row.index for row in rows], script.sureness(rows, script.before_rows(rows)), strict=True))
    assert {sure[row.index] for row in rows if row.placement == "card"} == {1.0}
    told = [sure[row.index] for row in rows if row.placement == "host" and row.host_bandwidth and row.threads]
    assert told
    assert min(told) == 1.0
    untold = [sure[row.index] for row in rows if row.placement == "host" and not row.host_bandwidth]
    assert untold
    assert max(untold) < 0.5
