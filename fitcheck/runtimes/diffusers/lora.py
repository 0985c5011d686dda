"""A LoRA that lies beside a denoiser, not fused: which layers it changes, its matrices, and the tensors that they make.

peft puts two linear layers beside each linear that a LoRA changes, and adds what they make to its result (peft 0.21.2,
tuners/lora/layer.py, ``Linear.forward``: ``result + lora_B(lora_A(x)) * scaling``). Matrices are in the 16 bit that the
denoiser computes in: peft casts them to the type of the layer they lie beside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import NamedTuple

from fitcheck.errors import OptionError
from fitcheck.models.families.pipeline.architecture import DENOISER, Component, PipelineArchitecture
from fitcheck.models.families.pipeline.tables import LINEAR, entries
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, Call, Event, Trace, trace_of
from fitcheck.runtimes.options import BARE

# ai-toolkit's rank, in every linear of the blocks: 172 MB for FLUX.1 in 16 bit, the size of most of its LoRAs
USUAL_RANK, MAXIMUM_RANK = 16, 4096
_WIDTH = 2  # bytes of a number
# matrix products, scaled result and sum of one layer
_TENSORS = 4
MATRICES = ("lora_A", "lora_B")
_SPEC = re.compile(r"(?P<rank>\d{1,18})(?::(?P<layers>[A-Za-z0-9_.*]+(?:,[A-Za-z0-9_.*]+)*))?")


class MatrixPair(NamedTuple):
    """The two matrices beside a linear layer of ``inputs`` to ``outputs``: ``rank`` × inputs and outputs × rank."""

    rank: int
    inputs: int
    outputs: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of each matrix."""
        return _WIDTH * self.rank * self.inputs, _WIDTH * self.rank * self.outputs


Pairs = Mapping[str, MatrixPair]


def is_spec(text: str) -> bool:
    """Whether it says what a LoRA is like, and is not the name of a file."""
    return text.strip() in ("", BARE, "True") or _SPEC.fullmatch(text.strip()) is not None


def spec_of(rank: int, layers: Iterable[str] = ()) -> str:
    """``"16"``, or with the layers that it changes, by their last names or whole with * for numbers
    (``"16:to_k,to_q"``, ``"16:transformer_blocks.*.attn.to_k"``)."""
    named = list(dict.fromkeys(layers))
    return f"{rank}:{','.join(named)}" if named else str(rank)


def read_spec(value: str | int | bool) -> str:
    """What was typed or handed in, in one form; empty for nothing. Raises OptionError for a rank that cannot be; the
    name of a file stays as it is."""
    if value is False:
        return ""
    text = str(value)
    if not is_spec(text):
        return text
    found = _SPEC.fullmatch(text.strip())
    if found is None:
        return str(USUAL_RANK)
    rank, layers = int(found["rank"]), found["layers"]
    if not 1 <= rank <= MAXIMUM_RANK:
        raise OptionError(f"{rank} is no rank of a LoRA; give 1 to {MAXIMUM_RANK}, like {USUAL_RANK}.")
    return spec_of(rank, layers.split(",") if layers else ())


def written(spec: str) -> str:
    """The same in letters that a record's policy may have: ``"16-to_k-to_q"``, and nothing for each *."""
    return spec.translate({ord(":"): "-", ord(","): "-", ord("*"): None})


def unwritten(word: str) -> str:
    """What ``written`` was made of."""
    rank, *layers = word.split("-")
    named = (".".join(part or "*" for part in one.split(".")) for one in layers)
    return ":".join(filter(None, (rank, ",".join(named))))


def changed(spec: str, linears: Iterable[tuple[str, tuple[int, ...]]], *, unet: bool) -> Pairs:
    """Of the linear layers (path, shape of the weight) those in blocks that the LoRA changes; of a U-Net those in its
    transformers, as its LoRAs have them."""
    rank, _, layers = spec.partition(":")
    named = tuple(layers.split(",")) if layers else ()
    return {
        path: MatrixPair(int(rank), shape[1], shape[0])
        for path, shape in linears
        if in_block(path, unet=unet) and (not named or any(_means(one, path) for one in named))
    }


def _means(name: str, path: str) -> bool:
    return numberless(path) == name if "*" in name else path == name or path.endswith(f".{name}")


def numberless(path: str) -> str:
    """``"blocks.7.attn.to_out.0"`` → ``"blocks.*.attn.to_out.*"``."""
    return ".".join("*" if part.isdecimal() else part for part in path.split("."))


def in_block(path: str, *, unet: bool) -> bool:
    """Whether a layer lies in an entry of a list of modules, and is not itself one."""
    parts = path.split(".")
    return any(part.isdecimal() for part in parts[:-1]) and (not unet or "attentions" in parts)


def linears_of(component: Component) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Path and weight's shape of every linear layer of a component of the catalog."""
    for one in entries(component.trace or ""):
        path, weight, _ = one.name.rpartition(".weight")
        if weight and one.role == LINEAR and len(one.shape) == 2:
            yield path, one.shape


@lru_cache(maxsize=64)
def pairs_of(component: Component) -> Pairs:
    """The matrices of ``component.lora``; none without one, or where the component's layers are not known."""
    if not component.lora or component.trace is None:
        return {}
    return changed(component.lora, linears_of(component), unet=is_unet(component.cls))


def is_unet(cls: str) -> bool:
    """Whether a denoiser of the class has its linear layers in transformers between convolutions."""
    return cls.startswith("UNet")


@lru_cache(maxsize=256)
def with_lora(arch: PipelineArchitecture, spec: str) -> PipelineArchitecture:
    """The pipeline with such a LoRA beside each of its denoisers."""
    return replace(
        arch, components=tuple(replace(one, lora=spec) if one.role == DENOISER else one for one in arch.components)
    )


@lru_cache(maxsize=64)
def component_trace(component: Component) -> Trace | None:
    """The packed trace of a component, with what its LoRA makes in it; ``None`` where there is no trace."""
    found = trace_of(component.trace, component.dtype)
    return found if found is None or not component.lora else TraceWithLora(found, pairs_of(component))


class TraceWithLora(Trace):
    """The calls of a component whose linears have a LoRA beside them."""

    def __init__(self, plain: Trace, pairs: Pairs) -> None:
        self.key, self.software = plain.key, plain.software
        self.calls = {name: CallWithLora(one, pairs) for name, one in plain.calls.items()}


class CallWithLora(Call):
    """A call in which every linear of ``pairs`` is followed by what its matrices make."""

    def __init__(self, plain: Call, pairs: Pairs) -> None:
        vars(self).update(vars(plain))
        self._plain, self._pairs = plain, pairs

    def events(self, sizes: Mapping[str, int], without: frozenset[int] = frozenset()) -> Iterator[Event]:
        """Everything in order."""
        return with_pairs(self._plain.events(sizes, without), self._pairs)

    def shortened(self, sizes: Mapping[str, int]) -> tuple[list[Event], int]:
        """Of the blocks that are left out as many matrices are."""
        events, left_out = self._plain.shortened(sizes)
        found = list(with_pairs(events, self._pairs))
        seen = sum(event.kind == ENTER and event.path in self._pairs for event in events)
        return found, left_out + _TENSORS * (self._runs - seen)

    @cached_property
    def _runs(self) -> int:
        """How many linears with matrices run in the call."""
        there = {number for number, path in enumerate(self._paths) if path in self._pairs}
        return sum(code & 3 == ENTER and code >> 2 in there for code in self._packed)

    def total(self, name: str, sizes: Mapping[str, int]) -> int:
        """With the operations and the bytes of the matrices' products."""
        found = self._plain.total(name, sizes)
        if name not in ("flops", "moved"):
            return found
        flops, moved = _work(self._plain, tuple(sorted(sizes.items())), tuple(self._pairs.items()))
        return found + (flops if name == "flops" else moved)


@lru_cache(maxsize=64)
def _work(
    plain: Call, sizes: tuple[tuple[str, int], ...], pairs: tuple[tuple[str, MatrixPair], ...]
) -> tuple[int, int]:
    return matrix_work(plain.events(dict(sizes)), dict(pairs))


def matrix_work(events: Iterable[Event], pairs: Pairs) -> tuple[int, int]:
    """Floating point operations, and bytes read and written, of all the matrices in a plain call's events, with scaling
    and sum."""
    flops = moved = 0
    for path, nbytes in _results(events, pairs):
        pair = pairs[path]
        rows = nbytes // (_WIDTH * pair.outputs)
        flops += 2 * rows * pair.rank * (pair.inputs + pair.outputs)
        narrow, handed = _WIDTH * rows * pair.rank, _WIDTH * rows * pair.inputs
        # x and A give the narrow product, it and B the wide one; scaling reads and writes it, the sum reads it and the
        # layer's own result and writes a third
        moved += handed + 2 * narrow + sum(pair.sizes) + 6 * nbytes
    return flops, moved


def _results(events: Iterable[Event], pairs: Pairs) -> Iterator[tuple[str, int]]:
    """(path, bytes of its result) of each linear with matrices, as it ends: what it allocated last."""
    last = 0
    for event in events:
        if event.kind == ALLOCATE:
            last = event.value
        elif event.kind == LEAVE and event.path in pairs:
            yield event.path, last


def with_pairs(events: Iterable[Event], pairs: Pairs) -> Iterator[Event]:
    """The events with those of the matrices behind each of their linears, and numbers of allocations that count them.
    What was the linear's result goes, and the sum takes its place."""
    numbers: list[int] = []  # of each allocation of the plain call its number here
    made = last = 0
    for event in events:
        if event.kind == ALLOCATE:
            numbers.append(made)
            made, last = made + 1, event.value
            yield event
        elif event.kind == FREE:
            yield Event(FREE, numbers[event.value])
        else:
            yield event
            if event.kind == LEAVE and event.path in pairs:
                yield from _added(event.path, pairs[event.path], last, made, numbers[-1])
                made += _TENSORS
                numbers[-1] = made - 1


def _added(path: str, pair: MatrixPair, result: int, made: int, own: int) -> Iterator[Event]:
    """The narrow product, the wide one, it scaled, and the sum with the layer's ``own`` result of so many bytes."""
    narrow, wide, scaled = made, made + 1, made + 2
    for name, nbytes in zip(MATRICES, (result * pair.rank // pair.outputs, result), strict=True):
        yield Event(ENTER, path=f"{path}.{name}")
        yield Event(ALLOCATE, nbytes)
        yield Event(LEAVE, path=f"{path}.{name}")
    yield Event(FREE, narrow)
    yield Event(ALLOCATE, result)
    yield Event(FREE, wide)
    yield Event(ALLOCATE, result)
    yield Event(FREE, scaled)
    yield Event(FREE, own)
