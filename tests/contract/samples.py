"""A small model of every registered runtime, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fitcheck.hardware.card import Card, Sourced
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.models import catalog
from fitcheck.models.families.language.known_models import known_language_model
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.families.unknown import UnknownArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.workload import Task
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from tests.contract import toy


@dataclass(frozen=True)
class Sample:
    """A question to one runtime. ``foreign`` is an option that it does not have; ``helped`` is a machine (GiB of card
    memory, GiB beside it) that is too small and where a change helps, ``None`` where the runtime proposes none."""

    model: Model
    wanted: Wanted
    foreign: tuple[str, object]
    helped: tuple[int, int] | None


def sample(name: str) -> Sample:
    """What the suite asks of the runtime of that name."""
    return {
        "sensenova": lambda: Sample(
            catalog.get("sensenova-u1-8b-mot"),
            Wanted(tiers=("Q4_K_S",)).with_(size=(1024, 1024)),
            ("ctx", 4096),
            (4, 16),
        ),
        "comfyui": lambda: Sample(
            catalog.get("sensenova-u1-8b-mot"),
            Wanted(tiers=("Q4_K_S",), runtime="comfyui").with_(size=(1024, 1024), prefetch_count=2),
            ("mode", ("low",)),
            (8, 16),
        ),
        "llama.cpp": lambda: Sample(_language(), Wanted().with_(ctx=4096, ngl=99), ("steps", 8), (1, 8)),
        "diffusers": lambda: Sample(
            catalog.get("flux.1-dev"), Wanted(tiers=("Q4_K_S",)).with_(size=(1024, 1024)), ("ctx", 4096), (4, 64)
        ),
        "weights only": lambda: Sample(_unknown(), Wanted(), ("steps", 8), None),
        toy.NAME: lambda: Sample(catalog.get(toy.SLUG), Wanted(), ("ctx", 4096), (1, 8)),
    }[name]()


def _language() -> Model:
    architecture = known_language_model("llama-3.2-1b")
    table = mixture_table(architecture, "Q4_K_M")
    tier = Tier("Q4_K_M", table, "gguf", file="m.gguf", repository="org/repo", disk_bytes=table.nbytes)
    return Model("llama-3.2-1b", "Llama 3.2 1B", architecture, (tier,), (Task.CHAT,), ("llama.cpp",), "org/repo")


def _unknown() -> Model:
    table = TensorTable(Tensor(f"layers.{index}.weight", (8192, 8192), "BF16") for index in range(8))
    tier = Tier("BF16", table, "safetensors", disk_bytes=table.nbytes)
    return Model("org/odd", "odd", UnknownArchitecture("OddModel"), (tier,), (Task.T2I,), ("weights only",))


def card(vendor: str = "NVIDIA", **changes: Any) -> Card:
    """A card like an RTX 4090 that no catalog has."""
    known: dict[str, Any] = {
        "memory": 24 * GIB,
        "memory_bandwidth": 1e12,
        "tensor_flops": Sourced(165e12, "test", "2026-11-26"),
        "shader_flops": 82e12,
        "compute_capability": (8, 9),
        "pcie_generation": 4,
        "pcie_lanes": 16,
    }
    return Card("test-card", "Test Card", vendor, **{**known, **changes})


def machine(vram: int = 24, ram: int | None = 64, link: Link | None = None, of: Card | None = None) -> Machine:
    """One card with ``vram`` GiB to give, ``ram`` GiB beside it."""
    chosen = of or card()
    gpu = Gpu(chosen, link or Link(4, 16), vram_total=vram * GIB, vram_override=vram * GIB)
    return Machine((gpu,), ram_total=None if ram is None else ram * GIB, disk_free=10**12)
