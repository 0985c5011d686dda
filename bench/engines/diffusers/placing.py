"""diffusers' own switches, by the names of the runtime's modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading

from fitcheck.errors import MeasurementError
from fitcheck.runtimes.base import Placement


def place(pipeline: Any, placement: Placement, device: str, folder: str | None = None) -> None:
    """Puts the pipeline where the placement says, groups into files below ``folder`` where there is one. Raises
    InputError for a mode that diffusers does not have.

    On a CPU there is nowhere to offload to: accelerate's hooks run there as well, streams do not.
    """
    mode = placement.mode
    if mode == "none":
        pipeline.to(device)
    elif mode == "model":
        if device == "cuda":
            pipeline.enable_model_cpu_offload()
    elif mode == "sequential":
        if device == "cuda":
            pipeline.enable_sequential_cpu_offload()
    elif mode.startswith("group-"):
        _group(pipeline, mode, placement, device, folder)
    else:
        raise MeasurementError(f"mode: the bench does not place {mode!r}.")
    vae = str(placement.get("vae") or "")
    if "tiling" in vae:
        pipeline.vae.enable_tiling()
    if "slicing" in vae:
        pipeline.vae.enable_slicing()


def _group(pipeline: Any, mode: str, placement: Placement, device: str, folder: str | None) -> None:
    _, level, *rest = mode.split("-")
    stream = bool(rest) and device == "cuda"
    arguments: dict[str, Any] = {
        "onload_device": torch.device(device),
        "offload_device": torch.device("cpu"),
        "offload_type": f"{level}_level",
        "num_blocks_per_group": int(placement.get("blocks_per_group") or 1) if level == "block" else None,
        "use_stream": stream,
        "record_stream": bool(placement.get("record_stream")) and stream,
        "low_cpu_mem_usage": bool(placement.get("low_cpu_mem")),
    }
    if folder is None and hasattr(pipeline, "enable_group_offload"):
        pipeline.enable_group_offload(**arguments)
        return
    for name, component in pipeline.components.items():
        if isinstance(component, torch.nn.Module):
            # files are named after layers: two text encoders would find each other's in one folder
            own = {"offload_to_disk_path": str(Path(folder) / name)} if folder is not None else {}
            _group_component(component, arguments | own)


def _group_component(component: Any, arguments: dict[str, Any]) -> None:
    """A component of a pipeline that is made of blocks, which has no switch for all of them; one whose class refuses
    stays where it computes."""
    if not getattr(component, "_supports_group_offloading", True):
        component.to(arguments["onload_device"])
    elif hasattr(component, "enable_group_offload"):
        component.enable_group_offload(**arguments)
    else:
        apply_group_offloading(module=component, **arguments)
