"""The constants of llama.cpp's tokens per second before any row: each with its prior, its meaning and the stage of
rows that it is fitted on, and those that no row can tell and that are assumed.

``fit_tokens.py`` fits them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fitcheck.runtimes.llamacpp import token_rates
from fitcheck.runtimes.llamacpp.token_rows import BenchRow

LATENT_CACHE = "cost of a byte of a latent cache against a plain one: every head computes on it"
DEVIATION = 0.20  # prior sd of a generation's deviation
CARD_READING, CARD_PROMPT = 0.08, 0.15  # prior sd of a card's deviation from its generation


@dataclass(frozen=True)
class Parameter:
    """``prior`` and ``sd`` (of its logarithm) are what is believed before any row. With ``near`` the belief is about
    the ratio to that parameter: a back end's constant lies around what all back ends show."""

    name: str
    prior: float
    sd: float
    meaning: str
    near: str | None = None


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
    add(Parameter("share/new", 0.76, 0.1, "share of the published bandwidth: what all back ends lie around"))
    add(Parameter("layer/new", 2e-5, 0.5, "seconds of a layer's launches and small kernels: all back ends"))
    add(Parameter("cache/new", 1.5, 0.4, "cost of a byte of cache against a byte of weights: all back ends"))
    add(Parameter("latent cache/new", 2.0, 0.5, f"{LATENT_CACHE}: all back ends"))
    add(Parameter("read float/new", 0.95, 0.1, "cost of a byte of 16-bit weights against 4-bit ones: all back ends"))
    for backend in backends:
        for name, prior, sd, meaning in (
            ("share", 0.76, 0.10, "share of the published bandwidth that 4-bit weights are read with"),
            ("layer", 2e-5, 0.50, "seconds of one layer's launches and small kernels"),
            ("cache", 1.5, 0.40, "cost of a byte of cache against a byte of 4-bit weights"),
            ("latent cache", 2.0, 0.50, LATENT_CACHE),
            ("read float", 0.95, 0.10, "cost of a byte of 16-bit weights against 4-bit ones"),
        ):
            add(Parameter(f"{name}/{backend}", prior, sd, meaning, near=f"{name}/new"))
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
    add(Parameter("decode", 16.0, 0.3, "instructions of a core for each byte of quantized weights of a token"))
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
    add(Parameter("expert layer", 1.0, 0.5, "launches that routing and experts add to a layer, in layers"))
    add(Parameter("layer without flash attention", 0.5, 0.5, "launches that attention in pieces adds, in layers"))
    add(Parameter("layer before fusion", 1.3, 0.3, "launches of a layer before small kernels were fused, in layers"))
    add(
        Parameter(
            "expert layer before fusion", 2.0, 0.4, "launches of routing before it was one kernel, in those of today"
        )
    )
    add(Parameter("recurrent layer", 1.0, 0.5, "launches that a recurrent mixer adds, in layers"))
    add(Parameter("token", 2e-4, 0.5, "seconds a token costs besides: graph, sampling, synchronisation"))
    add(Parameter("served", 1.03, 0.015, "seconds of a token in a server's short chat against llama-bench"))
    add(Parameter("card boundary", 1.5e-4, 0.6, "seconds of passing a token from one card to the next"))
    for generation in generations(mine):
        add(Parameter(f"share of {generation}", 1.0, DEVIATION * 0.6, "deviation of the generation's share"))
    for card in cards(mine):
        add(Parameter(f"share on {card}", 1.0, CARD_READING, "deviation of the card's share from its generation's"))
    return stage


def prompt_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("prompt", lambda row: row.prompt and row.placement == "card")
    add = stage.parameters.append
    mine = [row for row in rows if stage.wants(row)]
    for name, prior, sd, deviation, meaning in PROMPT_PRIORS:
        add(Parameter(f"{name}/new", prior, sd, f"{meaning}: what all back ends lie around"))
        for backend in sorted({row.backend for row in mine}):
            own = BACKEND_PRIORS.get((name, backend), prior)
            add(Parameter(f"{name}/{backend}", own, deviation, meaning, near=f"{name}/new"))
    add(
        Parameter(
            "evenness of routing", 0.5, 1.0,
            "first shape parameter of the beta distribution of how often experts are chosen: large where all are liked "
            "alike; as the products tell that prompts compute on cards",
        )
    )  # fmt: skip
    add(
        Parameter(
            "expert call", 1e-5, 0.5,
            "seconds of calling one expert's product by itself: 16-bit weights; CUDA, ROCm before one kernel took all",
        )
    )  # fmt: skip
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
        Parameter(
            "expert passes", 5.0, 0.5,
            "times the activations of the experts that a token uses (their number × width in and out, and their own "
            "inner ones, f32) cross the memory: gathered, packed for the product, gated, weighed, summed",
        )
    )  # fmt: skip
    add(
        Parameter(
            "recurrent passes", 0.4, 1.0,
            "bytes that a recurrent mixer moves for each token of a prompt against those of its state: some 25 passes "
            "over its activations, which are as wide as 1/64 of the state",
        )
    )  # fmt: skip
    add(
        Parameter(
            "prompt by power", 0.4, 0.4, "exponent of the rate in the power a maker allows for each TFLOP/s of peak"
        )
    )
    add(
        Parameter(
            "score passes", 8.0, 0.5,
            "times the scores of a prompt's attention (tokens × cells × heads, f32) cross the card's memory without "
            "flash attention",
        )
    )  # fmt: skip
    add(
        Parameter(
            "prompt layer", 1e-4, 0.7,
            "seconds of a layer of a prompt, and of routing its experts, that no amount of tokens explains: starts and "
            "ends of some fifteen kernels, which no recorded graph launches",
        )
    )  # fmt: skip
    add(
        Parameter(
            "attention before tiles", 10.0, 0.7,
            "cost of flash attention on plain cores before September 2025 (Pascal and older, ROCm) against later",
        )
    )  # fmt: skip
    add(
        Parameter(
            "before integer tiles", 1.25, 0.3, "seconds of quantized prompts on CUDA before June 2024 against later"
        )
    )
    add(
        Parameter(
            "young chip", 1.3, 0.3, "seconds of a prompt by build as old as the chip against one a year later, factor"
        )
    )
    add(
        Parameter(
            "slowest card", 1.5, 0.3,
            "seconds that the slowest of several cards takes for its layers of a micro-batch, waits included, against "
            "the mean card's",
        )
    )  # fmt: skip
    for generation in generations(mine):
        prior = GENERATION_PRIORS.get(generation, (1.0, ""))[0]
        add(Parameter(f"prompt of {generation}", prior, DEVIATION * 1.5, "deviation of the generation's rate"))
    for card in cards(mine):
        add(Parameter(f"prompt on {card}", 1.0, CARD_PROMPT, "deviation of the card's rate from its generation's"))
    return stage


# prior, its sd, sd of a back end's deviation: order of magnitude from the makers' rates and what kernels usually reach
PROMPT_PRIORS = (
    ("prompt", 0.35, 0.4, 0.4, "share of the packed rate that products of quantized weights achieve"),
    ("half", 0.4, 0.4, 0.4, "share of the half-precision rate that products of 16-bit weights achieve"),
    ("attention", 0.4, 0.5, 0.4, "rate of attention against products of 16-bit weights"),
    ("latent attention", 1.3, 0.4, 0.4, "cost of attention on a latent cache against plain attention, per FLOP"),
    ("expert prompt", 1.1, 0.3, 0.25, "cost of products of experts against dense ones, full tiles"),
    ("tile", 64.0, 0.5, 0.3, "columns of a tile of products with experts"),
    ("age", 1.12, 0.1, 0.1, "seconds of a prompt by year of the build's age, factor"),
)
# Metal's rate is the plain one of its cores, which kernels reach nearly; the others' is that of matrix units
# Tiles as the kernels have them: 32 columns in ggml-metal (BLOCK_SIZE_N), up to 128 with matrix units in the mmq of
# ggml-cuda, which ROCm builds compile too (mmq.cuh, get_mmq_x_max_host)
BACKEND_PRIORS = {
    ("prompt", "Metal"): 0.65, ("half", "Metal"): 0.7, ("tile", "Metal"): 32.0, ("tile", "CUDA"): 128.0,
    ("tile", "ROCm"): 128.0,
}  # fmt: skip
GENERATION_PRIORS = {
    "sm 6.0": (0.25, "no dp4a"), "sm 6.1": (0.5, "dp4a: half of a tile's rate"),
    "sm 7.0": (0.5, "no integer matrix units"),
}  # fmt: skip


def host_stage(rows: Sequence[BenchRow]) -> Stage:
    stage = Stage("host generation", lambda row: not row.prompt and row.placement in ("host", "cpu"))
    add = stage.parameters.append
    add(Parameter("host share", 0.65, 0.2, "share of the host memory's rated bandwidth that CPU kernels read with"))
    add(
        Parameter(
            "host share of a read", 0.9, 0.1,
            "share of what many threads read from the host's memory that CPU kernels read weights with",
        )
    )  # fmt: skip
    add(Parameter("host expert read", 1.05, 0.05, "cost of a byte of a chosen expert against a dense one on the host"))
    add(Parameter("host read MXFP4", 1.1, 0.15, "cost of a byte of MXFP4 against 4-bit ones on the host"))
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
    add(Parameter("host flops a thread", 1e11, 0.6, "FLOP/s of one thread in products of 4-bit weights"))
    for kind in ("float", "Q8_0", "Q6_K", "Q5", "Q3", "Q2", "IQ", "MXFP4"):
        add(
            Parameter(
                f"host prompt {kind}",
                {"IQ": 2.5, "float": 1.5, "MXFP4": 1.3}.get(kind, 1.2),
                0.4,
                f"cost of a product of {kind} against 4-bit ones on the host",
            )
        )
    add(
        Parameter(
            "host prompt experts", 2.0, 0.4,
            "cost of a product of an expert against a dense one on the host: ggml-cpu multiplies one token at a time "
            "with an expert and unpacks its weights for each (repack.cpp, forward_mul_mat_id)",
        )
    )  # fmt: skip
    add(
        Parameter(
            "pageable copy", 9e9, 0.25, "B/s that a driver carries a mapped file with: one core's copy into its buffer"
        )
    )
    add(
        Parameter(
            "before host tiles", 2.0, 0.4, "seconds of a prompt on the host before its products were tiled (April 2024)"
        )
    )
    add(
        Parameter(
            "evenness of carried experts", 0.5, 1.0,
            "the same as evenness of routing, as the bytes tell that cross the link for a prompt",
        )
    )  # fmt: skip
    add(Parameter("carried", 1.0, 0.25, "seconds of carrying host weights over the link against the link's own rate"))
    return stage


STAGES = (generation_stage, prompt_stage, host_stage, host_prompt_stage)


def generations(rows: Iterable[BenchRow]) -> list[str]:
    return sorted({token_rates.generation_of(gpu.card) for row in rows for gpu in row.gpus})


def cards(rows: Iterable[BenchRow]) -> list[str]:
    """Names of the cards that rows ran on."""
    return sorted({gpu.card.name for row in rows for gpu in row.gpus})


ASSUMED: dict[str, Any] = {
    "host_usual": {
        "desktop": {"low": 3.8e10, "best": 6.0e10, "high": 1.02e11},
        "server": {"low": 8.5e10, "best": 2.0e11, "high": 4.6e11},
        "threads": {"low": 4, "best": 8, "high": 24},
        "meaning": "rated B/s of a host's memory and its threads where nobody said: assumed, not fitted",
        "source": "JEDEC rates, 8 bytes a transfer and channel: two channels of DDR4-2400 to DDR5-6400; servers four "
        "of DDR4-2666 to twelve of DDR5-4800",
    },
    "rated_memory": {
        "processors": {"AMD Ryzen-7950X": 8.32e10, "Intel Core i7-8700": 4.2656e10},
        "meaning": "B/s of the fastest memory that a processor is rated for, where a row names it and no memory: two "
        "channels of DDR5-5200, of DDR4-2666",
        "source": "https://www.hardwaretimes.com/amd-ryzen-7000-cpus-to-support-ddr5-5200-memory-out-of-the-box-"
        "2-channels-per-dimm/, https://www.golem.de/news/coffee-lake-intel-verkauft-sechs-kerne-fuer-unter-200-euro-"
        "1709-130248.html (read 2026-11-27)",
    },
    "configurable_power": {
        "watts": {"Radeon 8060S": 120, "Radeon 8050S": 120},
        "meaning": "the most that the maker of a machine may let the whole chip take; its published 55 W are the least "
        "usual of 45 to 120",
        "source": "https://www.svethardware.cz/"
        "amd-predstavuje-ryzen-ai-max-strix-halo-s-az-16-jadry-a-gpu-se-40-cu/61477 (read 2026-11-26)",
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
