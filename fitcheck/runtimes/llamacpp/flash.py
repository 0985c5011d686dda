"""What flash attention is where nobody asks for it, and what it takes to read a quantized cache."""

from __future__ import annotations

from collections.abc import Sequence

from fitcheck.errors import OptionError
from fitcheck.runtimes.llamacpp.arguments import CACHE_TYPES
from fitcheck.runtimes.llamacpp.builds import Build

UNQUANTIZED = ("f16", "bf16", "f32")
CacheTypes = tuple[str, str]  # of K and V


def flash_of(asked: bool | None, build: Build) -> bool | None:
    """``asked``, or off where a build was asked nothing that does not turn it on by itself; ``None`` leaves it to
    llama.cpp. What the fork does by itself is not known and left to it."""
    return False if asked is None and switched(build) else asked


def switched(build: Build) -> bool:
    """Whether ``-fa`` is a switch without a value, and off unless given."""
    return not (build.fork or build.has("automatic_flash"))


def readable(types: Sequence[CacheTypes], *, flash: bool) -> tuple[CacheTypes, ...]:
    """Those of ``types`` that attention can read: only flash attention reads a quantized V."""
    return tuple([one for one in types if flash or one[1] in UNQUANTIZED])


def check_values(values: str, asked: bool | None, build: Build) -> None:
    """Raises OptionError for a quantized V cache where nobody asked a build for the flash attention that it leaves
    off."""
    if asked is None and switched(build) and values in CACHE_TYPES and values not in UNQUANTIZED:
        raise OptionError(
            f"--cache-type: a quantized V cache needs flash attention, which build {build} leaves off unless told; add "
            "--flash-attn on, or quantize K alone, like --cache-type q8_0,f16."
        )
