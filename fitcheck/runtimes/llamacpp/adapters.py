"""Whether an adapter or a control vector was made for a model. With one that was not llama.cpp does not start."""

from __future__ import annotations

from collections.abc import Iterator

from fitcheck.errors import OptionError
from fitcheck.models.companions import Companion
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.model import Tier

_EMBEDDING = "token_embd.weight"
_ELSE = "name one that was made for this model"


def check_adapters(tier: Tier, architecture: LanguageArchitecture) -> None:
    """Raises OptionError for an adapter of another architecture, of tensors that the model lacks or of other widths
    (src/llama-adapter.cpp, llama_adapter_lora_init_impl), and for a control vector of another width (common.cpp)."""
    for one in tier.companions:
        wrong = next(_WRONG[one.role](one, tier, architecture), None) if one.role in _WRONG else None
        if wrong:
            raise OptionError(f"--{one.role.replace('adapter', 'lora').replace(' ', '-')}: {wrong}; {_ELSE}.")


def _adapter(one: Companion, tier: Tier, architecture: LanguageArchitecture) -> Iterator[str]:
    if one.kind and one.kind != architecture.name:
        yield f"{one.file} changes models of architecture {one.kind!r}, and this one is {architecture.name!r}"
    shapes = {tensor.name: tensor.shape for tensor in tier.tensors}
    for tensor in one.tensors:
        name, _, side = tensor.name.rpartition(".")
        if side not in ("lora_a", "lora_b"):
            continue
        if name not in shapes:
            yield f"{one.file} changes {name}, which the model lacks"
        elif not _joins(tensor.shape, shapes[name], side, name):
            yield f"{one.file} changes a {name} of another width than the model's"


def _joins(side_shape: tuple[int, ...], whole: tuple[int, ...], side: str, name: str) -> bool:
    """Rows come first in a shape. A takes what the tensor takes and B gives what it gives; for embeddings, whose rows
    are looked up, it is the other way round."""
    if len(side_shape) < 2 or len(whole) < 2:
        return False
    if name == _EMBEDDING:
        return side_shape[-2] == (whole[-2] if side == "lora_a" else whole[-1])
    return side_shape[-1] == whole[-1] if side == "lora_a" else side_shape[-2] == whole[-2]


def _vector(one: Companion, tier: Tier, architecture: LanguageArchitecture) -> Iterator[str]:
    width = next((tensor.shape[-1] for tensor in one.tensors if tensor.shape), architecture.embedding)
    if width != architecture.embedding:
        yield f"{one.file} is {width} wide, and the model {architecture.embedding}"


_WRONG = {"adapter": _adapter, "control vector": _vector}
