"""Pack the tensor tables of every pipeline component: each real class is built on the meta device.

Reads fitcheck/models/families/pipeline/data/components.json (class and config, with source and date) and writes
tables.json beside it: full config, lists that block-level offload cuts, class attributes, tensors by runs.
Run with the bench extra installed: ``python scripts/pack_pipelines.py [KEY ...]``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

DATA = Path(__file__).parent.parent / "fitcheck/models/families/pipeline/data"
# as diffusers/hooks/_common.py lists them; what a leaf group holds and what layerwise casting stores in fp8
_KINDS: dict[str, tuple[type[torch.nn.Module], ...]] = {
    "l": (torch.nn.Linear,),
    "c": (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d),
    "t": (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d),
    "e": (torch.nn.Embedding,),
}
Leaf = tuple[str, list[int], str]


def build(entry: dict[str, Any]) -> torch.nn.Module:
    """The component on the meta device, with the precision that a checkpoint has."""
    with torch.device("meta"):
        cls = getattr(import_module(entry["library"]), entry["class"])
        if entry["library"] != "transformers":
            module: torch.nn.Module = cls(**entry["config"])
            return module
        config = cls.config_class(**entry["config"])
        built: torch.nn.Module = cls(config)
        return built


def full_config(module: torch.nn.Module, entry: dict[str, Any]) -> dict[str, Any]:
    """Every number that the module was built with: diffusers' own record, else what was given."""
    if entry["library"] == "transformers":
        return dict(entry["config"])
    values: Any = module.config
    return {key: value for key, value in dict(values).items() if not key.startswith("_")}


def leaves(module: torch.nn.Module) -> Iterator[Leaf]:
    """(path, shape, kind) in the order of the state dict; a "b" says that a bias lies beside it."""
    modules, stored = dict(module.named_modules()), _stored(module)
    for path, names in groupby(stored, key=lambda name: name.rpartition(".")[0]):
        tensors = {name.rpartition(".")[2]: list(stored[name].shape) for name in names}
        kind = kind_of(modules[path])
        for part, shape in tensors.items():
            if kind == "p" or part not in ("weight", "bias") or "weight" not in tensors:
                yield (f"{path}.{part}".lstrip("."), shape, "n" if "norm" in path.rpartition(".")[2].lower() else "p")
            elif part == "weight":
                yield (path, shape, kind + ("b" if "bias" in tensors else ""))


def _stored(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint holds: parameters, tied ones once, and persistent buffers."""
    stored: dict[str, torch.Tensor] = dict(module.named_parameters())
    persistent = set(module.state_dict())
    return stored | {name: value for name, value in module.named_buffers() if name in persistent}


def kind_of(module: torch.nn.Module) -> str:
    """Its letter among ``_KINDS``; "p" for a module that none of the hooks treats as a leaf."""
    return next((letter for letter, classes in _KINDS.items() if isinstance(module, classes)), "p")


def packed(items: list[Leaf]) -> list[Any]:
    """Runs of equal blocks as ``[prefix, [first, count], items]``, everything else as it is."""
    result: list[Any] = []
    for place, group in groupby(items, key=lambda item: _numbered(item[0])):
        members = list(group)
        if place is None:
            result += [list(item) for item in members]
            continue
        prefix, index = place
        cut = len(f"{prefix}.{index}.")
        bare = [item for item in members if len(item[0]) < cut]  # a leaf that is itself a list's member
        inner = packed([(item[0][cut:], item[1], item[2]) for item in members]) if not bare else None
        if inner is None:
            result += [list(item) for item in members]
            continue
        last = result[-1] if result else None
        if last and isinstance(last[2], list) and last[0] == prefix and sum(last[1]) == index and last[2] == inner:
            last[1][1] += 1
        else:
            result.append([prefix, [index, 1], inner])
    return result


def _numbered(path: str) -> tuple[str, int] | None:
    parts = path.split(".")
    at = next((position for position, part in enumerate(parts) if part.isdigit()), None)
    return None if at is None or at == 0 else (".".join(parts[:at]), int(parts[at]))


def table(key: str, entry: dict[str, Any]) -> dict[str, Any]:
    """All that the shipped data says of one component."""
    module = build(entry)
    persistent = set(module.state_dict())
    lists = [
        name for name, child in module.named_children() if isinstance(child, (torch.nn.ModuleList, torch.nn.Sequential))
    ]
    items = list(leaves(module))
    # transformers keeps these in fp32 beside fp16 alone, and the strict ones beside bf16 too; diffusers knows one list
    kept = sorted(getattr(module, "_keep_in_fp32_modules", None) or ())
    strict = sorted(getattr(module, "_keep_in_fp32_modules_strict", None) or ())
    row: dict[str, Any] = {
        "config": full_config(module, entry),
        "lists": lists,
        "recursed": list(getattr(module, "_group_offload_block_modules", None) or ()),
        "uncast": list(getattr(module, "_skip_layerwise_casting_patterns", None) or ()),
        "single_precision": strict if entry["library"] == "transformers" else kept,
        "single_precision_fp16": kept if entry["library"] == "transformers" else [],
        "buffers": sum(b.nbytes for name, b in module.named_buffers() if name not in persistent),
        "parameters": sum(p.numel() for p in module.parameters()),
        "elements": sum(value.numel() for value in _stored(module).values()),
        "tensors": packed(items),
    }
    print(f"{key}: {row['parameters']:,} parameters, {len(items)} leaves, lists {lists}", file=sys.stderr)
    return {name: value for name, value in row.items() if value not in ([], 0)}


def main() -> None:
    """Rewrite tables.json; only the named keys when some are named."""
    entries = json.loads((DATA / "components.json").read_text())
    target = DATA / "tables.json"
    kept = json.loads(target.read_text()) if target.exists() else {}
    own = {key: entry for key, entry in entries.items() if "trace" not in entry}
    wanted = sys.argv[1:] or list(own)
    tables = {key: table(key, entry) if key in wanted else kept[key] for key, entry in own.items()}
    lines = (f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in tables.items())
    target.write_text("{" + ",\n".join(lines) + "}\n")
    print(f"{len(tables)} tables, {target.stat().st_size:,} bytes", file=sys.stderr)
    (DATA / "classes.json").write_text(json.dumps(classes(), separators=(",", ":")) + "\n")
    (DATA / "sizes.json").write_text(json.dumps(sizes(), separators=(",", ":")).replace("}},", "}},\n") + "\n")


def classes() -> dict[str, Any]:
    """The names of all pipelines and models of the installed diffusers, which is what a model_index.json may name."""
    import diffusers

    names = [name for name in dir(diffusers) if name[:1].isupper()]
    models = [name for name in names if isinstance(found := getattr(diffusers, name), type) and _is_model(found)]
    return {
        "diffusers": diffusers.__version__,
        "pipelines": [name for name in names if name.endswith("Pipeline")],
        "models": models,
    }


def _is_model(found: type) -> bool:
    return issubclass(found, torch.nn.Module)


def sizes() -> dict[str, dict[str, dict[str, int]]]:
    """Bytes by storage type of every component of the catalog in every scheme that a tier stores it in."""
    from fitcheck.models.families.pipeline import catalog
    from fitcheck.models.families.pipeline.tiers import component_table, size_key

    found: dict[str, dict[str, dict[str, int]]] = {}
    for slug in catalog.slugs():
        for tier in catalog.get(slug).tiers:
            for component, how in getattr(tier.tensors, "parts"):  # noqa: B009
                key = size_key(component, how)
                if key not in found.setdefault(component.trace, {}):
                    found[component.trace][key] = component_table(component, how).bytes_by_type
    return found


if __name__ == "__main__":
    main()
