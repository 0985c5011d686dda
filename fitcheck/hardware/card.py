"""A card as sold or as detected. Rates in FLOP/s and B/s, memory in bytes; ``None`` is unknown, never a guess."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass


@dataclass(frozen=True, slots=True)
class Sourced:
    """A number with where it came from and when it was read."""

    value: float
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU model.

    ``memory`` is the nominal size in bytes (12 GiB on a "12 GB" card), 0 where the card only shares host RAM.
    ``tensor_flops`` is the dense bf16/fp16 matrix rate with f32 accumulation, without sparsity, as a maker's document
    gives it or derived from one (the source says which); ``shader_flops`` the plain f32 rate, ``boost_clock`` the clock
    in Hz that it holds at. ``form`` is desktop, laptop, workstation, datacenter, integrated, console, embedded or
    mining. ``unified_memory`` means that host and card share one memory.
    """

    slug: str
    name: str
    vendor: str
    memory: int
    form: str = "desktop"
    architecture: str | None = None
    released: str | None = None
    memory_bandwidth: float | None = None
    tensor_flops: Sourced | None = None
    shader_flops: float | None = None
    boost_clock: float | None = None
    compute_capability: tuple[int, int] | None = None
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    unified_memory: bool = False
    power_watts: float | None = None
    launch_price_usd: Sourced | None = None
    corrections: tuple[str, ...] = ()
    chip: str | None = None
    memory_type: str | None = None
    aliases: tuple[str, ...] = ()

    def __hash__(self) -> int:
        # The slug tells cards apart; a hash over every field would cost a sweep over cards much of its time.
        return hash(self.slug)
