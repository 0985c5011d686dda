"""Seconds a token of a published row from constants: the model as users ask it, and what only the rows need."""

from __future__ import annotations

from fitcheck.runtimes.llamacpp.token_host import Host
from fitcheck.runtimes.llamacpp.token_passes import TokenRun, batch_seconds, token_seconds
from fitcheck.runtimes.llamacpp.token_rates import Constants
from fitcheck.runtimes.llamacpp.token_rows import BenchRow
from fitcheck.runtimes.llamacpp.token_work import TokenWork, work_of

_runs: dict[int, TokenRun] = {}


def run_of(row: BenchRow) -> TokenRun:
    """The row as a run, its bytes scaled to the published file's size."""
    known = _runs.get(row.index)
    if known is None:
        works = work_of(row.architecture, row.tensors, row.result, row.depth)
        for work in works.values():
            _scale(work, row.scale)
            work.even_routing = row.random_weights
        server = any(gpu.card.form == "datacenter" for gpu in row.gpus)
        host = Host(row.host_bandwidth, row.threads, server, read=row.host_read)
        known = TokenRun(
            works,
            row.gpus,
            row.backend,
            host,
            row.result.options,
            row.architecture.embedding,
            row.tokens,
            row.matrix_attention,
        )
        _runs[row.index] = known
    return known


def _scale(work: TokenWork, factor: float) -> None:
    for read in (work.read, work.experts):
        for kind in read:
            read[kind] *= factor
    work.held = round(work.held * factor)
    work.experts_held = round(work.experts_held * factor)


def seconds_of(row: BenchRow, constants: Constants) -> float:
    """Seconds a token. Raises ValueError for a card without the rates that this needs."""
    run = run_of(row)
    if row.prompt:
        batch = row.result.options.micro
        seconds = batch_seconds(run, batch, constants)
        if seconds is None:
            raise ValueError(f"{row.card}: no rate for prompts")
        return seconds / batch
    seconds = token_seconds(run, constants)
    if seconds is None:
        raise ValueError(f"{row.card}: no bandwidth")
    return seconds * (constants["served"] if row.served else 1.0)
