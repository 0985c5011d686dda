"""The PyTorch that is installed here: imported, or refused with what to do; versions of what takes part beside it."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import metadata
from typing import Any

from fitcheck.errors import MeasurementError, MissingExtraError, extra

PACKAGES = ("diffusers", "transformers", "accelerate", "gguf", "triton", "flash_attn")


def software_versions(torch: Any) -> dict[str, str]:
    """Versions by the names that records use; what is not installed is absent."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for key, value in (("cuda", torch.version.cuda), ("rocm", getattr(torch.version, "hip", None))):
        if value:
            found[key] = str(value)
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def import_torch(device: str) -> Any:
    """The module. Raises InputError where it is missing or sees no GPU that ``device`` "cuda" needs."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"the bench needs PyTorch ({error}); {extra('bench')}.") from error
    if device == "cuda" and not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise MeasurementError(
            f"PyTorch {torch.__version__} (built with {built}) sees no GPU; install a CUDA build of PyTorch "
            "and a driver that is new enough for it, "
            "or try the bench on the CPU with --tiny --device cpu."
        )
    return torch
