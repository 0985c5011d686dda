"""Every runtime that the bench can measure, by name. A module is imported when its runtime is asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from bench.engines.base import Driver
from bench.job import Job, Request
from fitcheck.errors import MeasurementError
from fitcheck.models import catalog

# runtime → module that holds its driver as DRIVER, in the order in which they are asked
MODULES = {
    "sensenova": "bench.engines.sensenova.driver",
    "llama.cpp": "bench.engines.llamacpp.driver",
    "diffusers": "bench.engines.diffusers.driver",
}


def names() -> tuple[str, ...]:
    """The runtimes that can be measured, in order."""
    return tuple(MODULES)


def register(name: str, module: str) -> None:
    """Add a runtime: ``module`` holds its driver as ``DRIVER``."""
    MODULES[name] = module
    get.cache_clear()


@cache
def get(name: str) -> Driver:
    """The driver of that runtime. Raises MeasurementError naming those there are."""
    if name not in MODULES:
        raise MeasurementError(f"runtime: the bench does not run {name!r}; it runs {', '.join(MODULES)}.")
    driver: Driver = import_module(MODULES[name]).DRIVER
    return driver


def of(job: Job) -> Driver:
    """The driver of a job."""
    return get(job.placement.runtime)


def taking(target: str) -> Driver | None:
    """The driver of the program that runs ``target`` as a whole; ``None`` for what is looked up in the catalog."""
    return next((driver for driver in map(get, MODULES) if driver.takes(target)), None)


def serving(request: Request) -> Driver:
    """The driver that measures a catalog model. Raises InputError for an unknown model and for one that none runs."""
    model = catalog.get(request.target)
    for name in model.runtimes:
        if name in MODULES:
            return get(name)
    raise MeasurementError(f"model: the bench runs nothing of the family {model.architecture.family}: {model.slug}.")
