"""Fit the constants of llama.cpp's tokens per second to the published rows, and say how well they hold.

Constants are positive and fitted by their logarithm with a prior each: least squares on log(seconds), robust against
outliers (Huber), rows of one card weighed down so that no card decides alone. Deviations of generations and backends
have a prior of no deviation, so what few rows speak for stays near its group. ``--report`` leaves out one card after
the other (then every vendor, generation and backend) and predicts its rows from the rest.

    python scripts/fit_tokens.py            writes fitcheck/speed/data/llamacpp_tokens.json
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

from fitcheck.speed import llamacpp_predict, llamacpp_rates
from fitcheck.speed.llamacpp_rows import BenchRow, bench_rows

TARGET = Path(llamacpp_rates.__file__).parent / "data" / "llamacpp_tokens.json"
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
        add(Parameter(f"share/{backend}", 0.78, 0.15, "share of the published bandwidth that 4-bit weights are read with"))
        add(Parameter(f"layer/{backend}", 2e-5, 0.6, "seconds of one layer's launches and small kernels"))
        add(Parameter(f"cache/{backend}", 1.5, 0.4, "cost of a byte of cache against a byte of 4-bit weights"))
        add(Parameter(f"read float/{backend}", 0.92, 0.15, "cost of a byte of 16-bit weights against 4-bit ones"))
    for kind, prior in (("Q8_0", 0.92), ("Q6_K", 1.0), ("Q5", 1.0), ("Q3", 1.15), ("Q2", 1.25), ("IQ", 1.3), ("MXFP4", 1.0)):
        add(Parameter(f"read {kind}", prior, 0.10, f"cost of a byte of {kind} against 4-bit ones"))
    add(Parameter("share of HBM", 0.75, 0.15, "what HBM's share is of GDDR's: more bytes have to be in flight"))
    add(Parameter("share with error correction", 0.95, 0.05, "what the share of workstation and datacenter cards with GDDR is of others': their memory corrects errors in band"))
    add(Parameter("share of two dies", 0.92, 0.08, "what the share of Apple's Ultra chips, two dies joined, is of one die's"))
    add(Parameter("reading by power", 0.1, 0.6, "exponent of the share in the power a maker allows for each TFLOP/s of peak"))
    add(Parameter("expert read", 1.25, 0.25, "cost of a byte of a chosen expert against a dense one: small, scattered matrices"))
    add(Parameter("age of reading", 1.05, 0.05, "cost of reading weights by year of the build's age before 2026"))
    add(Parameter("age of expert reading", 1.15, 0.1, "cost of reading experts by year of the build's age before 2026"))
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
        add(Parameter(f"prompt/{backend}", quant, 0.5, "share of the packed rate that products of quantized weights achieve"))
        add(Parameter(f"half/{backend}", half, 0.5, "share of the half-precision rate that products of 16-bit weights achieve"))
        add(Parameter(f"attention/{backend}", attention, 0.6, "rate of attention against products of 16-bit weights"))
        add(Parameter(f"expert prompt/{backend}", 1.2, 0.4, "cost of products of experts against dense ones, full tiles"))
        add(Parameter(f"age/{backend}", 1.12, 0.15, "seconds of a prompt by year of the build's age, factor"))
    for kind, prior in (("Q8_0", 1.0), ("Q6_K", 1.15), ("Q5", 1.1), ("Q3", 1.15), ("Q2", 1.25), ("IQ", 1.2), ("MXFP4", 1.0)):
        add(Parameter(f"prompt {kind}", prior, 0.12, f"cost of a product of {kind} against 4-bit ones"))
    add(Parameter("activation passes", 20.0, 0.5, "times a layer's activations (tokens × width, f32) cross the card's memory"))
    add(Parameter("prompt by power", 0.4, 0.4, "exponent of the rate in the power a maker allows for each TFLOP/s of peak"))
    add(Parameter("no flash attention", 1.5, 0.3, "cost of attention without flash attention"))
    add(Parameter("before integer tiles", 1.25, 0.3, "seconds of quantized prompts on CUDA before June 2024 against later"))
    add(Parameter("overlap of cards", 0.5, 0.4, "part of the ideal speed-up that micro-batches in flight on several cards give"))
    for generation in generations(mine):
        prior = GENERATION_PRIORS.get(generation, (1.0, ""))[0]
        add(Parameter(f"prompt of {generation}", prior, DEVIATION * 1.5, "deviation of the generation's rate"))
    return stage


# quantized, half, attention relative to half: order of magnitude from the makers' rates and what kernels usually reach
PROMPT_PRIORS = {"CUDA": (0.33, 0.45, 0.5), "ROCm": (0.35, 0.4, 0.3), "Vulkan": (0.3, 0.3, 0.3), "Metal": (0.65, 0.7, 0.4)}
GENERATION_PRIORS = {
    "sm 6.0": (0.25, "no dp4a"), "sm 6.1": (0.5, "dp4a: half of a tile's rate"), "sm 7.0": (0.5, "no integer matrix units"),
}  # fmt: skip


def host_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("host generation", lambda row: not row.prompt and row.placement in ("host", "cpu"))
    add = stage.parameters.append
    add(Parameter("host share", 0.65, 0.2, "share of the host memory's rated bandwidth that CPU kernels read with"))
    add(Parameter("host expert read", 1.15, 0.15, "cost of a byte of a chosen expert against a dense one on the host"))
    add(Parameter("host layer", 1e-4, 0.5, "seconds of handing a layer to the host and back"))
    for kind, prior in (("float", 25e9), ("Q8_0", 20e9), ("Q6_K", 20e9), ("Q5", 18e9), ("Q4", 20e9), ("Q3", 15e9), ("Q2", 15e9), ("IQ", 6e9), ("MXFP4", 15e9)):
        add(Parameter(f"thread {kind}", prior, 0.4, f"B/s of {kind} weights that one thread decodes"))
    return stage


def host_prompt_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("host prompt", lambda row: row.prompt and row.placement in ("host", "cpu"))
    add = stage.parameters.append
    add(Parameter("host flops a thread", 6e10, 0.5, "FLOP/s of one thread in products of 4-bit weights"))
    for kind in ("float", "Q8_0", "Q6_K", "Q5", "Q3", "Q2", "IQ"):
        add(Parameter(f"host prompt {kind}", {"IQ": 2.5, "float": 1.5}.get(kind, 1.2), 0.4, f"cost of a product of {kind} against 4-bit ones on the host"))
    add(Parameter("carried", 1.0, 0.25, "seconds of carrying host weights over the link against the link's own rate"))
    return stage


STAGES = (generation_stage, prompt_stage, host_stage, host_prompt_stage)


def generations(rows: Iterable[BenchRow]) -> list[str]:
    return sorted({llamacpp_rates.generation_of(gpu.card) for row in rows for gpu in row.gpus})


def residuals(rows: Sequence[BenchRow], constants: dict[str, float]) -> np.ndarray:
    """log(predicted seconds / measured seconds) of each row."""
    return np.array([math.log(llamacpp_predict.seconds_of(row, constants) * row.measured) for row in rows])


def weights(rows: Sequence[BenchRow]) -> np.ndarray:
    """Each card's rows together weigh the square root of their number."""
    count: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        count[row.card, row.backend] += 1
    return np.array([count[row.card, row.backend] ** -0.5 for row in rows])


def fit(rows: Sequence[BenchRow], stage: Stage, base: dict[str, float], steps: int = 12) -> tuple[dict[str, float], np.ndarray]:
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


def slopes(rows: Sequence[BenchRow], names: Sequence[str], constants: dict[str, float], error: np.ndarray) -> np.ndarray:
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
