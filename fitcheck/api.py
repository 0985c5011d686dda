"""The library call behind the command line: typed values in, a typed report out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fitcheck.hardware.card import Card
    from fitcheck.hardware.machine import Machine
    from fitcheck.verdict.check import Runtime
    from fitcheck.verdict.report import Report


def check(
    model: str,
    card: str | Card | Machine | None = None,
    *,
    tier: str | Sequence[str] | None = None,
    mode: str | Sequence[str] | None = None,
    task: str = "t2i",
    size: tuple[int, int] = (2048, 2048),
    steps: int | None = None,
    cfg: float | None = None,
    references: Sequence[tuple[int, int]] = (),
    images: int | None = None,
    prompt_tokens: int | None = None,
    new_tokens: int | None = None,
    ram: int | None = None,
    disk: int | None = None,
    vram: int | None = None,
    display: bool | None = None,
    gguf: str | Path | None = None,
    runtime: Runtime | None = None,
) -> Report:
    """Judge every tier and mode of a catalog model, best first; the same functions as ``fitcheck check``.

    ``card`` is a name like "RTX 4070", a ``Card``, a whole ``Machine``, or ``None`` for the machine this runs on.
    Memory and disk are bytes, sizes pixels; ``None`` takes the task's or the tier's default, or leaves a resource
    unjudged. ``gguf`` is a local file that stands for the tier. Records that this installation or this user holds for
    the card are taken in. Raises ``fitcheck.errors.InputError`` for names and values that cannot be.
    """
    from fitcheck.models import catalog
    from fitcheck.models.families.sensenova.local_file import tier_from_gguf
    from fitcheck.records.evidence import accepted, local
    from fitcheck.runtimes.sensenova.workloads import Request
    from fitcheck.verdict import check as verdict

    known, machine = catalog.get(model), _machine(card, ram=ram, disk=disk, vram=vram, display=display)
    tiers = (tier_from_gguf(known, gguf),) if gguf is not None else verdict.tiers_of(known, _names(tier))
    request = Request(task, size, steps, cfg, tuple(references), images, prompt_tokens, new_tokens)
    return verdict.check(
        known,
        machine,
        tiers=tiers,
        modes=_names(mode),
        request=request,
        runtime=runtime,
        index=accepted() + local(machine.gpus[0].card.slug),
    )


def _names(value: str | Sequence[str] | None) -> list[str] | None:
    return None if value is None else [value] if isinstance(value, str) else list(value)


def _machine(
    card: str | Card | Machine | None, *, ram: int | None, disk: int | None, vram: int | None, display: bool | None
) -> Machine:
    from fitcheck.errors import InputError
    from fitcheck.hardware.catalog import find_card
    from fitcheck.hardware.detect import detect
    from fitcheck.hardware.machine import Machine, machine_for

    if card is None:
        card = detect()
    if isinstance(card, Machine):
        if not card.gpus:
            raise InputError("card: no graphics card was found here; name one, like check(model, 'RTX 4070').")
        return card
    found = find_card(card) if isinstance(card, str) else card
    return machine_for(found, ram=ram, disk=disk, vram_override=vram, display=display)
