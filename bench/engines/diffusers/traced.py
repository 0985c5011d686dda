"""Traces of a pipeline's modules with the inputs that the pipeline itself hands them.

The pipeline runs for real on the CPU, tokenizer, scheduler and latents included; each module runs on fake tensors,
recorded, and hands zeros of the right shape back. Where a pipeline stacks them by the layer, a module whose calls do
not matter hands fake ones back, so that the stack takes no memory either: 49 layers of LTX-2.3 for each of two prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from bench.engines.diffusers.building import empty_module, materialize, pipeline_of, plain_positions
from bench.engines.diffusers.recipes import ComponentRecipe, Recipe, Style
from bench.tracing.recorder import ENTER, LEAVE, Recorder, Recording
from bench.tracing.values import Numbers, Values
from fitcheck.errors import MeasurementError
from fitcheck.runtimes.diffusers.stages import AGAIN, CONTROLLED, FORWARD
from fitcheck.runtimes.diffusers.traces import PLAIN

# whose attention adds a bias of its own: transformers 5.24 hands it to fused kernels as a mask, up to 5.17 it computed
# every score (an H100's encode phase of FLUX.1-dev held 141 MiB more), so that both are recorded
_BIASED = ("T5EncoderModel", "UMT5EncoderModel")

# a transformer that keeps keys and values of what never changes is told so (QwenImage21Transformer2DModel)
_CACHE_MODE, _FILLED, _CACHED = "kv_cache_mode", "extract", "cached"


class Done(Exception):
    """Everything asked for has been recorded."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One recorded call of a module: ``shapes`` of the tensors handed in, in order."""

    component: str
    method: str
    shapes: tuple[tuple[int, ...], ...]
    recording: Recording


@dataclass(slots=True)
class Traced:
    """Modules on fake tensors, kept between calls of the pipeline at several sizes."""

    recipe: Recipe
    mode: FakeTensorMode = field(default_factory=lambda: FakeTensorMode(allow_non_fake_inputs=True))
    modules: dict[str, nn.Module] = field(default_factory=dict)
    seen: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, part in self.recipe.parts.items():
            self.modules[name] = module = self._fake(part)
            if name in self.recipe.style.inside and hasattr(module, "use_tiling"):
                # one tile at a time is what is asked for
                module.__dict__["use_tiling"] = False

    def _fake(self, part: ComponentRecipe) -> nn.Module:
        with plain_positions():
            module = empty_module(part)
        if self.recipe.style.stretch and hasattr(module, "use_framewise_decoding"):
            # one stretch at a time is what is asked for
            module.__dict__["use_framewise_decoding"] = False

        def fill(_: str, parameter: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
            with self.mode:
                return torch.empty(parameter.shape, dtype=dtype, device="cpu")

        materialize(part, module, fill)
        # torch cannot swap fake parameters in place, and the pipeline may upcast its autoencoder
        module.__dict__["to"] = lambda *args, **kwargs: self._cast(part, module, *args, **kwargs)
        return module

    def _cast(
        self, part: ComponentRecipe, module: nn.Module, *args: Any, dtype: torch.dtype | None = None, **_: Any
    ) -> nn.Module:
        """``module.to``, of which only the dtype means anything here."""
        wanted = dtype or next((one for one in args if isinstance(one, torch.dtype)), None)
        if wanted is not None:

            def fill(_: str, parameter: torch.Tensor, __: torch.dtype) -> torch.Tensor:
                with self.mode:
                    return torch.empty(parameter.shape, dtype=wanted, device="cpu")

            materialize(part, module, fill)
        return module

    def calls(
        self, text: int, until: str = "", matter: Collection[str] | None = None, **arguments: Any
    ) -> list[RecordedCall]:
        """Runs the pipeline for a prompt of ``text`` tokens and returns what its modules did at shapes not seen before;
        ends after the component ``until`` has been called. Where only the calls of some components ``matter``, those
        of others are run once, and may hold what only happens the first time."""
        found: list[RecordedCall] = []
        for name, part in self.recipe.parts.items():
            if part.computes != part.dtype:
                self._cast(part, self.modules[name], getattr(torch, part.dtype))
        pipeline = pipeline_of(self.recipe, self.modules, text)
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad(), self._stubs(found, until, matter), suppress(Done):
            pipeline(**arguments)
        return found

    def handed(self, text: int, name: str, **arguments: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the pipeline hands the component ``name`` first, for a prompt of ``text`` tokens: real tensors. Raises
        MeasurementError for a component that it does not call."""
        handed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        module = self.modules[name]
        original = module.forward

        def note(*args: Any, **kwargs: Any) -> Any:
            handed.append((args, kwargs))
            raise Done

        note.__signature__ = signature(original)  # type: ignore[attr-defined]
        pipeline = pipeline_of(self.recipe, self.modules, text)
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad(), self._stubs([], ""), suppress(Done):
            module.__dict__["forward"] = note
            pipeline(**arguments)
        if not handed:
            raise MeasurementError(f"{self.recipe.pipeline} does not call its {name}.")
        return handed[0]

    @contextmanager
    def _stubs(self, found: list[RecordedCall], until: str, matter: Collection[str] | None = None) -> Iterator[None]:
        patched = []
        for name, module in self.modules.items():
            for owner, attribute, method in self._entries(name, module):
                stub = _Stub(self.mode, module, name, method, getattr(owner, attribute), found, until, self.seen,
                             once=matter is not None and name not in matter,
                             style=self.recipe.style)  # fmt: skip
                owner.__dict__[attribute] = stub
                patched.append((owner, attribute))
        try:
            yield
        finally:
            for owner, attribute in patched:
                del owner.__dict__[attribute]

    def _entries(self, name: str, module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
        """(owner, attribute, name in the trace) of what the pipeline calls of a component: a transformer's forward, an
        autoencoder's two halves, or what the recipe names."""
        if name in self.recipe.style.inside:
            path, attribute, method = self.recipe.style.inside[name]
            yield module.get_submodule(path), attribute, method
            return
        methods = ("decode", "encode") if hasattr(module, "decode") else ("forward",)
        yield from ((module, one, self._name(name, one)) for one in methods if hasattr(module, one))

    def _name(self, component: str, method: str) -> str:
        """How a trace calls the method: a denoiser beside a ControlNet is handed what that makes."""
        return CONTROLLED if self.recipe.guide and component in self.recipe.denoisers else method


class _Stub:
    """Stands in for a method of a module."""

    def __init__(
        self, mode: FakeTensorMode, module: nn.Module, name: str, method: str, original: Callable[..., Any],
        found: list[RecordedCall], until: str, seen: dict[Any, Any], once: bool, style: Style,
    ) -> None:  # fmt: skip
        self._inside = name in style.inside  # called by a loop of its component, which may hand over pieces of a tensor
        self._weightless = once and style.stacks
        self._mode, self._module, self._name, self._method = mode, module, name, method
        self._original, self._found, self._until, self._seen, self._once = original, found, until, seen, once
        self.__signature__ = signature(original)  # pipelines made of blocks hand over what it asks for

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        args, kwargs = tree_map(self._fake, (args, kwargs))
        handed = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        # a first call, or the first of a size, may fill caches that later ones read, such as tables of rotations
        method = AGAIN if kwargs.get(_CACHE_MODE) == _CACHED else self._method
        key = (self._name, method, tuple((one.shape, one.dtype) for one in handed))
        if key not in self._seen:
            if not self._once and self._fills_caches(key):
                self._record(args, kwargs, handed, given)
            recording, result, values = self._record(args, kwargs, handed, given)
            self._seen[key] = tree_map(lambda leaf: _shape(leaf, values), result)
            del result
            shapes = tuple(tuple(leaf.shape) for leaf in handed)
            self._found.append(RecordedCall(self._name, method, shapes, recording))
            if type(self._module).__name__ in _BIASED:
                with sdpa_kernel(SDPBackend.MATH):
                    plain, _, _ = self._record(args, kwargs, handed, given)
                self._found.append(RecordedCall(self._name, method + PLAIN, shapes, plain))
        result, fills = self._seen[key], kwargs.get(_CACHE_MODE) == _FILLED
        del args, kwargs
        if self._name == self._until and self._method != "encode" and not fills:
            raise Done
        return tree_map(self._unreal if self._weightless else _real, result)

    def _fills_caches(self, key: tuple[Any, ...]) -> bool:
        of_sizes = type(self._module).__module__.startswith("diffusers.models.transformers")
        return of_sizes or not any(other[:2] == key[:2] for other in self._seen)

    def _record(
        self, args: Any, kwargs: Any, handed: list[torch.Tensor], given: list[torch.Tensor]
    ) -> tuple[Recording, Any, Values]:
        # buffers are real, and stand in the graph as their fake images, which live as long as these
        real = list(self._module.buffers())
        buffers = [self._mode.from_tensor(one) for one in real]
        known = zip((*buffers, *handed), (*real, *given), strict=True)
        values = ((fake, one) for fake, one in known if not isinstance(one, FakeTensor))
        recorder = Recorder([*self._module.parameters(), *buffers, *handed], values)
        events = recorder.recording.events
        if self._method in (FORWARD, CONTROLLED):  # the hooks of the whole module lie around this stub
            events.append((ENTER, ""))
        modes = (self._mode, _quick_masks(), _even_routing(self._module, recorder.values),
                 Numbers(recorder.values), recorder, recorder.modules(self._module))  # fmt: skip
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            result = self._original(*args, **kwargs)
        if self._method in (FORWARD, CONTROLLED):
            events.append((LEAVE, ""))
        results = [one for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
        recorder.close(results)
        recorder.recording.inputs = sum(map(_piece, handed)) if self._inside else _bytes(handed)
        recorder.recording.outputs = _bytes(results)
        return recorder.recording, result, recorder.values

    def _fake(self, leaf: Any) -> Any:
        if isinstance(leaf, FakeTensor) or not isinstance(leaf, torch.Tensor):
            return leaf
        return self._mode.from_tensor(leaf)

    def _unreal(self, leaf: Any) -> Any:
        """A result without memory, real where its value is known: the pipeline may ask for that."""
        if not isinstance(leaf, _Shape) or leaf.value is not None:
            return _real(leaf)
        with self._mode:
            return torch.empty(leaf.shape, dtype=leaf.dtype, device="cpu")


@contextmanager
def _quick_masks() -> Iterator[None]:
    """HunyuanVideo 1.5's autoencoder writes its mask row by row, which takes minutes here and no memory anywhere."""
    from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import HunyuanVideo15AttnBlock

    name = "prepare_causal_attention_mask"
    original = HunyuanVideo15AttnBlock.__dict__[name]

    def filled(n_frame: int, n_hw: int, dtype: Any, device: Any, batch_size: int) -> torch.Tensor:
        side = n_frame * n_hw
        return torch.full((side, side), 0.0, dtype=dtype, device=device).unsqueeze(0).expand(batch_size, -1, -1)

    setattr(HunyuanVideo15AttnBlock, name, staticmethod(filled))
    try:
        yield
    finally:
        setattr(HunyuanVideo15AttnBlock, name, original)


@contextmanager
def _even_routing(module: nn.Module, values: Values) -> Iterator[None]:
    """A mixture of experts as if every expert got as many tokens: where they go hangs on weights."""
    gates = [one for one in module.modules() if type(one).__name__ == "MoEGate"]

    def note(gate: Any, _: Any, chosen: Any) -> None:
        values.number(chosen[0], gate.n_routed_experts)

    handles = [one.register_forward_hook(note) for one in gates]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _piece(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, of one that is cut from another its own."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _bytes(tensors: list[torch.Tensor]) -> int:
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is remembered of a tensor; ``value`` where it is known."""

    shape: torch.Size
    dtype: torch.dtype
    value: torch.Tensor | None


def _shape(leaf: Any, values: Values) -> Any:
    return _Shape(leaf.shape, leaf.dtype, values.of(leaf)) if isinstance(leaf, FakeTensor) else leaf


def _real(leaf: Any) -> Any:
    if not isinstance(leaf, _Shape):
        return leaf
    return torch.zeros(leaf.shape, dtype=leaf.dtype) if leaf.value is None else leaf.value.clone()
