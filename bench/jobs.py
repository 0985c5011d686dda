"""From what was asked to the jobs that will run, and what a job is called."""

from __future__ import annotations

from bench.engines import registry
from bench.job import Job, Request
from fitcheck.errors import OptionError
from fitcheck.runtimes import registry as runtimes
from fitcheck.runtimes.base import Wanted
from fitcheck.runtimes.options import flag, refuse_foreign

DEVICES = ("cuda", "cpu")


def jobs_of(request: Request) -> tuple[Job, ...]:
    """Every job of a request, in the order asked. Raises InputError for what does not exist or makes no sense."""
    if request.device not in DEVICES:
        raise OptionError(f"--device: {request.device!r} is not a device of the bench; choose {' or '.join(DEVICES)}.")
    if request.device == "cpu" and not request.tiny:
        raise OptionError("--device cpu runs the scaled-down model only, add --tiny; a full model needs a GPU.")
    driver = registry.serving(request)
    refuse_unheard(request, driver.name)
    return driver.jobs(request)


def refuse_unheard(request: Request, name: str) -> None:
    """Raises OptionError for an option that the runtime of that ``name`` has not, or that a measurement cannot follow:
    it would change nothing, and saying so is better than a measurement beside it."""
    refuse_foreign(Wanted(options=request.options), [runtimes.get(name)], runtimes.every(), request.target)
    for option, _ in request.options:
        if option in registry.get(name).unheard:
            raise OptionError(f"{flag(option)}: the bench cannot choose this for {name}; leave it out.")


def label(job: Job) -> str:
    """A job in a few words, as its runtime says them."""
    return registry.of(job).label(job)
