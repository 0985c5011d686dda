"""Read the shape of a language model from GGUF metadata.

Everything comes from the file's ``<arch>.*`` keys and its tensors. What the keys leave out is filled the way llama.cpp
fills it when it loads the file (``data/language.json`` holds those defaults with their source); what nobody says is
listed in ``LanguageArchitecture.unknown`` with the assumption made instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fitcheck.errors import FileError
from fitcheck.models.families.language.architecture import (
    LanguageArchitecture,
    Recurrent,
    Routing,
    defaults,
    traits,
)
from fitcheck.models.families.language.kinds import kind_of_architecture, require_language_model
from fitcheck.models.families.language.metadata_keys import Keys
from fitcheck.models.families.language.metadata_layers import ShapeSource, read_layers
from fitcheck.models.gguf_values import GgufArray
from fitcheck.models.tensors import TensorTable

if TYPE_CHECKING:
    from fitcheck.models.gguf import GgufHeader

_RANK = 4  # llama.h, LLAMA_POOLING_TYPE_RANK


def architecture_of_header(header: GgufHeader) -> LanguageArchitecture:
    """The language model's shape in a GGUF header.

    Raises InputError for a file that holds something else, NotModelledError where only its weights can be judged.
    """
    require_language_model(header)
    return architecture_from_gguf(header.metadata, header.tensors)


def architecture_from_gguf(metadata: Mapping[str, Any], tensors: TensorTable | None = None) -> LanguageArchitecture:
    """Read the shape of a language model from GGUF metadata, and from its tensors where the metadata is silent.

    Raises InputError when a number without which nothing can be said is missing or out of range.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or not name:
        raise FileError("GGUF metadata: general.architecture is missing, so this is not a model llama.cpp can load.")
    kind = kind_of_architecture(name).name
    encoder = kind == "encoder"
    names = {} if tensors is None else {tensor.name: tensor for tensor in tensors}
    keys, known = Keys(metadata, name), traits(name)
    source = ShapeSource(keys, known, names, uncached=encoder or kind == "diffusion language")
    if name not in defaults()["architectures"] and not encoder:
        source.unknown.append(f"architecture {name!r} is not one this version knows; it is read as a plain transformer")
    layers = read_layers(source)
    recurrent = any(layer.recurrent for layer in layers.blocks)
    shared = keys.integer("expert_shared_count", 0) or 0
    return LanguageArchitecture(
        name=name,
        blocks=layers.blocks,
        embedding=layers.embedding,
        vocabulary=_vocabulary(metadata, source),
        context_length=keys.integer("context_length"),
        experts=layers.experts,
        shared_experts=shared,
        shared_feed_forward=keys.integer("expert_shared_feed_forward_length") or shared * layers.expert_width,
        expert_latent=keys.integer("moe_latent_size", 0) or 0,
        routing=_routing(keys),
        window=layers.window,
        latent=layers.latent,
        indexer=layers.indexer,
        recurrent=_state(keys, layers.embedding, layers.heads) if recurrent else None,
        tied_embeddings=not encoder and ("output.weight" not in names if names else bool(known.get("tied", False))),
        per_layer_embedding=keys.integer("embedding_length_per_layer_input", 0) or 0,
        soft_cap=bool(known.get("soft_cap", False)),
        final_soft_cap=bool(known.get("final_soft_cap", False)),
        embedding_scaled=bool(known.get("embedding_scaled", False)) or keys.raw("embedding_scale") is not None,
        layer_norm=_has_layer_norm(keys, known),
        dense_lead=layers.dense_lead,
        unknown=tuple(source.unknown),
        encoder=encoder,
        pools=not encoder and bool(keys.integer("pooling_type", 0)),
        reranks="cls.weight" in names or "cls.output.weight" in names or keys.integer("pooling_type") == _RANK,
    )


def _has_layer_norm(keys: Keys, known: Mapping[str, Any]) -> bool:
    if keys.raw("attention.layer_norm_rms_epsilon") is not None:
        return False
    stated = keys.raw("attention.layer_norm_epsilon") is not None
    return stated or bool(known.get("norm_bias") or known.get("layer_norm"))


def _vocabulary(metadata: Mapping[str, Any], source: ShapeSource) -> int:
    """Rows of the embedding; the tokenizer's length where no tensor is at hand."""
    table = source.names.get("token_embd.weight")
    if table is not None:
        return int(table.shape[0])
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Sequence) and not isinstance(tokens, str) and tokens:
        return len(tokens)
    if isinstance(tokens, GgufArray):
        return tokens.length
    size = source.keys.integer("vocab_size")
    if size is None:
        source.unknown.append(
            "vocabulary size: neither tensors nor tokenizer say; 0 assumed, so the head is not counted"
        )
        return 0
    return size


def _routing(keys: Keys) -> Routing:
    scale = keys.raw("expert_weights_scale")
    return Routing(
        normed=keys.raw("expert_weights_norm") is True,
        scaled=isinstance(scale, int | float) and scale not in (0, 1),
        groups=keys.integer("expert_group_count", 0) or 0,
        groups_used=keys.integer("expert_group_used_count", 0) or 0,
    )


def _state(keys: Keys, embedding: int, heads: int) -> Recurrent:
    """State elements a recurrent layer, as llama.cpp's hparams compute n_embd_r and n_embd_s."""
    head = keys.integer("wkv.head_size")
    if head:
        shifts = keys.integer("token_shift_count", 2) or 2
        return Recurrent(convolution=shifts * embedding, state=embedding * head)
    short = keys.integer("shortconv.l_cache")
    if short:
        return Recurrent(convolution=embedding * (short - 1), state=0, kernel=short)
    kernel = keys.integer("ssm.conv_kernel", 0) or 0
    delta = keys.integer("kda.head_dim")
    if delta:
        inner = heads * delta
        held = 3 * (max(kernel, 1) - 1 if kernel else 3) * inner
        return Recurrent(held, delta * delta * heads, inner=inner, state_size=delta, kernel=kernel, steps=heads)
    inner = keys.integer("ssm.inner_size", 0) or 0
    size = keys.integer("ssm.state_size", 0) or 0
    groups = keys.integer("ssm.group_count", 0) or 0
    return Recurrent(
        convolution=max(kernel - 1, 0) * (inner + 2 * groups * size),
        state=size * inner,
        inner=inner,
        groups=groups,
        state_size=size,
        kernel=kernel,
        steps=keys.integer("ssm.time_step_rank", 0) or 0,
    )
