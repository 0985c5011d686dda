"""Every architecture of cases.json in every way that people place a model, against llama.cpp's own reservation.

usage: python benchmarks/llamacpp_probe/matrix.py PROBE [NAME,NAME [WAY ...]]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from run import CASES, options_of, predicted, probe, write_sparse_gguf

from fitcheck.errors import OptionError
from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table

CONTEXT, LIMIT = 8192, 0.005
WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "partial": {"gpu_layers": 10},
    "experts": {"cpu": ["exps"]},
    "two": {"cards": 2},
    "q8": {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
    "nofa": {"flash_attention": False},
    "tensor": {"cards": 2, "split_mode": "tensor"},
}


def compared(program: str, case: dict[str, Any], file: Path) -> tuple[float, str] | None:
    """The worst buffer of a case, as a share and in words; ``None`` where llama.cpp or fitcheck refuses it."""
    table = mixture_table(architecture_from_gguf(case["metadata"]), case["tier"])
    try:
        options, arguments, cards = options_of(case)
        theirs, ours = probe(program, file, arguments), predicted(case, table, options, cards)
    except (OptionError, RuntimeError) as problem:
        print(f"--  {case['name']}: refused: {str(problem).strip()[-100:]!r}")
        return None
    off = {
        name: abs(ours.get(name, 0.0) / size - 1) for name, size in theirs.items() if size >= 1 and "output" not in name
    }
    name = max(off, key=lambda one: off[one])
    return off[name], f"{name}: {theirs[name]} MiB printed, {ours.get(name)} here"


def main() -> None:
    """Print each cell that is off, and how many are not."""
    program, names, ways = sys.argv[1], (sys.argv[2:3] or [""])[0], sys.argv[3:] or list(WAYS)
    shapes: dict[str, dict[str, Any]] = {}
    for case in json.loads(CASES.read_text()):
        shapes.setdefault(case["name"].split()[0], case)
    found = []
    for name, case in shapes.items():
        if names and name not in names.split(","):
            continue
        architecture = architecture_from_gguf(case["metadata"])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.gguf"
            write_sparse_gguf(file, case["metadata"], mixture_table(architecture, case["tier"]))
            for way in ways:
                if way == "experts" and not architecture.experts:
                    continue
                asked = {**case, "name": f"{name} {way}", "options": {"context": CONTEXT, **WAYS[way]}}
                worst = compared(program, asked, file)
                if worst is None:
                    continue
                found.append(worst[0])
                print(f"{'ok ' if worst[0] <= LIMIT else 'OFF'} {name} {way} {worst[0]:.2%} {worst[1]}", flush=True)
    print(f"{len(found)} cells, {sum(one <= LIMIT for one in found)} within {LIMIT:.1%}, worst {max(found):.2%}")


if __name__ == "__main__":
    main()
