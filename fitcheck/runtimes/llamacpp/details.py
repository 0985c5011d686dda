"""What ``check --json`` says of a run beside the common shape: options in llama.cpp's names, and bytes by device."""

from __future__ import annotations

from typing import Any

from fitcheck.models.model import Tier
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.buffers import DeviceMemory, LlamaEstimate
from fitcheck.runtimes.llamacpp.drafting import draft_among


def details_of(layout: LlamaEstimate, tier: Tier) -> dict[str, Any]:
    """The options and the bytes of each buffer; of a second model that drafts too."""
    found = {"options": _options_json(layout.options), "buffers": _buffers_json(layout)}
    drafting, draft = layout.draft, draft_among(tier.companions)
    if drafting is not None and draft is not None:
        named = {"model": draft.name, "tier": draft.kind, "file": draft.path or draft.file or None}
        found["draft"] = {**named, "options": _options_json(drafting.options), "buffers": _buffers_json(drafting)}
    return found


def _options_json(options: LlamaOptions) -> dict[str, Any]:
    return {
        "gpu_layers": options.gpu_layers,
        "n_cpu_moe": options.cpu_moe_layers,
        "cache_type_k": options.cache_type_k,
        "cache_type_v": options.cache_type_v,
        "batch": options.batch,
        "ubatch": options.micro_batch,
        "sequences": options.slots,
        "flash_attention": options.flash,
        "build": str(options.build),
        "build_date": options.build.day.isoformat(),
    }


def _buffers_json(result: LlamaEstimate) -> dict[str, Any]:
    def device(memory: DeviceMemory) -> dict[str, int]:
        kinds = ("weights", "kv_cache", "recurrent", "compute", "output", "beside", "layers")
        return {kind: getattr(memory, kind) for kind in kinds}

    return {"cards": [device(card) for card in result.cards], "host": device(result.host)}
