"""A bar of what is needed against what can be used. Lengths are percentages, so it stretches with its column."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup


def gauge(need: Mapping[str, float] | float, available: float | None, verdict: str, *, whisker: bool = False) -> Markup:
    """``need`` is a span or one number, in the unit of ``available``. Beyond it the bar is full and a line marks it."""
    span = need if isinstance(need, Mapping) else {"low": need, "best": need, "high": need}
    if not available:
        return Markup("")
    full = max(available, span["high"] if whisker else span["best"]) * (1.0 if not whisker else 1.02)

    def percent(value: float) -> str:
        return f"{min(100.0, 100 * value / full):.1f}%"

    parts = [f'<rect class="v-{verdict}" width="{percent(span["best"])}"/>']
    if whisker and span["high"] > span["low"]:
        low, high = percent(span["low"]), percent(span["high"])
        for kind in ("g-halo", "g-whisker"):
            parts.append(f'<line class="{kind}" x1="{low}" x2="{high}" y1="50%" y2="50%"/>')
            parts += [f'<line class="{kind}" x1="{x}" x2="{x}" y1="22%" y2="78%"/>' for x in (low, high)]
    if full > available * 1.001:
        limit = percent(available)
        parts.append(f'<line class="g-limit" x1="{limit}" x2="{limit}" y2="100%"/>')
    size = "gauge big" if whisker else "gauge"
    return Markup(f'<svg class="{size}" aria-hidden="true">{"".join(parts)}</svg>')  # noqa: S704 - numbers only
