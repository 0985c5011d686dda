"""Token layouts of the four tasks: how many tokens each prefix has, where its images stand, their rotary positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitcheck.errors import ModelError, OptionError
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.guidance import branches, reference_grids

# an image stands behind the user turn's opening tokens
_IMAGE_AT = 4


@dataclass(frozen=True, slots=True)
class Prefix:
    """One branch's prefix: ``length`` tokens of which ``images`` (rows, columns) are image tokens, in a row."""

    name: str
    length: int
    images: tuple[tuple[int, int], ...] = ()

    @property
    def image_tokens(self) -> int:
        """Image tokens of all images, without the start and end tokens around each."""
        return sum(rows * columns for rows, columns in self.images)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(start, end) of each image's tokens; a start and an end token of their own stand around each."""
        spans, at = [], min(_IMAGE_AT, max(0, self.length - self.image_tokens - 2 * len(self.images)))
        for rows, columns in self.images:
            spans.append((at + 1, at + 1 + rows * columns))
            at += rows * columns + 2
        return spans

    def positions(self) -> Tensor:
        """int64 [3, length] (time, row, column) on the host: an image's tokens share one time."""
        time, row, column = [], [], []
        now, starts = 0, {start: (end, grid) for (start, end), grid in zip(self.spans, self.images, strict=True)}
        at = 0
        while at < self.length:
            if at in starts:
                end, (rows, columns) = starts[at]
                time += [now] * (end - at)
                row += [index // columns for index in range(rows * columns)]
                column += [index % columns for index in range(rows * columns)]
                at = end
            else:
                time.append(now)
                row.append(0)
                column.append(0)
                at += 1
            now += 1
        return torch.tensor([time, row, column], dtype=torch.long)

    @property
    def next_time(self) -> int:
        """The temporal position behind the prefix."""
        return self.length - self.image_tokens + len(self.images)


def prefixes(arch: SenseNovaArchitecture, workload: Workload) -> tuple[Prefix, ...]:
    """The prefixes in upstream's order, with the estimator's token counts."""
    grids = reference_grids(arch, workload)
    found = []
    for branch in branches(arch, workload):
        with_images = bool(grids) and branch.name != "unconditional"
        prefix = Prefix(branch.name, branch.prefix, grids if with_images else ())
        if prefix.length < prefix.image_tokens + 2 * len(prefix.images):
            least = 2 * len(prefix.images)
            raise OptionError(f"--prompt-tokens: {branch.name} needs at least {least} text tokens around its images.")
        found.append(prefix)
    return tuple(found)


def check(arch: SenseNovaArchitecture, workload: Workload) -> None:
    """Raises InputError for a workload that the engine cannot run as asked."""
    side = arch.pixels_per_token
    if workload.task is Task.CHAT:
        raise ModelError("task: SenseNova-U1 has t2i, editing, interleave and vqa; choose one of them.")
    if workload.batch != 1:
        raise OptionError(f"batch: {workload.batch} images at once are not measured; use a batch of 1.")
    if workload.task is not Task.VQA:
        if workload.width % side or workload.height % side or min(workload.width, workload.height) < side:
            size = f"{workload.width}x{workload.height}"
            raise OptionError(f"--size: {size} is not a multiple of {side} pixels on both sides; round it.")
        if workload.steps < 1:
            raise OptionError(f"--steps: {workload.steps} is not a number of steps; give at least 1.")
    if workload.task in (Task.EDITING, Task.VQA) and not workload.references:
        task = workload.task.value
        raise OptionError(f"task: {task} needs a reference image; give its size with --reference WIDTHxHEIGHT.")
    if workload.task is Task.INTERLEAVE and workload.images < 1:
        raise OptionError("images: an interleaved answer needs at least one image.")
