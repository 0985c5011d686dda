"""Text to image and editing as a sequence of storages, pass after pass in one process.

Mirrors bench/engines/sensenova/run_tasks.py, which follows upstream's order of operations and lifetimes. Sizes are in
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from fitcheck.memory.dequantization import Linear
from fitcheck.memory.storage import ReplayedCard, Storage
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING, SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.activations import BF16, F32, hidden_bytes, logits_bytes, pixel_bytes
from fitcheck.runtimes.sensenova.guidance import branches, guiding, reference_grids, velocity_branches, written
from fitcheck.runtimes.sensenova.replay import image
from fitcheck.runtimes.sensenova.replay.decoder import Layer, Maybe, ReplayedCache, norm
from fitcheck.runtimes.sensenova.replay.policies import ReplayedUpstream, Resident, Ring, Table
from fitcheck.runtimes.sensenova.streaming import Stream, Streaming

Runner = Callable[[int, Maybe], Maybe]
_STRIDES = 2  # of text
_LONGEST_PERIOD = 16


def policy_of(device: ReplayedCard, table: Table, placement: Streaming, keeps: int) -> Resident:
    """The replayed policy of a placement, with ``keeps`` generation layers that stay on the card."""
    if placement.stream is Stream.NOTHING:
        return Resident(device, table, placement)
    return (Ring if placement.policy == "ring" else ReplayedUpstream)(device, table, placement, keeps)


class ReplayedSampler:
    """Storages that the sampling loop's names hold, through the next step and whatever follows."""

    def __init__(self) -> None:
        self.picture: Maybe = None
        self.patches: Maybe = None
        self.small_patches: Maybe = None
        self.embeds: Maybe = None
        self.times: Maybe = None
        self.noise: Maybe = None
        self.velocities: list[Maybe] = [None] * 3
        self.velocity: Maybe = None


class ReplayedProcess:
    """A process that has loaded its weights: ``run`` makes one image after another.

    ``every_layer`` replays each layer of each pass; otherwise a pass skips layers once free blocks come back to the
    same places, which changes nothing for the pool that temporaries use.
    """

    def __init__(
        self,
        arch: SenseNovaArchitecture,
        table: Table,
        workload: Workload,
        placement: Streaming,
        device: ReplayedCard,
        *,
        keeps: int = 0,
        thinking_keeps: int = 0,
        workspace: int = 0,
        flash: bool = False,
        every_layer: bool = False,
    ) -> None:
        self.arch, self.table, self.workload, self.placement, self.device = arch, table, workload, placement, device
        self.every_layer, self.thinking_keeps = every_layer, thinking_keeps
        self.layer = Layer(arch, device, flash=flash)
        self.vision = image.Vision(arch, device)
        self.drawing = image.Vision(arch, device)
        if placement.policy == "ring":
            self.drawing.build_rope()
        self.policy = policy_of(device, table, placement, keeps)
        if placement.revision == "v0":  # built when loading then, on first use since
            self.vision.build_rope()
            self.drawing.build_rope()
        self._workspace_bytes = workspace
        self._workspace: Storage | None = None
        self._signatures = {
            name: [(table.layers[name][index], *_types(linears)) for index, linears in enumerate(found)]
            for name, found in table.linears.items()
        }

    def run(self, steps: int = 2) -> None:
        """One image or answer, each image in ``steps`` steps; what later steps make is what the second made."""
        match self.workload.task:
            case Task.INTERLEAVE:
                self._interleave(steps)
            case Task.VQA:
                self._vqa()
            case _:
                self._one_image(steps)

    def _one_image(self, steps: int) -> None:
        """Text to image and editing."""
        arch, device, workload = self.arch, self.device, self.workload
        sampler = ReplayedSampler()
        self.policy.phase("prefix")
        found = branches(arch, workload)
        images = [rows * columns for rows, columns in reference_grids(arch, workload)]
        joined, last = self._references(images)
        if images:
            inputs = [self._input(branch.prefix, images if branch.name != "unconditional" else []) for branch in found]
        else:  # embedded one at a time, each just before its pass
            inputs = [(None, self._mask(branch.prefix)) for branch in found]
        caches: list[list[ReplayedCache]] = []
        hidden: Maybe = None
        for branch, (embeds, _mask) in zip(found, inputs, strict=True):
            cache = [ReplayedCache() for _ in range(arch.layers)]
            own = embeds if images else self._embed(branch.prefix)
            hidden = self._understand(own, branch.prefix, cache)
            own = None
            caches.append(cache)
            if len(caches) == 1:
                hidden = None
                self._think(cache)
        del inputs, embeds, _mask, joined
        self.policy.thinking = 0
        self.policy.phase("denoise")
        device.synchronize()
        self._sample(sampler, caches, steps)
        del hidden, last, sampler

    def _think(self, cache: list[ReplayedCache]) -> None:
        """Thoughts, token by token; understanding layers stay as far as they are told to."""
        if not self.workload.think:
            return
        self.policy.thinking = self.thinking_keeps
        outputs: tuple[Maybe, Maybe] = (None, None)
        for added in self._strides(self.workload.think):
            outputs = self._decode(cache, added)
        del outputs

    def _vqa(self) -> None:
        arch, workload = self.arch, self.workload
        (branch,) = branches(arch, workload)
        images = [rows * columns for rows, columns in reference_grids(arch, workload)]
        joined, last = self._references(images)
        features = [self.vision.forward(count) for count in images]
        together = self.device.new(hidden_bytes(arch, sum(images))) if len(images) > 1 else None
        embeds, mask = self._input(branch.prefix, [])
        cache = [ReplayedCache() for _ in range(arch.layers)]
        outputs = self._language(embeds, branch.prefix, cache, last_only=True)
        del outputs, mask
        self.device.synchronize()
        for added in self._strides(written(workload) - 1):
            self._decode(cache, added)
        del joined, last, features, together

    def _interleave(self, steps: int) -> None:
        """Text and images in turn; the head's output over each branch lives until the branch runs again."""
        arch, workload = self.arch, self.workload
        found = branches(arch, workload)
        names = [branch.name for branch in found]
        images = [rows * columns for rows, columns in reference_grids(arch, workload)]
        text = written(workload)
        sampler = ReplayedSampler()
        joined, last = self._references(images)
        inputs, held, caches = [], {}, {}
        for branch in found:
            inputs.append(self._input(branch.prefix, images if branch.name != "unconditional" else []))
            caches[branch.name] = [ReplayedCache() for _ in range(arch.layers)]
            held[branch.name] = self._language(inputs[-1][0], branch.prefix, caches[branch.name])
        finished: list[Maybe] = []
        reading: tuple[Maybe, ...] = ()
        for number in range(workload.images):
            for added in self._strides(text // workload.images + (number < text % workload.images)):
                held["condition"] = self._decode(caches["condition"], added)
            for name in names[:2]:
                held[name] = self._decode(caches[name])
            self.device.synchronize()
            self._sample(sampler, list(caches.values()), steps)
            finished.append(sampler.picture)
            reading = self._read_back()
            for name in names[:2]:
                held[name] = self._append_image(reading[-1], caches[name])
            self.device.synchronize()
        count = len(finished) * arch.image_tokens(workload.width, workload.height)
        self.device.new(pixel_bytes(arch, count))  # all images in one
        del joined, last, inputs, held, caches, reading, finished

    def _references(self, images: list[int]) -> tuple[Maybe, Maybe]:
        """All reference images' patches in one, and the last image's own."""
        single = [self._pixels(count) for count in images]
        joined = self.device.new(pixel_bytes(self.arch, sum(images))) if images else None
        return joined, (single[-1] if single else None)

    def _language(
        self, embeds: Maybe, tokens: int, cache: list[ReplayedCache], *, last_only: bool = False
    ) -> tuple[Maybe, Maybe]:
        """Logits of every token, or of the last one, and the hidden states."""
        hidden = self._understand(embeds, tokens, cache)
        weight = self.policy.own_forward(self.table.head)
        logits = self.device.new(logits_bytes(self.arch, 1 if last_only else tokens))
        del weight
        return logits, hidden

    def _strides(self, count: int) -> list[int]:
        """Tokens by which a cache grows at a time: each alone, or a few strides in place of many small ones."""
        if self.every_layer or count <= _STRIDES:
            return [1] * count
        return [count // _STRIDES + (number < count % _STRIDES) for number in range(_STRIDES)]

    def _decode(self, cache: list[ReplayedCache], added: int = 1) -> tuple[Maybe, Maybe]:
        """One token; the cache grows as if it were the last of ``added``."""
        for layer in cache:
            layer.length += added - 1
        return self._language(self._embed(1), 1, cache)

    def _read_back(self) -> tuple[Maybe, ...]:
        """A finished image through the vision tower; every name for it stays bound."""
        device, arch = self.device, self.arch
        count = arch.image_tokens(self.workload.width, self.workload.height)
        nbytes = pixel_bytes(arch, count)
        raw = device.new(nbytes)
        raw = device.new(nbytes)
        centred = device.new(nbytes)
        normalized = device.new(nbytes)
        del centred
        pixels = device.new(nbytes)
        features = self.vision.forward(count)
        self._embed(1)  # the token that ends an image
        embeds = device.new(hidden_bytes(arch, count + 1))
        return raw, normalized, pixels, features, embeds

    def _append_image(self, embeds: Maybe, cache: list[ReplayedCache]) -> tuple[Maybe, Maybe]:
        count = self.arch.image_tokens(self.workload.width, self.workload.height) + 1
        mask = self.device.new(F32 * count * (cache[0].length + count))
        outputs = self._language(embeds, count, cache)
        del mask
        return outputs

    def _pixels(self, tokens: int) -> Maybe:
        """A reference image, sent over in f32 and kept in bf16."""
        count = tokens * 3 * self.arch.pixels_per_token**2
        exact = self.device.new(F32 * count)
        narrow = self.device.new(BF16 * count)
        del exact
        return narrow

    def _embed(self, tokens: int) -> Maybe:
        weight = self.policy.own_forward(self.table.embedding)
        embeds = self.device.new(hidden_bytes(self.arch, tokens))
        del weight
        return embeds

    def _mask(self, tokens: int) -> Maybe:
        new = self.device.new
        same, before = new(tokens * tokens), new(tokens * tokens)
        seen = new(tokens * tokens)
        del same, before
        positive = new(tokens * tokens)
        mask = new(F32 * tokens * tokens)
        del positive, seen
        return mask

    def _input(self, tokens: int, images: list[int]) -> tuple[Maybe, Maybe]:
        mask = self._mask(tokens)
        embeds = self._embed(tokens)
        if images:
            features = [self.vision.forward(count) for count in images]
            together = self.device.new(hidden_bytes(self.arch, sum(images))) if len(images) > 1 else None
            del features, together
        return embeds, mask

    def _pass(self, branch: str, hidden: Maybe, run: Runner) -> Maybe:
        """``run(index, hidden)`` for every layer, or for as many as it takes until free blocks repeat."""
        seen: list[Hashable] = []
        signatures = self._signatures[branch]
        index = 0
        while index < self.arch.layers:
            self.device.queued()
            self.policy.before_layer(index, branch)
            if self._workspace is None:
                self._workspace = self.device.keep(self._workspace_bytes)
            hidden = run(index, hidden)
            self.policy.after_layer(index, branch)
            index += 1
            if self.every_layer:
                continue
            if seen and signatures[index - 1] != signatures[index - 2]:
                seen.clear()
            seen.append(self.device.allocator.free_blocks(0))
            period = next((p for p in range(1, _LONGEST_PERIOD + 1) if len(seen) > p and seen[-1 - p] == seen[-1]), 0)
            if period:
                end = next(
                    (at for at in range(index, self.arch.layers) if signatures[at] != signatures[index - 1]),
                    self.arch.layers,
                )
                for _ in range((end - index) // period * period):
                    self.device.queued()
                    self.policy.before_layer(index, branch)
                    self.policy.after_layer(index, branch)
                    index += 1
                seen.clear()
        return hidden

    def _understand(self, embeds: Maybe, tokens: int, cache: list[ReplayedCache]) -> Maybe:
        linears = self.table.linears[UNDERSTANDING]

        def run(index: int, hidden: Maybe) -> Maybe:
            return self.layer.understand(hidden, tokens, cache[index], linears[index])

        hidden = self._pass(UNDERSTANDING, embeds, run)
        for layer in cache:
            if layer.length < cache[0].length:  # skipped
                self.layer.extend(layer, tokens)
        output = norm(self.device, tokens * self.arch.hidden_size)
        del hidden
        return output

    def _sample(self, sampler: ReplayedSampler, caches: list[list[ReplayedCache]], steps: int) -> None:
        """Steps of the sampler; its variables outlive each step and the image."""
        device, arch, workload = self.device, self.arch, self.workload
        tokens = workload.batch * arch.image_tokens(workload.width, workload.height)
        for cache in caches:
            self._prepare(cache, tokens)
        hidden, pixels = hidden_bytes(arch, tokens), pixel_bytes(arch, tokens)
        count = velocity_branches(workload)
        mixed = guiding(caches, workload)
        noise = device.new(pixels)
        sampler.picture = device.new(pixels)
        del noise
        for _ in range(steps):
            sampler.patches = device.new(pixels)
            sampler.small_patches = device.new(pixels)
            sampler.embeds = self.drawing.forward(tokens)
            sampler.times = image.timestep(device, arch, tokens)
            sampler.noise = image.timestep(device, arch, tokens)
            sampler.embeds = device.new(hidden)
            for number, cache in enumerate(mixed):
                sampler.velocities[number] = self._velocity(sampler.embeds, tokens, cache)
            sampler.velocity = self._guided(pixels, count) if count > 1 else sampler.velocities[0]
            moved = device.new(pixels)
            sampler.patches = device.new(pixels)
            del moved
            sampler.picture = device.new(pixels)
            device.synchronize()
        for cache in caches:
            for layer in cache:
                layer.joint_keys = layer.joint_values = None

    def _prepare(self, cache: list[ReplayedCache], tokens: int) -> None:
        """Buffers for prefix and image of every layer, each with its own copy of the prefix for a batch."""
        device, batch = self.device, self.workload.batch
        keys = values = None
        for layer in cache:
            prefix = BF16 * layer.length * self.layer.keys
            keys = device.new(prefix)
            values = device.new(prefix)
            layer.joint_keys = device.keep(BF16 * (batch * layer.length + tokens) * self.layer.keys)
            layer.joint_values = device.keep(BF16 * (batch * layer.length + tokens) * self.layer.keys)
        del keys, values

    def _velocity(self, embeds: Maybe, tokens: int, cache: list[ReplayedCache]) -> Maybe:
        linears, device, batch = self.table.linears[GENERATION], self.device, self.workload.batch

        def run(index: int, hidden: Maybe) -> Maybe:
            if self.placement.revision == "v0":  # reads a flag back in every layer, so the host never runs ahead
                device.synchronize()
            return self.layer.generate(hidden, tokens, batch, cache[index], linears[index])

        hidden = self._pass(GENERATION, embeds, run)
        normed = norm(device, tokens * self.arch.hidden_size)
        del hidden
        pixels = image.head(device, self.arch, tokens)
        difference = device.new(pixel_bytes(self.arch, tokens))
        velocity = device.new(pixel_bytes(self.arch, tokens))
        del difference, normed, pixels
        return velocity

    def _guided(self, nbytes: int, count: int) -> Maybe:
        """Differences, scaled and added: once for two velocities, twice for three."""
        new = self.device.new
        total: Maybe = None
        for _ in range(count - 1):
            difference = new(nbytes)
            scaled = new(nbytes)
            del difference
            total = new(nbytes)
            del scaled
        return total


def _types(linears: dict[str, Linear]) -> tuple[str, ...]:
    return tuple(linear.type for linear in linears.values())
