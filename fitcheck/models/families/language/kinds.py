"""What a GGUF architecture is: a language model, an encoder, a codec, a projector, and which of them are modelled.

``data/architectures.json`` lists every architecture of llama.cpp with its kind, and names of other programs' files.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.errors import FileError, NotModelledError
from fitcheck.models.families.language.architecture import defaults

if TYPE_CHECKING:
    from fitcheck.models.gguf import GgufHeader

_TYPES = {"adapter": "adapter", "mmproj": "projector", "imatrix": "importance matrix"}
_RUN = ("language", "diffusion language", "encoder")
_SEPARATE_EXPERT = "blk.0.ffn_gate.0.weight"


@dataclass(frozen=True, slots=True)
class ArchitectureKind:
    """``name`` is the kind ("language", "encoder", "projector", ...), ``says`` it in words that follow "this is".

    ``modelled`` is whether its memory can be estimated, ``model`` whether it can be run by itself at all.
    """

    name: str
    says: str
    modelled: bool
    model: bool


def _data() -> dict[str, Any]:
    return load("models.families.language", "architectures")


def architectures() -> tuple[str, ...]:
    """All architectures of llama.cpp, by the names that files state."""
    return tuple(_data()["llama.cpp"])


@cache
def kind_of_architecture(name: str) -> ArchitectureKind:
    """What an architecture's files hold; "unknown" for a name that neither llama.cpp nor the table has."""
    known = _data()["llama.cpp"].get(name) or _data()["others"].get(name)
    traits = name in defaults()["architectures"]
    modelled = traits or (known == "encoder" and name not in _data()["not_modelled"])
    return _kind(known or ("language" if traits else "unknown"), modelled=modelled)


def kind_of_file(header: GgufHeader) -> ArchitectureKind:
    """What a GGUF file holds, by its declared type, its tensors and its architecture."""
    declared = header.metadata.get("general.type")
    if isinstance(declared, str) and declared in _TYPES:
        return _kind(_TYPES[declared])
    names = [tensor.name for tensor in header.tensors]
    if not names:
        return _kind("vocabulary")
    if all(name.endswith((".lora_a", ".lora_b")) for name in names):
        return _kind("adapter")
    return kind_of_architecture(header.architecture)


def require_language_model(header: GgufHeader) -> None:
    """Raises InputError for a file that is no model by itself, NotModelledError for one whose run is not modelled."""
    kind = kind_of_file(header)
    if not kind.model:
        raise FileError(f"{header.name}: this is {kind.says}.")
    if kind.name not in (*_RUN, "unknown") or header.architecture in _data()["not_modelled"]:
        raise NotModelledError(f"this is {kind.says} ({header.architecture})")
    if kind.name != "unknown" and not kind.modelled:
        raise NotModelledError(f"the architecture {header.architecture!r} of llama.cpp is not modelled here")
    if any(tensor.name.startswith(("v.", "mm.")) for tensor in header.tensors):
        raise NotModelledError(
            "this file holds its vision tower within, as ollama's own files do, and llama.cpp does not load it"
        )
    if any(tensor.name == _SEPARATE_EXPERT for tensor in header.tensors):
        raise NotModelledError(
            "this file holds one tensor an expert, as converters wrote before April 2024, and today's llama.cpp does "
            "not load it"
        )


def _kind(name: str, modelled: bool = False) -> ArchitectureKind:
    return ArchitectureKind(name, _data()["kinds"][name], modelled and name in _RUN, name not in _data()["not_models"])
