"""What the usual questions come to, worked out beforehand: sums over a component's weights, and peaks of its calls.

``data/packed/<trace>.json`` holds, for a component of the catalog, what ``weights`` and ``activations`` work out from
its tensor table and its trace, for every way to store it, the sizes that ``check`` asks for when nobody names any, and
those that pages ask for; ``scripts/pack_pipeline_estimates.py`` writes it with these very functions, and a test holds
it to them. A file speaks only while the data that it was worked out from are the same to the byte (a checksum of each
is in it), and for a component that is the same in all that its weights and calls depend on. Everything else is worked
out when it is asked.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any

from fitcheck.data_files import path_of, read_text
from fitcheck.models.families.pipeline.architecture import Component
from fitcheck.runtimes.diffusers.tiling import ROOM

FOLDER = "packed"
# raised when what a pack says means something else
_VERSION = 9
IN_TURN = "in_turn"
# (room, file) that everything here was worked out from, beside the traces
_FACTS = (
    ("models.families.pipeline", "tables"),
    ("models.families.pipeline", "components"),
    ("models.families.pipeline", "gguf"),
    (ROOM, "workspaces"),
    ("memory", "dequantization"),
)
Sizes = tuple[tuple[str, int], ...]
# calls one after the other, each with how many times its result lies there already, and the scheme of weights that are
# dequantized in it
Turn = tuple[tuple[Component, str, Sizes, float, str], ...]


@cache
def facts_checksum() -> int:
    """Of the data files that every pack depends on, and of what a pack says."""
    found = _VERSION
    for room, name in _FACTS:
        found = zlib.crc32(read_text(room, f"{name}.json").encode(), found)
    return found


@cache
def trace_checksum(key: str) -> int | None:
    """Of a packed trace; ``None`` where there is none."""
    file = path_of(ROOM, f"traces/{key}.json.gz")
    return zlib.crc32(file.read_bytes()) if file.is_file() else None


def trace_key(component: Component) -> str:
    """The name of the component's trace."""
    return f"{component.trace or ''}{_suffix(component)}"


def _suffix(component: Component) -> str:
    return ".fp32" if component.dtype == "fp32" else ""


def identity(component: Component) -> list[Any]:
    """All of a component that its weights and calls depend on beside its trace, as JSON has it."""
    lists = (component.lists, component.recursed, component.uncast, component.single_precision, component.unquantized)
    plain = (component.cls, component.role, component.dtype, component.stored, component.buffers)
    return [*plain, *map(list, lists), *([component.lora] if component.lora else [])]


def call_name(call: str, sizes: Sizes) -> str:
    """How a pack names a call at its sizes."""
    return " ".join([call, *(f"{name}={value}" for name, value in sizes)])


@cache
def _file(name: str) -> Mapping[str, Any] | None:
    """A pack that was made from the data that are here."""
    file = path_of(ROOM, f"{FOLDER}/{name}.json")
    if not name.replace("-", "").replace(".", "").replace("_", "").isalnum() or not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found if found["facts"] == facts_checksum() else None


@lru_cache(maxsize=1024)
def _part(component: Component) -> Mapping[str, Any] | None:
    """What is packed of a component as it is here."""
    found = None if component.trace is None else _file(component.trace)
    if found is None:
        return None
    mine = identity(component)
    return next((one for one in found["parts"] if one["identity"] == mine), None)


def weights(component: Component, scheme: str) -> Mapping[str, Any] | None:
    """Sums over the weights as ``scheme`` stores them, by the names of ``ModuleWeights``."""
    part = _part(component)
    return None if part is None else part["weights"].get(scheme)


@lru_cache(maxsize=1024)
def _calls(component: Component) -> Mapping[str, Any] | None:
    part = _part(component)
    if part is None or part["trace"] is None or part["trace"] != trace_checksum(trace_key(component)):
        return None
    calls: Mapping[str, Any] = part["calls"]
    return calls


def call(component: Component, method: str, sizes: Sizes) -> Mapping[str, Any] | None:
    """What a call comes to, by the names of ``CallFacts``, and in ``more`` what dequantizing adds by scheme."""
    calls = _calls(component)
    return None if calls is None else calls.get(call_name(method, sizes))


def has_calls(component: Component) -> bool:
    """Whether something is packed of the component's trace."""
    return _calls(component) is not None


def moved(component: Component, method: str, sizes: Sizes, scheme: str | None) -> tuple[int, ...] | None:
    """What a call and the layers that come and go in it come to, by the names of ``Forwards``."""
    known = None if scheme is None else call(component, method, sizes)
    found = None if known is None or scheme is None else known["moved"].get(scheme)
    return None if found is None else tuple(found)


def in_turn(turn: Turn) -> tuple[int, ...] | None:
    """Bytes that the allocator holds after each of the calls."""
    found = _file(IN_TURN)
    if found is None or any(_calls(component) is None for component, *_ in turn):
        return None
    held = found["calls"].get(digest_of(in_turn_name(turn)))
    return None if held is None else tuple(held)


def whole(name: str | None) -> int | None:
    """Bytes that a run reserves which was replayed whole."""
    found = _file(IN_TURN)
    return None if found is None or name is None else found["whole"].get(name)


def digest_of(name: str) -> str:
    """What stands in a pack for a name of several calls, which may have hundreds of letters."""
    return sha256(name.encode()).hexdigest()[:16]


def in_turn_name(turn: Turn) -> str:
    """Calls one after the other, in words."""
    return "; ".join(
        f"{trace_key(component)}{_with_lora(component)} {call_name(method, sizes)}"
        + (f" beside {beside:.4f}" if beside else "")
        + (f" of {how}" if how else "")
        for component, method, sizes, beside, how in turn
    )


def _with_lora(component: Component) -> str:
    return f" lora {component.lora}" if component.lora else ""
