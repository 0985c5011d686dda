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
from fitcheck.models import catalog
from fitcheck.pages import view, words
from fitcheck.pages.document import card_facts
from fitcheck.pages.formats import raw, resolve, rounded, speed, write
from fitcheck.records import run_index, store
from fitcheck.runtimes import registry
from fitcheck.units import GIB
from fitcheck.verdict.usual_memory import usual_ram

from .conftest import Site
from .records import link, passed
from .test_markup import parse

# a figure with its unit; what remains in a page's own sentences once every bound number is taken out must hold none
FIGURE = re.compile(r"\d(?:[\d.,]*)\s?(?:GiB|GB|TFLOP/s|GB/s|TB/s|s|min|h)\b")


@pytest.fixture(autouse=True)
def same_records(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line knows the records that the site was built with, as an installation with them packed would."""
    monkeypatch.setattr(run_index, "accepted", lambda: site.index)
    monkeypatch.setenv("FITCHECK_RECORDS", str(tmp_path))


def printed(command: str) -> Any:
    """What the command line prints for a page's command, to the digits that twins keep."""
    return rounded(exactly(command))


@cache
def exactly(command: str) -> Any:
    """What the command line prints."""
    out = io.StringIO()
    words = shlex.split(command)
    assert words[0] == "fitcheck"
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        application()([*words[1:], "--json"], standalone_mode=False)
    return json.loads(out.getvalue())


def check_pages(site: Site) -> list[Path]:
    return sorted((site.root / "check").glob("*/*/index.html"))


Bound = tuple[str, str, str, str | None]

# where a row says no time, because it does not run
NO_TIME = "–"
# formats of cells that are sorted by something else than the number they show
SORTED_OTHERWISE = ("verdict", "speed_span", "seconds_span", "error")


def numbers(element: ElementTree.Element, scope: str = "", each: str = "", cell: str = "") -> Iterator[Bound]:
    """(Whole path, format, text, bare value) of every bound number: of an element that names its own (``data-n``), and
    of cells whose table names them: its last columns (``data-cols``), or each (``data-cell``).

    ``data-in`` is what a path begins with; in a table it is ``data-each``, where a row's place among its rows, or what
    ``data-c`` says, stands for the ``*``.
    """
    each, cell = element.get("data-each") or each, element.get("data-cell") or cell
    own = element.get("data-n")
    scope = element.get("data-in") or scope
    if own:
        path, _, kind = own.rpartition(":")
        whole = path if path.startswith("report.") else scope + path  # a whole path needs no scope
        yield whole, kind, text(element), None
    if element.tag == "table":
        yield from of_columns(element, each)
    for place, child in enumerate(element):
        of_row = (each and element.tag == "tbody") or child.get("data-c")
        inner = each.replace("*", child.get("data-c") or str(place)) if of_row else scope
        if cell and child.tag == "td":
            yield from of_cell(child, place, inner, cell)
        yield from numbers(child, inner, each, cell)


def of_cell(td: ElementTree.Element, place: int, scope: str, cell: str) -> Iterator[Bound]:
    """The number of a table of equal cells: behind the verdict, or in the span below it."""
    path, _, kind = cell.rpartition(":")
    below = td.find("span")
    if td.get("data-c"):
        yield scope + path, kind, (td[0].tail or "").strip(), None
    elif below is not None:
        yield f"{scope}{place - 1}.{path}", kind, text(below), None


def of_columns(table: ElementTree.Element, each: str) -> Iterator[Bound]:
    columns = (table.get("data-cols") or "").split()
    for place, row in enumerate(table.find("tbody") or () if columns else ()):
        scope = each.replace("*", row.get("data-c") or str(place))
        for td, named in zip(list(row)[-len(columns) :], columns, strict=True):
            if named != "-" and text(td) != NO_TIME:
                path, _, kind = named.rpartition(":")
                yield scope + path, kind, text(td), None if kind in SORTED_OTHERWISE else td.get("data-v")


def text(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()


def written(bound: Bound, document: Any) -> None:
    """Asserts that what stands there is what the document says."""
    path, kind, shown, bare = bound
    value = resolve(document, path)
    assert shown == write(value, kind), path
    assert bare is None or bare == raw(value), path


def answer(cell: dict[str, Any], task: str) -> dict[str, Any]:
    """A cell of the command line as pages tell it in a row."""
    return {
        "verdict": cell["verdict"],
        "tier": cell["tier"],
        "mode": cell["mode"],
        "need": cell["card"]["best"],
        "host": cell["host"]["best"],
        "seconds": cell["seconds"],
        "pace": view.pace(cell, task),
    }


def test_numbers_of_a_check_page_are_those_of_the_command_line(site: Site) -> None:
    pages = check_pages(site)
    assert len(pages) == 30
    compared = 0
    for path in pages:
        twin = json.loads(path.with_name("index.json").read_bytes())
        report = printed(twin["command"])
        kept = twin["report"]
        for name in ("machine", "model"):
            assert kept[name] == {key: report[name][key] for key in kept[name]}, path
        assert (kept["answer"], kept["workload"]) == (report["answer"], report["workload"])
        head, said = kept["cells"][0], report["cells"][0]
        same = {name: said[name] for name in head if name not in ("time", "evidence")}
        assert {**head, "time": None, "evidence": None} == {**same, "time": None, "evidence": None}, path
        task = report["workload"]["task"]
        assert answer(head, task) == answer(said, task)
        for bound in numbers(parse(path)):
            of_report = bound[0].startswith("report.")
            if of_report or bound[0].split(".")[0] in twin:
                written(bound, {"report": exactly(twin["command"])} if of_report else twin)
                compared += of_report
    assert compared > 2500


def test_rows_of_a_check_page_are_the_answers_of_their_own_command_lines(site: Site) -> None:
    """Other tasks, sizes and amounts of memory: each row is asked of the command line again."""
    compared = 0
    for path in check_pages(site)[::3]:
        twin = json.loads(path.with_name("index.json").read_bytes())
        command, head = twin["command"], twin["report"]["cells"][0]
        for task in twin["tasks"]:
            cell = printed(task["command"])["cells"][0]
            same = {name: cell[name] for name in task["cell"] if name not in ("pace", "flip")}
            assert {**same, "pace": None, "flip": None} == {**task["cell"], "pace": None, "flip": None}
        plain = command.split(" --tier ")[0]
        for step in twin["steps"]:
            said = printed(f"{plain} --tier {head['tier']} {step['option']}")
            assert answer(said["cells"][0], said["workload"]["task"]).items() <= step.items(), (path, step["option"])
        for row in twin["by_memory"]:
            task = "" if row["task"] == twin["report"]["workload"]["task"] else f" --task {row['task']}"
            said = printed(f"{command}{task} --ram {row['ram'] // GIB}GB")
            assert answer(said["cells"][0], said["workload"]["task"]).items() <= row.items(), (path, row["ram"])
            compared += 1
    assert compared > 60


def test_numbers_of_list_pages_are_those_of_the_check_pages(site: Site) -> None:
    for path in sorted((site.root / "check").glob("*/index.html")):
        twin = json.loads(path.with_name("index.json").read_bytes())
        assert twin["rows"]
        for row in twin["rows"]:
            page = json.loads((site.root / row["address"] / "index.json").read_bytes())
            assert answer(page["report"]["cells"][0], page["report"]["workload"]["task"]).items() <= row.items()
        table = next(one for one in parse(path).iter("table") if one.get("id") == "list")
        shown = [text(tr[6]) for tr in table.find("tbody") or ()]
        assert shown == [NO_TIME if row["verdict"] == "no" else speed(row) for row in twin["rows"]]


def test_every_bound_number_of_every_page_is_in_its_twin(site: Site) -> None:
    compared = 0
    for path in site.pages:
        twin = path.with_name("index.json")
        if path.name != "index.html" or path.parent.parent.parent == site.root / "check":
            continue
        document = json.loads(twin.read_bytes())
        for bound in numbers(parse(path)):
            written(bound, document)
            compared += 1
    assert compared > 500


def test_a_cards_profile_counts_what_the_pages_of_its_models_say(site: Site) -> None:
    for path in sorted((site.root / "cards").glob("*/index.json")):
        card = json.loads(path.read_bytes())
        for one in card["counts"]:
            fits = 0
            for twin in (
                json.loads(p.read_bytes()) for p in (site.root / "check").glob(f"*/{path.parent.name}/index.json")
            ):
                first = twin["report"]["workload"]["task"]
                fits += sum(
                    row["verdict"] == "fits"
                    for row in twin["by_memory"]
                    if (row["task"], row["ram"]) == (first, one["ram"])
                )
            assert one["fits"] == fits


@pytest.mark.parametrize("card", ["rtx-4070", "tesla-t4", "radeon-rx-7900-xtx"])
def test_no_figure_stands_outside_a_checked_element(site: Site, card: str) -> None:
    """Neighbours, records and command lines come from other documents; in the rest each figure must be bound."""
    tree = parse(site.root / "check/sensenova-u1-8b-mot" / card / "index.html")
    article = next(element for element in tree.iter("article"))
    loose = []

    def walk(element: ElementTree.Element) -> None:
        bound = any(element.get(name) for name in ("data-n", "data-cols"))
        skipped = bound or element.tag in ("code", "pre")
        if element.tag == "section" and element.get("class") in ("s-others", "s-measured", "s-needs"):
            skipped = True
        if not skipped:
            loose.append(element.text or "")
            for child in element:
                walk(child)
        loose.append(element.tail or "")

    walk(article)
    # sentences of the report itself (basis, assumptions, sources) are quoted word for word, not computed by the page
    twin = json.loads((site.root / "check/sensenova-u1-8b-mot" / card / "index.json").read_bytes())
    report = printed(twin["command"])
    facts = card_facts(find_card(card))
    quotes = [report["machine"]["basis"], facts["tensor_flops"]["source"], words.quality_of(None)]
    remaining = " | ".join(loose)
    for quote in (*quotes, *report["notes"], *report["cells"][0]["assumptions"]):
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


def test_the_command_to_measure_names_a_tier_and_a_mode_that_there_are(site: Site) -> None:
    command = json.loads((site.root / "contribute/index.json").read_bytes())["example"]
    fitcheck, bench, run, slug, *options = shlex.split(command)
    assert (fitcheck, bench, run) == ("fitcheck", "bench", "run")
    said = dict(zip(options[::2], options[1::2], strict=True))
    model = catalog.get(slug)
    assert model.tier(said["--tier"]) is not None
    assert said.get("--mode") in (None, *registry.serving(model)[0].modes)
    assert command in (site.root / "contribute/index.html").read_text("utf-8").replace("&#39;", "'")


def test_what_does_not_run_is_told_no_time_as_if_it_did(site: Site) -> None:
    """Beside other cards a row says neither choice nor time; of the page's own card the time has a condition."""
    refused = ran = 0
    for path in check_pages(site):
        tree, twin = parse(path), json.loads(path.with_name("index.json").read_bytes())
        cell = twin["report"]["cells"][0]
        label = next(text(one) for one in tree.iter("dt") if text(one).startswith(("Time for", "Speed")))
        assert label.endswith(", if it ran") == (cell["verdict"] == "no" and cell["seconds"] is not None), path
        near = next((one for one in tree.iter("table") if "from4" in (one.get("class") or "")), None)
        for row in () if near is None else near.find("tbody") or ():
            _, verdict, choice, _, time, _ = map(text, row)
            assert (choice == NO_TIME) == (time == NO_TIME) == (verdict == "No"), path
            refused, ran = refused + (verdict == "No"), ran + (verdict != "No")
    assert refused > 3
    assert ran > 30
