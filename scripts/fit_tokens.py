"""Fit the constants of llama.cpp's tokens per second to the published rows, and say how well they hold.

Constants are positive and fitted by their logarithm with a prior each: least squares on log(seconds), robust against
outliers (Huber), rows of one card weighed down so that no card decides alone, and rows with a host that nobody
described by how much that host may be worth. Deviations of generations and backends
have a prior of no deviation, so what few rows speak for stays near its group. ``--report`` leaves out one card after
the other (then every vendor, generation and backend) and predicts its rows from the rest. The constants and their
priors are in ``token_parameters.py``, the half-widths of intervals in ``token_widths.py``.

    python scripts/fit_tokens.py            writes fitcheck/runtimes/llamacpp/data/llamacpp_tokens.json
    python scripts/fit_tokens.py --report   prints the leave-one-out table of what is written
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from token_left_out import (
    LeftOut,
    generation_key,
    left_out_rates,
    machine_of,
    model_of,
    undescribed_hosts,
    vendor_of,
)
from token_parameters import ASSUMED, STAGES, Stage
from token_widths import COVERED, Line, ignorance, models_report, report, tables

from fitcheck.runtimes.llamacpp import token_predict, token_rates
from fitcheck.runtimes.llamacpp.token_rows import BenchRow, bench_rows

TARGET = Path(token_rates.__file__).parent / "data" / "llamacpp_tokens.json"
HUBER = 0.15  # residuals beyond this, in log, count linearly
STEP = 1e-4
NOISE = 0.1  # what a row is usually off in log, with everything known
WITHIN = 1.645  # standard deviations of a normal distribution to which 90 % reach: the ends of what hosts may be
MANY = 0.1  # share of rows left out from which slopes are taken anew


def residuals(rows: Sequence[BenchRow], constants: dict[str, float]) -> np.ndarray:
    """log(predicted seconds / measured seconds) of each row."""
    return np.array([math.log(token_predict.seconds_of(row, constants) * row.measured) for row in rows])


def sureness(rows: Sequence[BenchRow], constants: dict[str, float]) -> np.ndarray:
    """What each row is worth of one with everything known: the variance of noise in that of noise and of hosts, where
    nobody said which it was. With the assumed memory its seconds say little about the share that is read of it."""
    unknown = undescribed_hosts(rows, constants).max(axis=1) / WITHIN
    unknown[[row.placement == "card" for row in rows]] = 0.0
    return np.asarray(NOISE**2 / (NOISE**2 + unknown**2))


def weights(rows: Sequence[BenchRow], sure: np.ndarray) -> np.ndarray:
    """Each card's rows together weigh the square root of their number, times how ``sure`` they are."""
    count: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        count[row.card, row.backend] += 1
    return np.array([count[row.card, row.backend] ** -0.5 for row in rows] * sure)


@dataclass(frozen=True)
class Prior:
    """What is believed of a stage's parameters: ``mean`` of their logarithms and the ``precision`` matrix, which ties
    those with a ``near`` to it."""

    names: list[str]
    mean: np.ndarray
    precision: np.ndarray


def prior_of(stage: Stage) -> Prior:
    """The prior of a stage's parameters."""
    names = [one.name for one in stage.parameters]
    at = {name: i for i, name in enumerate(names)}
    ties = np.eye(len(names))
    for i, one in enumerate(stage.parameters):
        if one.near is not None:
            ties[i, at[one.near]] = -1.0
    sd = np.array([one.sd for one in stage.parameters])
    return Prior(names, np.log([one.prior for one in stage.parameters]), ties.T @ (ties / sd[:, None] ** 2))


def fit(
    rows: Sequence[BenchRow], stage: Stage, base: dict[str, float], sure: np.ndarray, steps: int = 12
) -> tuple[dict[str, float], np.ndarray]:
    """Constants with the stage's fitted, and the Jacobian at the end."""
    prior = prior_of(stage)
    known = zip(prior.names, prior.mean, strict=True)
    at = np.array([math.log(base.get(name, math.exp(value))) for name, value in known])
    weight = weights(rows, sure)
    jacobian = np.zeros((len(rows), len(prior.names)))
    for step in range(steps):
        constants = base | dict(zip(prior.names, np.exp(at).tolist(), strict=True))
        error = residuals(rows, constants)
        jacobian = slopes(rows, prior.names, constants, error)
        at, change = solved(jacobian, error, at, prior, weight)
        if change < 1e-3 and step > 3:
            break
    return base | dict(zip(prior.names, np.exp(at).tolist(), strict=True)), jacobian


class Watched(dict[str, float]):
    """Constants that note which of them were asked for."""

    def __init__(self, constants: dict[str, float]) -> None:
        super().__init__(constants)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: float) -> float:  # type: ignore[override]
        self.asked.add(name)
        return super().get(name, default)


def slopes(
    rows: Sequence[BenchRow], names: Sequence[str], constants: dict[str, float], error: np.ndarray
) -> np.ndarray:
    """Derivatives of residuals by the logarithm of each constant; a row is asked only about those that it reads."""
    found = np.zeros((len(rows), len(names)))
    column = {name: i for i, name in enumerate(names)}
    moved = {name: constants | {name: constants[name] * math.exp(STEP)} for name in names}
    for i, row in enumerate(rows):
        watched = Watched(constants)
        token_predict.seconds_of(row, watched)
        for name in watched.asked & column.keys():
            other = math.log(token_predict.seconds_of(row, moved[name]) * row.measured)
            found[i, column[name]] = (other - error[i]) / STEP
    return found


def solved(
    jacobian: np.ndarray, error: np.ndarray, at: np.ndarray, prior: Prior, weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """One damped Gauss-Newton step with Huber weights; residuals count in units of ``NOISE``."""
    robust = weight * np.minimum(1.0, HUBER / np.maximum(np.abs(error), 1e-9)) / NOISE**2
    normal = jacobian.T @ (jacobian * robust[:, None]) + prior.precision
    right = -(jacobian.T @ (robust * error)) - prior.precision @ (at - prior.mean)
    step = np.clip(np.linalg.solve(normal, right), -0.5, 0.5)
    return at + step, float(np.abs(step).max())


def left_out(
    rows: Sequence[BenchRow], stage: Stage, constants: dict[str, float], jacobian: np.ndarray, sure: np.ndarray,
    out: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Residuals of the rows ``out`` when the constants come from the others: Gauss-Newton from the full fit, with
    slopes taken anew where many rows are gone."""
    prior = prior_of(stage)
    kept = [row for row, gone in zip(rows, out, strict=True) if not gone]
    gone = [row for row, leave in zip(rows, out, strict=True) if leave]
    weight = weights(kept, sure[~out])
    at = np.log([constants[name] for name in prior.names])
    current, slope = constants, jacobian[~out]
    many = len(gone) > MANY * len(rows)
    for _ in range(6 if many else 3):
        error = residuals(kept, current)
        if many:
            slope = slopes(kept, prior.names, current, error)
        at, _change = solved(slope, error, at, prior, weight)
        current = constants | dict(zip(prior.names, np.exp(at).tolist(), strict=True))
    return residuals(gone, current)


def every_fold(
    rows: Sequence[BenchRow], stage: Stage, constants: dict[str, float], jacobian: np.ndarray, sure: np.ndarray,
    key: Callable[[BenchRow], str],
) -> np.ndarray:  # fmt: skip
    """Residuals with all rows that share ``key`` left out at a time."""
    found = np.full(len(rows), np.nan)
    for name in sorted({key(row) for row in rows}):
        out = np.array([key(row) == name for row in rows])
        found[out] = left_out(rows, stage, constants, jacobian, sure, out)
    return found


def fitted_everything() -> tuple[dict[str, float], dict[str, Stage], dict[str, LeftOut], list[BenchRow]]:
    rows = usable(bench_rows()[0])
    constants = before_rows(rows)
    stages, outs = {}, {}
    for make in STAGES:
        stage = make(rows)
        mine = [row for row in rows if stage.wants(row)]
        sure = sureness(mine, before_rows(rows))
        constants, jacobian = fit(mine, stage, constants, sure)
        folds = [
            every_fold(mine, stage, constants, jacobian, sure, key)
            for key in (machine_of, generation_key, vendor_of, model_of)
        ]
        stages[stage.name], outs[stage.name] = stage, LeftOut(mine, undescribed_hosts(mine, constants), *folds)
    return constants, stages, outs, rows


def before_rows(rows: Sequence[BenchRow]) -> dict[str, float]:
    """Every constant as it is believed before any row."""
    found: dict[str, float] = {}
    for make in STAGES:
        for one in make(rows).parameters:
            found.setdefault(one.name, one.prior)
    return found


def usable(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """Rows whose card has the rates that the model needs."""
    return [row for row in rows if not row.gpus or token_rates.peak_of(row.gpus[0].card) is not None]


def document(constants: dict[str, float], stages: dict[str, Stage], outs: dict[str, LeftOut]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, stage in stages.items():
        out = outs[name]
        cards = len({row.card for row in out.rows})
        counts = touched(out.rows, stage, constants)
        for one in stage.parameters:
            rows, on = counts[one.name]
            entries[one.name] = {
                "value": float(f"{constants[one.name]:.6g}"), "meaning": one.meaning, "prior": one.prior,
                "prior_sd": round(one.sd, 3), "stage": name, "rows": rows, "cards": on,
            }  # fmt: skip
        errors = out.card
        entries[f"_{name}"] = {
            "value": 1.0,
            "meaning": "no constant: residuals of the stage, log(predicted / measured seconds), cards left out",
            "rows": len(errors), "cards": cards, "median": round(float(np.median(errors)), 4),
            "median_absolute": round(float(np.median(np.abs(errors))), 4),
        }  # fmt: skip
    residual = {name: entries.pop(f"_{name}") for name in stages}
    for one in residual.values():
        one.pop("value")
    table, alone = tables(outs)
    return {
        "version": 6,
        "date": "2026-11-28",
        "written_by": "scripts/fit_tokens.py from fitcheck/runtimes/llamacpp/data/llama_bench_rows.csv",
        "constants": entries,
        "residuals": residual,
        "spread": table | {"meaning": f"half-width of log(rate) that holds {COVERED:.0%} of rows of cards left out"},
        "left_out": left_out_rates(outs, alone),
        **ASSUMED,
    }


def touched(rows: Sequence[BenchRow], stage: Stage, constants: dict[str, float]) -> dict[str, tuple[int, int]]:
    """(rows, cards) that a constant changes at all: those that it was fitted on."""
    names = [one.name for one in stage.parameters]
    slope = slopes(rows, names, constants, residuals(rows, constants))
    found = {}
    for column, name in enumerate(names):
        moved = [row for row, value in zip(rows, slope[:, column], strict=True) if abs(value) > 1e-3]
        found[name] = len(moved), len({row.card for row in moved})
    return found


def print_report(
    constants: dict[str, float], stages: dict[str, Stage], outs: dict[str, LeftOut], rows: Sequence[BenchRow]
) -> None:
    """The tables of rows that are left out card by card, model by model, source by source and by maker."""
    columns = "regime, rows, cards, median error, inside, median width high/low, error and width of the median card"
    print(f"{len(rows)} rows. Each card left out: {columns}")
    print_lines(report(outs))
    print(f"\nEach model left out: {columns}")
    print_lines(models_report(outs, {name: out.model for name, out in outs.items()}))
    print(f"\nEach source left out: {columns}")
    by_source = {}
    for name, out in outs.items():
        jacobian = slopes(out.rows, prior_of(stages[name]).names, constants, residuals(out.rows, constants))
        sure = sureness(out.rows, before_rows(rows))
        by_source[name] = every_fold(out.rows, stages[name], constants, jacobian, sure, lambda row: row.source)
    print_lines(models_report(outs, by_source))
    print("\nAll of it left out: rows, inside, median width")
    for name, count, inside, width in ignorance(outs):
        print(f"{name:45s} {count:4d}  {inside:6.1%}  {width:5.2f}")


def print_lines(lines: Sequence[Line]) -> None:
    for name, count, cards, error, inside, width, card_error, card_width in lines:
        rows = f"{name:45s} {count:4d} {cards:3d}  {error:6.1%}  {inside:6.1%}  {width:5.2f}"
        print(f"{rows}   {card_error:6.1%}  {card_width:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--report", action="store_true", help="print the leave-one-out tables, write nothing")
    asked = parser.parse_args()
    constants, stages, outs, rows = fitted_everything()
    if asked.report:
        print_report(constants, stages, outs, rows)
        return
    TARGET.write_text(json.dumps(document(constants, stages, outs), ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(f"{TARGET}: {sum(len(stage.parameters) for stage in stages.values())} constants from {len(rows)} rows")


if __name__ == "__main__":
    main()
