"""The vision tower (two convolutions with a 2-D rotary embedding between them), time embedders and generation heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture

ROPE_THETA_VISION = 10_000.0


class VisionEmbeddings(nn.Module):
    """Pixels [patches, 3·patch²] of one image -> tokens [patches / merge², hidden]."""

    def __init__(self, arch: SenseNovaArchitecture) -> None:
        super().__init__()
        width, patch, merge = arch.vision_hidden_size, arch.patch_size, arch.merge
        self.patch_size, self.width, self.positions = patch, width, arch.max_vision_positions
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.dense_embedding = nn.Conv2d(width, arch.hidden_size, kernel_size=merge, stride=merge)
        self.rope: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def build_rope(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """f32 cos and sin [positions, width / 4] for x and again for y, built on first use and kept."""
        if self.rope is None:
            dim = self.width // 2
            inverse = 1.0 / (ROPE_THETA_VISION ** (torch.arange(0, dim, 2, device=device).float() / dim))
            angles = torch.outer(torch.arange(self.positions, device=device).type_as(inverse), inverse)
            cos, sin = torch.cos(angles), torch.sin(angles)
            self.rope = (cos, sin, cos.clone(), sin.clone())
        return self.rope

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """``grid`` is (rows, columns) of patches."""
        pixels = pixels.view(-1, 3, self.patch_size, self.patch_size)
        patches = functional.gelu(self.patch_embedding(pixels)).view(-1, self.width)
        self.build_rope(patches.device)
        patches = self._rotate(patches, grid)
        rows, columns = grid
        image = patches.view(rows, columns, -1).unsqueeze(0)
        image = self.dense_embedding(image.permute(0, 3, 1, 2))
        image = image.permute(0, 2, 3, 1)
        return torch.cat([image.reshape(-1, image.shape[-1])], dim=0)

    def _rotate(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        x, y = grid_positions(grid, patches.device)
        tables = self.build_rope(patches.device)
        half = self.width // 2
        wide = patches.to(torch.float32)
        left = _rotate_pairs(wide[..., :half], tables[0], tables[1], x)
        right = _rotate_pairs(wide[..., half:], tables[2], tables[3], y)
        return torch.cat((left, right), dim=-1).to(patches.dtype)


def _rotate_pairs(x: Tensor, cos_table: Tensor, sin_table: Tensor, positions: Tensor) -> Tensor:
    cos, sin = cos_table[positions], sin_table[positions]
    even, odd = x[..., 0::2], x[..., 1::2]
    rotated_even = even * cos - odd * sin
    rotated_odd = even * sin + odd * cos
    rotated = torch.empty_like(x)
    rotated[..., 0::2] = rotated_even
    rotated[..., 1::2] = rotated_odd
    return rotated


def grid_positions(grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """(x, y) int64 [rows·columns] of a row-major grid."""
    rows, columns = grid
    index = torch.arange(rows * columns, device=device)
    return index % columns, index // columns


class VisionModel(nn.Module):
    """``VisionEmbeddings`` under the name that upstream's tensors have."""

    def __init__(self, arch: SenseNovaArchitecture) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(arch)

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [patches / merge², hidden] of one image; ``grid`` is (rows, columns) of patches."""
        tokens: Tensor = self.embeddings(pixels, grid)
        return tokens


class TimestepEmbedder(nn.Module):
    """Scalars [N] -> [N, hidden] through 256 sinusoids and a two-layer MLP."""

    def __init__(self, hidden: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, t: Tensor) -> Tensor:
        """Embeddings in the dtype of the MLP's weights; the sinusoids are f32."""
        half = self.frequencies // 2
        exponents = torch.arange(0, half, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(10000.0) * exponents / half)
        angles = t[:, None].float() * frequencies[None]
        waves = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
        embedding: Tensor = self.mlp(waves.to(next(self.mlp.parameters()).dtype))
        return embedding


class ConvDecoder(nn.Module):
    """U1.5's generation head: [1, hidden, h, w] -> [1, 3, 32·h, 32·w] by pixel shuffles around two 3×3 convolutions."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden // 4, 1024, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(256, 192, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels in the dtype of ``x``."""
        x = functional.gelu(self.conv1(functional.pixel_shuffle(x, 2)))
        return functional.pixel_shuffle(self.conv2(functional.pixel_shuffle(x, 2)), 8)


def generation_head(arch: SenseNovaArchitecture) -> nn.Module:
    """U1.5's ``ConvDecoder``, or U1's MLP: tokens [.., hidden] -> [.., 3·pixels²] of one token's square."""
    if arch.head == "conv":
        return ConvDecoder(arch.hidden_size)
    pixels = 3 * arch.pixels_per_token**2
    return nn.Sequential(nn.Linear(arch.hidden_size, arch.head_hidden), nn.GELU(), nn.Linear(arch.head_hidden, pixels))


def patchify(images: Tensor, patch: int, channel_first: bool = False) -> Tensor:
    """[1, 3, H, W] -> [1, patches, 3·patch²], channels first or last within a patch."""
    batch, _, height, width = images.shape
    rows, columns = height // patch, width // patch
    x = images.reshape(batch, 3, rows, patch, columns, patch)
    x = torch.einsum("nchpwq->nhwcpq" if channel_first else "nchpwq->nhwpqc", x)
    return x.reshape(batch, rows * columns, patch**2 * 3)


def unpatchify(x: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The inverse of ``patchify`` with channels last: [1, patches, 3·patch²] -> [1, 3, H, W]."""
    x = x.reshape(x.shape[0], height // patch, width // patch, patch, patch, 3)
    x = torch.einsum("nhwpqc->nchpwq", x)
    return x.reshape(x.shape[0], 3, height, width)
