"""What a LoRA makes beside a denoiser, from the plain call, beside a run of the module that peft has changed."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
from test_pipeline_traces import as_events, request_of
from torch import nn

from bench.engines.diffusers.lora_weights import pairs_in
from bench.engines.diffusers.recipes import Recipe, recipe
from bench.engines.diffusers.surveys import PipelineSurvey
from bench.engines.diffusers.tiny import tiny
from bench.engines.diffusers.traced import Traced
from bench.tracing.recorder import Recording
from fitcheck.runtimes.diffusers.lora import Pairs, matrix_work, with_pairs
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, Event


def recorded(found: Recipe, slug: str, spec: str, *, beside: bool) -> tuple[Recording, Pairs]:
    """The denoiser's first call, and the pairs that the LoRA has in it."""
    traced, name = Traced(found), found.denoisers[0]
    module = traced.modules[name]
    pairs = pairs_in(module, spec)
    if beside:
        _inject(traced, module, pairs, getattr(torch, found.parts[name].computes))
    request = request_of(slug, given=False)
    calls = traced.calls(request.text, name, None, **PipelineSurvey(recipe(slug)).arguments(request))
    return next(one.recording for one in calls if one.component == name), pairs


def _inject(traced: Traced, module: nn.Module, pairs: Pairs, dtype: Any) -> None:
    """peft's own layers, as ``load_lora_weights`` puts them there, with fake matrices."""
    cast = module.__dict__.pop("to")
    rank = next(iter(pairs.values())).rank
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, target_modules=list(pairs)), module, low_cpu_mem_usage=True)
    module.__dict__["to"] = cast
    for path, one in module.named_modules():
        if path.endswith((".lora_A.default", ".lora_B.default")):
            with traced.mode:
                one.weight = nn.Parameter(torch.empty(one.weight.shape, dtype=dtype, device="cpu"), requires_grad=False)


def events_of(recording: Recording) -> list[Event]:
    return [
        Event(kind, path=value) if kind in (ENTER, LEAVE) else Event(kind, value)
        for kind, value in as_events(recording)
    ]


def memory(events: list[Event]) -> list[tuple[int, int]]:
    return [(one.kind, one.value) for one in events if one.kind in (ALLOCATE, FREE)]


def entered(events: list[Event], pairs: Pairs) -> list[str]:
    """The matrices in the order in which they are multiplied with, as leaves are called here."""
    ends = tuple(f"{path}.{name}" for path in pairs for name in ("lora_A", "lora_B"))
    found = (one.path.removesuffix(".default") for one in events if one.kind == ENTER)
    return [path for path in found if path in ends]


@pytest.mark.parametrize("spec", ["16", "4:to_q,to_v"])
@pytest.mark.parametrize("slug", ["flux.1-dev", "sdxl", "wan2.2-ti2v-5b", "z-image", "qwen-image"])
def test_every_tensor_of_peft_is_foreseen(slug: str, spec: str) -> None:
    found = tiny(recipe(slug))
    plain, pairs = recorded(found, slug, spec, beside=False)
    real, _ = recorded(found, slug, spec, beside=True)
    assert pairs
    said, seen = list(with_pairs(events_of(plain), pairs)), events_of(real)
    assert memory(said) == memory(seen)
    assert entered(said, pairs) == entered(seen, pairs)
    flops, moved = matrix_work(events_of(plain), pairs)
    assert flops == real.flops - plain.flops
    assert moved == pytest.approx(real.moved - plain.moved, rel=0.01)
