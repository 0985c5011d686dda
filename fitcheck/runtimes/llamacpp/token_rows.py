"""Published rates of llama.cpp (``data/llama_bench_rows.csv``) as questions to the model, one a row.

Rows come from public pages and repositories (column ``source``); reliability A is a llama-bench table, B a server's log
or an owner's own figure. Left out are Apple's chips through Vulkan (a translation layer) and models whose shape is not
in the catalog. Tiers of a publisher's own mixture (``UD-``) take the mixture they are named after, scaled to the size
that the row gives.
"""

from __future__ import annotations

import csv
import re
from datetime import date
from functools import cache
from io import StringIO

from fitcheck.data_files import read_text
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError, ModelError, RecordError
from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, machine_for
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.known_models import known_language_model, known_language_models
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import TensorTable
from fitcheck.models.tier_names import like_published, publisher_of
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.builds import Build, newest_build, parse_build
from fitcheck.runtimes.llamacpp.flash import flash_of
from fitcheck.runtimes.llamacpp.token_rates import data
from fitcheck.units import GIB

_TEST = re.compile(r"(pp|tg)(\d+)(?:@d(\d+))?")
_SERVED = "tg_server"
_SERVED_TOKENS = 250  # what the server rows say they generated, prompt included
_EVERYTHING = 99
_ROCWMMA = date(2025, 8, 1)  # rows of one chip (RDNA 3.5) with rocWMMA are no faster in July, and are in August
_ROOM = 24 * GIB  # a card's room only splits layers between equal cards here
_TIERS = {
    "Q4_K_XL": "Q4_K_M", "Q8_K_XL": "Q8_0", "Q6_K_XL": "Q6_K", "Q5_K_XL": "Q5_K_M", "Q3_K_XL": "Q3_K_M",
}  # fmt: skip
# shapes by the name that llama-bench prints, for rows whose source names no model more exactly
_SHAPES = {
    "qwen35moe 35B.A3B": "qwen3.5-35b-a3b", "qwen35moe 122B.A10B": "qwen3.5-122b-a10b", "qwen35 27B": "qwen3.5-27b",
    "gemma4 26B.A4B": "gemma-4-26b-a4b", "gemma4 31B": "gemma-4-31b", "Gemma 4 E2B": "gemma-4-e2b",
    "Gemma 4 E4B": "gemma-4-e4b", "Qwen 3.5 4B": "qwen3.5-4b", "Qwen 3.5 9B": "qwen3.5-9b",
    "deepseek2 30B.A3B": "glm-4.7-flash", "llama4 17Bx16E (Scout)": "llama-4-scout", "dots1 142B": "dots.llm1",
    "minimax-m2 230B.A10B": "minimax-m2.5", "mistral3 14B": "ministral-3-14b",
}  # fmt: skip
# names that fit two memory sizes of one card with the same rates, and the size that is meant
_SIZED = {"RTX 3060": "RTX 3060 12 GB", "RTX 4060 Ti": "RTX 4060 Ti 16 GB", "RX 580": "Radeon RX 580 8 GB"}


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One published rate with the run it came from. ``host_bandwidth`` in B/s where the source names the memory,
    ``host_read`` where it was read by many threads instead of rated; ``random_weights``: so are the routers'."""

    index: int
    source: str
    card: str
    gpus: tuple[Gpu, ...]
    backend: str
    model: str
    architecture: LanguageArchitecture
    tensors: TensorTable
    scale: float
    result: LlamaEstimate
    prompt: bool
    tokens: int
    depth: int
    served: bool
    day: date | None
    host_bandwidth: float | None
    host_read: bool
    random_weights: bool
    matrix_attention: bool
    threads: int | None
    measured: float
    test: str

    @property
    def placement(self) -> str:
        """ "cpu", "host" (layers or experts there) or "card"."""
        if not self.gpus:
            return "cpu"
        options = self.result.options
        return "card" if self.result.devices.full_offload and not options.cpu_moe_layers else "host"

    @property
    def regime(self) -> str:
        """The group in which the row is summed up: phase, placement, number of cards, dense or MoE."""
        kind = "prompt" if self.prompt else "generation"
        if self.placement != "card":
            return f"{kind}, {self.placement}"
        spread = "several cards, " if len(self.gpus) > 1 else ""
        return f"{kind}, {spread}{'MoE' if self.architecture.experts else 'dense'}"


@cache
def bench_rows() -> tuple[tuple[BenchRow, ...], tuple[str, ...]]:
    """Rows the model can be asked about, and why the others cannot, one sentence each."""
    text = read_text("runtimes.llamacpp", "llama_bench_rows.csv")
    found, skipped = [], []
    for index, row in enumerate(csv.DictReader(StringIO(text))):
        try:
            found.append(_read(index, row))
        except InputError as problem:
            skipped.append(f"row {index}: {row['card']}, {row['model']}: {problem}")
    return tuple(found), tuple(skipped)


def _read(index: int, row: dict[str, str]) -> BenchRow:
    row = {**row, "model_key": row["model_key"] or _shape(row["model"])}
    if row["card_key"].startswith("Apple") and row["backend"] == "Vulkan":
        raise RecordError("Vulkan on Apple's chips is a translation layer")
    architecture = known_language_model(row["model_key"])
    tensors, scale = _table(architecture, row)
    prompt, tokens, depth = _test(row["test"])
    gpus = _gpus(row)
    day = _day(row)
    build = Build(day) if day else newest_build()
    options = LlamaOptions(
        context=max(512, depth + tokens),
        gpu_layers=_layers(row["ngl"], architecture.layers),
        cpu_moe_layers=min(int(row["n_cpu_moe"] or 0), architecture.layers),
        flash_attention=flash_of(_flash(row["flash_attn"]), build),
        cache_type_k=row["type_k"] or "f16",
        cache_type_v=(row["type_v"] or "f16") if row["flash_attn"] == "1" else "f16",
        micro_batch=min(int(row["n_ubatch"] or 512), tokens) if prompt else 512,
        batch=max(2048, int(row["n_ubatch"] or 512)),
        sequences=1,
        program="bench",
        mmap="no-mmap" not in row["notes"],
        build=build,
    )
    return BenchRow(
        index=index, source=row["source"], card=row["card_key"], gpus=gpus, backend=row["backend"],
        model=f"{row['model_key']} {row['quant']}", architecture=architecture, tensors=tensors, scale=scale,
        result=estimate(architecture, tensors, options, vram=[_ROOM] * len(gpus)), prompt=prompt, tokens=tokens,
        depth=depth + tokens // 2, served=row["test"] == _SERVED, day=day, host_bandwidth=_bandwidth(row),
        host_read="measured on such" in row["ram_type_and_speed"], random_weights="random weights" in row["notes"],
        matrix_attention="rocwmma" in row["notes"] and day is not None and day >= _ROCWMMA,
        threads=int(row["threads"]) if row["threads"] else None, measured=float(row["tokens_per_second"]),
        test=row["test"],
    )  # fmt: skip


def _shape(model: str) -> str:
    """The catalog's slug of a printed model name. Raises InputError where there is none."""
    found = next((slug for name, slug in _SHAPES.items() if model.startswith(name)), "")
    if found not in known_language_models():
        raise ModelError("the catalog lacks the model's shape")
    return found


@cache
def _mixture(model: str, tier: str) -> TensorTable:
    return mixture_table(known_language_model(model), tier)


def _table(architecture: LanguageArchitecture, row: dict[str, str]) -> tuple[TensorTable, float]:
    """The table of the tier and how much larger the published file is, for publishers' own mixtures."""
    quant = like_published(row["quant"])
    tier = _TIERS.get(quant, quant)
    table = _mixture(row["model_key"], tier)
    if publisher_of(row["quant"]) and row["file_gib"]:
        return table, float(row["file_gib"]) * GIB / table.nbytes
    return table, 1.0


def _test(text: str) -> tuple[bool, int, int]:
    """(a prompt?, tokens, tokens before them)."""
    if text == _SERVED:
        return False, _SERVED_TOKENS, 0
    found = _TEST.fullmatch(text)
    if found is None:
        raise RecordError(f"the test {text!r} is not one of llama-bench's")
    return found[1] == "pp", int(found[2]), int(found[3] or 0)


def card_named(name: str) -> Card:
    """The card of a row. Raises InputError when no card, or several, are called that."""
    return find_card(_SIZED.get(name, name))


def _gpus(row: dict[str, str]) -> tuple[Gpu, ...]:
    if row["backend"] == "CPU":
        return ()
    return machine_for(card_named(row["card_key"]), count=int(row["card_count"] or 1)).gpus


def _flash(text: str) -> bool | None:
    """llama-bench prints the option where it is not what the build does by itself."""
    return text == "1" if text else None


def _layers(text: str, layers: int) -> int | None:
    if not text or int(text) < 0 or int(text) >= _EVERYTHING:
        return None
    return int(text)


def _day(row: dict[str, str]) -> date | None:
    """When the build was made: by its number, else by the row's date unless that is when a scoreboard was copied."""
    if re.fullmatch(r"b\d{4,}", row["build"]):
        return parse_build(row["build"]).day
    copied = "scoreboard was copied" in row["notes"] or "not in the copy" in row["notes"]
    return parse_build(row["date"]).day if row["date"] and not copied else None


def _bandwidth(row: dict[str, str]) -> float | None:
    """Theoretical B/s of the host's memory where the row names its transfers a second: two channels unless it says.
    Where it names a processor alone, what that is rated for."""
    text = row["ram_type_and_speed"]
    if not text:
        rated = data()["rated_memory"]["processors"].get(row["cpu"])
        return None if rated is None else float(rated)
    told = re.search(r"(\d+) GB/s", text)
    if told:
        return float(told[1]) * 1e9
    speed = re.search(r"DDR\d\w?-(\d{4})", text)
    if speed is None or "unified" in text:
        return None
    return int(speed[1]) * 1e6 * 8 * 2
