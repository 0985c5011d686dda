"""llama.cpp's options as a placement, and back: settings are what differs from llama.cpp's own defaults."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any

from fitcheck.hardware.budget import has_many_channels
from fitcheck.models.workload import Workload
from fitcheck.runtimes.base import Ask, Placement
from fitcheck.runtimes.llamacpp.arguments import (
    MAX_CARDS,
    LlamaOptions,
    device_of,
    device_text,
    override_text,
    parse_overrides,
)
from fitcheck.runtimes.llamacpp.builds import Build, parse_build
from fitcheck.runtimes.llamacpp.token_host import Host

NAME = "llama.cpp"
ALL_LAYERS = 99  # what people write for "all of them"; llama.cpp takes any number that is large enough
_WORKLOAD = "context"  # the one option that belongs to the workload
_BANDWIDTH = "host_bandwidth"


@lru_cache(maxsize=4096)
def placement_of(options: LlamaOptions, layers: int, host_bandwidth: float | None = None) -> Placement:
    """Where ``options`` put a model of ``layers`` layers. ``host_bandwidth`` is what was said of system memory, B/s."""
    usual = LlamaOptions()
    settings: dict[str, Any] = {
        one.name: getattr(options, one.name)
        for one in fields(options)
        if one.name != _WORKLOAD and getattr(options, one.name) != getattr(usual, one.name)
    }
    if "build" in settings:
        settings["build"] = str(options.build)
    if "draft_devices" in settings:
        settings["draft_devices"] = "none" if not options.draft_devices else device_text(options.draft_devices)
    if "overrides" in settings:
        settings["overrides"] = override_text(options.overrides)
    if host_bandwidth is not None:
        settings[_BANDWIDTH] = host_bandwidth
    return Placement(NAME, revision_of(options.build), mode_of(options, layers), tuple(sorted(settings.items())))


@lru_cache(maxsize=4096)
def options_of(placement: Placement, context: int) -> LlamaOptions:
    """The options that a placement means, at that context. Raises OptionError."""
    settings = dict(placement.settings)
    settings.pop(_BANDWIDTH, None)
    if "build" in settings:
        settings["build"] = parse_build(settings["build"])
    if "overrides" in settings:
        settings["overrides"] = parse_overrides(settings["overrides"], MAX_CARDS)
    if "draft_devices" in settings:
        named = () if settings["draft_devices"] == "none" else settings["draft_devices"].split(",")
        settings["draft_devices"] = tuple(device_of(one) for one in named)
    return LlamaOptions(context=context, **settings)


def arguments_of(placement: Placement, workload: Workload) -> LlamaOptions:
    """The options of a placement for a workload."""
    return options_of(placement, workload.context)


def bandwidth_of(placement: Placement) -> float | None:
    """The host's bandwidth in B/s where it was said."""
    value: float | None = placement.get(_BANDWIDTH)
    return value


def host_of(ask: Ask, threads: int | None = None) -> Host:
    """The machine's host as far as it is known, with so many ``threads`` that compute."""
    return Host(bandwidth_of(ask.placement), threads, has_many_channels(ask.machine))


def revision_of(build: Build) -> str:
    """The build as a revision: a date for the newest one, so that a report stays true."""
    return build.day.isoformat() if build.text == "newest" else str(build)


def mode_of(options: LlamaOptions, layers: int) -> str:
    """``"ngl 99, n-cpu-moe 12, cache q8_0"``: what differs from llama.cpp's own defaults."""
    parts = [f"ngl {gpu_layers_flag(options, layers)}"]
    if options.cpu_moe_layers:
        parts.append(f"n-cpu-moe {min(options.cpu_moe_layers, layers)}")
    if options.cache_type_k == options.cache_type_v != "f16":
        parts.append(f"cache {options.cache_type_k}")
    elif options.cache_type_k != options.cache_type_v:
        parts.append(f"cache {options.cache_type_k}/{options.cache_type_v}")
    if options.speculative:
        parts.append(options.speculative)
    if options.draft_layers is not None:
        parts.append(f"ngld {options.draft_layers}")
    if options.workers:
        parts.append(f"rpc {len(options.workers)}")
    if options.split_mode != "layer":
        parts.append(f"split {options.split_mode}")
    return ", ".join(parts)


def gpu_layers_flag(options: LlamaOptions, layers: int) -> int:
    """The number after ``-ngl``; the output counts as one layer more."""
    if options.gpu_layers is None or options.gpu_layers > layers:
        return ALL_LAYERS if layers < ALL_LAYERS else 999 if layers < 999 else layers + 1
    return options.gpu_layers
