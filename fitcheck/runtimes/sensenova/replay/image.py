"""Storages outside the layers: the vision tower, the embedders, the generation head and the sampling loop's own.

Mirrors vision.py and denoising.py in bench/engines/sensenova/, which follow upstream's modeling_neo_chat.py. Sizes in
bytes.
"""

from __future__ import annotations

from fitcheck.memory.storage import ReplayedCard, Storage
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.runtimes.sensenova.activations import BF16, F32, hidden_bytes, pixel_bytes
from fitcheck.runtimes.sensenova.replay.decoder import INT64, Maybe

_SINUSOIDS = 256  # of a timestep embedding


class Vision:
    """A vision tower; its table of rotations is built on first use and kept."""

    def __init__(self, arch: SenseNovaArchitecture, device: ReplayedCard) -> None:
        self.arch, self.device = arch, device
        self.rope: list[Storage] = []

    def build_rope(self) -> None:
        """Makes the table of rotations if it is not there: four storages stay, the angles go."""
        if not self.rope:
            size = self.arch.vision_rope_bytes // 4
            angles = self.device.keep(size)
            self.rope = [self.device.keep(size) for _ in range(4)]
            del angles

    def forward(self, tokens: int) -> Maybe:
        """Patches of ``tokens`` tokens' pixels to hidden states."""
        device, arch = self.device, self.arch
        elements = tokens * arch.merge**2 * arch.vision_hidden_size
        patches = device.new(BF16 * elements)
        patches = device.new(BF16 * elements)
        self.build_rope()
        rotated = self._rotate(elements)
        patches = rotated
        del rotated
        image = device.new(hidden_bytes(arch, tokens))
        output = device.new(hidden_bytes(arch, tokens))
        del patches, image
        return output

    def _rotate(self, elements: int) -> Maybe:
        new = self.device.new
        positions = (
            new(INT64 * elements // self.arch.vision_hidden_size),
            new(INT64 * elements // self.arch.vision_hidden_size),
        )
        wide = new(F32 * elements)
        left = self._pairs(elements // 2)
        right = self._pairs(elements // 2)
        joined = new(F32 * elements)
        output = new(BF16 * elements)
        del joined, positions, wide, left, right
        return output

    def _pairs(self, elements: int) -> Maybe:
        """Even and odd places of ``elements`` rotated by gathered cosines and sines."""
        new, half = self.device.new, F32 * elements // 2
        angles = new(half), new(half)
        first, second = new(half), new(half)
        even = new(half)
        del first, second
        first, second = new(half), new(half)
        odd = new(half)
        del first, second
        output = new(F32 * elements)
        del angles, even, odd
        return output


def timestep(device: ReplayedCard, arch: SenseNovaArchitecture, tokens: int) -> Maybe:
    """Sinusoids of one time a token through two linears."""
    new = device.new
    angles = new(F32 * tokens * _SINUSOIDS // 2)
    cosine, sine = new(F32 * tokens * _SINUSOIDS // 2), new(F32 * tokens * _SINUSOIDS // 2)
    waves = new(F32 * tokens * _SINUSOIDS)
    del cosine, sine
    narrow = new(BF16 * tokens * _SINUSOIDS)
    first = new(hidden_bytes(arch, tokens))
    second = new(hidden_bytes(arch, tokens))
    del first
    output = new(hidden_bytes(arch, tokens))
    del second, narrow, angles, waves
    return output


def head(device: ReplayedCard, arch: SenseNovaArchitecture, tokens: int) -> tuple[Maybe, ...]:
    """Hidden states to pixels: two linears, or two convolutions between pixel shuffles, whose planes live on."""
    new, pixels = device.new, pixel_bytes(arch, tokens)
    if arch.head != "conv":
        wide = new(BF16 * tokens * arch.head_hidden)
        wide = new(BF16 * tokens * arch.head_hidden)
        output = new(pixels)
        del wide
        return (output,)
    planes = new(hidden_bytes(arch, tokens))
    smooth = _convolutions(device, arch, tokens)
    return new(pixels), planes, smooth


def _convolutions(device: ReplayedCard, arch: SenseNovaArchitecture, tokens: int) -> Maybe:
    new = device.new
    shuffled = new(hidden_bytes(arch, tokens))
    first = new(BF16 * 4 * tokens * 1024)
    del shuffled
    second = new(BF16 * 4 * tokens * 1024)
    del first
    shuffled = new(BF16 * 16 * tokens * 256)
    third = new(BF16 * 16 * tokens * 192)
    del shuffled
    output = new(BF16 * 16 * tokens * 192)
    del third, second
    return output
