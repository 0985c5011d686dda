"""Seconds of llama.cpp on a device: work, published rates and the constants of ``data/llamacpp_tokens.json``.

Generation reads memory: bytes over the share of the published bandwidth that a backend and a generation of cards
achieve, plus launches. A prompt computes: FLOP over the share of a card's matrix rate, plus the passes over its
activations, plus launches. Every constant has a meaning, the rows it was fitted on and its residuals in the data file;
``scripts/fit_tokens.py`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import exp, lgamma
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.card import Card
from fitcheck.runtimes.llamacpp.token_work import TokenWork

Constants = Mapping[str, float]
BACKENDS = ("CUDA", "ROCm", "Vulkan", "Metal", "SYCL")
_NATIVE = {"NVIDIA": "CUDA", "Apple": "Metal", "Intel": "Vulkan"}
# 8-bit integer multiply-adds × 2 that llama.cpp's tiles issue a clock on one multiprocessor of Turing and later
_TILE_FLOPS = 2048.0
# 16-bit multiply-adds × 2 a clock of one multiprocessor with matrix units, Turing to Blackwell's consumer chips
_HALF_FLOPS = 1024.0
# watts for each TFLOP/s of the packed peak that makers usually allow: the rate of a card with less is lower
_USUAL_WATTS = {"NVIDIA": 0.95, "AMD": 2.9}
_USUAL_CLOCK = 2e9  # Hz at which the constants of launches hold, and what a card without a published clock has
_LANES = {(6, 0): 64, (7, 0): 64, (7, 5): 64, (8, 0): 64}
_ISSUES_TWICE = ((7, 0), (7, 5), (8, 0))  # 64 lanes beside four schedulers of 32
_FLOAT_BYTES = 4
# columns of the narrowest tile (ggml-cuda/mmq.cuh, mul_mat_q_case: mmq_x counts from 8 in steps of 8 to the widest)
_LEAST_TILE = 8
_SOFT = 4.0  # exponent with which reading and decoding, which overlap, add up
_EXPERT_MATRICES = 3  # gate, up and down


def data() -> dict[str, Any]:
    """The data file, with constants, spreads and what they were fitted on."""
    return load("runtimes.llamacpp", "llamacpp_tokens")


@cache
def fitted() -> dict[str, float]:
    """Constants by name."""
    return {name: float(entry["value"]) for name, entry in data()["constants"].items()}


@dataclass(frozen=True, slots=True)
class KernelAge:
    """What a build has of the work on kernels.

    ``years`` before they stopped changing much; ``fused``: small kernels of a layer are one; ``grouped``: one kernel
    takes all experts; ``integer_tiles``: integer matrix units are used; ``tiled_attention``: flash attention is
    tiled on cores without matrix units too; ``youth``: part of a chip's first year that the build came before.
    """

    years: float = 0.0
    fused: bool = True
    grouped: bool = True
    integer_tiles: bool = True
    tiled_attention: bool = True
    youth: float = 0.0


TODAY = KernelAge()


def backend_of(card: Card, named: str | None = None) -> str:
    """The backend that is named, in its usual spelling, or the one people run on a card of this maker.

    AMD's chips before RDNA 2 and those that share the host's memory without a ROCm build run on Vulkan.
    """
    if named is not None:
        wanted = named.lower().replace("hip", "rocm")
        return next((known for known in BACKENDS if known.lower() == wanted), named)
    if card.vendor == "AMD":
        return "ROCm" if (card.architecture or "").startswith(("RDNA", "CDNA")) else "Vulkan"
    return _NATIVE.get(card.vendor, "Vulkan")


@cache
def generation_of(card: Card) -> str:
    """A generation of cards whose kernels behave alike: "sm 8.6", "RDNA 3", "Xe2-HPG", "Apple M4"."""
    if card.compute_capability is not None:
        major, minor = card.compute_capability
        return f"sm {major}.{minor}"
    if card.vendor == "Apple":
        return " ".join(card.name.split()[:2])
    return (card.architecture or "unknown").removesuffix(".0").replace("RDNA 3.5", "RDNA 3")


@dataclass(frozen=True, slots=True)
class Peak:
    """Published rates of a card in FLOP/s and B/s. ``packed`` is for products of quantized weights."""

    packed: float
    half: float
    bandwidth: float


@cache
def peak_of(card: Card) -> Peak | None:
    """``None`` where the bandwidth or every arithmetic rate is unknown.

    NVIDIA: llama.cpp's integer tiles run at the same rate a clock on every multiprocessor since Turing, whatever the
    maker's newer matrix units could do, so multiprocessors × clock (from the plain f32 rate) is the measure. AMD: the
    half-precision rate, of matrix units where there are any. Elsewhere the plain f32 rate.
    """
    if card.memory_bandwidth is None or (card.shader_flops is None and card.tensor_flops is None):
        return None
    tensor = None if card.tensor_flops is None else card.tensor_flops.value
    plain = card.shader_flops
    if card.compute_capability is not None and plain is not None:
        clocks = plain / (2 * _LANES.get(card.compute_capability, 128))
        # products of 16-bit weights accumulate in 16 bits, which GeForce does not halve
        half = plain if tensor is None else max(tensor, _HALF_FLOPS * clocks)
        return Peak(_TILE_FLOPS * clocks, half, card.memory_bandwidth)
    if card.vendor == "AMD":
        packed_math = 2.0 if (card.architecture or "").startswith(("RDNA", "CDNA", "GCN 5")) else 1.0
        rate = tensor or packed_math * (plain or 0.0)
        return Peak(rate, rate, card.memory_bandwidth)
    rate = plain or tensor or 0.0
    return Peak(rate, rate, card.memory_bandwidth)


@cache
def power_ratio(card: Card) -> float:
    """Watts a TFLOP/s of peak against what is usual for the maker; 1 where the power or the usual is unknown.

    A chip whose power the maker of the machine sets counts with the most that it may take, as machines that people run
    language models on are set.
    """
    peak, usual = peak_of(card), _USUAL_WATTS.get(card.vendor)
    most = data()["configurable_power"]["watts"].get(card.name)
    watts = most if most is not None else card.power_watts
    if peak is None or usual is None or not watts:
        return 1.0
    return float(watts) / (peak.packed / 1e12) / usual


def reading_rate(card: Card, backend: str, constants: Constants) -> float | None:
    """B/s that kernels read weights of the reference quant (4 bits) with."""
    return _fitted_reading(card, backend) if constants is fitted() else _reading_rate(card, backend, constants)


@cache
def _fitted_reading(card: Card, backend: str) -> float | None:
    return _reading_rate(card, backend, fitted())


def _reading_rate(card: Card, backend: str, constants: Constants) -> float | None:
    if card.memory_bandwidth is None:
        return None
    share = constants.get(f"share/{backend}", constants["share/new"])
    share *= constants.get(f"share of {generation_of(card)}", 1.0) * constants.get(f"share on {card.name}", 1.0)
    if (card.memory_type or "").startswith("HBM"):
        share *= constants["share of HBM"]
    elif card.form in ("workstation", "datacenter"):
        share *= constants["share with error correction"]
    if card.name.endswith("Ultra"):
        share *= constants["share of two dies"]
    if peak_of(card) is not None:
        share *= float(power_ratio(card) ** constants["reading by power"])
    return float(card.memory_bandwidth * share)


def launches(
    work: TokenWork, card: Card, backend: str, constants: Constants, age: KernelAge = TODAY, *, flash: bool = True
) -> float:
    """Seconds of one pass's kernels that no rate explains: launches, small kernels, routing of experts.

    Small kernels are a few steps of few cores, one after the other: they take clocks, not bandwidth. Without flash
    attention its product is several kernels; builds before ``fused_layers`` launch the small kernels of a layer,
    and those that route experts, one by one.
    """
    layer = constants.get(f"layer/{backend}", constants["layer/new"]) * _clock_factor(card)
    dense = 1.0 if age.fused else constants["layer before fusion"]
    routing = constants["expert layer"] * (1.0 if age.fused else constants["expert layer before fusion"])
    dense += 0.0 if flash else constants["layer without flash attention"]
    units = dense * work.layers + routing * work.expert_layers
    return float(layer * (units + constants["recurrent layer"] * work.recurrent_layers))


def _clock_factor(card: Card) -> float:
    """How much longer steps of few cores take on the card than at the clock that constants of such steps hold for."""
    return _USUAL_CLOCK / card.boost_clock if card.boost_clock else 1.0


def weight_bytes(work: TokenWork, constants: Constants, backend: str, years: float = 0.0) -> float:
    """Bytes a token reads of weights, each kind weighed by what its kernels cost against 4-bit ones of today."""
    total = 0.0
    dense = constants["age of reading"] ** years
    expert = constants["expert read"] * constants["age of expert reading"] ** years
    for read, factor in ((work.read, dense), (work.experts, expert)):
        for kind, amount in read.items():
            total += factor * amount * constants.get(f"read {kind}/{backend}", constants.get(f"read {kind}", 1.0))
    return total


def generation_seconds(
    work: TokenWork, card: Card, backend: str, constants: Constants, age: KernelAge = TODAY, *, flash: bool = True
) -> float | None:
    """Seconds of one generated token on a card that holds ``work``; without the token's own overhead."""
    rate = reading_rate(card, backend, constants)
    if rate is None:
        return None
    cached = work.cache_cost * constants.get(f"cache/{backend}", constants["cache/new"])
    cached *= constants.get(f"latent cache/{backend}", constants["latent cache/new"]) if work.latent else 1.0
    weights = weight_bytes(work, constants, backend, age.years)
    reading = float(((weights / rate) ** _SOFT + decode_seconds(work, card, constants) ** _SOFT) ** (1 / _SOFT))
    return reading + cached / rate + launches(work, card, backend, constants, age, flash=flash)


def decode_seconds(work: TokenWork, card: Card, constants: Constants) -> float:
    """Seconds that a card's cores need to unpack and multiply the weights of one token: what binds where they issue few
    instructions for the memory's bandwidth (small cards, and HBM). NVIDIA's of ``_ISSUES_TWICE`` issue twice as many as
    they have lanes for floats."""
    if card.shader_flops is None:
        return 0.0
    issued = card.shader_flops / 2 * (2.0 if card.compute_capability in _ISSUES_TWICE else 1.0)
    packed = sum(amount for read in (work.read, work.experts) for kind, amount in read.items() if kind != "float")
    return packed * constants["decode"] / issued


def prompt_seconds(
    work: TokenWork, card: Card, backend: str, batch: int, width: int, constants: Constants, *, flash: bool = True,
    age: KernelAge = TODAY,
) -> float | None:  # fmt: skip
    """Seconds of a micro-batch of ``batch`` tokens of a model ``width`` elements wide on a card that holds ``work``.

    Dense products and products of experts are kernels apart. Dense ones take as long as their arithmetic or as reading
    their weights, whichever is longer; those of experts both, because few tokens wait for an expert's weights.
    """
    rates = _fitted_prompt(card, backend) if constants is fitted() else _prompt_rates(card, backend, constants)
    if rates is None:
        return None
    dense = batch * sum(rates.seconds(kind, amount, constants) for kind, amount in work.flops.items())
    seconds = max(dense, (work.held - work.experts_held) / rates.reading)
    attention = batch * _attention_seconds(work, rates, backend, constants)
    if flash and not age.tiled_attention and _without_matrix_attention(card, backend):
        attention *= constants["attention before tiles"]
    seconds += attention + batch * _passed_bytes(work, width, constants, flash=flash) / rates.bandwidth
    if work.experts_held:
        seconds += _expert_seconds(work, rates, backend, batch, constants, age)
    seconds += constants["prompt layer"] * (work.layers + work.expert_layers) * _clock_factor(card)
    if backend == "CUDA" and not age.integer_tiles:
        seconds *= constants["before integer tiles"]
    seconds *= constants.get(f"age/{backend}", constants["age/new"]) ** age.years
    seconds *= constants["young chip"] ** age.youth
    return float(seconds + launches(work, card, backend, constants, age, flash=flash))


def _without_matrix_attention(card: Card, backend: str) -> bool:
    """Whether flash attention ran on plain cores in 2025: NVIDIA's before Volta, and AMD's unless llama.cpp was built
    with rocWMMA."""
    return backend == "ROCm" or (card.compute_capability is not None and card.compute_capability < (7, 0))


@dataclass(frozen=True, slots=True)
class _PromptRates:
    """What products achieve on a card in FLOP/s, and the B/s of its weights and of its memory."""

    packed: float
    half: float
    reading: float
    bandwidth: float

    def seconds(self, kind: str, flops: float, constants: Constants) -> float:
        """Seconds of ``flops`` on weights of a kind."""
        return flops / (self.half if kind == "float" else self.packed / constants.get(f"prompt {kind}", 1.0))


@cache
def _fitted_prompt(card: Card, backend: str) -> _PromptRates | None:
    return _prompt_rates(card, backend, fitted())


def _prompt_rates(card: Card, backend: str, constants: Constants) -> _PromptRates | None:
    peak, reading = peak_of(card), reading_rate(card, backend, constants)
    if peak is None or reading is None:
        return None
    own = constants.get(f"prompt of {generation_of(card)}", 1.0) * constants.get(f"prompt on {card.name}", 1.0)
    own *= power_ratio(card) ** constants["prompt by power"]
    packed = peak.packed * constants.get(f"prompt/{backend}", constants["prompt/new"]) * own
    half = peak.half * constants.get(f"half/{backend}", constants["half/new"]) * own
    return _PromptRates(packed, half, reading, peak.bandwidth)


def _passed_bytes(work: TokenWork, width: int, constants: Constants, *, flash: bool) -> float:
    """Bytes that a prompt's token moves through the card's memory besides weights and cache: activations of layers, of
    its experts and of recurrent mixers and, without flash attention, the scores of every head."""
    passed = constants["activation passes"] * _FLOAT_BYTES * width * work.layers
    passed += constants["expert passes"] * _FLOAT_BYTES * _expert_activations(work, width)
    passed += constants["recurrent passes"] * work.state
    return passed + (0.0 if flash else constants["score passes"] * _FLOAT_BYTES * work.scores)


def _expert_activations(work: TokenWork, width: int) -> float:
    """Elements between the experts that a token uses: what each takes and gives, ``width`` wide, and its own inner
    ones, which its products' FLOP tell."""
    used = work.expert_layers * work.expert_share * work.expert_count
    return used * width + sum(work.expert_flops.values()) / (2 * _EXPERT_MATRICES * width)


def _attention_seconds(work: TokenWork, rates: _PromptRates, backend: str, constants: Constants) -> float:
    """Seconds of a prompt's token on the cache."""
    rate = rates.half * constants.get(f"attention/{backend}", constants["attention/new"])
    rate /= constants.get(f"latent attention/{backend}", constants["latent attention/new"]) if work.latent else 1.0
    return work.attention_flops / rate


def _expert_seconds(
    work: TokenWork, rates: _PromptRates, backend: str, batch: int, constants: Constants, age: KernelAge
) -> float:
    """Seconds of the products of a micro-batch with experts.

    An expert sees its share of the tokens, and its last tile is computed in full though tokens fill part of it. Where
    kernels do not take all experts at once (16-bit weights; CUDA and ROCm before ``grouped_experts``), each
    touched expert's product is called by itself.
    """
    tile = constants.get(f"tile/{backend}", constants["tile/new"])
    touched = touched_share(work, batch, constants["evenness of routing"])
    padded = 1.0 + padding(batch, work.expert_share, tile, touched)
    cost = constants.get(f"expert prompt/{backend}", constants["expert prompt/new"]) * padded
    products = sum(rates.seconds(kind, amount, constants) for kind, amount in work.expert_flops.items())
    seconds = cost * batch * products + touched * work.experts_held / rates.reading
    alone = work.expert_flops.get("float", 0.0) / (sum(work.expert_flops.values()) or 1.0)
    if not age.grouped and backend in ("CUDA", "ROCm"):
        alone = 1.0
    calls = alone * _EXPERT_MATRICES * work.expert_layers * work.expert_count * touched
    return seconds + calls * constants["expert call"]


def touched_share(work: TokenWork, batch: int, evenness: float) -> float:
    """Share of the experts that at least one of ``batch`` tokens chose.

    Experts are not equally liked: how often each is chosen is spread like a beta distribution around the share that a
    token uses, with ``evenness`` as its first shape parameter (large where all are liked alike). With
    ``work.even_routing`` all are.
    """
    share = work.expert_share
    if share >= 1.0:
        return 1.0
    if work.even_routing:
        return float(1.0 - (1.0 - share) ** batch)
    others = evenness * (1 - share) / share
    both = evenness + others
    return 1.0 - exp(lgamma(others + batch) - lgamma(others) + lgamma(both) - lgamma(both + batch))


def padding(batch: int, active: float, tile: float, touched: float) -> float:
    """Columns computed for nothing against those of tokens: a tile that tokens do not fill where an expert has few of
    them, half a tile for every touched expert where it has many. Small batches get narrower tiles, no more than half of
    the batch and one of the least."""
    if active >= 1.0:
        return 0.0
    tiles = touched * min(tile, _LEAST_TILE + batch / 2) / (batch * active)
    return float(max(tiles - 1.0, tiles / 2))
