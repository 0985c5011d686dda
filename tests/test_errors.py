"""Each kind of error is raised as that kind, so that a library user can catch what they can act on."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import fitcheck
from fitcheck import errors
from fitcheck.models.source import FormatError

sys.path.append(str(Path(__file__).parent / "models"))
from gguf_files import small_model
from standin_hub import Blob, StandInHub

MODEL, CARD = "sensenova-u1-8b-mot", "RTX 4070"
FILE = "org/repo:model.Q4_K_M.gguf"


def unknown_card(folder: Path) -> None:
    fitcheck.check(MODEL, "RTX 9999")


def impossible_memory(folder: Path) -> None:
    fitcheck.check(MODEL, CARD, ram=-1)


def impossible_slot(folder: Path) -> None:
    fitcheck.check(MODEL, CARD, pcie=(9, 16))


def unknown_model(folder: Path) -> None:
    fitcheck.check("sensenova-u9", CARD)


def unknown_tier(folder: Path) -> None:
    fitcheck.check(MODEL, CARD, tier="Q9_Z")


def unknown_task(folder: Path) -> None:
    fitcheck.check(MODEL, CARD, task="dance")


def foreign_option(folder: Path) -> None:
    fitcheck.check(MODEL, CARD, ctx=4096)


def no_size(folder: Path) -> None:
    from fitcheck.units import parse_memory

    parse_memory("much", "--ram")


def missing_file(folder: Path) -> None:
    fitcheck.check(str(folder / "absent.gguf"), CARD)


def folder_without_weights(folder: Path) -> None:
    fitcheck.check(str(folder), CARD)


def damaged_file(folder: Path) -> None:
    (folder / "model.gguf").write_bytes(small_model().data[:40])
    fitcheck.check(str(folder / "model.gguf"), CARD)


def ask_hub(folder: Path, hub: StandInHub, target: str) -> None:
    from fitcheck.models.hub import HubSettings
    from fitcheck.models.resolve import resolve

    settings = HubSettings(endpoint=hub.url, cache=folder, first_wait=0.001, timeout=0.5)
    with resolve(target, settings=settings) as found:
        found.tiers()


def ask_running_hub(folder: Path, target: str, fault: str | None = None) -> None:
    head = small_model()
    with StandInHub({"org/repo": {"model.Q4_K_M.gguf": Blob(head.data, head.size)}}) as hub:
        if fault is not None:
            hub.misbehave(fault, where="/")
        ask_hub(folder, hub, target)


def unreachable_hub(folder: Path) -> None:
    with StandInHub() as hub:
        pass
    ask_hub(folder, hub, FILE)


def hub_that_fails(folder: Path) -> None:
    ask_running_hub(folder, FILE, "503")


def hub_that_refuses(folder: Path) -> None:
    ask_running_hub(folder, FILE, "403")


def file_not_on_the_hub(folder: Path) -> None:
    ask_running_hub(folder, "org/repo:other.gguf")


def repository_not_on_the_hub(folder: Path) -> None:
    ask_running_hub(folder, "org/other:model.gguf")


def damaged_record(folder: Path) -> None:
    from fitcheck.records import store

    (folder / "record.json").write_text(json.dumps({"schema_version": 1}))
    store.read(folder / "record.json")


def missing_record(folder: Path) -> None:
    from fitcheck.records import store

    store.read(folder / "absent.json")


def bench_without_a_card(folder: Path) -> None:
    from bench.preflight import require_card

    require_card(None)


def bench_without_torch(folder: Path) -> None:
    from bench.preflight import require_torch

    require_torch()


CASES: dict[Callable[[Path], None], type[errors.InputError]] = {
    unknown_card: errors.CardError,
    impossible_memory: errors.CardError,
    impossible_slot: errors.CardError,
    unknown_model: errors.ModelError,
    unknown_tier: errors.ModelError,
    unknown_task: errors.ModelError,
    foreign_option: errors.OptionError,
    no_size: errors.OptionError,
    missing_file: errors.FileError,
    folder_without_weights: errors.FileError,
    damaged_file: FormatError,
    file_not_on_the_hub: errors.FileError,
    repository_not_on_the_hub: errors.FileError,
    unreachable_hub: errors.NetworkError,
    hub_that_fails: errors.NetworkError,
    hub_that_refuses: errors.NetworkError,
    damaged_record: errors.RecordError,
    missing_record: errors.RecordError,
    bench_without_a_card: errors.MeasurementError,
    bench_without_torch: errors.MissingExtraError,
}


@pytest.mark.parametrize("provoke", CASES, ids=lambda case: case.__name__)
def test_it_is_raised_as_its_own_kind(
    provoke: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self, **more: str(self) != "/dev/kfd" and real(self, **more))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path / "local"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(errors.InputError) as raised:
        provoke(tmp_path)
    assert type(raised.value) is CASES[provoke]


def test_a_damaged_file_is_caught_as_a_file() -> None:
    assert issubclass(FormatError, errors.FileError)


def test_only_the_kinds_are_raised() -> None:
    root = Path(__file__).parents[1]
    files = [*root.glob("fitcheck/**/*.py"), *root.glob("bench/**/*.py")]
    assert files
    assert [file.name for file in files if "raise InputError" in file.read_text(encoding="utf-8")] == []


def test_an_extra_is_named_by_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {
        "fitcheck-vram": [
            "rich>=13",
            'duckdb>=1.2; extra == "results"',
            'jinja2>=3; extra == "site"',
            'fitcheck-vram[results]; extra == "site"',
        ]
    }
    monkeypatch.setattr(metadata, "requires", stated.__getitem__)
    assert errors.extra("site") == "install fitcheck's extra 'site': pip install 'jinja2>=3' 'duckdb>=1.2'"
    monkeypatch.setattr(sys, "prefix", "/home/me/.local/share/pipx/venvs/fitcheck-vram")
    assert errors.extra("results") == "install fitcheck's extra 'results': pipx inject fitcheck-vram 'duckdb>=1.2'"
    assert errors.extra("other") == "install fitcheck's extra 'other': in its folder, pip install '.[other]'"


def test_the_distribution_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == errors.DISTRIBUTION
    assert project["scripts"] == {"fitcheck": "fitcheck.cli.main:main"}
