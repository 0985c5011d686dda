"""The SenseNova-U1 family ("NEO-unify"): two parallel decoder branches that share embeddings and attention caches.

Every decoder layer exists twice, plain ("understanding") and with the suffix ``_mot_gen`` ("generation"). There is no
VAE and no vision transformer: two convolutions make one token of 32×32 pixels. Names and shapes follow upstream's
modeling files (OpenSenseNova/SenseNova-U1, src/sensenova_u1/models/neo_unify).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from fitcheck.dataclass_later import dataclass
from fitcheck.models.tensors import AlikeLayers, Layered, Tensor, TensorTable

UNDERSTANDING = "understanding"
GENERATION = "generation"
SHARED = "shared"


@dataclass(frozen=True, slots=True)
class SenseNovaArchitecture:
    """Config numbers. ``experts`` / ``generation_experts`` of 0 mean a dense MLP of ``intermediate_size``."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    vision_hidden_size: int = 1024
    patch_size: int = 16
    merge: int = 2
    head: str = "linear"
    head_hidden: int = 4096
    experts: int = 0
    generation_experts: int = 0
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    max_vision_positions: int = 10000
    family: str = "sensenova-u1"

    def __hash__(self) -> int:
        # Enough to tell models apart: estimates are looked up by it for card after card.
        return hash((self.hidden_size, self.layers, self.experts))

    @property
    def pixels_per_token(self) -> int:
        """Side of the square of pixels that one image token stands for."""
        return self.patch_size * self.merge

    def image_tokens(self, width: int, height: int) -> int:
        """Tokens of an image of ``width`` by ``height`` pixels; what does not fill a token is cut off."""
        return (width // self.pixels_per_token) * (height // self.pixels_per_token)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of bf16 keys and values of one token over all layers."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim

    @property
    def context_length(self) -> int | None:
        """A picture's tokens are no context to choose."""
        return None

    def cache_bytes(self, context: int) -> int:
        """Prefixes are cached, but no run is a plain decoding."""
        return 0

    @property
    def vision_rope_bytes(self) -> int:
        """f32 cos and sin tables of one vision tower, for x and y: 4 × positions × (vision_hidden / 4) × 4 B."""
        return 4 * self.max_vision_positions * (self.vision_hidden_size // 4) * 4

    @property
    def active_intermediate(self) -> int:
        """MLP width that one token passes through."""
        return self.experts_per_token * self.expert_intermediate_size if self.experts else self.intermediate_size


def _layer_tensors(arch: SenseNovaArchitecture, layer: int) -> Iterator[tuple[str, tuple[int, ...], str, str]]:
    """(name, shape, role, branch) of one decoder layer, both branches."""
    root = f"language_model.model.layers.{layer}"
    hidden, q, kv = arch.hidden_size, arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    for suffix, branch in (("", UNDERSTANDING), ("_mot_gen", GENERATION)):
        attention = f"{root}.self_attn"
        for name, shape in (
            ("q_proj", (q, hidden)),
            ("k_proj", (kv, hidden)),
            ("v_proj", (kv, hidden)),
            ("o_proj", (hidden, q)),
        ):
            yield f"{attention}.{name}{suffix}.weight", shape, "attention", branch
        for name in ("q_norm", "q_norm_hw", "k_norm", "k_norm_hw"):
            yield f"{attention}.{name}{suffix}.weight", (arch.head_dim // 2,), "norm", branch
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{root}.{name}{suffix}.weight", (hidden,), "norm", branch
        if not arch.experts:
            wide = arch.intermediate_size
            for name, shape in (
                ("gate_proj", (wide, hidden)),
                ("up_proj", (wide, hidden)),
                ("down_proj", (hidden, wide)),
            ):
                yield f"{root}.mlp{suffix}.{name}.weight", shape, "mlp", branch
            continue
        count = arch.experts if branch == UNDERSTANDING else arch.generation_experts
        wide = arch.expert_intermediate_size
        yield f"{root}.mlp{suffix}.gate.weight", (count, hidden), "router", branch
        for expert in range(count):
            for name, shape in (
                ("gate_proj", (wide, hidden)),
                ("up_proj", (wide, hidden)),
                ("down_proj", (hidden, wide)),
            ):
                yield f"{root}.mlp{suffix}.experts.{expert}.{name}.weight", shape, "expert", branch


def _outer_tensors(arch: SenseNovaArchitecture) -> Iterator[tuple[str, tuple[int, ...], str, str]]:
    hidden, vision, patch, merge = arch.hidden_size, arch.vision_hidden_size, arch.patch_size, arch.merge
    yield "language_model.model.embed_tokens.weight", (arch.vocab_size, hidden), "embedding", SHARED
    yield "language_model.lm_head.weight", (arch.vocab_size, hidden), "head", SHARED
    yield "language_model.model.norm.weight", (hidden,), "norm", UNDERSTANDING
    yield "language_model.model.norm_mot_gen.weight", (hidden,), "norm", GENERATION
    for root, branch in (("vision_model", UNDERSTANDING), ("fm_modules.vision_model_mot_gen", GENERATION)):
        yield f"{root}.embeddings.patch_embedding.weight", (vision, 3, patch, patch), "vision", branch
        yield f"{root}.embeddings.patch_embedding.bias", (vision,), "vision", branch
        yield f"{root}.embeddings.dense_embedding.weight", (hidden, vision, merge, merge), "vision", branch
        yield f"{root}.embeddings.dense_embedding.bias", (hidden,), "vision", branch
    for name in ("timestep_embedder", "noise_scale_embedder"):
        yield f"fm_modules.{name}.mlp.0.weight", (hidden, 256), "timestep", GENERATION
        yield f"fm_modules.{name}.mlp.0.bias", (hidden,), "timestep", GENERATION
        yield f"fm_modules.{name}.mlp.2.weight", (hidden, hidden), "timestep", GENERATION
        yield f"fm_modules.{name}.mlp.2.bias", (hidden,), "timestep", GENERATION
    pixels = 3 * arch.pixels_per_token**2
    shapes: dict[str, tuple[int, ...]]
    if arch.head == "linear":
        shapes = {"0": (arch.head_hidden, hidden), "2": (pixels, arch.head_hidden)}
    else:  # ConvDecoder: pixel shuffle 2, 3×3, pixel shuffle 2, 3×3, pixel shuffle 8
        shapes = {"conv1": (1024, hidden // 4, 3, 3), "conv2": (192, 256, 3, 3)}
    for name, shape in shapes.items():
        yield f"fm_modules.fm_head.{name}.weight", shape, "generation_head", GENERATION
        yield f"fm_modules.fm_head.{name}.bias", shape[:1], "generation_head", GENERATION


class SenseNovaTable(TensorTable):
    """The table of a shape, whose layers differ in their number alone; ``type_of(name, role)`` gives each tensor's
    storage type, the same in every layer. Tensors of layers after the first are made when somebody asks for them, and
    of a catalog model's thousands the ``digest`` is known, which a check needs."""

    def __init__(
        self, architecture: SenseNovaArchitecture, type_of: Callable[[str, str], str], digest: str | None = None
    ) -> None:
        self.architecture, self.type_of, self._digest = architecture, type_of, digest

    @cached_property
    def layered(self) -> Layered:
        """The tensors outside layers, and as often as there are layers the first."""
        outside = self._made(_outer_tensors(self.architecture), None)
        return Layered(outside, (AlikeLayers(self._layer(0), 0),) * self.architecture.layers)

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        """All of them, layer by layer."""
        within = (tensor for layer in range(self.architecture.layers) for tensor in self._layer(layer))
        return (*self.layered.outside, *within)

    @cached_property
    def digest(self) -> str:
        """As of any table; the one that was handed in where there is one."""
        return self._digest or super().digest

    def _layer(self, layer: int) -> tuple[Tensor, ...]:
        return self._made(_layer_tensors(self.architecture, layer), layer)

    def _made(self, rows: Iterable[tuple[str, tuple[int, ...], str, str]], layer: int | None) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(name, shape, self.type_of(name, role), role, layer, branch) for name, shape, role, branch in rows
        )


def tensor_table(
    arch: SenseNovaArchitecture, type_of: Callable[[str, str], str], digest: str | None = None
) -> TensorTable:
    """Every tensor of the family for ``arch``; ``type_of(name, role)`` gives each one's storage type."""
    return SenseNovaTable(arch, type_of, digest)


def parameters(arch: SenseNovaArchitecture) -> int:
    """Elements of all tensors, in whichever types they are stored."""
    return tensor_table(arch, bf16).elements


def bf16(_name: str, _role: str) -> str:
    """The storage type of an unquantized checkpoint, whatever the tensor: "BF16"."""
    return "BF16"


_LAYER = re.compile(r"language_model\.model\.layers\.(\d+)\.")
_ROLES = (
    (re.compile(r"_embedder\."), "timestep"),
    (re.compile(r"fm_head\."), "generation_head"),
    (re.compile(r"vision_model"), "vision"),
    (re.compile(r"\.experts\."), "expert"),
    (re.compile(r"\.mlp(_mot_gen)?\.gate\.weight$"), "router"),
    (re.compile(r"\.mlp(_mot_gen)?\."), "mlp"),
    (re.compile(r"_proj(_mot_gen)?\.weight$"), "attention"),
    (re.compile(r"norm(_hw)?(_mot_gen)?\.weight$"), "norm"),
    (re.compile(r"embed_tokens\."), "embedding"),
    (re.compile(r"lm_head\."), "head"),
)


def classify(tensor: Tensor) -> Tensor:
    """The same tensor with role, layer and branch read off its upstream name."""
    match = _LAYER.match(tensor.name)
    layer = int(match.group(1)) if match else None
    role = next((role for pattern, role in _ROLES if pattern.search(tensor.name)), "other")
    if "_mot_gen" in tensor.name or tensor.name.startswith("fm_modules."):
        branch = GENERATION
    elif role in ("embedding", "head", "other"):
        branch = SHARED
    else:
        branch = UNDERSTANDING
    return Tensor(tensor.name, tensor.shape, tensor.type, role, layer, branch)


def is_sensenova(table: TensorTable) -> bool:
    """Whether a tensor table has the family's two branches."""
    names = {tensor.name for tensor in table}
    return "language_model.model.layers.0.self_attn.q_proj_mot_gen.weight" in names
