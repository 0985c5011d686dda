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
    Indexer,
    LanguageArchitecture,
    LanguageLayer,
    LatentAttention,
    Recurrent,
    Routing,
    defaults,
    traits,
)
from fitcheck.models.families.language.kinds import kind_of_architecture, require_language_model
from fitcheck.models.families.language.metadata_keys import Keys
from fitcheck.models.gguf_values import GgufArray
from fitcheck.models.tensors import Tensor, TensorTable

if TYPE_CHECKING:
    from fitcheck.models.gguf import GgufHeader

MAX_BLOCKS = 1024
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
    keys = Keys(metadata, name)
    known = traits(name)
    unknown: list[str] = []
    encoder = kind_of_architecture(name).name == "encoder"
    if name not in defaults()["architectures"] and not encoder:
        unknown.append(f"architecture {name!r} is not one this version knows; it is read as a plain transformer")

    count = keys.required("block_count")
    if not 0 < count <= MAX_BLOCKS:
        raise FileError(f"GGUF metadata: {name}.block_count = {count} is outside 1 to {MAX_BLOCKS}.")
    embedding = keys.required("embedding_length")
    names = {} if tensors is None else {tensor.name: tensor for tensor in tensors}
    prediction = min(keys.integer("nextn_predict_layers", 0) or 0, count)
    if prediction and names and f"blk.{count - 1}.nextn.eh_proj.weight" not in names:
        prediction = prediction if known.get("prediction_blocks", True) else 0

    heads = keys.each("attention.head_count", count, 0)
    kv_heads = (
        keys.each("attention.head_count_kv", count, -1) if keys.raw("attention.head_count_kv") is not None else heads
    )
    first_heads = next((value for value in heads if value), 0)
    head_length = embedding // first_heads if first_heads else 0
    key = keys.integer("attention.key_length", head_length) or 0
    value = keys.integer("attention.value_length", head_length) or 0
    key_sliding = keys.integer("attention.key_length_swa", key) or 0
    value_sliding = keys.integer("attention.value_length_swa", value) or 0
    feed_forward = keys.each("feed_forward_length", count, 0)

    experts = keys.integer("expert_count", 0) or 0
    used = keys.each("expert_used_count", count, 0)
    dense_lead = keys.integer("leading_dense_block_count", 0) or 0
    expert_length = _expert_lengths(keys, count, feed_forward, experts, names)
    window, sliding = _sliding(keys, known, count, prediction, unknown)
    recurrent = _recurrent_layers(keys, known, count, prediction, kv_heads, feed_forward)
    both = bool(known.get("attention_and_recurrent"))
    own_cache = _own_cache(keys, known, count)
    latent = _latent(keys, names, first_heads, key, value)
    indexer = _indexer(keys, known)
    indexing = _indexing_layers(keys, known, count - prediction) if indexer else ()

    blocks = []
    for layer in range(count):
        slides = sliding[layer]
        mixture = experts > 0 and _is_mixture(layer, dense_lead, keys, names)
        if known.get("recurrent") == "no_kv_heads_no_ffn" and not feed_forward[layer]:
            mixture = False  # Nemotron-H: a layer is a mixer, an attention or a feed-forward, never two of them
        attends = (both or not recurrent[layer]) and kv_heads[layer] > 0
        blocks.append(
            LanguageLayer(
                heads=heads[layer],
                kv_heads=kv_heads[layer],
                key_length=key_sliding if slides else key,
                value_length=value_sliding if slides else value,
                feed_forward=feed_forward[layer],
                expert_feed_forward=expert_length[layer] if mixture else 0,
                experts_used=used[layer] if mixture else 0,
                sliding=slides,
                recurrent=recurrent[layer],
                attention=attends,
                cached=own_cache[layer] and not encoder,
                prediction=layer >= count - prediction,
                indexes=layer < len(indexing) and indexing[layer],
            )
        )
    _require_widths(name, embedding, blocks)
    shared = keys.integer("expert_shared_count", 0) or 0
    shared_length = keys.integer("expert_shared_feed_forward_length") or shared * max(expert_length, default=0)
    return LanguageArchitecture(
        name=name,
        blocks=tuple(blocks),
        embedding=embedding,
        vocabulary=_vocabulary(keys, metadata, names, unknown),
        context_length=keys.integer("context_length"),
        experts=experts,
        shared_feed_forward=shared_length,
        routing=_routing(keys),
        window=window,
        latent=latent,
        indexer=indexer,
        recurrent=_state(keys, known, embedding, first_heads) if any(recurrent) else None,
        tied_embeddings=not encoder and ("output.weight" not in names if names else bool(known.get("tied", False))),
        per_layer_embedding=keys.integer("embedding_length_per_layer_input", 0) or 0,
        soft_cap=bool(known.get("soft_cap", False)),
        final_soft_cap=bool(known.get("final_soft_cap", False)),
        embedding_scaled=bool(known.get("embedding_scaled", False)) or keys.raw("embedding_scale") is not None,
        layer_norm=keys.raw("attention.layer_norm_rms_epsilon") is None
        and (
            keys.raw("attention.layer_norm_epsilon") is not None
            or bool(known.get("norm_bias") or known.get("layer_norm"))
        ),
        dense_lead=dense_lead,
        unknown=tuple(unknown),
        encoder=encoder,
        pools=not encoder and bool(keys.integer("pooling_type", 0)),
        reranks="cls.weight" in names or "cls.output.weight" in names or keys.integer("pooling_type") == _RANK,
    )


def _require_widths(name: str, embedding: int, blocks: Sequence[LanguageLayer]) -> None:
    """Raises InputError for layers that attend with no heads, or with heads of no width."""
    if embedding == 0:
        raise FileError(f"GGUF metadata: {name}.embedding_length is 0, so the model has no width.")
    for layer, block in enumerate(blocks):
        if block.attention and 0 in (block.heads, block.key_length, block.value_length):
            raise FileError(
                f"GGUF metadata: layer {layer} of {name} attends with {block.heads} heads of {block.key_length} and "
                f"{block.value_length} values; the file is damaged, download it again."
            )


def _vocabulary(keys: Keys, metadata: Mapping[str, Any], names: Mapping[str, Tensor], unknown: list[str]) -> int:
    """Rows of the embedding; the tokenizer's length where no tensor is at hand."""
    table = names.get("token_embd.weight")
    if table is not None:
        return int(table.shape[0])
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Sequence) and not isinstance(tokens, str) and tokens:
        return len(tokens)
    if isinstance(tokens, GgufArray):
        return tokens.length
    size = keys.integer("vocab_size")
    if size is None:
        unknown.append("vocabulary size: neither tensors nor tokenizer say; 0 assumed, so the head is not counted")
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


def _expert_lengths(
    keys: Keys, count: int, feed_forward: list[int], experts: int, names: Mapping[str, Tensor]
) -> list[int]:
    """Width of one expert a layer: the key, else the tensor, else the dense width (Mixtral)."""
    if not experts:
        return [0] * count
    if keys.raw("expert_feed_forward_length") is not None:
        return keys.each("expert_feed_forward_length", count, 0)
    lengths = []
    for layer in range(count):
        down = names.get(f"blk.{layer}.ffn_down_exps.weight")
        lengths.append(int(down.shape[-1]) if down is not None else feed_forward[layer])
    return lengths


def _is_mixture(layer: int, dense_lead: int, keys: Keys, names: Mapping[str, Tensor]) -> bool:
    if names:
        return f"blk.{layer}.ffn_gate_inp.weight" in names or f"blk.{layer}.ffn_down_exps.weight" in names
    step = keys.integer("interleave_moe_layer_step", 1) or 1
    return layer >= dense_lead and (layer + 1) % step == 0


def _sliding(
    keys: Keys, known: Mapping[str, Any], count: int, prediction: int, unknown: list[str]
) -> tuple[int, list[bool]]:
    """Window in tokens and which layers look through it.

    A pattern of ``n`` means that every n-th layer is dense: the last of each n, or the first where ``dense_first``.
    """
    rule = known.get("sliding_window")
    window = keys.integer("attention.sliding_window")
    if window is None and rule:
        window = rule.get("default")
    if not window or (rule and rule.get("disabled")):
        return 0, [False] * count
    if rule and rule.get("fixed"):
        window = int(rule["fixed"])
    if rule is None and keys.raw("attention.sliding_window_pattern") is None:
        # llama.cpp reads the window only where the architecture is written for it (Mistral 7B states one and is dense)
        return 0, [False] * count
    pattern = keys.flags("attention.sliding_window_pattern", count)
    if pattern is not None:
        return window, pattern
    if rule and rule.get("layers") not in (None, count - prediction):
        return 0, [False] * count
    period = keys.integer("attention.sliding_window_pattern") or (rule or {}).get("pattern")
    if period is None:
        if (rule or {}).get("attention_layers"):
            return window, [heads > 0 for heads in keys.each("attention.head_count_kv", count, 1)]
        unknown.append("sliding window: the file names a window but not which layers use it; all layers kept dense")
        return 0, [False] * count
    main = count - prediction
    dense_first = bool((rule or {}).get("dense_first"))
    slides = [
        period == 0 or (layer % period != 0 if dense_first else layer % period < period - 1) for layer in range(main)
    ]
    return window, slides + [False] * prediction


def _recurrent_layers(
    keys: Keys, known: Mapping[str, Any], count: int, prediction: int, kv_heads: list[int], feed_forward: list[int]
) -> list[bool]:
    kind = known.get("recurrent")
    main = count - prediction
    if kind is None:
        return [False] * count
    if kind == "all":
        return [True] * count
    if kind == "no_kv_heads":
        return [heads == 0 for heads in kv_heads]
    if kind == "no_kv_heads_no_ffn":
        return [
            layer < main and heads == 0 and width == 0
            for layer, (heads, width) in enumerate(zip(kv_heads, feed_forward, strict=True))
        ]
    stated = keys.flags("attention.recurrent_layers", count)
    if stated is not None:
        return stated
    interval = keys.integer("full_attention_interval", 4) or 4
    return [layer < main and (layer + 1) % interval != 0 for layer in range(count)]


def _own_cache(keys: Keys, known: Mapping[str, Any], count: int) -> list[bool]:
    """Layers that share an earlier layer's cache (Gemma 3n, Gemma 4) keep none."""
    shared = keys.integer("attention.shared_kv_layers")
    if shared is None and "kv_layers_from_start" in known:
        return [layer < int(known["kv_layers_from_start"]) for layer in range(count)]
    return [layer < count - (shared or 0) for layer in range(count)]


def _latent(keys: Keys, names: Mapping[str, Tensor], heads: int, key: int, value: int) -> LatentAttention | None:
    rank = keys.integer("attention.kv_lora_rank")
    if not rank or (names and not any(".attn_kv_a_mqa.weight" in tensor for tensor in names)):
        return None
    rope = keys.integer("rope.dimension_count", 64) or 64
    key_full = keys.integer("attention.key_length_mla")
    value_full = keys.integer("attention.value_length_mla")
    # files converted before April 2025 hold the up-projections in one tensor and cannot use the latent cache
    stated = bool(key_full) or key == rank + rope
    absorbed = any(".attn_k_b.weight" in tensor for tensor in names) if names else stated
    if rope > (key_full or key):  # the rotary part of a key is a part of it
        raise FileError(
            f"GGUF metadata: keys of {key_full or key} elements, {rope} of them rotary, with a latent of {rank}, "
            "cannot be; the file is damaged or none of a language model."
        )
    return LatentAttention(
        rank=rank,
        rope=rope,
        query_rank=keys.integer("attention.q_lora_rank", 0) or 0,
        key_length=key_full or key,
        value_length=value_full or value,
        absorbed=absorbed,
    )


def _indexer(keys: Keys, known: Mapping[str, Any]) -> Indexer | None:
    heads, length = (keys.integer(f"attention.indexer.{key}", 0) or 0 for key in ("head_count", "key_length"))
    top = keys.integer("attention.indexer.top_k", 0) or 0
    return Indexer(heads, length, top) if known.get("indexer") and heads and length and top else None


def _indexing_layers(keys: Keys, known: Mapping[str, Any], count: int) -> Sequence[bool]:
    """Which layers choose by themselves: all, or as the file says. GLM 5.2's first files do not say it and are known by
    their context (src/models/glm-dsa.cpp)."""
    if known["indexer"] == "every":
        return [True] * count
    told = keys.raw("attention.indexer.types")
    if told is not None:
        return keys.flags("attention.indexer.types", count) or [bool(told)] * count
    if (keys.integer("context_length") or 0) < 1 << 20:
        return [True] * count
    return [layer < 3 or (layer - 2) % 4 == 0 for layer in range(count)]


def _state(keys: Keys, known: Mapping[str, Any], embedding: int, heads: int) -> Recurrent:
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
        return Recurrent(3 * (max(kernel, 1) - 1 if kernel else 3) * inner, delta * delta * heads, inner=inner)
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
