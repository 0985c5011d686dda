"""Predicted against published tokens per second of llama.cpp, each row's card left out of the fit.

``scripts/fit_tokens.py`` keeps, for every row, the rate and the half-width that come from all other cards' rows; what
is shown here is therefore never tested on itself.
"""

from __future__ import annotations

from fitcheck.runtimes.figures import Figure
from fitcheck.runtimes.llamacpp.token_rates import data
from fitcheck.runtimes.llamacpp.token_rows import bench_rows


def token_figures() -> list[Figure]:
    """All rows that the model can be asked about, by regime, as the table of all published figures shows them."""
    kept, found = data()["left_out"], []
    rows, _ = bench_rows()
    for row in sorted((row for row in rows if str(row.index) in kept), key=lambda row: row.regime):
        best, low, high = kept[str(row.index)]
        found.append(
            Figure(
                source=row.source,
                name=f"{row.model} on {row.card}",
                quantity=f"tokens/s, {row.regime}, card left out",
                unit="tokens/s",
                predicted=best,
                published=row.measured,
                low=low,
                high=high,
            )
        )
    return found
