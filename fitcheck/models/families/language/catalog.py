"""Language models as catalog models: every tier of llama.cpp's own mixtures, with its size, from a name alone."""

from __future__ import annotations

from functools import lru_cache

from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.known_models import LanguageEntry, known_language_model, language_entry
from fitcheck.models.families.language.mixture import header_bytes, mixture_table, usual_imatrix
from fitcheck.models.families.language.names import find_language_model
from fitcheck.models.model import Model, Tier
from fitcheck.models.quant import BASE
from fitcheck.models.workload import Task

# F32 is what nobody publishes, and MXFP4 is the older name of MXFP4_MOE
_LEFT_OUT = frozenset({"F32", "MXFP4"})
# gpt-oss is trained in MXFP4 and its rows of 2880 are no whole number of 256-blocks
_NATIVE = {"gpt-oss": ("MXFP4", "F16")}
_MIXTURE = "from the model's shape by the rules of llama-quantize"


def tasks_of(embeds: bool) -> tuple[Task, ...]:
    """What a language model is asked for: texts, or the vectors or scores of texts."""
    return (Task.EMBED,) if embeds else (Task.CHAT,)


def language_model(text: str) -> Model:
    """The catalog model that ``text`` names. Raises InputError when it names none, or several."""
    return model_of(find_language_model(text))


def model_of(entry: LanguageEntry) -> Model:
    """The entry as a model: its tiers, smallest last, whose tensor tables are made when they are needed."""
    return _model(entry.slug)


@lru_cache(maxsize=256)
def _model(slug: str) -> Model:
    entry = language_entry(slug)
    architecture = known_language_model(entry.slug)
    tiers = (_tier(entry, architecture, name) for name in tier_names(architecture))
    return Model(
        slug=entry.slug,
        name=entry.name,
        architecture=architecture,
        tiers=tuple(sorted(tiers, key=lambda tier: -tier.disk_bytes)),
        tasks=tasks_of(architecture.embeds),
        runtimes=("llama.cpp",),
        repository=entry.repository,
        licence=entry.licence,
        notes=(*entry.notes, *_notes(entry)),
        sources=(f"{entry.source}, looked up {entry.looked_up}",),
    )


def trained_quantized(architecture: LanguageArchitecture) -> bool:
    """Whether the weights were trained in a block-quantized type, so that no 16-bit original exists."""
    return architecture.name in _NATIVE


def tier_names(architecture: LanguageArchitecture) -> tuple[str, ...]:
    """The tiers that llama-quantize makes of such a model. MXFP4 needs experts."""
    if architecture.name in _NATIVE:
        return _NATIVE[architecture.name]
    return tuple(
        name for name in BASE if name not in _LEFT_OUT and (architecture.experts > 1 or not name.startswith("MXFP4"))
    )


def _tier(entry: LanguageEntry, architecture: LanguageArchitecture, name: str) -> Tier:
    table = mixture_table(architecture, name, usual_imatrix(name))
    return Tier(
        name=name,
        tensors=table,
        format="gguf",
        repository=entry.gguf,
        disk_bytes=table.nbytes + header_bytes(architecture),
        source=_MIXTURE,
        published=entry.gguf is not None,
    )


def _notes(entry: LanguageEntry) -> list[str]:
    found = ["tiers are llama.cpp's own mixtures; a publisher's file may differ (UD- files do): point fitcheck at it"]
    if entry.projector:
        found.append("takes images with an mmproj file beside it")
    if entry.gguf is None:
        found.append("no repository of GGUF files is recorded for it")
    return found
