"""Tokens per second of llama.cpp: generation from the bytes every token reads, prompts from arithmetic.

Generating a token reads all weights that are active for it once, and the cache so far; a card or a host cannot be
faster than its memory lets it. A prompt is arithmetic in micro-batches, each of which reads the weights once, and where
weights lie on the host each batch carries them over the link. Constants are fitted to published rows
(``data/llamacpp_tokens.json``, by ``scripts/fit_tokens.py``); intervals are as wide as predictions for cards that the
fit had not seen were off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Gpu
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.tensors import TensorTable
from fitcheck.models.workload import Workload
from fitcheck.runtimes.llamacpp.token_host import Host
from fitcheck.runtimes.llamacpp.token_passes import (
    TokenRun,
    batch_seconds,
    computes_on_host,
    least_token_seconds,
    overlap_factors,
    token_seconds,
)
from fitcheck.runtimes.llamacpp.token_rates import Constants, backend_of, data, fitted
from fitcheck.runtimes.llamacpp.token_spread import half_width, interval_of, new_units, traits_of
from fitcheck.runtimes.llamacpp.token_work import PlacedRun, TokenWork, work_of
from fitcheck.runtimes.llamacpp.weight_placement import HOST
from fitcheck.units import Interval

_SLOW_SHARE = 10  # the host binds where it reads more than a tenth of what the cards read
_ANY = Host()  # of which nobody said anything


@dataclass(frozen=True, slots=True)
class TokenSpeed:
    """Tokens per second; ``None`` where a rate of the card is unknown. ``binding`` says what generation waits for."""

    prompt: Interval[float] | None
    generation: Interval[float] | None
    card_bytes_per_token: int
    host_bytes_per_token: int
    binding: str


def run_of(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    result: PlacedRun,
    gpus: Sequence[Gpu],
    depth: int | None = None,
    host: Host = _ANY,
    *,
    backend: str | None = None,
    reads: int | None = None,
) -> TokenRun:
    """What decides the seconds of one sequence after ``depth`` tokens (half of the context by default) on the cards of
    ``result`` and its ``host``. ``backend`` is "CUDA", "ROCm", "Vulkan", "Metal" or "SYCL"; by default what the card's
    maker is mostly run with. ``reads`` are the tokens of the prompt (a batch by default), whose micro-batches overlap
    on several cards."""
    depth = min(depth if depth is not None else result.options.context // 2, result.options.context)
    works = work_of(architecture, tensors, result, depth)
    named = backend_of(gpus[0].card, backend) if gpus else "CPU"
    reads = reads if reads is not None else min(result.options.batch, result.options.context)
    return TokenRun(works, gpus, named, host, result.options, architecture.embedding, reads)


def token_speed(
    architecture: LanguageArchitecture,
    tensors: TensorTable,
    result: PlacedRun,
    gpus: Sequence[Gpu],
    depth: int | None = None,
    host: Host = _ANY,
    *,
    backend: str | None = None,
    reads: int | None = None,
) -> TokenSpeed:
    """Speed of the run that the same arguments make (``run_of``). Where the host is not known, the interval is as wide
    as hosts differ."""
    run = run_of(architecture, tensors, result, gpus, depth, host, backend=backend, reads=reads)
    kind = _kind(run, bool(architecture.experts))
    read = run.works.get(HOST, TokenWork()).bytes_per_token
    card_bytes = round(sum(work.bytes_per_token for index, work in run.works.items() if index != HOST))
    slow = read * _SLOW_SHARE > card_bytes
    binding = "host memory" if slow else "card memory"
    return TokenSpeed(_prompt(run, kind), _generation(run, kind), card_bytes, round(read), binding)


def _kind(run: TokenRun, mixture: bool) -> str:
    """The second half of a regime's name."""
    if not run.gpus:
        return "cpu"
    host = run.works.get(HOST)
    if host is not None and host.bytes_per_token:
        return "host"
    return "MoE" if mixture else "dense"


def _generation(run: TokenRun, kind: str) -> Interval[float] | None:
    seconds = token_seconds(run, fitted())
    if seconds is None:
        return None
    half = half_width(f"generation, {kind}", _cards(run), run.backend, traits=traits_of(run, prompt=False))
    hosts = unknown_factors(run, fitted(), prompt=False, own=seconds)
    return below(interval_of(1 / seconds, half, hosts), least_token_seconds(run))


def _prompt(run: TokenRun, kind: str) -> Interval[float] | None:
    seconds = _passing(run, fitted(), prompt=True)
    if seconds is None:
        return None
    half = half_width(f"prompt, {kind}", _cards(run), run.backend, traits=traits_of(run, prompt=True))
    hosts = unknown_factors(run, fitted(), prompt=True, own=seconds)
    best, wider = new_units(run.gpus[0].card) if run.gpus else (1.0, 1.0)
    return interval_of(best * max(run.options.micro, 1) / seconds, half, (hosts[0] / wider, hosts[1] * wider))


def below(rate: Interval[float], least: float) -> Interval[float]:
    """``rate`` without what lies beyond one token in ``least`` seconds."""
    return rate if rate.high * least <= 1 else Interval(rate.low, rate.best, max(rate.best, 1 / least))


def generation_rate(run: TokenRun) -> float:
    """The best estimate of tokens generated a second alone; 0 where the card's bandwidth is not known."""
    seconds = token_seconds(run, fitted())
    return 0.0 if seconds is None else 1 / seconds


def depth_of(workload: Workload) -> int:
    """Tokens half way through the answer, which stand for it."""
    return (workload.prompt_tokens or 0) + workload.new_tokens // 2


def best_units(run: TokenRun) -> float:
    """The factor on the best prompt rate for matrix units that no row has run on."""
    return new_units(run.gpus[0].card)[0] if run.gpus else 1.0


def _cards(run: TokenRun) -> list[Card]:
    return [gpu.card for gpu in run.gpus]


def unknown_factors(
    run: TokenRun, constants: Constants, *, prompt: bool, own: float | None = None
) -> tuple[float, float]:
    """(low, high) factors on the rate by what nobody said: of the host, or how well several cards' prompts overlap.
    ``own`` are the run's seconds where they are known already."""
    host = run.works.get(HOST)
    if not run.gpus or (host is not None and host.bytes_per_token):
        return host_factors(run, constants, prompt=prompt, own=own)
    return overlap_factors(run, max(run.options.micro, 1), constants) if prompt else (1.0, 1.0)


def host_factors(run: TokenRun, constants: Constants, *, prompt: bool, own: float | None = None) -> tuple[float, float]:
    """(low, high) factors on the rate that slow and fast hosts of their kind make, where this one's are unknown."""
    if prompt and not computes_on_host(run, max(run.options.micro, 1)):
        return 1.0, 1.0  # the host's weights are carried to the card, whatever reads them there
    own = own if own is not None else _passing(run, constants, prompt=prompt)
    found = []
    for end in ("low", "high"):
        usual = data()["host_usual"]["server" if run.host.server else "desktop"][end]
        bandwidth = run.host.bandwidth if run.host.bandwidth is not None else float(usual)
        threads = run.host.threads or int(data()["host_usual"]["threads"][end])
        host = replace(run.host, bandwidth=bandwidth, threads=threads)
        other = _passing(replace(run, host=host), constants, prompt=prompt)
        found.append(1.0 if own is None or other is None else own / other)
    return min(found[0], 1.0), max(found[1], 1.0)


def _passing(run: TokenRun, constants: Constants, *, prompt: bool) -> float | None:
    return batch_seconds(run, max(run.options.micro, 1), constants) if prompt else token_seconds(run, constants)
