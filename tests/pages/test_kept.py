"""What a site keeps for its next build is what would be worked out again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fitcheck.hardware.catalog import find_card
from fitcheck.models import catalog
from fitcheck.pages import kept_accuracy
from fitcheck.pages.other_sizes import MEMORY, Reports
from fitcheck.pages.site_folder import hash_bytes
from fitcheck.records import run_index, store
from fitcheck.verdict.cell_json import cell_json
from fitcheck.verdict.usual_machine import ask

from .records import link, passed


def test_accuracy_rows_come_back_as_they_were_and_a_new_record_of_the_card_asks_again(tmp_path: Path) -> None:
    index = run_index.build([store.document_of(passed()), store.document_of(link())])
    found = {**kept_accuracy.rows_of(index, "engine", {}), "card without rows": ("key", ())}
    assert len(found[kept_accuracy.PUBLISHED][1]) > 50
    assert [row.quantity for row in found["rtx-4070"][1]]
    _keep(tmp_path, kept_accuracy.encode(found))
    known = kept_accuracy.known(tmp_path)
    assert repr(known) == repr(found)
    assert kept_accuracy.rows_of(index, "engine", known)["rtx-4070"] is known["rtx-4070"]
    more = run_index.build([store.document_of(passed()), store.document_of(passed(1_790_000_300, 30.0))])
    again = kept_accuracy.rows_of(more, "engine", known)
    assert again["rtx-4070"][0] != known["rtx-4070"][0]
    assert again[kept_accuracy.PUBLISHED] is known[kept_accuracy.PUBLISHED]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema":"fitcheck.accuracy-rows/2"}', b"[" * 100_000])
def test_accuracy_rows_that_are_none_are_not_believed(content: bytes, tmp_path: Path) -> None:
    _keep(tmp_path, content)
    assert kept_accuracy.known(tmp_path) == {}
    assert kept_accuracy.known(None) == {}


def _keep(folder: Path, content: bytes) -> None:
    (folder / "accuracy").mkdir()
    (folder / kept_accuracy.PATH).write_bytes(content)
    manifest = {"files": {kept_accuracy.PATH: hash_bytes(content)}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(("slug", "card"), [("flux.1-dev", "rtx-4070"), ("qwen3-8b", "rtx-4060"), ("sdxl", "tesla-t4")])
def test_an_answer_beside_other_memory_is_the_one_that_is_found_anew(slug: str, card: str) -> None:
    """Cells that were weighed beside one amount of system memory are only judged beside another."""
    index = run_index.build([store.document_of(passed())])
    asked = ask(catalog.get(slug), find_card(card), index)
    reports = Reports(asked, asked.told())
    for size in MEMORY:
        spared = reports.of(asked.model.tasks[0], size)
        anew = ask(catalog.get(slug), find_card(card), index)
        whole = type(anew)(anew.model, anew.card, anew.index, ram=size).report(advise=False)
        assert {**cell_json(spared.best), "flip": None} == {**cell_json(whole.best), "flip": None}, size
