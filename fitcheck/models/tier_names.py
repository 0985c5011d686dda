"""Names of quant tiers, as files and programs write them, and which of them a publisher chose tensor by tensor."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# how the names of mixtures begin that are a publisher's own, and the publisher's name on the hub
PUBLISHERS = {"UD-": "unsloth"}
_LABEL = re.compile(
    rf"(?<![A-Za-z0-9])(?:{'|'.join(PUBLISHERS)})?"
    r"(?:IQ[1-5]_(?:XXS|XS|S|M|NL|KSS|KS|KT|K|XL)(?:_R[48])?|Q[1-8]_K(?:_(?:XXL|XL|L|M|S|P))?|Q[1-8]_[01](?:_\d_\d)?"
    r"|BF16|FP?16|FP?32|MXFP4(?:_MOE)?|NVFP4|TQ[12]_0)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# llama.cpp's long names of its file types (llama_model_ftype_name) -> the suffix of a tier's name
_SIZES = {"small": "S", "medium": "M", "large": "L", "extra small": "XS"}
_LONG = re.compile(rf"(?<![A-Za-z0-9])(Q\d_K)\s*-\s*({'|'.join(_SIZES)})(?![A-Za-z0-9])", re.IGNORECASE)
_BASE = re.compile(r"[A-Z]+\d+(?:_[0-9K](?![0-9A-Z]))?")


def quant_label(file: str) -> str | None:
    """The quant tier that a file's name states ("Q4_K_M", "UD-Q2_K_XL"), None when it states none."""
    found = list(_LABEL.finditer(PurePosixPath(file).name.removesuffix(".gguf")))
    return _canonical(found[-1][0]) if found else None


def tier_in(text: str) -> str | None:
    """The quant tier that a file's name or llama.cpp's words for its type state, the last one where there are several:
    ``"llama 8B Q4_K - Medium"`` -> ``"Q4_K_M"``."""
    long = list(_LONG.finditer(text))
    if long:
        return f"{long[-1][1].upper()}_{_SIZES[long[-1][2].lower()]}"
    return quant_label(text)


def without_tier(stem: str) -> str:
    """A file's name, its ending taken off already, without the tier at its end."""
    found = list(_LABEL.finditer(stem))
    return stem[: found[-1].start()].rstrip("._-") if found and found[-1].end() == len(stem) else stem


def publisher_of(name: str) -> str | None:
    """Who chose a mixture of that name tensor by tensor; ``None`` for llama.cpp's own."""
    return next((who for start, who in PUBLISHERS.items() if name.upper().startswith(start)), None)


def like_published(name: str) -> str:
    """The name of llama.cpp's mixture that a publisher's own is named after; other names as they are."""
    return name[len(_start(name)) :]


def base_of(tier: str) -> str:
    """The type that most tensors of a tier have, as its name says: ``"UD-Q4_K_XL"`` -> ``"Q4_K"``."""
    found = _BASE.match(like_published(tier).upper())
    return found[0] if found else tier


def _start(name: str) -> str:
    return next((start for start in PUBLISHERS if name.upper().startswith(start)), "")


def _canonical(label: str) -> str:
    return label.upper().replace("FP16", "F16").replace("FP32", "F32")
