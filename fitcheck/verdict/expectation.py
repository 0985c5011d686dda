"""Whether a measured pass is what the estimator expects: a flag for whoever reads it, never a reason to refuse it."""

from __future__ import annotations

from fitcheck.memory.footprint import CardMemory
from fitcheck.models import catalog
from fitcheck.records.findings import Finding, flag, note
from fitcheck.records.run import Run
from fitcheck.records.run_index import build
from fitcheck.records.schema import PassRecord
from fitcheck.runtimes import registry
from fitcheck.units import Interval, format_gib, format_seconds, format_time_span
from fitcheck.verdict.evidence import ask_of

# How far outside the estimate's own interval a measurement may lie before it surprises: a little more than replays and
# sizes have ever been off for memory, a factor
# for seconds because cards of one name differ by cooling and power limits.
_MEMORY_SLACK = 1.15
_TIME_SLACK = 2.0
_TINY = "tiny"


def doubt(record: PassRecord) -> list[Finding]:
    """Flags where memory or time lie far outside the estimate; a note where a runtime and a model that are known are
    run in a way that is not."""
    if record.card is None or record.outcome.result != "ok" or _TINY in (record.tags or ()):
        return []
    runs = build([record.model_dump(mode="json", exclude_none=True)]).rows
    ask = ask_of(runs[0]) if runs else None
    if ask is None:
        return _unknown(record)
    runtime = registry.get(ask.placement.runtime)
    footprint = runtime.footprint(ask)
    duration = runtime.duration(ask, footprint)
    support = runtime.platform(ask)
    if support is not None and support.least is not None:  # not modelled: more than the bounds is no surprise
        return _bounded(runs[0], support.least.cards[ask.gpu])
    found = _memory(runs[0], footprint.cards[ask.gpu])
    return found if duration is None or duration.seconds is None else [*found, *_time(runs[0], duration.seconds)]


def _unknown(record: PassRecord) -> list[Finding]:
    """For whoever reads it: nothing follows from such a record for any cell."""
    name, model = record.runtime.name, record.model.slug
    if name not in registry.names() or model not in catalog.slugs():
        return []
    ways = [record.model.tier, record.runtime.mode, record.runtime.policy, record.runtime.revision]
    said = ", ".join(way for way in ways if way)
    return [note("unknown-cell", f"no such run of {model} by {name} is known ({said}): it speaks for no answer")]


def _bounded(run: Run, least: CardMemory) -> list[Finding]:
    bound = least.allocated.low
    if run.allocated is None or run.allocated >= bound / _MEMORY_SLACK:
        return []
    return [
        flag("memory-estimate", f"allocated {format_gib(run.allocated)} where at least {format_gib(bound)} is needed")
    ]


def _memory(run: Run, memory: CardMemory) -> list[Finding]:
    span = memory.allocated if run.cap is None else memory.capped
    if run.allocated is None or span.low / _MEMORY_SLACK <= run.allocated <= span.high * _MEMORY_SLACK:
        return []
    words = f"{format_gib(span.low)} to {format_gib(span.high)}"
    return [flag("memory-estimate", f"allocated {format_gib(run.allocated)} where {words} is estimated")]


def _time(run: Run, span: Interval[float]) -> list[Finding]:
    if run.seconds is None or span.low / _TIME_SLACK <= run.seconds <= span.high * _TIME_SLACK:
        return []
    words = format_time_span(span.low, span.high, " to ")
    return [flag("time-estimate", f"took {format_seconds(run.seconds)} where {words} is estimated")]
