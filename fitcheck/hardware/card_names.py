"""Card names as people, makers and drivers write them, brought to one comparable form. No guessing: equal or not.

"NVIDIA GeForce RTX 4070 Laptop GPU", "rtx4070-laptop" and the database's "GeForce RTX 4070 Mobile" are one name; a
laptop part and a desktop part never are. A name is split into the stem (what identifies the product), its memory size
and its markers (laptop, Max-Q). The stem can be loosened step by step; loosening never touches the markers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fitcheck.dataclass_later import dataclass

_NOISE = re.compile(
    r"\((?:r|tm|c)\)|[®™©]|^\s*(?:nvidia|amd|intel|ati)\b|\b(?:gpu|graphics card|with|design|oam)\b"
    r"|\bradeon(?= instinct)|(?<=\d) (?:graphics|series)\s*$|(?<=\d[ms]) (?:graphics|series)\s*$"
)
# "12G" as makers print it on boxes; four digits and a letter are a chip ("Radeon HD 6480G")
_MEMORY = re.compile(r"(?<![\d.])(?:(\d+(?:\.\d+)?)\s*([gm])i?b\b(?!ps)|\b(\d{1,2})(g)\b)")
_LAPTOP = re.compile(r"\b(?:laptop|mobile|notebook)\b")
_MAX_Q = re.compile(r"\bmax[\s-]?q\b")
_WORD = re.compile(r"[a-z0-9+.]+")
_BRAND = frozenset({"geforce", "radeon", "tesla", "instinct", "arc", "apple"})
_LINE = frozenset({"quadro", "ada", "blackwell"})
_SERIES = frozenset({"rtx", "gtx", "rx"})
_SOCKET = re.compile(r"sxm\d")
_BOARD = re.compile(r"sxm|pcie|hbm\de?")
# chip code names, memory types and speeds, shader counts and revisions: the same card to a buyer
_VARIANT = re.compile(
    r"(?:(?:ad|ga|tu|gk|gm|gf|gb)\d{3}|gp10[2-8])[a-z]?|gddr\d\w*|ddr\d|\d+gbps|\d{4}sp|refresh|rev\.?"
)


# what tools print around a name: "AD103M [GeForce RTX 4090 Laptop GPU] (rev a1)", "… (RADV GFX1151)"
_BRACKETED = re.compile(r"(?P<chip>[^\[]*(?:\[[^\]]*\][^\[]*)*)\[(?P<name>[^\[\]]+)\]")
_DRIVER = re.compile(
    r"\((?=[^()]*(?:gfx\d|radv|radeonsi|llvm|nvk|anv|mesa|drm|dg2|bmg|\brev\b))[^()]*\)", re.IGNORECASE
)
_LAPTOP_CHIP = re.compile(r"\b(?:AD|GA|TU|GP|GM|GK|GB)\d{3}[A-Z]*M\b")
_EITHER_LAPTOP = re.compile(r"\bmobile\s*/\s*max-?q\b|\bmax-?q\s*/\s*mobile\b", re.IGNORECASE)
_SIZES = re.compile(r"\d+ ?GB(?: ?/ ?\d+ ?GB)+", re.IGNORECASE)
_MOST_ALTERNATIVES = 16


@dataclass(frozen=True, slots=True)
class Name:
    """A parsed card name. ``memory`` is in MiB; ``markers`` holds "laptop" and "max-q"."""

    tokens: tuple[str, ...]
    memory: int | None
    markers: frozenset[str]

    @property
    def stem(self) -> str:
        """The tokens without anything between them, as names are compared: "rtx4070"."""
        return "".join(self.tokens)


def parse(text: str) -> Name:
    """Split a name; never fails, an empty stem matches nothing."""
    lowered = _NOISE.sub(" ", " ".join(text.lower().replace("-", " ").split()))
    memory = None
    found = _MEMORY.search(lowered)
    if found is not None:
        memory = round(float(found[1] or found[3]) * (1024 if (found[2] or found[4]) == "g" else 1))
        lowered = lowered[: found.start()] + " " + lowered[found.end() :]
    markers = set()
    if "max" in lowered:
        lowered, count = _MAX_Q.subn(" ", lowered)
        if count:
            markers.add("max-q")
    lowered, count = _LAPTOP.subn(" ", lowered)
    if count and "max-q" not in markers:  # makers write "with Max-Q Design" for laptops only
        markers.add("laptop")
    return Name(tuple(_WORD.findall(lowered)), memory, frozenset(markers))


def alternatives(text: str) -> tuple[str, ...]:
    """The names that a line of lspci, vulkaninfo or a driver can mean: brackets and the driver's own remarks taken
    off, a list with slashes taken apart. A chip made for laptops makes its names laptop parts."""
    plain = _DRIVER.sub(" ", text).strip()
    held = _BRACKETED.fullmatch(plain)
    names = [held["name"] if held is not None else plain]
    names = [one for name in names for one in _each(_SIZES, r" ?/ ?", name)]
    names = [one for name in names for one in _each(_EITHER_LAPTOP, r"\s*/\s*", name)]
    names = [one for name in names for one in _listed(name)][:_MOST_ALTERNATIVES]
    if held is not None and _LAPTOP_CHIP.search(held["chip"]):
        names = [name if parse(name).markers else f"{name} Mobile" for name in names]
    return tuple(dict.fromkeys(names))


def _each(pattern: re.Pattern[str], separator: str, name: str) -> list[str]:
    """The name once for each part of what ``pattern`` finds in it: "Max-Q / Mobile", "8GB/16GB"."""
    found = pattern.search(name)
    if found is None:
        return [name]
    return [name[: found.start()] + one + name[found.end() :] for one in re.split(separator, found[0])]


def _listed(name: str) -> list[str]:
    """ "Radeon RX 7900 XT/7900 XTX" → both, the second with the words that it leaves out."""
    first, *others = [part.strip() for part in name.split("/")]
    words = first.split()
    line = " ".join(words[: next((i for i, word in enumerate(words) if any(map(str.isdigit, word))), 0)])
    return [first, *(other if other[:1].isalpha() else f"{line} {other}" for other in others if other)]


VARIANT_STEP = 2


def loosened(name: Name) -> Iterator[tuple[int, str]]:
    """(step, stem) from the exact stem to the loosest, each stem once; a step that would leave nothing is skipped.

    Dropped in turn: the brand (GeForce), the chip or memory variant (AD103, GDDR6) with and without the brand, the
    number of the socket (SXM5 to SXM), the board form (PCIe), the word Generation, the product line (Quadro, Ada), the
    series (RTX), the word Graphics ("UHD 770").
    """
    seen = {name.stem}
    yield 0, name.stem
    tokens = _apply(_no_brand, name.tokens)
    for step, kept in ((1, tokens), (VARIANT_STEP, _apply(_no_variant, name.tokens))):
        stem = "".join(kept)
        if stem not in seen:
            seen.add(stem)
            yield step, stem
    for step, change in enumerate(_CHANGES, start=VARIANT_STEP):
        tokens = _apply(change, tokens)
        stem = "".join(tokens)
        if stem not in seen:
            seen.add(stem)
            yield step, stem


def is_variant(name: Name) -> bool:
    """Whether the name tells a chip, memory type or revision that a buyer does not choose by."""
    return any(_VARIANT.fullmatch(word) for word in name.tokens)


def without_variant(name: Name) -> str:
    """The stem of the product that a buyer chooses: "rtx4070" for "RTX 4070 AD103"."""
    return "".join(_apply(_no_variant, name.tokens))


def _apply(change: Callable[[str], str], tokens: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kept for word in tokens if (kept := change(word))) or tokens


def _no_brand(word: str) -> str:
    return "" if word in _BRAND else word


def _no_variant(word: str) -> str:
    return "" if _VARIANT.fullmatch(word) else word


_CHANGES: tuple[Callable[[str], str], ...] = (
    _no_variant,
    lambda word: "sxm" if _SOCKET.fullmatch(word) else word,
    lambda word: "" if _BOARD.fullmatch(word) else word,
    lambda word: "" if word == "generation" else word,
    lambda word: "" if word in _LINE else word,
    lambda word: "" if word in _SERIES else word,
    lambda word: "" if word == "graphics" else word,
)
