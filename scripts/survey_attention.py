"""How the denoisers of the catalog attend: widths of their heads and masks, by share of the operations.

Run with the bench extra (``python scripts/survey_attention.py``): every pipeline runs once at its usual size on fake
tensors, few blocks deep, and each call of PyTorch's attention is looked at. Writes
``fitcheck/runtimes/diffusers/data/attention.json``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bench.engines.diffusers.recipes import Recipe, known, recipe
from bench.engines.diffusers.surveys import PipelineRequest, PipelineSurvey, shallow
from bench.engines.diffusers.traced import Traced
from fitcheck.models import catalog
from fitcheck.models.workload import Task

OUT = Path(__file__).parents[1] / "fitcheck" / "runtimes" / "diffusers" / "data" / "attention.json"
NONE, ROW, TABLE = "none", "row", "table"
# what is less than this of all operations says nothing of the seconds
_LEAST = 0.005


def kind_of(mask: torch.Tensor | None) -> str:
    """A mask with a value for each key, or for each pair of a query and a key."""
    if mask is None:
        return NONE
    return ROW if mask.dim() == 4 and mask.shape[-2] == 1 else TABLE


@contextmanager
def watched(module: nn.Module, found: Counter[tuple[int, str]]) -> Iterator[None]:
    """Operations of every attention of ``module``, by the width of its heads and its mask."""
    original, inside = functional.scaled_dot_product_attention, [False]

    def noted(query: Any, key: Any, value: Any, attn_mask: Any = None, **more: Any) -> Any:
        batch, heads, queries, features = query.shape
        if inside[0]:
            found[features, kind_of(attn_mask)] += 4 * batch * heads * queries * key.shape[-2] * features
        return original(query, key, value, attn_mask=attn_mask, **more)

    functional.scaled_dot_product_attention = noted  # type: ignore[assignment]
    handle = module.register_forward_pre_hook(lambda *_: inside.__setitem__(0, True))
    try:
        yield
    finally:
        handle.remove()
        functional.scaled_dot_product_attention = original


def attends(full: Recipe, name: str) -> list[list[Any]]:
    """[features of a head, mask, share of the operations] of the denoiser ``name``, the largest share first."""
    few = replace(full, parts={one: shallow(part) for one, part in full.parts.items()})
    usual, tasks = full.architecture.defaults, set(full.architecture.tasks)
    picture = None if {Task.T2I, Task.T2V} & tasks or not full.style.pictures else (usual.width, usual.height)
    request = PipelineRequest(usual.width, usual.height, usual.frames, 1, full.text, picture)
    traced, found = Traced(few), Counter[tuple[int, str]]()
    with watched(traced.modules[name], found):
        traced.calls(request.text, name, (name,), **PipelineSurvey(few).arguments(request))
    total = sum(found.values())
    shares = ((one, round(count / total, 3)) for one, count in found.most_common())
    return [[*one, share] for one, share in shares if share >= _LEAST]


def main(wanted: list[str]) -> int:
    """Surveys the catalog, or the pipelines named."""
    kept = json.loads(OUT.read_text("utf-8"))
    for slug in wanted or [slug for slug in catalog.slugs() if known(slug)]:
        full = recipe(slug)
        for name in full.denoisers:
            trace = full.parts[name].trace
            if trace not in kept["calls"] or wanted:
                kept["calls"][trace] = attends(full, name)
                print(slug, trace, kept["calls"][trace], flush=True)
    lines = ",\n".join(f'  "{name}": {json.dumps(rows)}' for name, rows in sorted(kept["calls"].items()))
    rest = json.dumps({name: value for name, value in kept.items() if name != "calls"}, indent=1)
    OUT.write_text(f'{rest[:-2]},\n "calls": {{\n{lines}\n }}\n}}\n', "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
