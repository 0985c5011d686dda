"""Which files of a folder or repository make up a model: quant tiers, shard sets, checkpoints, pipelines.

Works on names and sizes alone, so that choosing needs no reading.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import InputError
from fitcheck.models.gguf import shard_names
from fitcheck.models.tier_names import quant_label

_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})")
_INDEX = re.compile(r"(?P<stem>.+)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
_VARIANT = re.compile(r"(?P<stem>.+)\.(?P<variant>fp16|bf16|fp32|fp8|non_ema|ema)")
_NOT_MODELS = re.compile(r"(^|[-_./])(optimizer|scheduler_state|training_args|rng_state)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WeightSet:
    """The files of one checkpoint, with its index when it is sharded. ``component`` is its folder in a pipeline."""

    files: tuple[str, ...]
    index: str | None = None
    component: str = ""
    variant: str = ""
    stem: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to take a model: a quant tier of a GGUF repository, or a checkpoint.

    ``disk_bytes`` is what its weights take, None while a size is unknown.
    """

    name: str
    format: str
    sets: tuple[WeightSet, ...]
    disk_bytes: int | None

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all its weight files inside the folder or repository, set after set."""
        return tuple(file for weights in self.sets for file in weights.files)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of a pipeline's parts in order; empty for a model that lies in one place."""
        return tuple(weights.component for weights in self.sets if weights.component)


def find_candidates(sizes: Mapping[str, int | None], components: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """Every model among the files, smallest first within its format; GGUF tiers before checkpoints.

    ``components`` are the folders that a pipeline's model_index.json names.
    """
    return (*_gguf_candidates(sizes), *_checkpoint_candidates(sizes, components))


def projectors(sizes: Mapping[str, int | None]) -> tuple[str, ...]:
    """GGUF files that hold a vision or audio projector and not a language model."""
    return tuple(path for path in sizes if path.endswith(".gguf") and "mmproj" in PurePosixPath(path).name.lower())


def _total(sizes: Mapping[str, int | None], files: Sequence[str]) -> int | None:
    known = [size for size in map(sizes.get, files) if size is not None]
    return sum(known) if len(known) == len(files) else None


def _gguf_candidates(sizes: Mapping[str, int | None]) -> list[Candidate]:
    beside = set(projectors(sizes))
    sets: dict[tuple[str, ...], None] = {}
    for path in sizes:
        if path.endswith(".gguf") and path not in beside and "imatrix" not in PurePosixPath(path).name.lower():
            try:
                sets[shard_names(path)] = None
            except InputError:
                sets[(path,)] = None
    found = []
    for files in sets:
        name = quant_label(files[0]) or PurePosixPath(files[0]).stem
        found.append(Candidate(name, "gguf", (WeightSet(files),), _total(sizes, files)))
    return sorted(_told_apart(found), key=lambda candidate: (candidate.disk_bytes or 0, candidate.name))


def _told_apart(candidates: list[Candidate]) -> list[Candidate]:
    """Two files of one label get their own names back."""
    counts = Counter(candidate.name for candidate in candidates)
    return [
        replace(candidate, name=_SHARD.sub(r"\g<stem>", candidate.files[0].removesuffix(".gguf")))
        if counts[candidate.name] > 1
        else candidate
        for candidate in candidates
    ]


def _checkpoint_candidates(sizes: Mapping[str, int | None], components: Sequence[str]) -> list[Candidate]:
    folders: dict[str, list[WeightSet]] = defaultdict(list)
    for weights in _weight_sets(sizes):
        folders[str(PurePosixPath(weights.files[0]).parent)].append(weights)
    found = []
    if pipeline := [component for component in components if component in folders]:
        variants = sorted({weights.variant for component in pipeline for weights in folders[component]})
        for variant in variants:
            sets = tuple(_of_variant(component, folders[component], variant) for component in pipeline)
            files = [file for weights in sets for file in weights.files]
            found.append(Candidate(variant or "pipeline", "safetensors", sets, _total(sizes, files)))
    root = folders.get(".", [])
    stems = {weights.stem for weights in root}
    if "model" in stems:  # "consolidated" is the same weights once more, in the publisher's own layout
        root = [weights for weights in root if weights.stem != "consolidated"]
    rest = [weights for folder, sets in folders.items() for weights in sets if folder not in (".", *components)]
    for weights in root or ([] if pipeline else rest):
        name = weights.variant or (weights.stem if len(root) != 1 else "") or "checkpoint"
        found.append(Candidate(name, "safetensors", (weights,), _total(sizes, weights.files)))
    return sorted(found, key=lambda candidate: (candidate.disk_bytes or 0, candidate.name))


def _of_variant(component: str, sets: list[WeightSet], variant: str) -> WeightSet:
    """The component's weights in that variant, or its plain ones when it has no such variant."""
    chosen = next((weights for weights in sets if weights.variant == variant), None)
    plain = next((weights for weights in sets if not weights.variant), sets[0])
    return replace(chosen or plain, component=component)


def _weight_sets(sizes: Mapping[str, int | None]) -> list[WeightSet]:
    shards: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sizes:
        if path.endswith(".safetensors") and not _NOT_MODELS.search(path):
            stem = path.removesuffix(".safetensors")
            match = _SHARD.fullmatch(stem)
            shards[(match["stem"], match["count"]) if match else (stem, "")].append(path)
    indices = {}
    for path in sizes:
        if match := _INDEX.fullmatch(path):
            indices[".".join(filter(None, (match["stem"], match["variant"])))] = path
    sets = []
    for (stem, count), files in shards.items():
        name = PurePosixPath(stem).name
        match = _VARIANT.fullmatch(name)
        variant = match["variant"] if match else ""
        index = indices.get(stem) if count else None
        sets.append(WeightSet(tuple(sorted(files)), index, "", variant, match["stem"] if match else name))
    return sets
