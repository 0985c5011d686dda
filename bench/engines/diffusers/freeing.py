"""Text encoders that go once the prompt is encoded, with every reference that diffusers and accelerate keep."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_module


def free(pipeline: Any, names: Sequence[str], device: str) -> None:
    """Deletes those components and gives back what the allocator kept of them, as diffusers' guides do."""
    _take_out(pipeline, names)
    gc.collect()  # hooks and their modules refer to one another
    if device == "cuda":
        torch.cuda.empty_cache()


def _take_out(pipeline: Any, names: Sequence[str]) -> None:
    """Nothing holds those components once this has returned, its own variables included: what is held while the cache
    is emptied stays in it."""
    gone = [getattr(pipeline, name) for name in names]
    for module in gone:
        remove_hook_from_module(module, recurse=True)
    _forget(pipeline, gone)
    for name in names:
        setattr(pipeline, name, None)


def _forget(pipeline: Any, gone: Sequence[Any]) -> None:
    """Hooks of ``enable_model_cpu_offload`` hold their module, and the module that leaves before it comes."""
    held = [one for one in getattr(pipeline, "_all_hooks", ()) if not _among(one.model, gone)]
    for one in held:
        before = one.hook.prev_module_hook
        if before is not None and _among(before.model, gone):
            one.hook.prev_module_hook = None
    pipeline._all_hooks = held


def _among(module: Any, gone: Sequence[Any]) -> bool:
    return any(module is one for one in gone)
