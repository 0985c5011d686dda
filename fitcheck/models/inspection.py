"""What a model file really holds, set beside what its name and metadata say about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families import registry
from fitcheck.models.gguf import GgufHeader
from fitcheck.models.gguf_values import GgufArray
from fitcheck.models.quant import ALIASES, BASE, TYPES
from fitcheck.models.safetensors import SafetensorsHeader
from fitcheck.models.tensors import Tensor, TensorTable
from fitcheck.models.tier_names import like_published, quant_label
from fitcheck.units import format_percent

_MATRIX_ROLES = frozenset({"attention", "mlp", "expert", "shared_expert", "recurrent"})
# Mixtures whose bytes may lie mostly in a neighbouring type (llama.cpp src/llama-quant.cpp).
_NEIGHBOURS = {
    "IQ1_M": {"IQ1_S"},
    "IQ2_S": {"IQ2_S", "IQ2_XXS"},
    "IQ2_M": {"IQ2_XS"},
    "IQ3_XS": {"IQ3_XXS"},
    "Q2_K_S": {"Q4_K"},
}
# general.file_type, enum llama_ftype of llama.cpp's include/llama.h; a test holds it equal to the gguf package
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Share:
    """Part of a table: how many tensors, elements and bytes; ``types`` gives the bytes by storage type."""

    tensors: int
    elements: int
    nbytes: int
    types: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Inspection:
    """One candidate's contents. Sizes in bytes; ``mismatches`` are sentences, empty when name and content agree."""

    tier: str
    files: tuple[str, ...]
    format: str
    architecture: str | None
    facts: Mapping[str, int | float | str]
    parameters: int
    file_bytes: int | None
    tensor_bytes: int
    digest: str
    by_type: Mapping[str, Share]
    by_role: Mapping[str, Share]
    by_branch: Mapping[str, Share]
    unquantized: Mapping[str, Share]
    mismatches: tuple[str, ...]

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of storage for each element of the table; ``None`` for a file without tensors."""
        return 8 * self.tensor_bytes / self.parameters if self.parameters else None


def inspect_header(
    tier: str, files: Sequence[str], header: GgufHeader | SafetensorsHeader, config: Mapping[str, object] | None = None
) -> Inspection:
    """Sums, names and contradictions of one candidate. ``config`` is its config.json, where there is one."""
    table = _with_roles(header.tensors)
    if isinstance(header, GgufHeader):
        kind, architecture, facts = f"GGUF v{header.version}", header.architecture, _gguf_facts(header)
        mismatches = _mismatches(files[0], header)
    else:
        kind, architecture, facts = "safetensors", _named_architecture(config or {}), _config_facts(config or {})
        mismatches = ()
    by_branch = _shares(table, lambda tensor: tensor.branch)
    quantized = any(tensor.quant.quantized for tensor in table)
    kept = [tensor for tensor in table if quantized and not tensor.quant.quantized]
    return Inspection(
        tier=tier,
        files=tuple(files),
        format=kind,
        architecture=architecture,
        facts=facts,
        parameters=table.elements,
        file_bytes=header.file_bytes,
        tensor_bytes=table.nbytes,
        digest=table.digest,
        by_type=_shares(table, lambda tensor: tensor.type),
        by_role=_shares(table, lambda tensor: tensor.role),
        by_branch=by_branch if len(by_branch) > 1 else {},
        unquantized=_shares(kept, lambda tensor: tensor.role),
        mismatches=mismatches,
    )


def _with_roles(table: TensorTable) -> TensorTable:
    """Roles by the names of the family whose table it is, else as the reader found them."""
    found = (family.classify(table) for family in registry.every())
    return next((own for own in found if own is not None), table)


def _shares(tensors: Iterable[Tensor], key: Callable[[Tensor], str]) -> dict[str, Share]:
    """Sums by ``key``, the largest first."""
    groups: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        groups[key(tensor)].append(tensor)
    shares = {}
    for name, group in groups.items():
        table = TensorTable(group)
        shares[name] = Share(len(group), table.elements, table.nbytes, table.bytes_by_type)
    return dict(sorted(shares.items(), key=lambda item: -item[1].nbytes))


def _gguf_facts(header: GgufHeader) -> dict[str, int | float | str]:
    """The architecture's plain numbers and the model's name, under the names that the metadata gives them."""
    facts: dict[str, int | float | str] = {}
    for key in ("general.name", "general.type", "general.size_label", "general.license"):
        if isinstance(value := header.metadata.get(key), str):
            facts[key] = value
    prefix = f"{header.architecture}."
    for key, value in header.metadata.items():
        if key.startswith(prefix) and isinstance(value, int | float | str):
            facts[key.removeprefix(prefix)] = value
        elif key.startswith(prefix) and isinstance(value, GgufArray) and value.values:
            facts[key.removeprefix(prefix)] = _runs(value.values)
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, GgufArray):
        facts["vocabulary"] = tokens.length
    return facts


def _runs(values: Sequence[object]) -> str:
    """A per-layer list, short: "8 × 30, 0 × 2"."""
    runs = [(value, len(list(group))) for value, group in groupby(values)]
    text = ", ".join(f"{value} × {count}" if count > 1 else str(value) for value, count in runs[:12])
    return text + (", …" if len(runs) > 12 else "")


_CONFIG_KEYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
    "max_position_embeddings", "sliding_window", "vocab_size", "tie_word_embeddings",
)  # fmt: skip


def _named_architecture(config: Mapping[str, object]) -> str | None:
    """``model_type`` of transformers, ``_class_name`` of diffusers."""
    value = config.get("model_type") or config.get("_class_name")
    return value if isinstance(value, str) and value.isprintable() else None


def _config_facts(config: Mapping[str, object]) -> dict[str, int | float | str]:
    inner = config.get("text_config")
    merged = {**config, **inner} if isinstance(inner, dict) else config
    facts = {key: value for key in _CONFIG_KEYS if isinstance(value := merged.get(key), int | float | str)}
    quantization = config.get("quantization_config")
    if isinstance(quantization, dict) and isinstance(method := quantization.get("quant_method"), str):
        facts["quantization"] = method  # packed tensors: their elements are not the model's parameters
    return facts


def _matrix_bytes(table: TensorTable) -> Counter[str]:
    counts: Counter[str] = Counter()
    for tensor in table:
        if tensor.layer is not None and len(tensor.shape) > 1 and tensor.role in _MATRIX_ROLES:
            counts[tensor.type] += tensor.nbytes
    return counts


def _base_type(label: str) -> tuple[str, set[str]] | None:
    """(type that most matrices of a tier should have, types that may take its place); None for unknown labels."""
    name = like_published(ALIASES.get(label, label))
    base = BASE.get(name)
    if base is None:  # publishers' own mixtures: Q4_K_L, Q2_K_XL
        base = next((known for known in sorted(TYPES, key=len, reverse=True) if name.startswith(f"{known}_")), None)
    return None if base is None else (base, {base} | _NEIGHBOURS.get(name, set()))


def _mismatches(file: str, header: GgufHeader) -> tuple[str, ...]:
    """Where the file's name, its declared type and its tensors contradict each other, a sentence each."""
    found = []
    label = quant_label(file)
    declared_number = header.metadata.get("general.file_type")
    declared = FILE_TYPES.get(declared_number) if isinstance(declared_number, int) else None
    counts = _matrix_bytes(header.tensors)
    for source, name in (("named", label), ("declared in its metadata as", declared)):
        expected = _base_type(name) if name else None
        if expected is None or not counts:
            continue
        base, accepted = expected
        main, nbytes = counts.most_common(1)[0]
        if main not in accepted:
            total = counts.total()
            found.append(
                f"{source} {name}, but most of its layer weights are {main}: {format_percent(nbytes / total, 0)} of "
                f"their bytes, {base} has {format_percent(counts[base] / total, 0)}"
            )
    ours, theirs = _base_type(label or ""), _base_type(declared or "")
    if ours and theirs and ours[0] != theirs[0]:
        found.append(f"named {label}, but its metadata declares {declared}")
    return tuple(dict.fromkeys(found))
