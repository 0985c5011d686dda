"""A published row as fitcheck reads it: which model, which options, which tier.

Columns are those of ``data/published/llamacpp.csv``. A reading in ``llamacpp_rows.json`` adds what the columns do not
say; a row without one is read from its columns alone, with the model looked up by its shape among the known ones and
the build taken from what its source and notes say, else from when such models came up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fitcheck.errors import InputError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.known_models import known_language_model, known_language_models
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table, tier_name
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.builds import FORK, parse_build

_SHAPE = {
    "block_count": "n_layer",
    "embedding_length": "n_embd",
    "attention.head_count": "n_head",
    "attention.head_count_kv": "n_head_kv",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "feed_forward_length": "n_ff",
    "vocab_size": "n_vocab",
    "expert_count": "n_expert",
    "expert_used_count": "n_expert_used",
    "expert_feed_forward_length": "n_ff_exp",
}
# architectures llama.cpp did not know before that month, where a row says nothing of its build
_SINCE = {"gemma4": "2026-07", "qwen35": "2026-07", "qwen35moe": "2026-07", "qwen3next": "2026-03"}
_UNSTATED = "2025-06"
_MONTH = re.compile(r"\b(20\d\d)-(\d\d)\b")
_YEAR = re.compile(r"\b(20(?:23|24|25|26))\b")
_WORDS = re.compile(r"[a-z]+|\d+(?:\.\d+)?")


def reading_of(row: Mapping[str, str]) -> dict[str, Any]:
    """What a row's notes say beyond its columns, in the form of a reading without a model."""
    notes = row.get("notes", "")
    options: dict[str, Any] = {"build": build_of(row)}
    reading: dict[str, Any] = {"options": options}
    if "swa-full" in notes or "full size" in notes:
        options["full_sliding_cache"] = True
    if "n_outputs=" in notes or "embedding" in row.get("model", ""):
        options["program"] = "library"
    if "params_fit" in notes or "fit placement" in notes:
        reading |= {"weights": False, "compute": False}
    if "recurrent state" in notes or number(row, "unaccounted_mib") is not None:
        # the memory breakdown of llama-server prints cache and state as one number, for its own number of slots
        reading["cache"] = "total"
    if "pre-backend" in notes:
        reading["compute"] = False
    if row["type_v"].startswith("mla"):
        options["latent_mode"] = int(number(row, "mla_mode") or 2)
    return reading


def number(row: Mapping[str, str], column: str) -> float | None:
    """A column's number; ``None`` when it is empty, no number, or zero."""
    try:
        return float(row.get(column) or "") or None
    except ValueError:
        return None


def architecture_of(row: Mapping[str, str], reading: Mapping[str, Any]) -> LanguageArchitecture:
    """The row's model: named by its reading, found among the known ones, or made of its columns. Raises InputError."""
    if "model" in reading:
        return known_language_model(reading["model"])
    name = row["arch"].split(" ")[0]
    latent = row.get("type_v", "").startswith("mla") or row.get("mla_mode") not in ("", "0", None)
    text = row.get("model", "")
    found = [known for known in known_language_models() if _alike(known_language_model(known), name, row, latent)]
    if not found and not any(number(row, column) for column in ("n_layer", "n_embd")):
        # no shape at all: the name decides, if it shares the size with a known model of that architecture
        same = [known for known in known_language_models() if known_language_model(known).name == name]
        found = [known for known in same if _shared_words(known, text) >= 2]
    if found:
        return known_language_model(max(found, key=lambda known: _shared_words(known, text)))
    metadata: dict[str, Any] = {"general.architecture": name}
    for key, column in _SHAPE.items():
        value = number(row, column)
        if value is not None:
            metadata[f"{name}.{key}"] = int(value)
    return architecture_from_gguf(metadata)


def _alike(known: LanguageArchitecture, name: str, row: Mapping[str, str], latent: bool) -> bool:
    """The same architecture and every shape number that the row states and that a known model can be told apart by."""
    if known.name != name:
        return False
    stated = {
        "n_layer": known.layers,
        "n_embd": known.embedding,
        "n_vocab": known.vocabulary,
        "n_expert": known.experts,
        "n_head": known.blocks[0].heads,
    }
    pairs = [(number(row, column), value) for column, value in stated.items()]
    if known.latent is not None and known.latent.absorbed is not (latent or row.get("n_head_kv") == "1"):
        return False
    return sum(there is not None for there, _ in pairs) >= 2 and all(
        there is None or int(there) == value for there, value in pairs
    )


def _shared_words(known: str, text: str) -> int:
    words = set(_WORDS.findall(text.lower()))
    return sum(word in words for word in _WORDS.findall(known))


def build_of(row: Mapping[str, str]) -> str:
    """The build a row was made with, from its engine, source and notes, else a usual one for its architecture."""
    if row["engine"] == FORK:
        return FORK
    text = f"{row.get('source', '')} {row.get('source_detail', '')} {row.get('notes', '')}"
    if "logits buffer not reserved" in text or "logits not reserved" in text:
        return "2026-08"
    month = _MONTH.search(text)
    if month and 1 <= int(month[2]) <= 12:
        return month[0]
    year = _YEAR.search(text)
    if year:
        return f"{year[0]}-{'12' if 'Dec' in text else '07'}"
    return _SINCE.get(row["arch"].split(" ")[0], _UNSTATED)


def options_of(row: Mapping[str, str], reading: Mapping[str, Any]) -> tuple[LlamaOptions, int]:
    """(options, number of cards). Raises InputError for columns that cannot be options."""
    given = dict(reading.get("options", {}))
    cards = int(given.pop("cards", 0) or number(row, "n_gpu") or 1)
    read: dict[str, Any] = {"context": int(number(row, "n_ctx") or 4096)}
    read["build"] = parse_build(given.pop("build", None))
    columns = {"n_seq": "sequences", "n_ubatch": "micro_batch", "ngl": "gpu_layers"}
    for column, option in columns.items():
        if row.get(column):
            read[option] = int(row[column])
    if row["fa"] in ("0", "1"):
        read["flash_attention"] = row["fa"] == "1"
    if row["type_k"]:
        read["cache_type_k"] = row["type_k"]
    if row["type_v"] and not row["type_v"].startswith("mla"):
        read["cache_type_v"] = row["type_v"]
    read["batch"] = max(2048, read.get("micro_batch", 0))
    if read.get("sequences", 1) > 1:
        read["unified"] = True
    if reading.get("experts_on_host"):
        read["cpu_moe_layers"] = 10_000
    if reading.get("cache") == "total":
        read.pop("sequences", None)
        read.pop("unified", None)
    return LlamaOptions(**{**read, **given}), cards


def table_of(
    architecture: LanguageArchitecture, row: Mapping[str, str], reading: Mapping[str, Any]
) -> tuple[TensorTable, bool]:
    """The tensor table of the row's tier, and whether the tier's name decides it."""
    text = reading.get("tier") or row["quant"].split(" - ")[0].split(" (")[0].strip()
    name = {"Q2_K": "Q2_K", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q4_0/MXFP4": "MXFP4"}.get(text, text)
    if name in ("Q3_K", "Q4_K_M", "Q5_K_M") and "Small" in row["quant"]:
        name = name.replace("_M", "") + "_S"
    imatrix = bool(reading.get("imatrix", name.startswith("IQ")))
    try:
        tier = tier_name(name)
    except InputError:
        return mixture_table(architecture, "Q8_0"), False
    # the fork's authors mix types by hand under these names
    handmade = row["engine"] == FORK and row["arch"] in ("deepseek2", "qwen3moe") and tier != "F16"
    return mixture_table(architecture, tier, imatrix), not handmade
