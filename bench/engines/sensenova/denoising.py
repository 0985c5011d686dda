"""The flow-matching sampler: noise in pixel space, one Euler step a time, one velocity a guidance branch.

Upstream keeps all of this in local variables of one long function, so tensors of one step stay alive through the next
and through whatever follows. The sampler's attributes take their place and live as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.engines.sensenova.attention import Cache
from bench.engines.sensenova.network import SenseNovaNetwork
from bench.engines.sensenova.vision import patchify, unpatchify
from fitcheck.models.workload import Task, Workload


@dataclass(frozen=True, slots=True)
class GuidanceBranch:
    """A cached prefix and the positions [3, S] of the image tokens behind it."""

    cache: Cache
    positions: Tensor


class GuidedSampler:
    """``condition``, ``image_condition`` and ``unconditional`` are the velocities of upstream's branches."""

    def __init__(
        self, model: SenseNovaNetwork, workload: Workload, generator: torch.Generator | None, device: torch.device
    ):
        self._model, self._workload, self._generator, self._device = model, workload, generator, device
        arch = model.arch
        self.side = arch.pixels_per_token
        self.grid = (workload.height // self.side, workload.width // self.side)
        self.patch_grid = (workload.height // arch.patch_size, workload.width // arch.patch_size)
        self.tokens = self.grid[0] * self.grid[1]
        self.noise_scale = model.noise_scale(self.tokens)
        self.condition: Tensor | None = None
        self.image_condition: Tensor | None = None
        self.unconditional: Tensor | None = None
        self.velocity: Tensor | None = None
        self.noise_embeddings: Tensor | None = None

    def positions(self, start: int) -> Tensor:
        """[3, S] (time, row, column): all image tokens share the time ``start``."""
        time = torch.full((self.tokens,), start, dtype=torch.long, device=self._device)
        index = torch.arange(self.tokens, device=self._device, dtype=torch.long)
        columns = self.grid[1]
        return torch.stack([time, index // columns, index % columns], dim=0)

    def start(self, shift: float = 3.0) -> None:
        """Draw the noise and lay out the times of all steps, shifted towards the noisy end."""
        shape = (1, 3, self._workload.height, self._workload.width)
        self.image = self.noise_scale * torch.randn(
            shape, device=self._device, dtype=torch.bfloat16, generator=self._generator
        )
        times = torch.linspace(0.0, 1.0, self._workload.steps + 1, device=self._device)
        sigma = 1 - times
        self.times = 1 - shift * sigma / (1 + (shift - 1) * sigma)

    def step(self, index: int, branches: dict[str, GuidanceBranch]) -> None:
        """One Euler step from ``times[index]`` to the next; ``image`` [1, 3, height, width] holds what comes of it."""
        t, following = self.times[index], self.times[index + 1]
        arch, modules = self._model.arch, self._model.fm_modules
        self.z = patchify(self.image, self.side)
        self.image_input = patchify(self.image, arch.patch_size, channel_first=True)
        pixels = self.image_input.view(self.patch_grid[0] * self.patch_grid[1], -1)
        self.image_embeds = modules["vision_model_mot_gen"](pixels, self.patch_grid).view(1, self.tokens, -1)
        expanded = t.expand(self.tokens)
        self.time_embeddings = modules["timestep_embedder"](expanded).view(1, self.tokens, -1)
        scale = torch.full_like(expanded, self.noise_scale / self._model.noise_scale_limit)
        self.noise_embeddings = modules["noise_scale_embedder"](scale).view(1, self.tokens, -1)
        self.time_embeddings += self.noise_embeddings
        self.image_embeds = self.image_embeds + self.time_embeddings
        self.condition = self._predict(branches["condition"], t)
        self.velocity = self._guided(branches, t)
        self.z = self.z + (following - t) * self.velocity
        self.image = unpatchify(self.z, self.side, self._workload.height, self._workload.width)

    def _predict(self, branch: GuidanceBranch, t: Tensor) -> Tensor:
        return self._model.velocity(self.image_embeds, branch.positions, branch.cache, t, self.z, self.grid)

    def _guided(self, branches: dict[str, GuidanceBranch], t: Tensor) -> Tensor:
        """Classifier-free guidance as each task of upstream combines its branches."""
        cfg, image_cfg = self._workload.cfg, self._workload.image_cfg
        condition = self.condition
        if condition is None:
            raise RuntimeError("guidance needs the condition's velocity first")
        if self._workload.task is Task.T2I:
            if cfg <= 1:
                return condition
            self.unconditional = self._predict(branches["unconditional"], t)
            return self.unconditional + cfg * (condition - self.unconditional)
        if cfg == 1 and image_cfg == 1:
            return condition
        if image_cfg == 1:
            self.image_condition = self._predict(branches["image condition"], t)
            return self.image_condition + cfg * (condition - self.image_condition)
        if cfg == image_cfg:
            self.unconditional = self._predict(branches["unconditional"], t)
            return self.unconditional + cfg * (condition - self.unconditional)
        self.image_condition = self._predict(branches["image condition"], t)
        self.unconditional = self._predict(branches["unconditional"], t)
        return (
            self.unconditional
            + cfg * (condition - self.image_condition)
            + image_cfg * (self.image_condition - self.unconditional)
        )
