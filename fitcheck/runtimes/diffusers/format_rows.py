"""What is known of how a tier's denoiser is stored: rows of data tables by its format, or by format and scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fitcheck.models.families.pipeline.tiers import PipelineTable
from fitcheck.models.model import Tier


def row_of(table: Mapping[str, Any], tier: Tier) -> Mapping[str, Any] | None:
    """The row of ``bitsandbytes/nf4`` before that of ``bitsandbytes``; ``None`` where nothing is known of either."""
    if isinstance(tier.tensors, PipelineTable):
        for _, how in tier.tensors.parts:
            if how.format == tier.format and f"{how.format}/{how.name}" in table:
                found: Mapping[str, Any] = table[f"{how.format}/{how.name}"]
                return found
    return table.get(tier.format)
