"""The house rules that a reader would otherwise have to trust: import order, light start, no house secrets."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each room may import, besides the ground (errors, units) and itself.
ALLOWED = {
    "hardware": set(),
    "models": set(),
    "records": {"hardware", "models"},
    "memory": {"hardware", "models"},
    "speed": {"hardware", "models", "memory"},
    "verdict": {"hardware", "models", "memory", "speed", "records"},
    "pages": {"hardware", "models", "memory", "speed", "verdict", "records"},
    "cli": {"hardware", "models", "memory", "speed", "verdict", "records", "pages"},
}
GROUND = {"errors", "units"}
HEAVY = {"torch", "diffusers", "transformers", "accelerate"}
FILES = sorted((ROOT / "fitcheck").rglob("*.py")) + sorted((ROOT / "bench").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names that a module imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    names = imported(path)
    if parts[0] == "bench":
        assert not any(name.startswith(("fitcheck.pages", "fitcheck.cli")) for name in names)
        return
    room = parts[1] if len(parts) > 2 else None
    if path.name != "trace.py" or room != "memory":
        assert not {name.split(".")[0] for name in names} & HEAVY
    if room is None:
        return
    rooms = {name.split(".")[1] for name in names if name.startswith("fitcheck.")} - GROUND - {room}
    rooms &= set(ALLOWED)
    assert rooms <= ALLOWED[room], f"{room} must not import {rooms - ALLOWED[room]}"
    if room not in ("cli", "memory"):
        assert not any(name == "bench" or name.startswith("bench.") for name in names)


def test_a_check_loads_no_heavy_library() -> None:
    code = (
        "import sys; from fitcheck.cli.main import application; application();"
        "import fitcheck.verdict.check, fitcheck.hardware.catalog, fitcheck.models.catalog;"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'gguf', 'duckdb', 'pandas', 'scipy', 'httpx'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
