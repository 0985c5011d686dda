"""A language model made whole: what was resolved, from a file, a repository or a shape, as a ``Model`` with tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fitcheck.errors import InputError
from fitcheck.models.gguf import GgufHeader
from fitcheck.models.known_language import known_language_model
from fitcheck.models.language import LanguageArchitecture
from fitcheck.models.language_config import architecture_from_config
from fitcheck.models.language_gguf import architecture_from_gguf
from fitcheck.models.mixture import mixture_table
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task

if TYPE_CHECKING:
    from fitcheck.models.candidates import Candidate
    from fitcheck.models.resolve import Resolved

RUNTIMES = ("llama.cpp",)
# the tiers most repositories offer, from large to small
USUAL_TIERS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K")
# architectures of GGUF files that hold something else than a language model
_OTHERS = frozenset({"flux", "sd1", "sd3", "sdxl", "wan", "hunyuan_video", "qwen_image", "lumina2", "clip", "mmproj"})


def language_model_of_gguf(resolved: Resolved, candidates: Sequence[Candidate] | None = None) -> Model:
    """The GGUF candidates of ``resolved`` (all, or those given) as one model; the first header gives the shape.

    Raises InputError when there is no GGUF file, none can be read, or it is not a language model.
    """
    chosen = [c for c in (resolved.candidates if candidates is None else candidates) if c.format == "gguf"]
    if not chosen:
        raise InputError(f"{resolved.name}: there is no GGUF file here, so llama.cpp has nothing to load.")
    tiers = resolved.tiers(chosen)
    readable = next(candidate for candidate in chosen if _readable(resolved, candidate))
    header = resolved.header(readable)
    assert isinstance(header, GgufHeader)
    name = header.metadata.get("general.name")
    shown = name if isinstance(name, str) and name else resolved.name
    return Model(
        slug=resolved.repository or resolved.name,
        name=shown,
        architecture=architecture_of_header(header),
        tiers=tuple(tiers),
        tasks=(Task.CHAT,),
        runtimes=RUNTIMES,
        repository=resolved.repository,
    )


def _readable(resolved: Resolved, candidate: Candidate) -> bool:
    try:
        resolved.header(candidate)
    except InputError:
        return False
    return True


def architecture_of_header(header: GgufHeader) -> LanguageArchitecture:
    """The language model's shape in a GGUF header. Raises InputError for a file that holds something else."""
    if header.architecture in _OTHERS:
        raise InputError(f"{header.name}: this file holds a {header.architecture} model, which llama.cpp cannot run.")
    return architecture_from_gguf(header.metadata, header.tensors)


def language_model_of_config(resolved: Resolved) -> Model:
    """What llama.cpp would take for a safetensors checkpoint once converted: the usual tiers from its config alone.

    Raises InputError when there is no config or it is not a language model's.
    """
    config = resolved.config()
    if config is None:
        raise InputError(f"{resolved.name}: there is no config.json, so the model's shape is unknown.")
    architecture = architecture_from_config(config)
    return _predicted(resolved.repository or resolved.name, resolved.name, architecture, resolved.repository)


def known_model(name: str, tiers: Sequence[str] = USUAL_TIERS) -> Model:
    """A model of the catalog of shapes with tiers that llama-quantize would write. Raises InputError."""
    return _predicted(name, name, known_language_model(name), None, tiers)


def _predicted(
    slug: str,
    name: str,
    architecture: LanguageArchitecture,
    repository: str | None,
    tiers: Sequence[str] = USUAL_TIERS,
) -> Model:
    made = []
    for tier in tiers:
        table = mixture_table(architecture, tier, imatrix=tier.startswith("IQ"))
        source = "predicted from the model's shape by llama-quantize's rules; no file was read"
        made.append(Tier(tier, table, "gguf", disk_bytes=table.nbytes, source=source))
    notes = ("Sizes are predicted from the shape; a real file can differ by about 0.5 %.", *architecture.unknown)
    model = Model(slug, name, architecture, tuple(made), (Task.CHAT,), RUNTIMES, repository)
    return replace(model, notes=notes)
