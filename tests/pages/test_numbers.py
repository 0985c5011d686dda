"""Every number on a page is the number that `fitcheck check --json` prints for the same cell."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fitcheck.cli.main import application
from fitcheck.hardware.catalog import find_card
from fitcheck.pages import view, words
from fitcheck.pages.formats import raw, resolve, write
from fitcheck.records import run_index, store
from fitcheck.units import GIB
from fitcheck.verdict.usual_memory import usual_ram

from .conftest import Site
from .records import link, passed
from .test_markup import parse

# a figure with its unit; what remains in a page's own sentences once every <data> is taken out must hold none
FIGURE = re.compile(r"\d(?:[\d.,]*)\s?(?:GiB|GB|TFLOP/s|GB/s|TB/s|s|min|h)\b")


@pytest.fixture(autouse=True)
def same_records(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line knows the records that the site was built with, as an installation with them packed would."""
    monkeypatch.setattr(run_index, "accepted", lambda: site.index)
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path))


@cache
def printed(command: str) -> Any:
    """What the command line prints for a page's command."""
    out = io.StringIO()
    words = shlex.split(command)
    assert words[0] == "fitcheck"
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        application()([*words[1:], "--json"], standalone_mode=False)
    return json.loads(out.getvalue())


def check_pages(site: Site) -> list[Path]:
    return sorted((site.root / "check").glob("*/*/index.html"))


def numbers(element: ElementTree.Element, scope: str = "") -> Iterator[tuple[str, ElementTree.Element]]:
    """Every bound element with the whole path of its value: the nearest ``data-in`` around it and its own."""
    scope = element.get("data-in") or scope
    if element.get("data-at"):
        yield scope + (element.get("data-at") or ""), element
    for child in element:
        yield from numbers(child, scope)


def text(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def test_numbers_of_a_check_page_are_those_of_the_command_line(site: Site) -> None:
    pages = check_pages(site)
    assert len(pages) == 18
    compared = 0
    for path in pages:
        twin = json.loads(path.with_name("index.json").read_bytes())
        said = {"report": printed(twin["command"])}
        assert twin["report"] == said["report"], path
        for task in twin["tasks"]:
            cells = printed(task["command"])["cells"]
            same = [c for c in cells if (c["tier"], c["mode"]) == (task["cell"]["tier"], task["cell"]["mode"])]
            # advice on a cell that runs is left out of the page's twin, everything else is the same
            assert len(same) == 1
            assert {"seconds", "card", "host", "verdict", "commands"} <= set(task["cell"])
            said_of_task = {name: same[0][name] for name in task["cell"]}
            assert {**said_of_task, "flip": None} == {**task["cell"], "flip": None}, (path, task["task"])
        for where, element in numbers(parse(path)):
            kind = element.get("data-as") or ""
            value = resolve(said if where.startswith("report.") else twin, where)
            assert text(element) == write(value, kind), (path, where)
            if element.tag == "data":
                assert element.get("value") == raw(value), (path, where)
            compared += where.startswith("report.")
    assert compared > 2000


def test_numbers_of_list_pages_are_those_of_the_check_pages(site: Site) -> None:
    for model in ("sensenova-u1-8b-mot", "sensenova-u1.5-8b-mot", "sensenova-u1-a3b-mot"):
        path = site.root / "check" / model / "index.html"
        twin = json.loads(path.with_name("index.json").read_bytes())
        assert twin["rows"]
        for row in twin["rows"]:
            page = json.loads((site.root / row["address"] / "index.json").read_bytes())
            cells = page["report"]["cells"]
            same = next(c for c in cells if (c["tier"], c["mode"]) == (row["tier"], row["mode"]))
            assert same["verdict"] == row["verdict"]
            assert same["card"]["best"] == row["need"]
            assert same["host"]["best"] == row["host"]
            assert same["seconds"] == row["seconds"]
        for where, element in numbers(parse(path)):
            value = resolve(twin, where)
            assert text(element) == write(value, element.get("data-as") or "")
            assert element.tag == "span" or element.get("value") == raw(value)


@pytest.mark.parametrize("card", ["rtx-4070", "tesla-t4", "radeon-rx-7900-xtx"])
def test_no_figure_stands_outside_a_checked_element(site: Site, card: str) -> None:
    """Neighbours, records and command lines come from other documents; in the rest each figure must be bound."""
    tree = parse(site.root / "check/sensenova-u1-8b-mot" / card / "index.html")
    article = next(element for element in tree.iter("article"))
    loose = []

    def walk(element: ElementTree.Element) -> None:
        skipped = element.get("data-at") or element.tag in ("code", "pre")
        if element.tag == "section" and element.get("class") in ("s-others", "s-measured"):
            skipped = True
        if not skipped:
            loose.append(element.text or "")
            for child in element:
                walk(child)
        loose.append(element.tail or "")

    walk(article)
    # sentences of the report itself (basis, assumptions, sources) are quoted word for word, not computed by the page
    twin = json.loads((site.root / "check/sensenova-u1-8b-mot" / card / "index.json").read_bytes())
    quotes = [twin["report"]["machine"]["basis"], twin["card"]["tensor_flops"]["source"]]
    quotes += [row["source"] for row in twin["requirements"]]
    remaining = " | ".join(loose)
    for quote in (*quotes, *twin["report"]["notes"], *twin["report"]["cells"][0]["assumptions"]):
        remaining = remaining.replace(quote, "")
    assert FIGURE.findall(remaining) == []


def test_an_unknown_time_is_written_as_unknown() -> None:
    assert write(None, "seconds_span") == "unknown"
    assert raw(None) == ""
    assert resolve({"seconds": None}, "seconds.best") is None


def test_what_ran_tells_records_of_one_mode_apart() -> None:
    document: dict[str, Any] = store.document_of(passed())
    assert view.record_facts(document)["details"] == "2048 × 2048, 8 steps, cfg 1, phase-aware"
    document["runtime"] = {**document["runtime"], "policy": "ring", "revision": None}
    document["workload"] = {"task": "interleave", "images": 3, "cfg": 4.5}
    assert view.record_facts(document)["details"] == "3 images, cfg 4.5, policy ring"
    assert view.record_facts(store.document_of(link()))["details"] == ""


def test_pages_name_the_system_memory_that_they_ask_with() -> None:
    """What pages say of the usual machine is what the check assumes of it."""
    for card, said in (("RTX 4060", "16 GB"), ("RTX 4070", "32 GB"), ("L4", "32"), ("H200 SXM 141GB", "192 GB")):
        ram = usual_ram(find_card(card))
        assert ram is not None
        assert said.removesuffix(" GB") == str(ram // GIB)
        assert said in words.USUAL_MEMORY
    assert usual_ram(find_card("RTX 6000 Ada Generation")) == 96 * GIB
    assert "twice the card's memory in workstations" in words.USUAL_MEMORY
