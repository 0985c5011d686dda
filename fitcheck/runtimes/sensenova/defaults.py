"""What a question about pictures leaves open, and another value that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.base import Ask, Default, Wanted
from fitcheck.runtimes.sensenova.guidance import text_ends, written

SMALLER = 1024  # pixels of a side: a quarter of the tokens of the usual picture
SEVERAL = 3  # images of an answer, where one is assumed
_PICTURES = (Task.T2I, Task.EDITING, Task.INTERLEAVE)


def defaults(ask: Ask, wanted: Wanted) -> Iterator[Default]:
    """Sizes in and out, steps, pictures and text that nobody named. Steps and guidance that a distilled tier is made
    for are its own and no default."""
    work = ask.workload
    if work.references and not wanted.has("reference"):
        count, (width, height) = len(work.references), work.references[0]
        words = f"{'a reference image' if count == 1 else f'{count} reference images'} of {width}x{height}"
        smaller = work.with_(references=((SMALLER, SMALLER),) * count)
        yield _default(ask, words, f"--reference {SMALLER}x{SMALLER}", smaller)
    if work.task not in _PICTURES:
        return
    if not wanted.has("size"):
        smaller = work.with_(width=SMALLER, height=SMALLER)
        yield _default(ask, f"{work.width}x{work.height} pixels", f"--size {SMALLER}x{SMALLER}", smaller)
    if work.task is Task.INTERLEAVE and not wanted.has("images"):
        more = work.with_(images=SEVERAL, new_tokens=written(work) * SEVERAL, think=None)
        yield _default(ask, "one image", f"--images {SEVERAL}", more)
    if work.text_assumed:
        more = text_ends(work)[1]
        typed = f"--think {more.think}" if work.makes_one_picture else f"--new-tokens {more.new_tokens}"
        yield _default(ask, f"{written(work)} tokens written by the model", typed, more)
    if ask.tier.distilled_steps is None and not wanted.has("steps"):
        fewer = max(1, work.steps // 2)
        yield _default(ask, f"{work.steps} steps", f"--steps {fewer}", work.with_(steps=fewer))


def _default(ask: Ask, words: str, typed: str, work: Workload) -> Default:
    return Default(words, typed, replace(ask, workload=work))
