"""Guidance branches of SenseNova-U1 workloads: how many tokens each caches before denoising, images handed in among
them, and how many velocities a step of the sampler mixes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.token_counts import tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Branch:
    """One guidance branch: its cached prefix in tokens."""

    name: str
    prefix: int


def reference_grid(
    arch: SenseNovaArchitecture, size: tuple[int, int], count: int = 1, *, task: Task = Task.EDITING
) -> tuple[int, int]:
    """(rows, columns) of tokens that an image of ``size`` (width, height in pixels) handed in with ``count`` images
    becomes.

    Upstream's smart_resize keeps proportions and rounds both sides to whole tokens, or down or up where the area leaves
    the allowed range; many images share a budget of pixels (it2i_generate, interleave_gen). Questions about an image
    use load_image_native's own range.
    """
    width, height = size
    side = arch.pixels_per_token
    most = min(tokens("reference_maximum") * side**2, tokens("reference_total") * side**2 // max(count, 1))
    least = tokens("vqa_reference_minimum" if task is Task.VQA else "reference_minimum") * side**2
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    if rows * columns * side**2 > most:
        shrink = math.sqrt(height * width / most)
        rows, columns = max(1, math.floor(height / shrink / side)), max(1, math.floor(width / shrink / side))
    elif rows * columns * side**2 < least:
        grow = math.sqrt(least / (height * width))
        rows, columns = math.ceil(height * grow / side), math.ceil(width * grow / side)
    return rows, columns


def reference_grids(arch: SenseNovaArchitecture, workload: Workload) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of tokens of each image handed in."""
    count = len(workload.references)
    return tuple(reference_grid(arch, size, count, task=workload.task) for size in workload.references)


def reference_tokens(arch: SenseNovaArchitecture, workload: Workload) -> int:
    """Tokens of all images handed in."""
    return sum(rows * columns for rows, columns in reference_grids(arch, workload))


def branches(arch: SenseNovaArchitecture, workload: Workload) -> tuple[Branch, ...]:
    """The prefixes that are computed and cached before denoising, in upstream's order."""
    unconditional = tokens("unconditional")
    references = reference_tokens(arch, workload)
    guided = workload.cfg > 1
    if workload.task is Task.T2I:
        prompt = workload.prompt_tokens or tokens("t2i_prompt")
        condition = Branch("condition", prompt)
        return (condition, Branch("unconditional", unconditional)) if guided else (condition,)
    if workload.task is Task.EDITING:
        prompt = workload.prompt_tokens or tokens("editing_prompt")
        found = [Branch("condition", prompt + references)]
        image_guided = workload.image_cfg != 1
        if (guided or image_guided) and (not image_guided or workload.cfg != workload.image_cfg):
            # upstream's template around nothing but the images, each between its start and end token
            found.append(Branch("image condition", unconditional + 2 * len(workload.references) + references))
        if image_guided:
            found.append(Branch("unconditional", unconditional))
        return tuple(found)
    if workload.task is Task.INTERLEAVE:
        prompt = workload.prompt_tokens or tokens("interleave_prompt")
        return (
            Branch("condition", prompt + references),
            Branch("text unconditional", unconditional + references),
            Branch("unconditional", unconditional),
        )
    prompt = workload.prompt_tokens or tokens("vqa_prompt")
    return (Branch("condition", prompt + references),)


def written(workload: Workload) -> int:
    """Tokens that the model writes in an answer, thoughts included, over all its images."""
    if workload.task is Task.INTERLEAVE:
        return (workload.new_tokens or tokens("interleave_text_per_image") * workload.images) + (workload.think or 0)
    if workload.task is Task.VQA:
        return workload.new_tokens or tokens("vqa_new_tokens")
    return workload.think or 0


@lru_cache(maxsize=256)
def text_ends(workload: Workload) -> tuple[Workload, Workload]:
    """The same with much less and with much more text than is assumed."""
    factor = float(load("runtimes.sensenova", "tokens")["text_spread"]["factor"])
    if workload.makes_one_picture:
        thoughts = workload.think or 0
        return workload.with_(think=max(1, round(thoughts / factor))), workload.with_(think=round(thoughts * factor))
    text = written(workload)
    ends = (max(workload.images, round(text / factor)), round(text * factor))
    less, more = (workload.with_(new_tokens=count, think=None) for count in ends)
    return less, more


def thought(found: tuple[Branch, ...], workload: Workload) -> tuple[Branch, ...]:
    """Prefixes with which denoising begins: what the model thought stands in the condition's cache alone."""
    if not workload.think:
        return found
    return tuple(replace(one, prefix=one.prefix + workload.think) if one is found[0] else one for one in found)


def guiding(found: Sequence[T], workload: Workload) -> tuple[T, ...]:
    """Of the branches in upstream's order those whose velocities one step mixes: with equal guidance of text and images
    the plain one stands for both (_guided_velocity of modeling_neo_chat.py)."""
    count = velocity_branches(workload)
    if count == 2 and len(found) == 3 and workload.image_cfg != 1:
        return found[0], found[2]
    return tuple(found[:count])


def velocity_branches(workload: Workload) -> int:
    """How many velocities one step of the sampler works out."""
    if workload.cfg == 1 and workload.image_cfg == 1:
        return 1
    if workload.image_cfg == 1 or workload.cfg == workload.image_cfg or workload.task is Task.T2I:
        return 2
    return 3


def grown(found: tuple[Branch, ...], text: int, images: int) -> tuple[Branch, ...]:
    """Prefixes of an interleaved answer after ``text`` tokens of it and images of ``images`` tokens were added: images
    are read back into two caches, text into the condition's alone."""
    more = {"condition": text + images, "text unconditional": images}
    return tuple(Branch(branch.name, branch.prefix + more.get(branch.name, 0)) for branch in found)
