"""Operations of attention, which traces on fake CPU tensors do not count: from the shapes of the query projections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from fitcheck.models.families.pipeline.architecture import VAE, Component
from fitcheck.models.families.pipeline.tables import entries

_QUERY = re.compile(r"(.*)\.(to_q|q|q_proj|to_qkv|qkv|to_qkv_mlp_proj)\.weight")
_CROSS, _FUSED, _WITH_MLP = "attn2", ("to_qkv", "qkv"), "to_qkv_mlp_proj"
# a projection of the text that joins the queries of images: what else such a transformer attends to is its images
_JOINT = ".add_q_proj."
_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)|mid_block")
# blocks before the text joins, of one of the two alone
_TEXT_ALONE = re.compile(r"(context_refiner|token_refiner|text_fusion|txt_mode_blocks)\.")
_IMAGE_ALONE = re.compile(r"(noise_refiner|mode_blocks\.\w+)\.")
_SOUND_TO_VIDEO, _VIDEO_TO_SOUND, _SOUND = "audio_to_video_attn", "video_to_audio_attn", "audio_attn"


@cache
def _queries(key: str) -> tuple[tuple[str, int], ...]:
    """(module path, features) of every query projection of a component of the catalog."""
    found = []
    for entry in entries(key):
        if (match := _QUERY.fullmatch(entry.name)) is not None and len(entry.shape) > 1:
            found.append((match.group(1), _features(match.group(2), entry.shape)))
    return tuple(found)


def _features(name: str, shape: tuple[int, ...]) -> int:
    """Features of the queries: of a projection that makes keys and values too a third, and what goes in where it also
    makes the feed-forward's."""
    if name == _WITH_MLP:
        return shape[1]
    return shape[0] // (3 if name in _FUSED else 1)


@cache
def _is_joint(key: str) -> bool:
    return any(_JOINT in entry.name for entry in entries(key))


def attention_flops(component: Component, sizes: Mapping[str, int], child: str = "") -> int:
    """4 × batch × queries × keys × features of every attention that the call runs (scores and their product with the
    values); 0 for a component that is in no catalog."""
    if component.trace is None:
        return 0
    queries = [one for one in _queries(component.trace) if one[0].startswith(child)]
    if "kept" in sizes:
        return _behind_prefix(sizes) * sum(features for _, features in queries)
    joint = _is_joint(component.trace)
    crossed = not joint and any(_CROSS in path for path, _ in queries)
    total = 0
    for path, features in queries:
        own = _sequence(component, path, sizes)
        asked, seen = own, own
        if "tokens" in sizes and (pair := _of_streams(path, sizes)) is not None:
            asked, seen = pair
        elif crossed and _CROSS in path:
            seen = sizes.get("text", 0)
        elif not crossed and "tokens" in sizes and not (joint and _CROSS in path):
            asked = seen = own + sizes.get("text", 0) + sizes.get("sound", 0)
        total += 4 * asked * seen * features
    return (
        total
        * sizes.get("batch", 1)
        * (1 if component.role != VAE or clip_tokens(component) else sizes.get("frames", 1))
    )


def _behind_prefix(sizes: Mapping[str, int]) -> int:
    """The same for each feature where prompt and pictures do not look at the result, which looks at everything."""
    pairs = sizes.get("filled", 0) ** 2 + sizes["asked"] * (sizes["asked"] + sizes["kept"])
    return 4 * sizes.get("batch", 1) * pairs


def _of_streams(path: str, sizes: Mapping[str, int]) -> tuple[int, int] | None:
    """(queries, keys) where a transformer attends within one of its streams, or from sound to video and back; ``None``
    for all others."""
    tokens, text, sound = sizes["tokens"], sizes.get("text", 0), sizes.get("sound", 0)
    if _SOUND_TO_VIDEO in path:
        return tokens, sound
    if _VIDEO_TO_SOUND in path:
        return sound, tokens
    if _SOUND in path:
        return sound, text if _CROSS in path else sound
    if _TEXT_ALONE.search(path):
        return text, text
    return (tokens, tokens) if _IMAGE_ALONE.match(path) else None


def _sequence(component: Component, path: str, sizes: Mapping[str, int]) -> int:
    """Queries at a module: tokens of a transformer, cells of a U-Net at its level, of a latent in an autoencoder's
    middle, words of a text encoder."""
    if component.role != VAE and levels_of(component) and (match := _LEVEL.search(path)) is not None:
        levels = levels_of(component) - 1
        level = {"down": int(match.group(2) or 0), "up": levels - int(match.group(2) or 0)}.get(match.group(1), levels)
        return int(sizes["height"] * sizes["width"] // 4**level)
    if component.role == VAE:
        cells, more = sizes["height"] * sizes["width"], clip_tokens(component)
        return cells * sizes.get("frames", 1) + more if more else cells
    return sizes.get("tokens", sizes.get("text", 0))


def clip_tokens(component: Component) -> int:
    """Tokens beside those of all frames in the one sequence that an autoencoder's transformer attends over
    (autoencoder_kl_minimax_h3.py, MiniMaxH3VideoViTDecoder3d: its registers and one of zeros); 0 for an autoencoder
    whose attention is within a frame."""
    registers = component.config.get("decoder_num_register_tokens")
    return registers + 1 if isinstance(registers, int) and registers >= 0 else 0


def levels_of(component: Component) -> int:
    """Levels of a U-Net; 0 for a transformer, and where a folder's own configuration lists none."""
    blocks = component.config.get("down_block_types")
    return len(blocks) if isinstance(blocks, list | tuple) else 0


def head_features(component: Component) -> int | None:
    """Features of a denoiser's attention heads, in a U-Net those of its widest level; ``None`` where its configuration
    does not say."""
    config = component.config
    if levels_of(component):
        # diffusers' U-Nets call the number of heads by this name
        return _quotient(_first(config.get("block_out_channels")), _first(config.get("attention_head_dim")))
    stated = config.get("attention_head_dim")
    if isinstance(stated, int) and stated > 0:
        return stated
    width, heads = (config.get("hidden_size") or config.get("dim"), config.get("num_attention_heads"))
    return _quotient(width, heads or config.get("n_heads"))


def _first(value: object) -> object:
    return value[0] if isinstance(value, list | tuple) and value else value


def _quotient(width: object, heads: object) -> int | None:
    if not (isinstance(width, int) and isinstance(heads, int)) or heads < 1 or width < heads:
        return None
    return width // heads
