"""A processor's name where a card's was asked for: that it is one, and which graphics it has inside where a source says
so (data/processors.json)."""

from __future__ import annotations

import json
import re
from pathlib import Path

_DATA = Path(__file__).parent / "data" / "processors.json"
_PROCESSOR = re.compile(
    r"\b(?:ryzen|epyc|threadripper|athlon|xeon|pentium|celeron|snapdragon|core\s*(?:ultra\s*)?(?:i?[3579])\b"
    r"|i[3579][\s-]\d{3,5}|ultra\s*[3579]\s*\d{3}|n\d{2,3}$)",
    re.IGNORECASE,
)


# what drivers call the graphics of most processors of a maker, alike
_UNNAMED = frozenset(
    {"amd", "ati", "intel", "radeon", "uhd", "hd", "iris", "xe", "arc", "tm", "r", "integrated", "igpu"}
)
_INSIDE = frozenset({"graphics", "igpu"})


def processor_hint(text: str) -> str | None:
    """What to give instead of ``text`` where it names a processor, or the graphics of many without saying which, as the
    end of a sentence; ``None`` where it names none."""
    words = set(re.findall(r"[a-z0-9]+", text.lower()))
    if words & _INSIDE and words <= _UNNAMED | _INSIDE:
        return (
            "is what the graphics inside many processors are called; name them as the data sheet does, like "
            "'Radeon 780M' or 'UHD Graphics 770', or look for them with `fitcheck cards 780M`."
        )
    if _PROCESSOR.search(text) is None:
        return None
    inside = _graphics(text)
    own = "the graphics inside it, as its data sheet names it" if inside is None else f"the {inside} inside it"
    return f"is a processor; give {own}, or the card beside it, or 'none' for the processor alone."


def _graphics(text: str) -> str | None:
    """The graphics of the processor whose whole name stands in ``text``."""
    wanted = f" {_plain(text)} "
    found = json.loads(_DATA.read_bytes())["processors"]
    return next((str(graphics) for name, (graphics, _) in found.items() if f" {_plain(name)} " in wanted), None)


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9+]+", name.lower()))
