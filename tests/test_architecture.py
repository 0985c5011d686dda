"""The house rules that a reader would otherwise have to trust: import order, no circles, no names outside their
folders, light start."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {"errors", "units", "data_files", "user_folders", "dataclass_later", "__version__"}
# What each room may import, besides the ground and itself.
BELOW = {
    "hardware": set[str](),
    "models": set[str](),
    "records": {"hardware", "models"},
    "memory": {"hardware", "models"},
    "speed": {"hardware", "models", "memory"},
    "runtimes": {"hardware", "models", "memory", "speed", "records"},
    "verdict": {"hardware", "models", "memory", "speed", "records", "runtimes"},
    "pages": {"hardware", "models", "memory", "speed", "records", "runtimes", "verdict"},
    "cli": {"hardware", "models", "memory", "speed", "records", "runtimes", "verdict", "pages", "api"},
}
# The bench measures and predicts; it neither judges nor shows.
BENCH_BELOW = {"hardware", "models", "memory", "speed", "records", "runtimes"}
HEAVY = {"torch", "diffusers", "transformers", "accelerate"}
FILES = sorted((ROOT / "fitcheck").rglob("*.py")) + sorted((ROOT / "bench").rglob("*.py"))

# Folders that belong to one family, runtime or engine, and the words that only they may say.
OWN_FOLDERS = ("fitcheck/models/families/", "fitcheck/runtimes/", "bench/engines/")
REGISTRIES = {
    "fitcheck/models/families/registry.py",
    "fitcheck/runtimes/registry.py",
    "bench/engines/registry.py",
}
# files directly in these folders are the seam itself
SEAMS = {"families", "runtimes", "engines"}
NAMES = re.compile(r"sensenova|comfyui|llama[._-]?cpp|ik_llama", re.IGNORECASE)
# A record's field is a fact about software that may be installed; it decides nothing.
FACTS = {"fitcheck/records/record_parts.py", "fitcheck/records/query.py"}
FACT_NAMES = re.compile(r"llama_cpp|comfyui")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    dotted = name(path).removesuffix(".py").replace("/", ".")
    return dotted.removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports anywhere, also inside functions and for its types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        for one in names:
            found.add(one)
    return found


def graph() -> dict[str, set[str]]:
    """File → files that it imports; ``from package import module`` is an arrow to the module alone."""
    arrows: dict[str, set[str]] = {}
    for own, path in MODULES.items():
        targets = {one for one in imported(path) if one in MODULES and one != own}
        packages = {one for one in targets if MODULES[one].name == "__init__.py"}
        named = set(targets - packages)
        arrows[own] = named | {one for one in packages if not any(other.startswith(f"{one}.") for other in named)}
    return arrows


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected sets of more than one file (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(one: str) -> None:
        index[one] = low[one] = len(index)
        stack.append(one)
        for other in sorted(arrows[one]):
            if other not in index:
                visit(other)
                low[one] = min(low[one], low[other])
            elif other in stack:
                low[one] = min(low[one], index[other])
        if low[one] == index[one]:
            group = stack[stack.index(one) :]
            del stack[stack.index(one) :]
            if len(group) > 1:
                found.append(sorted(group))

    for one in sorted(arrows):
        if one not in index:
            visit(one)
    return found


def test_no_file_imports_another_in_a_circle() -> None:
    assert circles(graph()) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    names = imported(path)
    rooms = {one.split(".")[1] for one in names if one.startswith("fitcheck.")} - GROUND
    if parts[0] == "bench":
        assert rooms <= BENCH_BELOW, f"bench must not import {rooms - BENCH_BELOW}"
        return
    assert not {one.split(".")[0] for one in names} & HEAVY
    room = parts[1] if len(parts) > 2 else None
    if room is None:
        return
    assert rooms - {room} <= BELOW[room], f"{room} must not import {rooms - {room} - BELOW[room]}"
    if room != "cli":
        assert not any(one == "bench" or one.startswith("bench.") for one in names)


def spoken(path: Path) -> list[str]:
    """Identifiers and strings of a file that name a family or runtime; comments and docstrings may cite sources."""
    text = path.read_text("utf-8")
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            docstrings.add(body[0].value.lineno)
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.start[0] in docstrings:
            continue
        if token.type in (tokenize.NAME, tokenize.STRING) and NAMES.search(token.string):
            found.append(f"{token.start[0]}: {token.string.strip()}")
    if name(path) in FACTS:
        found = [one for one in found if NAMES.search(FACT_NAMES.sub("", one))]
    return found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_outside_its_own_folder_names_a_family_or_a_runtime(path: Path) -> None:
    """Own folders may speak of themselves, and a runtime of the family that it runs; registries hold the names."""
    where = name(path)
    if where in REGISTRIES or where.startswith(OWN_FOLDERS):
        return
    assert spoken(path) == []
    own = {one for one in imported(path) if one in MODULES and name(MODULES[one]).startswith(OWN_FOLDERS)}
    own = {one for one in own if MODULES[one].parent.name not in SEAMS and MODULES[one].name != "__init__.py"}
    assert own == set()


def test_a_check_loads_no_heavy_library() -> None:
    code = (
        "import sys; from fitcheck.cli.main import application; application();"
        "import fitcheck.verdict.check, fitcheck.hardware.catalog, fitcheck.models.catalog;"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'gguf', 'duckdb', 'pandas', 'scipy', 'httpx'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def classes(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def test_one_class_name_one_class() -> None:
    """A reader who meets a name must not have to ask which of two it is."""
    places: dict[str, list[str]] = {}
    for path in FILES:
        for found in classes(path):
            places.setdefault(found, []).append(name(path))
    assert {found: files for found, files in places.items() if len(files) > 1} == {}


# The seam and the registry of each seam, the same part in each folder of it, and a command beside what it shows.
TWINS = {"base.py", "registry.py", "catalog.py", "options.py"}


def test_one_module_name_one_trade() -> None:
    """The same file name stands twice for the same part of two runtimes, families or engines, or for a command."""
    places: dict[str, set[str]] = {}
    for path in FILES:
        relative = name(path)
        if path.name not in {"__init__.py", *TWINS} and not relative.startswith("fitcheck/cli/"):
            own = next(
                (folder for folder in OWN_FOLDERS if relative.startswith(folder) and path.parent.name not in SEAMS),
                None,
            )
            places.setdefault(path.name, set()).add(own or relative)
    assert {found: sorted(parts) for found, parts in places.items() if len(parts) > 1} == {}
