"""Whether a measured pass is what the estimator expects: a flag for whoever reads it, never a reason to refuse it."""

from __future__ import annotations

from functools import lru_cache

from fitcheck.errors import InputError
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Workload
from fitcheck.records.findings import Finding, flag
from fitcheck.records.schema import CardInfo, PassRecord
from fitcheck.runtimes.sensenova.streaming import Streaming, upstream
from fitcheck.units import Interval, format_gib, format_seconds

# how far outside the estimate's own interval a measurement may lie before it surprises
_MEMORY_SLACK = 1.15
_TIME_SLACK = 2.0


def doubt(record: PassRecord) -> list[Finding]:
    """Flags where memory or time lie far outside the estimate; none for what the estimator does not know."""
    runtime, card = record.runtime, record.card
    if runtime.name != "sensenova" or card is None or record.outcome.result != "ok" or "tiny" in (record.tags or ()):
        return []
    cap = record.protocol.cap.bytes if record.protocol.cap is not None else None
    try:
        placement = upstream(runtime.mode or "", runtime.revision or "", runtime.policy or "upstream")
        allocated, seconds = _expected(
            record.model.slug, record.model.tier, placement, record.workload.workload(), card, cap
        )
    except InputError:
        return []
    found = []
    measured = record.memory.allocated
    if measured is not None and not allocated.low / _MEMORY_SLACK <= measured <= allocated.high * _MEMORY_SLACK:
        span = f"{format_gib(allocated.low)} to {format_gib(allocated.high)}"
        found.append(flag("memory-estimate", f"allocated {format_gib(measured)} where {span} is estimated"))
    totals = sorted(sample.total for sample in record.samples if not sample.warmup)
    if seconds is not None and totals and record.protocol.steps_run is None:
        middle = totals[len(totals) // 2]
        if not seconds.low / _TIME_SLACK <= middle <= seconds.high * _TIME_SLACK:
            span = f"{format_seconds(seconds.low)} to {format_seconds(seconds.high)}"
            found.append(flag("time-estimate", f"took {format_seconds(middle)} where {span} is estimated"))
    return found


@lru_cache(maxsize=4096)
def _expected(
    slug: str, tier_name: str, placement: Streaming, workload: Workload, card: CardInfo, cap: int | None
) -> tuple[Interval[int], Interval[float] | None]:
    """(allocated bytes, seconds or None when a rate is unknown). Raises InputError for what the catalog lacks."""
    from fitcheck.hardware.catalog import find_card
    from fitcheck.hardware.machine import Link
    from fitcheck.models import catalog
    from fitcheck.runtimes.sensenova.estimate import estimate
    from fitcheck.runtimes.sensenova.phases import CardView
    from fitcheck.runtimes.sensenova.seconds import seconds

    model = catalog.get(slug)
    architecture, tier = _parts(model, tier_name)
    major, _, minor = (card.compute_capability or "").partition(".")
    capability = (int(major), int(minor)) if major else None
    total = cap or card.memory
    device = CardView(compute_capability=capability, total=total, free=total)
    footprint = estimate(architecture, tier, workload, placement, device)
    duration = seconds(
        architecture,
        tier.tensors,
        workload,
        placement,
        find_card(card.slug),
        Link(card.pcie_generation_max, card.pcie_width_max),
        kept_share=footprint.kept_share,
    )
    return footprint.allocated, duration.seconds if duration is not None else None


def _parts(model: Model, tier_name: str) -> tuple[SenseNovaArchitecture, Tier]:
    tier = model.tier(tier_name)
    if tier is None or not isinstance(model.architecture, SenseNovaArchitecture):
        raise InputError(f"model: {model.slug} has no tier {tier_name} that is estimated.")
    return model.architecture, tier
