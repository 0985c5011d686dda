"""Read the layers of a language model from GGUF metadata: what each of them has of heads, widths and experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FileError
from fitcheck.models.families.language.architecture import Indexer, LanguageLayer, LatentAttention
from fitcheck.models.families.language.metadata_keys import Keys
from fitcheck.models.tensors import Tensor

MAX_BLOCKS = 1024


@dataclass(frozen=True)
class ShapeSource:
    """What a shape is read from: the metadata's ``keys``, what is ``known`` of the architecture, and tensors by name
    where they are at hand. ``unknown`` collects what nobody says, ``uncached`` models keep no cache."""

    keys: Keys
    known: Mapping[str, Any]
    names: Mapping[str, Tensor]
    uncached: bool
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layers:
    """Every layer of a model, and what several of them share; ``embedding`` is the model's width, ``heads`` and
    ``expert_width`` are those of the first layer that attends and of the widest expert, ``dense_lead`` counts layers
    before the first mixture."""

    blocks: tuple[LanguageLayer, ...]
    embedding: int
    heads: int
    experts: int
    expert_width: int
    dense_lead: int
    window: int
    latent: LatentAttention | None
    indexer: Indexer | None


def read_layers(source: ShapeSource) -> Layers:
    """The layers of the model. Raises InputError for a number that is missing or cannot be."""
    keys, known = source.keys, source.known
    count, embedding = _count(keys), keys.required("embedding_length")
    prediction = _prediction_layers(source, count)
    heads, kv_heads = _heads(keys, count)
    first_heads = next((value for value in heads if value), 0)
    lengths = _lengths(keys, embedding // first_heads if first_heads else 0)
    feed_forward = keys.each("feed_forward_length", count, 0)
    if known.get("halved_feed_forward"):  # Qwen 1 states the gate and what it gates together
        feed_forward = [width // 2 for width in feed_forward]
    experts = keys.integer("expert_count", 0) or 0
    used = keys.each("expert_used_count", count, 0)
    dense_lead = keys.integer("leading_dense_block_count", 0) or 0
    expert_length = _expert_lengths(keys, count, feed_forward, experts, source.names)
    window, sliding = _sliding(keys, known, count, prediction, source.unknown)
    recurrent = _recurrent_layers(keys, known, count, prediction, kv_heads, feed_forward)
    own_cache = _own_cache(keys, known, count)
    indexer = _indexer(keys, known)
    indexing = _indexing_layers(keys, known, count - prediction) if indexer else ()

    blocks = []
    for layer in range(count):
        mixture = experts > 0 and _is_mixture(layer, dense_lead, keys, source.names)
        if known.get("recurrent") == "no_kv_heads_no_ffn" and not feed_forward[layer]:
            mixture = False  # Nemotron-H: a layer is a mixer, an attention or a feed-forward, never two of them
        key_length, value_length = lengths[sliding[layer]]
        blocks.append(
            LanguageLayer(
                heads=heads[layer],
                kv_heads=kv_heads[layer],
                key_length=key_length,
                value_length=value_length,
                feed_forward=feed_forward[layer],
                expert_feed_forward=expert_length[layer] if mixture else 0,
                experts_used=used[layer] if mixture else 0,
                sliding=sliding[layer],
                recurrent=recurrent[layer],
                attention=_attends(known, recurrent[layer]) and kv_heads[layer] > 0,
                cached=own_cache[layer] and not source.uncached,
                prediction=layer >= count - prediction,
                indexes=layer < len(indexing) and indexing[layer],
            )
        )
    _require_widths(keys.architecture, embedding, blocks)
    latent = _latent(keys, source.names, first_heads, *lengths[False])
    width = max(expert_length, default=0)
    return Layers(tuple(blocks), embedding, first_heads, experts, width, dense_lead, window, latent, indexer)


def _count(keys: Keys) -> int:
    count = keys.required("block_count")
    if not 0 < count <= MAX_BLOCKS:
        raise FileError(f"GGUF metadata: {keys.architecture}.block_count = {count} is outside 1 to {MAX_BLOCKS}.")
    return count


def _prediction_layers(source: ShapeSource, count: int) -> int:
    """Layers at the end that draft tokens; none where the file was made without their tensors."""
    found = min(source.keys.integer("nextn_predict_layers", 0) or 0, count)
    if found and source.names and f"blk.{count - 1}.nextn.eh_proj.weight" not in source.names:
        return found if source.known.get("prediction_blocks", True) else 0
    return found


def _heads(keys: Keys, count: int) -> tuple[list[int], list[int]]:
    """Heads of queries and of keys a layer."""
    heads = keys.each("attention.head_count", count, 0)
    if keys.raw("attention.head_count_kv") is None:
        return heads, heads
    return heads, keys.each("attention.head_count_kv", count, -1)


def _lengths(keys: Keys, usual: int) -> dict[bool, tuple[int, int]]:
    """Elements of a key and of a value, by whether the layer looks through the window."""
    key = keys.integer("attention.key_length", usual) or 0
    value = keys.integer("attention.value_length", usual) or 0
    sliding = keys.integer("attention.key_length_swa", key) or 0, keys.integer("attention.value_length_swa", value) or 0
    return {False: (key, value), True: sliding}


def _attends(known: Mapping[str, Any], recurrent: bool) -> bool:
    return bool(known.get("attention_and_recurrent")) or not recurrent


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
