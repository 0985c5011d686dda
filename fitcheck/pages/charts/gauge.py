"""A bar of what is needed against what can be used. It is 100 units long and stretches with its column."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

# how high the two kinds are, in units of their picture, and between which heights a whisker's ends stand
_HEIGHT, _HIGH = 8, 15
_ENDS = (3, 12)


def gauge(need: Mapping[str, float] | float, available: float | None, verdict: str, *, whisker: bool = False) -> Markup:
    """``need`` is a span or one number, in the unit of ``available``. Beyond it the bar is full and a line marks it."""
    span = need if isinstance(need, Mapping) else {"low": need, "best": need, "high": need}
    if not available:
        return Markup("")
    full = max(available, span["high"] if whisker else span["best"]) * (1.0 if not whisker else 1.02)
    height = _HIGH if whisker else _HEIGHT

    def place(value: float) -> str:
        return f"{min(100.0, 100 * value / full):.1f}".removesuffix(".0")

    parts = [f'<path class="v-{verdict}" d="M0 0H{place(span["best"])}V{height}H0z"/>']
    if whisker and span["high"] > span["low"]:
        low, high = place(span["low"]), place(span["high"])
        middle, (top, bottom) = height / 2, _ENDS
        line = f"M{low} {middle}H{high}M{low} {top}V{bottom}M{high} {top}V{bottom}"
        parts.append(f'<path class="g-whisker" d="{line}"/>')
    if full > available * 1.001:
        parts.append(f'<path class="g-limit" d="M{place(available)} 0V{height}"/>')
    size = "gauge big" if whisker else "gauge"
    frame = f'class="{size}" viewBox="0 0 100 {height}" preserveAspectRatio="none" aria-hidden="true"'
    return Markup(f"<svg {frame}>{''.join(parts)}</svg>")  # noqa: S704 - numbers only
