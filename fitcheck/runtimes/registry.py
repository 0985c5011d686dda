"""Every runtime by name. A module is imported when its runtime is asked for, so that a check stays quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any

from fitcheck.errors import OptionError
from fitcheck.models.model import Model
from fitcheck.runtimes.base import Runtime

# name → module that holds it as RUNTIME, in the order in which they are asked
MODULES = {
    "sensenova": "fitcheck.runtimes.sensenova.runtime",
    "comfyui": "fitcheck.runtimes.sensenova.node",
    "llama.cpp": "fitcheck.runtimes.llamacpp.runtime",
    "diffusers": "fitcheck.runtimes.diffusers.runtime",
    "weights only": "fitcheck.runtimes.weights_only.runtime",
}

# name → the dataclass of its options, where it lies in a module of its own: a command line declares every runtime's
# options, and most questions are about one runtime
OPTIONS = {
    "sensenova": "fitcheck.runtimes.sensenova.options.UpstreamOptions",
    "comfyui": "fitcheck.runtimes.sensenova.options.NodeOptions",
    "llama.cpp": "fitcheck.runtimes.llamacpp.options.TextOptions",
    "diffusers": "fitcheck.runtimes.diffusers.options.PipelineOptions",
}

# what another tool wrote → module that reads it with ``read``
IMPORTERS = {
    "llama-bench": "fitcheck.runtimes.llamacpp.llama_bench",
    "sensenova-profile": "fitcheck.runtimes.sensenova.profile_text",
    "optimum-benchmark": "fitcheck.records.importers.optimum_benchmark",
}


def importer(tool: str) -> Callable[..., Iterable[Any]]:
    """The reader of a tool's output."""
    read: Callable[..., Iterable[Any]] = import_module(IMPORTERS[tool]).read
    return read


def names() -> tuple[str, ...]:
    """The registered names, in order."""
    return tuple(MODULES)


def register(name: str, module: str) -> None:
    """Add a runtime: ``module`` holds it as ``RUNTIME``."""
    MODULES[name] = module
    get.cache_clear()


@cache
def get(name: str) -> Runtime:
    """The runtime of that name. Raises OptionError naming those there are."""
    if name not in MODULES:
        raise OptionError(f"--runtime: {name!r} is not known; choose from {', '.join(MODULES)}.")
    runtime: Runtime = import_module(MODULES[name]).RUNTIME
    return runtime


def options_of(name: str) -> type:
    """The options of the runtime of that name, without the rest of it where that can be. Raises OptionError."""
    module, _, kind = OPTIONS.get(name, "").rpartition(".")
    found: type = getattr(import_module(module), kind) if module else get(name).options
    return found


def every() -> tuple[Runtime, ...]:
    """All of them, imported."""
    return tuple(get(name) for name in MODULES)


def serving(model: Model, named: str | None = None) -> tuple[Runtime, ...]:
    """The runtimes in play for ``model``: the one ``named``, else those offered unasked. Raises OptionError when the
    named one does not run it."""
    able = [name for name in MODULES if name in model.runtimes]
    if named is None:
        return tuple(runtime for runtime in map(get, able) if runtime.offered)
    if named not in able:
        known = (
            f"{named!r} is not a runtime that fitcheck models"
            if named not in MODULES
            else (f"fitcheck does not model {model.name} under {named}, whether or not it runs there")
        )
        raise OptionError(f"--runtime: {known}; choose from {', '.join(able) or 'none'}.")
    return (get(named),)
