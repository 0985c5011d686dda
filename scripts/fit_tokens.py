"""Fit the constants of llama.cpp's tokens per second to the published rows, and say how well they hold.

Constants are positive and fitted by their logarithm with a prior each: least squares on log(seconds), robust against
outliers (Huber), rows of one card weighed down so that no card decides alone. Deviations of generations and backends
have a prior of no deviation, so what few rows speak for stays near its group. ``--report`` leaves out one card after
the other (then every vendor, generation and backend) and predicts its rows from the rest.

    python scripts/fit_tokens.py            writes fitcheck/runtimes/llamacpp/data/llamacpp_tokens.json
    python scripts/fit_tokens.py --report   prints the leave-one-out table of what is written
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import t as student

from fitcheck.runtimes.llamacpp import token_predict, token_rates
from fitcheck.runtimes.llamacpp.token_rows import BenchRow, bench_rows
from fitcheck.runtimes.llamacpp.token_spread import half_width, pool_name

TARGET = Path(token_rates.__file__).parent / "data" / "llamacpp_tokens.json"
HUBER = 0.15  # residuals beyond this, in log, count linearly
DEVIATION = 0.20  # prior sd of a generation's deviation
STEP = 1e-4


@dataclass(frozen=True)
class Parameter:
    """``prior`` and ``sd`` (of its logarithm) are what is believed before any row."""

    name: str
    prior: float
    sd: float
    meaning: str


@dataclass
class Stage:
    """Parameters fitted together on the rows that ``wants`` takes."""

    name: str
    wants: Callable[[BenchRow], bool]
    parameters: list[Parameter] = field(default_factory=list)


def generation_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("generation", lambda row: not row.prompt and row.placement == "card")
    add = stage.parameters.append
    mine = [row for row in rows if stage.wants(row)]
    backends = sorted({row.backend for row in mine})
    add(Parameter("share/new", 0.72, 0.25, "share of the published bandwidth, backend without rows"))
    add(Parameter("layer/new", 2e-5, 0.7, "seconds of a layer's launches and small kernels, backend without rows"))
    add(Parameter("cache/new", 1.6, 0.4, "cost of a byte of cache against a byte of weights, backend without rows"))
    for backend in backends:
        add(
            Parameter(
                f"share/{backend}", 0.78, 0.15, "share of the published bandwidth that 4-bit weights are read with"
            )
        )
        add(Parameter(f"layer/{backend}", 2e-5, 0.6, "seconds of one layer's launches and small kernels"))
        add(Parameter(f"cache/{backend}", 1.5, 0.4, "cost of a byte of cache against a byte of 4-bit weights"))
        add(Parameter(f"read float/{backend}", 0.92, 0.15, "cost of a byte of 16-bit weights against 4-bit ones"))
    for kind, prior in (
        ("Q8_0", 0.92),
        ("Q6_K", 1.0),
        ("Q5", 1.0),
        ("Q3", 1.15),
        ("Q2", 1.25),
        ("IQ", 1.3),
        ("MXFP4", 1.0),
    ):
        add(Parameter(f"read {kind}", prior, 0.10, f"cost of a byte of {kind} against 4-bit ones"))
    add(Parameter("share of HBM", 0.75, 0.15, "what HBM's share is of GDDR's: more bytes have to be in flight"))
    add(
        Parameter(
            "share with error correction",
            0.95,
            0.05,
            "what the share of workstation and datacenter cards with GDDR is of others': their memory corrects "
            "errors in band",
        )
    )
    add(
        Parameter(
            "share of two dies", 0.92, 0.08, "what the share of Apple's Ultra chips, two dies joined, is of one die's"
        )
    )
    add(
        Parameter(
            "reading by power", 0.1, 0.6, "exponent of the share in the power a maker allows for each TFLOP/s of peak"
        )
    )
    add(
        Parameter(
            "expert read",
            1.25,
            0.25,
            "cost of a byte of a chosen expert against a dense one: small, scattered matrices",
        )
    )
    add(Parameter("age of reading", 1.05, 0.05, "cost of reading weights by year of the build's age before 2026"))
    add(Parameter("age of expert reading", 1.15, 0.1, "cost of reading experts by year of the build's age before 2026"))
    add(
        Parameter(
            "latent cache", 2.0, 0.5, "cost of a byte of a latent cache against a plain one: every head computes on it"
        )
    )
    add(Parameter("expert layer", 1.0, 0.5, "launches that routing and experts add to a layer, in layers"))
    add(Parameter("recurrent layer", 1.0, 0.5, "launches that a recurrent mixer adds, in layers"))
    add(Parameter("token", 2e-4, 0.5, "seconds a token costs besides: graph, sampling, synchronisation"))
    add(Parameter("served", 1.03, 0.015, "seconds of a token in a server's short chat against llama-bench"))
    add(Parameter("card boundary", 1.5e-4, 0.6, "seconds of passing a token from one card to the next"))
    for generation in generations(mine):
        add(Parameter(f"share of {generation}", 1.0, DEVIATION * 0.6, "deviation of the generation's share"))
    return stage


def prompt_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("prompt", lambda row: row.prompt and row.placement == "card")
    add = stage.parameters.append
    mine = [row for row in rows if stage.wants(row)]
    for backend in [*sorted({row.backend for row in mine}), "new"]:
        quant, half, attention = PROMPT_PRIORS.get(backend, (0.35, 0.35, 0.3))
        add(
            Parameter(
                f"prompt/{backend}", quant, 0.5, "share of the packed rate that products of quantized weights achieve"
            )
        )
        add(
            Parameter(
                f"half/{backend}", half, 0.5, "share of the half-precision rate that products of 16-bit weights achieve"
            )
        )
        add(Parameter(f"attention/{backend}", attention, 0.6, "rate of attention against products of 16-bit weights"))
        add(
            Parameter(
                f"expert prompt/{backend}", 1.2, 0.4, "cost of products of experts against dense ones, full tiles"
            )
        )
        add(Parameter(f"age/{backend}", 1.12, 0.15, "seconds of a prompt by year of the build's age, factor"))
    for kind, prior in (
        ("Q8_0", 1.0),
        ("Q6_K", 1.15),
        ("Q5", 1.1),
        ("Q3", 1.15),
        ("Q2", 1.25),
        ("IQ", 1.2),
        ("MXFP4", 1.0),
    ):
        add(Parameter(f"prompt {kind}", prior, 0.12, f"cost of a product of {kind} against 4-bit ones"))
    add(
        Parameter(
            "activation passes", 20.0, 0.5, "times a layer's activations (tokens × width, f32) cross the card's memory"
        )
    )
    add(
        Parameter("latent attention", 1.3, 0.4, "cost of attention on a latent cache against plain attention, per FLOP")
    )
    add(
        Parameter(
            "prompt by power", 0.4, 0.4, "exponent of the rate in the power a maker allows for each TFLOP/s of peak"
        )
    )
    add(Parameter("no flash attention", 1.5, 0.3, "cost of attention without flash attention"))
    add(
        Parameter(
            "before integer tiles", 1.25, 0.3, "seconds of quantized prompts on CUDA before June 2024 against later"
        )
    )
    add(
        Parameter(
            "overlap of cards",
            0.5,
            0.4,
            "part of the ideal speed-up that micro-batches in flight on several cards give",
        )
    )
    for generation in generations(mine):
        prior = GENERATION_PRIORS.get(generation, (1.0, ""))[0]
        add(Parameter(f"prompt of {generation}", prior, DEVIATION * 1.5, "deviation of the generation's rate"))
    return stage


# quantized, half, attention relative to half: order of magnitude from the makers' rates and what kernels usually reach
PROMPT_PRIORS = {
    "CUDA": (0.33, 0.45, 0.5),
    "ROCm": (0.35, 0.4, 0.3),
    "Vulkan": (0.3, 0.3, 0.3),
    "Metal": (0.65, 0.7, 0.4),
}
GENERATION_PRIORS = {
    "sm 6.0": (0.25, "no dp4a"), "sm 6.1": (0.5, "dp4a: half of a tile's rate"),
    "sm 7.0": (0.5, "no integer matrix units"),
}  # fmt: skip


def host_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("host generation", lambda row: not row.prompt and row.placement in ("host", "cpu"))
    add = stage.parameters.append
    add(Parameter("host share", 0.65, 0.2, "share of the host memory's rated bandwidth that CPU kernels read with"))
    add(Parameter("host expert read", 1.05, 0.05, "cost of a byte of a chosen expert against a dense one on the host"))
    add(Parameter("host layer", 1.5e-4, 0.7, "seconds of handing a layer to the host and back"))
    for kind, prior in (
        ("float", 25e9),
        ("Q8_0", 20e9),
        ("Q6_K", 20e9),
        ("Q5", 18e9),
        ("Q4", 20e9),
        ("Q3", 15e9),
        ("Q2", 15e9),
        ("IQ", 6e9),
        ("MXFP4", 15e9),
    ):
        add(Parameter(f"thread {kind}", prior, 0.4, f"B/s of {kind} weights that one thread decodes"))
    return stage


def host_prompt_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("host prompt", lambda row: row.prompt and row.placement in ("host", "cpu"))
    add = stage.parameters.append
    add(Parameter("host flops a thread", 6e10, 0.5, "FLOP/s of one thread in products of 4-bit weights"))
    for kind in ("float", "Q8_0", "Q6_K", "Q5", "Q3", "Q2", "IQ"):
        add(
            Parameter(
                f"host prompt {kind}",
                {"IQ": 2.5, "float": 1.5}.get(kind, 1.2),
                0.4,
                f"cost of a product of {kind} against 4-bit ones on the host",
            )
        )
    add(Parameter("carried", 1.0, 0.25, "seconds of carrying host weights over the link against the link's own rate"))
    return stage


STAGES = (generation_stage, prompt_stage, host_stage, host_prompt_stage)


def generations(rows: Iterable[BenchRow]) -> list[str]:
    return sorted({token_rates.generation_of(gpu.card) for row in rows for gpu in row.gpus})


def residuals(rows: Sequence[BenchRow], constants: dict[str, float]) -> np.ndarray:
    """log(predicted seconds / measured seconds) of each row."""
    return np.array([math.log(token_predict.seconds_of(row, constants) * row.measured) for row in rows])


def weights(rows: Sequence[BenchRow]) -> np.ndarray:
    """Each card's rows together weigh the square root of their number."""
    count: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        count[row.card, row.backend] += 1
    return np.array([count[row.card, row.backend] ** -0.5 for row in rows])


def fit(
    rows: Sequence[BenchRow], stage: Stage, base: dict[str, float], steps: int = 12
) -> tuple[dict[str, float], np.ndarray]:
    """Constants with the stage's fitted, and the Jacobian at the end."""
    names = [one.name for one in stage.parameters]
    prior = np.log([one.prior for one in stage.parameters])
    sd = np.array([one.sd for one in stage.parameters])
    at = np.array([math.log(base.get(name, math.exp(value))) for name, value in zip(names, prior, strict=True)])
    weight = weights(rows)
    jacobian = np.zeros((len(rows), len(names)))
    for step in range(steps):
        constants = base | dict(zip(names, np.exp(at).tolist(), strict=True))
        error = residuals(rows, constants)
        jacobian = slopes(rows, names, constants, error)
        at, change = solved(jacobian, error, at, prior, sd, weight)
        if change < 1e-3 and step > 3:
            break
    return base | dict(zip(names, np.exp(at).tolist(), strict=True)), jacobian


def slopes(
    rows: Sequence[BenchRow], names: Sequence[str], constants: dict[str, float], error: np.ndarray
) -> np.ndarray:
    columns = []
    for name in names:
        moved = constants | {name: constants[name] * math.exp(STEP)}
        columns.append((residuals(rows, moved) - error) / STEP)
    return np.array(columns).T


def solved(
    jacobian: np.ndarray, error: np.ndarray, at: np.ndarray, prior: np.ndarray, sd: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """One damped Gauss-Newton step with Huber weights; residuals count in units of 0.1."""
    robust = weight * np.minimum(1.0, HUBER / np.maximum(np.abs(error), 1e-9)) / 0.1**2
    normal = jacobian.T @ (jacobian * robust[:, None]) + np.diag(sd**-2)
    right = -(jacobian.T @ (robust * error)) - (at - prior) / sd**2
    step = np.clip(np.linalg.solve(normal, right), -0.5, 0.5)
    return at + step, float(np.abs(step).max())


def left_out(
    rows: Sequence[BenchRow], stage: Stage, constants: dict[str, float], jacobian: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Residuals of the rows ``out`` when the constants come from the others: Gauss-Newton from the full fit, twice."""
    names = [one.name for one in stage.parameters]
    prior = np.log([one.prior for one in stage.parameters])
    sd = np.array([one.sd for one in stage.parameters])
    kept = [row for row, gone in zip(rows, out, strict=True) if not gone]
    gone = [row for row, leave in zip(rows, out, strict=True) if leave]
    weight = weights(kept)
    at = np.log([constants[name] for name in names])
    current = constants
    for _ in range(3):
        error = residuals(kept, current)
        at, _change = solved(jacobian[~out], error, at, prior, sd, weight)
        current = constants | dict(zip(names, np.exp(at).tolist(), strict=True))
    return residuals(gone, current)


ASSUMED: dict[str, Any] = {
    "tile": {
        "columns": {"CUDA": 128, "ROCm": 128, "other": 32},
        "meaning": "most tokens that one tile of a product with experts takes",
        "source": "ggml-cuda/mmq.cuh get_mmq_x_max_host; ggml-metal kernel_mul_mm, 64 × 32 tiles (read 2026-11)",
    },
    "host_usual": {
        "desktop": {"low": 3.8e10, "best": 6.0e10, "high": 1.02e11},
        "server": {"low": 8.5e10, "best": 2.0e11, "high": 4.6e11},
        "threads": {"low": 4, "best": 8, "high": 24},
        "meaning": "rated B/s of a host's memory and its threads where nobody said: assumed, not fitted",
        "source": "JEDEC rates, 8 bytes a transfer and channel: two channels of DDR4-2400 to DDR5-6400; servers four "
        "of DDR4-2666 to twelve of DDR5-4800",
    },
    "unmeasured_units": {
        "Apple M5": {
            "best": 2.0, "either_way": 2.0,
            "meaning": "prompts on the neural accelerators in the GPU's cores: between the M4's rate a core and the "
            "four times of it that the maker names; no row has run on them",
            "source": "https://the-decoder.com/apples-m5-chip-brings-faster-ai-to-macbook-ipad-and-vision-pro/ "
            "(read 2026-11-26)",
        }
    },
}  # fmt: skip
COVERED = 0.93  # share of left-out rows that half-widths are set to hold
MARGIN = 1.25  # beyond the worst generation or maker that was left out
SHRUNK = 3.0  # cards that a regime's mean counts for against a pool's own


@dataclass
class LeftOut:
    """Residuals of rows that the constants were not fitted on, by what else was left out."""

    rows: list[BenchRow]
    card: np.ndarray
    generation: np.ndarray
    vendor: np.ndarray


def pool_of(row: BenchRow) -> str:
    return pool_name(row.gpus[0].card, row.backend) if row.gpus else "CPU"


def generation_key(row: BenchRow) -> str:
    return token_rates.generation_of(row.gpus[0].card) if row.gpus else row.card


def every_fold(
    rows: Sequence[BenchRow], stage: Stage, constants: dict[str, float], jacobian: np.ndarray,
    key: Callable[[BenchRow], str],
) -> np.ndarray:  # fmt: skip
    """Residuals with all rows that share ``key`` left out at a time."""
    found = np.full(len(rows), np.nan)
    for name in sorted({key(row) for row in rows}):
        out = np.array([key(row) == name for row in rows])
        found[out] = left_out(rows, stage, constants, jacobian, out)
    return found


def vendor_of(row: BenchRow) -> str:
    return row.gpus[0].card.vendor if row.gpus else row.card


def single(row: BenchRow) -> str:
    return row.regime.replace("several cards, ", "")


def fitted_everything() -> tuple[dict[str, float], dict[str, Stage], dict[str, LeftOut], list[BenchRow]]:
    rows = usable(bench_rows()[0])
    constants: dict[str, float] = {}
    stages, outs = {}, {}
    for make in STAGES:
        for one in make(rows).parameters:
            constants.setdefault(one.name, one.prior)
    for make in STAGES:
        stage = make(rows)
        mine = [row for row in rows if stage.wants(row)]
        constants, jacobian = fit(mine, stage, constants)
        folds = [
            every_fold(mine, stage, constants, jacobian, key)
            for key in (lambda row: row.card, generation_key, vendor_of)
        ]
        stages[stage.name], outs[stage.name] = stage, LeftOut(mine, *folds)
    return constants, stages, outs, rows


def usable(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """Rows whose card has the rates that the model needs."""
    return [row for row in rows if not row.gpus or token_rates.peak_of(row.gpus[0].card) is not None]


def widths(outs: dict[str, LeftOut], leave: str | None = None) -> dict[str, Any]:
    """The spread table from left-out residuals; ``leave`` is a card whose rows set no width."""
    regimes: dict[str, Any] = {}
    measured: dict[str, set[str]] = defaultdict(set)
    for out in outs.values():
        for row in out.rows:
            if row.gpus and row.card != leave:
                measured[pool_of(row)].add(generation_key(row))
        for regime in sorted({single(row) for row in out.rows}):
            at = [i for i, row in enumerate(out.rows) if single(row) == regime and row.card != leave]
            if not at:
                at = [i for i, row in enumerate(out.rows) if single(row) == regime]
            regimes[regime] = regime_width([out.rows[i] for i in at], out.card[at], out.generation[at], out.vendor[at])
    for regime in [name for name in regimes if name.endswith("MoE")]:
        dense = regimes[regime.replace("MoE", "dense")]
        regimes[regime] = mixture_width(outs, leave, regime, dense)
    return {"regimes": regimes, "measured": {pool: sorted(names) for pool, names in sorted(measured.items())}}


def regime_width(
    rows: Sequence[BenchRow], card: np.ndarray, generation: np.ndarray, vendor: np.ndarray
) -> dict[str, Any]:
    """Half-widths by pool, so that COVERED of the left-out rows are inside; pools of few cards lean on the regime."""
    by_card: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row, error in zip(rows, np.abs(card), strict=True):
        by_card[pool_of(row), row.card].append(float(error))
    means = {key: float(np.mean(errors)) for key, errors in by_card.items()}
    whole = float(np.mean(list(means.values())))
    pools: dict[str, float] = {}
    for pool in sorted({pool for pool, _ in means}):
        own = [value for (name, _), value in means.items() if name == pool]
        pools[pool] = (sum(own) + SHRUNK * whole) / (len(own) + SHRUNK)
    scores = np.array([abs(error) / pools[pool_of(row)] for row, error in zip(rows, card, strict=True)])
    factor = float(np.quantile(scores, COVERED)) * few_cards(len(means))
    scales = {pool: factor * value for pool, value in pools.items()}
    newer = {pool: new_generation(pool, rows, generation, half) for pool, half in scales.items()}
    makers = max(
        float(np.quantile(np.abs(vendor)[[vendor_of(row) == name for row in rows]], 0.95))
        for name in {vendor_of(row) for row in rows}
    )
    return {
        "half_width": round(factor * whole, 4),
        "pools": {pool: [round(half, 4), round(newer[pool], 4)] for pool, half in scales.items()},
        "new": round(MARGIN * max(factor * whole, makers), 4),
        "rows": len(rows),
        "cards": len(means),
    }


def mixture_width(outs: dict[str, LeftOut], leave: str | None, regime: str, dense: dict[str, Any]) -> dict[str, Any]:
    """Mixtures of experts ran on few cards: dense half-widths times how much further off their rows were."""
    found = [
        (row.card, abs(float(error)) / half_width(regime, [row.gpus[0].card], row.backend, alone(regime, dense, out)))
        for out in outs.values()
        for row, error in zip(out.rows, out.card, strict=True)
        if single(row) == regime and row.card != leave
    ]
    factor = max(1.0, float(np.quantile([score for _, score in found], COVERED))) if found else 1.5
    return {
        "half_width": round(factor * dense["half_width"], 4),
        "pools": {pool: [round(factor * half, 4) for half in both] for pool, both in dense["pools"].items()},
        "new": round(factor * dense["new"], 4),
        "rows": len(found),
        "cards": len({card for card, _ in found}),
    }


def alone(regime: str, dense: dict[str, Any], out: LeftOut) -> dict[str, Any]:
    """A table of the dense widths under the name of ``regime``, every generation of its rows known."""
    measured: dict[str, set[str]] = defaultdict(set)
    for row in out.rows:
        if row.gpus:
            measured[pool_of(row)].add(generation_key(row))
    return {"regimes": {regime: dense}, "measured": {pool: list(names) for pool, names in measured.items()}}


def new_generation(pool: str, rows: Sequence[BenchRow], errors: np.ndarray, half: float) -> float:
    """Half-width where the generation has no row: beyond the worst of the pool's generations that was left out."""
    mine = defaultdict(list)
    for row, error in zip(rows, np.abs(errors), strict=True):
        if pool_of(row) == pool:
            mine[generation_key(row)].append(float(error))
    worst = max(float(np.quantile(values, 0.9)) for values in mine.values())
    return max(1.15 * half, MARGIN * worst)


def few_cards(count: int) -> float:
    """What Student's t is of the normal distribution at 80 %: widths from few cards are uncertain
    themselves. One or two left out against each other already differ by more than they do from their mean."""
    return 1.0 if count < 3 else float(student.ppf(0.9, count - 1) / normal.ppf(0.9))


def report(constants: dict[str, float], outs: dict[str, LeftOut]) -> list[tuple[str, int, int, float, float, float]]:
    """(regime, rows, cards, median error, share inside, median width) with each card's rows and widths left out."""
    tables = {card: widths(outs, card) for card in sorted({row.card for out in outs.values() for row in out.rows})}
    groups: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for out in outs.values():
        for row, error in zip(out.rows, out.card, strict=True):
            for regime in names_of(row):
                groups[regime].append((row.card, float(error), half_of(row, tables[row.card])))
    return [summary(name, entries) for name, entries in sorted(groups.items())]


def names_of(row: BenchRow) -> list[str]:
    names = [row.regime]
    if row.placement == "card" and len(row.gpus) == 1:
        names.append(f"{row.regime.split(', ')[0]}, one card, all models")
    if row.placement == "host" or row.placement == "cpu":
        names.append(f"{row.regime}, memory {'known' if row.host_bandwidth else 'not named'}")
    return names


def half_of(row: BenchRow, table: dict[str, Any]) -> float:
    cards = [gpu.card for gpu in row.gpus]
    half = half_width(single(row), cards, row.backend, table)
    if row.placement == "card" or row.host_bandwidth:
        return half
    usual = ASSUMED["host_usual"]["server" if cards and cards[0].form == "datacenter" else "desktop"]
    return math.hypot(half, math.log(usual["high"] / usual["low"]) / 2)


def summary(name: str, entries: Sequence[tuple[str, float, float]]) -> tuple[str, int, int, float, float, float]:
    errors = np.array([error for _, error, _ in entries])
    halves = np.array([half for _, _, half in entries])
    return (
        name, len(entries), len({card for card, _, _ in entries}), float(np.median(np.abs(np.expm1(-errors)))),
        float(np.mean(np.abs(errors) <= halves)), float(np.median(np.exp(2 * halves))),
    )  # fmt: skip


def ignorance(outs: dict[str, LeftOut]) -> list[tuple[str, int, float, float]]:
    """(what is left out, rows, share inside, median width) for whole generations and makers with a single backend."""
    found = []
    for out in outs.values():
        for kind, key, errors in (("generation", generation_key, out.generation), ("maker", vendor_of, out.vendor)):
            for name in sorted({key(row) for row in out.rows if row.placement == "card"}):
                at = [i for i, row in enumerate(out.rows) if key(row) == name]
                table = widths({"": LeftOut(
                    [row for i, row in enumerate(out.rows) if i not in set(at)],
                    *(np.delete(values, at) for values in (out.card, out.generation, out.vendor)),
                )})  # fmt: skip
                regimes = [i for i in at if single(out.rows[i]) in table["regimes"]]
                halves = np.array([half_of(out.rows[i], table) for i in regimes])
                inside = np.abs(errors[regimes]) <= halves
                what = f"{kind} {name}: {'prompts' if out.rows[0].prompt else 'generation'}"
                found.append((what, len(regimes), float(np.mean(inside)), float(np.median(np.exp(2 * halves)))))
    return found


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
    return {
        "version": 2,
        "date": "2026-11-26",
        "written_by": "scripts/fit_tokens.py from fitcheck/runtimes/llamacpp/data/llama_bench_rows.csv",
        "constants": entries,
        "residuals": residual,
        "spread": widths(outs)
        | {"meaning": f"half-width of log(rate) that holds {COVERED:.0%} of rows of cards left out"},
        "left_out": left_out_rates(outs),
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


def left_out_rates(outs: dict[str, LeftOut]) -> dict[str, list[float]]:
    """By row: [best, half-width] of the rate with the row's card left out of constants and widths."""
    tables = {card: widths(outs, card) for card in sorted({row.card for out in outs.values() for row in out.rows})}
    found = {}
    for out in outs.values():
        for row, error in zip(out.rows, out.card, strict=True):
            rate = row.measured * math.exp(-float(error))
            found[str(row.index)] = [float(f"{rate:.5g}"), round(half_of(row, tables[row.card]), 4)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--report", action="store_true", help="print the leave-one-out tables, write nothing")
    asked = parser.parse_args()
    constants, stages, outs, rows = fitted_everything()
    if asked.report:
        print(f"{len(rows)} rows. Each card left out: regime, rows, cards, median error, inside, median width high/low")
        for name, count, cards, error, inside, width in report(constants, outs):
            print(f"{name:45s} {count:4d} {cards:3d}  {error:6.1%}  {inside:6.1%}  {width:5.2f}")
        print("\nAll of it left out: rows, inside, median width")
        for name, count, inside, width in ignorance(outs):
            print(f"{name:45s} {count:4d}  {inside:6.1%}  {width:5.2f}")
        return
    TARGET.write_text(json.dumps(document(constants, stages, outs), ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(f"{TARGET}: {sum(len(stage.parameters) for stage in stages.values())} constants from {len(rows)} rows")


if __name__ == "__main__":
    main()
