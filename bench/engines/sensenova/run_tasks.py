"""The four tasks, in upstream's order of operations and with its lifetimes (modeling_neo_chat.py).

Where upstream keeps a tensor in a local variable, this keeps it too; where upstream deletes one, so does this. Prompt
tokens and reference pixels are random: shapes and order decide memory and time, contents do not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bench.engines.sensenova.attention import Cache, causal_block_mask
from bench.engines.sensenova.denoising import GuidanceBranch, GuidedSampler
from bench.engines.sensenova.inputs import Prefix, prefixes
from bench.engines.sensenova.network import Outputs, SenseNovaNetwork
from bench.engines.sensenova.vision import grid_positions
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.token_counts import tokens


class PassClock(Protocol):
    """Phases and steps of one pass."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Around one phase of the pass: "prefix", "denoise" or "decode"."""

    def synchronize(self) -> None:
        """Returns when the device has done all that was queued, so that a time can be read."""

    def step(self, seconds: float) -> None:
        """Takes one denoising step or generated token of ``seconds``."""


@dataclass(slots=True)
class TaskContext:
    """What a task needs beside the model: where it runs, what is random, who watches."""

    model: SenseNovaNetwork
    workload: Workload
    device: torch.device
    seed: int
    clock: PassClock

    def generator(self) -> torch.Generator | None:
        """Random numbers of ``seed`` on the device; ``None`` on meta, which has no generator."""
        if self.device.type == "meta":
            return None
        return torch.Generator(self.device).manual_seed(self.seed)

    def token_ids(self, prefix: Prefix) -> Tensor:
        """[1, length] random ids, the same for the same seed and branch."""
        if self.device.type == "meta":
            return torch.empty((1, prefix.length), dtype=torch.long, device=self.device)
        source = torch.Generator().manual_seed(self.seed * 1009 + prefix.length)
        ids = torch.randint(0, self.model.arch.vocab_size, (1, prefix.length), generator=source)
        return ids.to(self.device)

    def reference_pixels(self, index: int, grid: tuple[int, int]) -> Tensor:
        """bf16 [patches, 3·patch²] of a reference image of ``grid`` tokens, sent over as f32 as upstream does."""
        arch = self.model.arch
        shape = (grid[0] * grid[1] * arch.merge**2, 3 * arch.patch_size**2)
        if self.device.type == "meta":
            return torch.empty(shape, device=self.device).to(torch.bfloat16)
        source = torch.Generator().manual_seed(self.seed * 1013 + index)
        return torch.randn(shape, generator=source).to(self.device).to(torch.bfloat16)

    def positions(self, prefix: Prefix) -> Tensor:
        """int64 [3, length] (time, row, column) of the prefix on the device."""
        if self.device.type == "meta":
            return torch.empty((3, prefix.length), dtype=torch.long, device=self.device)
        return prefix.positions().to(self.device)

    def token(self, logits: Tensor) -> Tensor:
        """The likeliest next token [1]; upstream reads it back to look for the end, so this does too."""
        chosen = torch.argmax(logits, dim=-1)
        if self.device.type != "meta":
            chosen.item()
        return chosen

    @contextmanager
    def timed_step(self) -> Iterator[None]:
        """Around one step; its seconds go to the clock after a synchronize, not when it fails."""
        started = time.perf_counter()
        yield
        self.clock.synchronize()
        self.clock.step(time.perf_counter() - started)


@dataclass(slots=True)
class TaskResult:
    """What a pass made: an image [1, 3, height, width], images stacked, or token ids; ``tokens`` are counts by part."""

    output: Tensor
    tokens: dict[str, int]


def run(context: TaskContext) -> TaskResult:
    """The pass of the workload's task."""
    task = {Task.T2I: _t2i, Task.EDITING: _editing, Task.INTERLEAVE: _interleave, Task.VQA: _vqa}[context.workload.task]
    return task(context)


def _t2i(context: TaskContext) -> TaskResult:
    model, workload = context.model, context.workload
    decoder = model.language_model.model
    sampler = GuidedSampler(model, workload, context.generator(), context.device)
    layout = prefixes(model.arch, workload)
    with context.clock.phase("prefix"):
        decoder.policy.phase("prefix")
        inputs = [(context.token_ids(prefix), context.positions(prefix)) for prefix in layout]
        masks = [causal_block_mask(positions[0]) for _, positions in inputs]
        image_positions = [sampler.positions(prefix.next_time) for prefix in layout]
        caches: list[Cache] = []
        hidden_states: Tensor | None = None
        for (ids, positions), mask in zip(inputs, masks, strict=True):
            cache, hidden_states = model.prefix(decoder.embed(ids), positions, mask)
            caches.append(cache)
            if len(caches) == 1:
                hidden_states = None
        del inputs, masks, ids, positions, mask
        decoder.policy.phase("denoise")
    with context.clock.phase("denoise"):
        image = _sample(context, sampler, layout, caches, image_positions)
    # upstream's name for the unconditional prefix's hidden states lives until its function returns
    del hidden_states
    return TaskResult(image, {prefix.name: prefix.length for prefix in layout} | {"image": sampler.tokens})


def _sample(
    context: TaskContext,
    sampler: GuidedSampler,
    layout: tuple[Prefix, ...],
    caches: list[Cache],
    positions: list[Tensor],
) -> Tensor:
    for cache in caches:
        cache.prepare_denoise(sampler.tokens)
    sampler.start()
    branches = {
        prefix.name: GuidanceBranch(cache, start)
        for prefix, cache, start in zip(layout, caches, positions, strict=True)
    }
    for index in range(context.workload.steps):
        with context.timed_step():
            sampler.step(index, branches)
    for cache in caches:
        cache.drop_denoise()
    return sampler.image


def _embed_with_images(context: TaskContext, prefix: Prefix, pixels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(embeddings [1, L, hidden], positions [3, L], mask) with each image's tokens put in the places kept for them."""
    model = context.model
    ids, positions = context.token_ids(prefix), context.positions(prefix)
    mask = causal_block_mask(positions[0])
    embeds = model.language_model.model.embed(ids)
    if pixels is not None and prefix.images:
        _put_images(prefix, embeds, _vision_tokens(context, prefix, pixels))
    return embeds, positions, mask


def _put_images(prefix: Prefix, embeds: Tensor, features: Tensor) -> None:
    at = 0
    for start, end in prefix.spans:
        embeds[0, start:end] = features[at : at + end - start]
        at += end - start


def _vision_tokens(context: TaskContext, prefix: Prefix, pixels: Tensor) -> Tensor:
    merge = context.model.arch.merge
    found, at = [], 0
    for rows, columns in prefix.images:
        count = rows * columns * merge**2
        found.append(context.model.vision_model(pixels[at : at + count], (rows * merge, columns * merge)))
        at += count
    return found[0] if len(found) == 1 else torch.cat(found)


def _reference_pixels(context: TaskContext, layout: tuple[Prefix, ...]) -> tuple[Tensor | None, Tensor | None]:
    """(all images' patches, the last image's): upstream's loop variable outlives its loop."""
    current: Tensor | None = None
    pixels: list[Tensor] = []
    for index, grid in enumerate(layout[0].images):
        current = context.reference_pixels(index, grid)
        pixels.append(current)
    return (torch.cat(pixels) if pixels else None), current


def _editing(context: TaskContext) -> TaskResult:
    model, workload = context.model, context.workload
    decoder = model.language_model.model
    sampler = GuidedSampler(model, workload, context.generator(), context.device)
    layout = prefixes(model.arch, workload)
    with context.clock.phase("prefix"):
        decoder.policy.phase("prefix")
        pixels, last_pixels = _reference_pixels(context, layout)
        inputs = [_embed_with_images(context, prefix, pixels) for prefix in layout]
        image_positions = [sampler.positions(prefix.next_time) for prefix in layout]
        caches: list[Cache] = []
        hidden_states: Tensor | None = None
        for embeds, positions, mask in inputs:
            cache, hidden_states = model.prefix(embeds, positions, mask)
            caches.append(cache)
            if len(caches) == 1:
                hidden_states = None
        del pixels, inputs, embeds, positions, mask
        decoder.policy.phase("denoise")
    with context.clock.phase("denoise"):
        image = _sample(context, sampler, layout, caches, image_positions)
    del hidden_states, last_pixels
    return TaskResult(image, {prefix.name: prefix.length for prefix in layout} | {"image": sampler.tokens})


def _vqa(context: TaskContext) -> TaskResult:
    model, workload = context.model, context.workload
    (prefix,) = prefixes(model.arch, workload)
    count = workload.new_tokens or tokens("vqa_new_tokens")
    answer: list[Tensor] = []
    with context.clock.phase("prefix"):
        pixels, _last = _reference_pixels(context, (prefix,))
        features = None if pixels is None else _vision_tokens(context, prefix, pixels)
        embeds, positions, mask = _embed_with_images(context, prefix, None)
        if features is not None:
            _put_images(prefix, embeds, features)
        cache = model.new_cache()
        outputs = model.language_model(embeds, positions, mask, cache, last_only=True)
        token = context.token(outputs.logits[:, -1, :].to(torch.float32))
        answer.append(token)
        del outputs, mask
    with context.clock.phase("decode"):
        for index in range(1, count):
            with context.timed_step():
                outputs = model.language_model.decode(token, prefix.next_time + index - 1, cache)
                token = context.token(outputs.logits[:, -1, :].to(torch.float32))
                answer.append(token)
                del outputs
    return TaskResult(torch.cat(answer), {prefix.name: prefix.length, "new": count})


def _interleave(context: TaskContext) -> TaskResult:
    model, workload = context.model, context.workload
    language = model.language_model
    layout = prefixes(model.arch, workload)
    generator = context.generator()
    total = workload.new_tokens or tokens("interleave_text_per_image") * workload.images
    held: dict[str, Outputs] = {}
    caches: dict[str, Cache] = {}
    at = {prefix.name: prefix.next_time for prefix in layout}
    images: list[Tensor] = []
    sampler = GuidedSampler(model, workload, generator, context.device)
    with context.clock.phase("prefix"):
        pixels, _last = _reference_pixels(context, layout)
        inputs = []
        for prefix in layout:
            inputs.append(_embed_with_images(context, prefix, pixels))
            caches[prefix.name] = model.new_cache()
            held[prefix.name] = language(*inputs[-1], caches[prefix.name])
        token = context.token(held["condition"].logits[:, -1, :])
    for index in range(workload.images):
        with context.clock.phase("decode"):
            for _ in range(total // workload.images + (index < total % workload.images)):
                with context.timed_step():
                    held["condition"] = language.decode(token, at["condition"], caches["condition"])
                    at["condition"] += 1
                    token = context.token(held["condition"].logits[:, -1, :])
            for name in _GROWING:
                held[name] = language.decode(token, at[name], caches[name])
                at[name] += 1
        with context.clock.phase("denoise"):
            where = [sampler.positions(at[prefix.name]) for prefix in layout]
            names = tuple(Prefix(_GUIDANCE[prefix.name], prefix.length) for prefix in layout)
            images.append(_sample(context, sampler, names, list(caches.values()), where))
        with context.clock.phase("prefix"):
            reading = _read_back(context, images[-1], sampler)
            for name in _GROWING:
                held[name] = _append_image(context, reading, caches[name], at[name], sampler.grid)
                at[name] += 2
            token = context.token(held["condition"].logits[:, -1, :])
    counts = {prefix.name: prefix.length for prefix in layout}
    return TaskResult(torch.stack(images), counts | {"image": sampler.tokens, "new": total})


_GROWING = ("condition", "text unconditional")
_GUIDANCE = {"condition": "condition", "text unconditional": "image condition", "unconditional": "unconditional"}


@dataclass(slots=True)
class ReadBack:
    """A finished image on its way back into the understanding branch; upstream's names for all of it stay bound."""

    image: Tensor
    raw: Tensor
    normalized: Tensor
    pixels: Tensor
    features: Tensor
    embeds: Tensor


def _read_back(context: TaskContext, image: Tensor, sampler: GuidedSampler) -> ReadBack:
    arch, device = context.model.arch, context.device
    picture = image[0].unsqueeze(0).to(torch.bfloat16)
    raw = picture * 0.5 + 0.5
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=raw.dtype, device=device).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=raw.dtype, device=device).view(1, 3, 1, 1)
    normalized = (raw - mean) / deviation
    rows, columns = sampler.patch_grid
    patches = normalized[0].view(3, rows, arch.patch_size, columns, arch.patch_size).permute(1, 3, 0, 2, 4)
    pixels = patches.reshape(rows * columns, 3 * arch.patch_size**2)
    features = context.model.vision_model(pixels, sampler.patch_grid).unsqueeze(0)
    end = context.model.language_model.model.embed(torch.zeros((1, 1), dtype=torch.long, device=device))
    return ReadBack(picture, raw, normalized, pixels, features, torch.cat([features, end], dim=1))


def _append_image(context: TaskContext, reading: ReadBack, cache: Cache, start: int, grid: tuple[int, int]) -> Outputs:
    """The image and its end token through the understanding branch; image tokens do not see the end token."""
    past, count = cache.length, reading.features.shape[1]
    columns, rows = grid_positions(grid, context.device)
    positions = torch.zeros((3, count + 1), dtype=torch.long, device=context.device)
    positions[0, :count] = start
    positions[0, count] = start + 1
    positions[1, :count], positions[2, :count] = rows, columns
    mask = torch.zeros((1, 1, count + 1, past + count + 1), device=context.device)
    mask[0, 0, :count, past + count] = float("-inf")
    outputs: Outputs = context.model.language_model(reading.embeds, positions, mask, cache)
    return outputs
