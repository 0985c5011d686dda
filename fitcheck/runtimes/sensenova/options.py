"""The options of SenseNova-U1's programs, declared once."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.runtimes.options import BARE, lower, names, option
from fitcheck.runtimes.sensenova.streaming import NEWEST_REVISION
from fitcheck.units import parse_size

Size = tuple[int, int]
USUAL_SIZE = (2048, 2048)


def _size(text: str) -> Size:
    return parse_size(text, "--size")


def _references(texts: str | list[str]) -> tuple[Size, ...]:
    return tuple(parse_size(text, "--reference") for text in ([texts] if isinstance(texts, str) else texts))


def _thoughts(text: str) -> int | bool:
    """Tokens, or ``True`` for as many as is usual. Raises OptionError."""
    if text.strip().lower() in ("", "true", "yes", BARE):
        return True
    if not text.strip().isdecimal():
        raise OptionError(f"--think: {text!r} is no number of tokens; give one, like 400, or none for the usual.")
    return int(text)


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """What is asked of the model; ``None`` takes the task's or the tier's default. Sizes in pixels, lengths in
    tokens."""

    size: Size = option(USUAL_SIZE, "Output size, WIDTHxHEIGHT; default 2048x2048.", parse=_size)
    steps: int | None = option(None, "Sampling steps; default: what the tier is made for.", type=int)
    cfg: float | None = option(None, "Guidance scale; 1 means none.", type=float)
    reference: tuple[Size, ...] = option((), "Size of an image handed in; repeatable.", parse=_references, many=True)
    images: int | None = option(None, "Images made in an interleaved answer.", type=int)
    batch: int = option(1, "Images made at once; default 1.", type=int)
    prompt_tokens: int | None = option(None, "Text tokens with the system message.", type=int)
    new_tokens: int | None = option(None, "Text tokens generated.", type=int)
    think: int | bool | None = option(
        None, "Thinks before a picture: TOKENS of thought, or as many as is usual.", parse=_thoughts, bare=True
    )
    attention: str = option("sdpa", "sdpa or flash; default sdpa.", parse=lower)


@dataclass(frozen=True, slots=True)
class UpstreamOptions(PictureOptions):
    """Upstream's own programs: offload modes, their revision, how streamed weights get their memory."""

    mode: tuple[str, ...] = option((), "Modes, comma separated: full,fast,balanced,low.", parse=names, short="-m")
    revision: str = option(NEWEST_REVISION, "Upstream revision: v0, pr241, pr243, phase-aware.", parse=lower)
    policy: str = option("upstream", "Streaming policy: upstream or ring.", parse=lower)


@dataclass(frozen=True, slots=True)
class NodeOptions(PictureOptions):
    """The ComfyUI node: how many layers are swapped ahead."""

    prefetch_count: int | None = option(None, "Layers swapped ahead; default: 0, 1, 2 and 8.", type=int)
