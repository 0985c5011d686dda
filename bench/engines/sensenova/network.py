"""SenseNova-U1 as a module tree with upstream's tensor names; weights live wherever the streaming policy puts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.engines.sensenova.attention import Attention, Cache, causal_block_mask
from bench.engines.sensenova.decoder_layers import DecoderLayer
from bench.engines.sensenova.layers import Linear, RMSNorm
from bench.engines.sensenova.streaming.policy import AlwaysResident, Policy
from bench.engines.sensenova.vision import TimestepEmbedder, VisionModel, generation_head
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING, SenseNovaArchitecture

NOISE_SCALE_BASE_TOKENS = 64
TIMESTEP_EPSILON = 0.02


@dataclass(slots=True)
class Outputs:
    """What one call of the language model hands back; ``logits`` [B, L, vocab] stay alive as long as this does."""

    logits: Tensor
    hidden_states: Tensor


class Decoder(nn.Module):
    """Embedding, layers and norms. Every layer asks the policy for its weights before it runs and gives them back."""

    def __init__(self, arch: SenseNovaArchitecture, linear: Linear) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(arch.vocab_size, arch.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(arch, linear) for _ in range(arch.layers))
        self.norm = RMSNorm(arch.hidden_size)
        self.norm_mot_gen = RMSNorm(arch.hidden_size)
        self.policy: Policy = AlwaysResident()

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings [B, S, hidden] of token ids [B, S]."""
        with self.policy.prefix_weights("embed_tokens"):
            embeddings: Tensor = self.embed_tokens(tokens)
        return embeddings

    def understand(self, inputs_embeds: Tensor, positions: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """Normed hidden states [B, S, hidden] of the understanding branch; every layer's cache grows by S tokens."""
        hidden_states = inputs_embeds
        for index, layer in enumerate(self.layers):
            self.policy.before_layer(index, UNDERSTANDING)
            hidden_states = layer.understand(hidden_states, positions, mask, cache.layers[index])  # type: ignore[operator]
            self.policy.after_layer(index, UNDERSTANDING)
        normed: Tensor = self.norm(hidden_states)
        return normed

    def generate(
        self, inputs_embeds: Tensor, positions: Tensor, cache: Cache, indicators: Tensor, flags: Flags
    ) -> Tensor:
        """Normed hidden states [B, S, hidden] of the generation branch; prefixes in the cache stay as they are."""
        per_layer = flags.start(indicators)
        hidden_states = inputs_embeds
        for index, layer in enumerate(self.layers):
            self.policy.before_layer(index, GENERATION)
            per_layer()
            hidden_states = layer.generate(hidden_states, positions, cache.layers[index])  # type: ignore[operator]
            self.policy.after_layer(index, GENERATION)
        normed: Tensor = self.norm_mot_gen(hidden_states)
        return normed


@dataclass(frozen=True, slots=True)
class Flags:
    """How upstream learns on the host which branch runs: it reads two flags back from the card.

    v0 reads them in every layer (and again in its attention), which stops the host from running ahead; later revisions
    read them once a forward. How far the host runs ahead decides how much memory asynchronous prefetch reserves.
    """

    every_layer: bool
    read: bool = True

    def start(self, indicators: Tensor) -> Callable[[], None]:
        """Reads the flags at once, or with ``every_layer`` hands back what does it twice a layer; dry runs do not."""
        understanding, generation = (~indicators).any(), indicators.any()
        if not self.read:
            return lambda: None
        if not self.every_layer:
            _host_bool(understanding), _host_bool(generation)
            return lambda: None

        def check() -> None:
            for _ in ("layer", "attention"):
                _host_bool(understanding), _host_bool(generation)

        return check


def _host_bool(flag: Tensor) -> bool:
    return bool(flag)


class LanguageModel(nn.Module):
    """The decoder with its head, as upstream nests them, so that tensors keep their names."""

    def __init__(self, arch: SenseNovaArchitecture, linear: Linear) -> None:
        super().__init__()
        self.model = Decoder(arch, linear)
        self.lm_head = nn.Linear(arch.hidden_size, arch.vocab_size, bias=False)

    def forward(
        self, inputs_embeds: Tensor, positions: Tensor, mask: Tensor, cache: Cache, last_only: bool = False
    ) -> Outputs:
        """Logits of every position, or of the last one when ``last_only`` (text generation's prefill)."""
        hidden_states = self.model.understand(inputs_embeds, positions, mask, cache)
        with self.model.policy.prefix_weights("lm_head"):
            logits = self.lm_head(hidden_states[:, -1:] if last_only else hidden_states[:, 0:])
        return Outputs(logits, hidden_states)

    def decode(self, token: Tensor, position: int, cache: Cache) -> Outputs:
        """One token [1] at temporal ``position`` appended to the cache."""
        tokens = token.unsqueeze(0)
        embeddings = self.model.embed(tokens)
        length = cache.length + 1
        mask = torch.zeros((1, 1, 1, length), dtype=embeddings.dtype, device=embeddings.device)
        positions = torch.zeros((3, 1), dtype=torch.long, device=embeddings.device)
        positions[0] = position
        outputs: Outputs = self(embeddings, positions, mask, cache)
        return outputs


class SenseNovaNetwork(nn.Module):
    """The whole model. Built on the meta device; ``weight_sources`` gives every tensor its bytes."""

    def __init__(self, arch: SenseNovaArchitecture, linear: Linear) -> None:
        super().__init__()
        self.arch = arch
        self.language_model = LanguageModel(arch, linear)
        self.vision_model = VisionModel(arch)
        self.fm_modules = nn.ModuleDict(
            {
                "vision_model_mot_gen": VisionModel(arch),
                "timestep_embedder": TimestepEmbedder(arch.hidden_size),
                "noise_scale_embedder": TimestepEmbedder(arch.hidden_size),
                "fm_head": generation_head(arch),
            }
        )
        self.flags = Flags(every_layer=False)

    @property
    def noise_scale_limit(self) -> float:
        """The largest ``noise_scale``: 16 with U1.5's convolutional head, 8 with U1's."""
        return 16.0 if self.arch.head == "conv" else 8.0

    def noise_scale(self, tokens: int) -> float:
        """Initial noise grows with the square root of the image's token count."""
        return min(float((tokens / NOISE_SCALE_BASE_TOKENS) ** 0.5), self.noise_scale_limit)

    def new_cache(self) -> Cache:
        """An empty cache for one guidance branch."""
        return Cache(self.arch.layers)

    def prefix(self, inputs_embeds: Tensor, positions: Tensor, mask: Tensor) -> tuple[Cache, Tensor]:
        """(cache, last hidden states [1, L, hidden]); no logits."""
        cache = self.new_cache()
        hidden_states = self.language_model.model.understand(inputs_embeds, positions, mask, cache)
        return cache, hidden_states

    def velocity(
        self, image_embeds: Tensor, positions: Tensor, cache: Cache, t: Tensor, z: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Velocity [1, S, 3·32²] of the noisy patches ``z`` at time ``t``; ``grid`` is (rows, columns) of tokens."""
        batch, tokens = z.shape[0], z.shape[1]
        indicators = torch.ones(image_embeds.shape[:2], dtype=torch.bool, device=image_embeds.device)
        hidden_states = self.language_model.model.generate(image_embeds, positions, cache, indicators, self.flags)
        if self.arch.head == "conv":
            rows, columns = grid
            side = self.arch.pixels_per_token
            image = hidden_states[:, -tokens:].view(batch, rows, columns, -1)
            planes = torch.einsum("bhwc->bchw", image)
            planes = planes.contiguous().view(batch, -1, rows, columns)
            smooth = self.fm_modules["fm_head"](planes)
            pixels = smooth.view(batch, 3, rows, side, columns, side)
            pixels = torch.einsum("bchpwq->bhwpqc", pixels)
            x = pixels.contiguous().view(batch, tokens, side * side * 3)
        else:
            x = self.fm_modules["fm_head"](hidden_states[:, -tokens:].view(batch, tokens, -1)).view(batch, tokens, -1)
        velocity: Tensor = (x - z) / (1 - t).clamp_min(TIMESTEP_EPSILON)
        return velocity

    def attention_modules(self) -> list[Attention]:
        """The attention of every layer, in the order of the layers."""
        return [module for module in self.modules() if isinstance(module, Attention)]


__all__ = ["Cache", "Flags", "Outputs", "SenseNovaNetwork", "causal_block_mask"]
