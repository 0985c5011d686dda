"""What is installed in a Python environment: read from the metadata of its distributions, PyTorch's architectures from
a process of its own. Nothing heavy is imported here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.hardware.software import torch_build

Run = Callable[[Sequence[str], int], str]
PACKAGES = ("torch", "flash-attn", "xformers", "diffusers", "transformers", "accelerate", "gguf", "bitsandbytes")
_SECONDS, _TORCH_SECONDS = 20, 60
_MOST_CHARACTERS = 1 << 16
# runs under any Python 3.8, and reads files alone: torch/version.py names what the wheel was built for
_LIST = """
import importlib.metadata as m, json, platform, re
found = {}
for name in %r:
    try: found[name] = m.version(name)
    except Exception: pass
built = {}
try:
    for file in m.files("torch") or ():
        if str(file).replace("\\\\", "/") == "torch/version.py":
            with open(file.locate(), encoding="utf-8") as text:
                built = dict(re.findall(r"^(cuda|hip|xpu)\\b[^=\\n]*= *'([0-9.]+)", text.read(20000), re.M))
except Exception: pass
print(json.dumps({"python": platform.python_version(), "packages": found, "built": built}))
"""
_ARCHITECTURES = """
import json, torch
flags = getattr(torch._C, "_cuda_getArchFlags", lambda: None)()
print(json.dumps((flags or "").split()))
"""


@dataclass(frozen=True, slots=True)
class FoundEnvironment:
    """A Python and its distributions by name; ``wheel`` is PyTorch's build ("cu130", "rocm6.4", "xpu", "cpu"), None
    where it does not tell; ``architectures`` what it carries kernels for ("sm_90", "compute_120", "gfx1100")."""

    python: str | None = None
    packages: tuple[tuple[str, str], ...] = ()
    wheel: str | None = None
    architectures: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def torch(self) -> str | None:
        """PyTorch's version without the build."""
        text = dict(self.packages).get("torch")
        return None if text is None else torch_build(text)[0]


def find(python: str | None = None, run: Run | None = None) -> FoundEnvironment:
    """The environment of ``python``, by default the one that runs this. ``run`` stands in for the processes. Raises
    OptionError when a named Python does not answer."""
    ask = run or _run
    try:
        told = json.loads(ask([python or sys.executable, "-I", "-c", _LIST % (PACKAGES,)], _SECONDS))
        packages = tuple((str(name), str(number)) for name, number in told["packages"].items())
        built = {str(name): str(number) for name, number in told["built"].items()}
        version = str(told["python"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, subprocess.SubprocessError) as error:
        if python is not None:
            found = "is not a program" if isinstance(error, FileNotFoundError) else "does not answer as a Python does"
            raise OptionError(f"--python: {python} {found}; name one, like --python venv/bin/python.") from error
        return FoundEnvironment(failure=type(error).__name__)
    text = dict(packages).get("torch")
    wheel = None if text is None else _wheel(text, built)
    architectures = _architectures(ask, python) if wheel is not None and wheel.startswith(("cu", "rocm")) else ()
    return FoundEnvironment(version, packages, wheel, architectures)


def _wheel(text: str, built: dict[str, Any]) -> str | None:
    """The build by the version's own suffix, else by what torch/version.py says it was built for."""
    build = torch_build(text)[1]
    if build is not None and build.startswith(("cu", "rocm", "xpu", "cpu")):
        return build
    if "cuda" in built:
        return "cu" + "".join(built["cuda"].split(".")[:2])
    if "hip" in built:
        return "rocm" + ".".join(built["hip"].split(".")[:2])
    if "xpu" in built:
        return "xpu"
    return build


def _architectures(ask: Run, python: str | None) -> tuple[str, ...]:
    """What PyTorch says that it has kernels for; empty where it does not start."""
    try:
        told = json.loads(ask([python or sys.executable, "-I", "-c", _ARCHITECTURES], _TORCH_SECONDS))
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return tuple(str(one) for one in told[:64]) if isinstance(told, list) else ()


def _run(command: Sequence[str], seconds: int) -> str:
    """The last line that a process prints. Raises OSError and subprocess errors."""
    done = subprocess.run(
        list(command),
        capture_output=True,
        timeout=seconds,
        check=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    lines = done.stdout[-_MOST_CHARACTERS:].strip().splitlines()
    return lines[-1] if lines else ""
