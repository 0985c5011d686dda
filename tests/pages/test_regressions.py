"""The pages under /regressions/: what they show, that they are valid, accessible and narrow enough, feed and builds."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser

from fitcheck.errors import RecordError
from fitcheck.pages import build, promises, view
from fitcheck.pages.charts.trend import MOST_POINTS, trend
from fitcheck.pages.kept_site import KeptSite, kept_site
from fitcheck.pages.metric_names import metric_name
from fitcheck.pages.regressions import histories_of, latest, pictures
from fitcheck.pages.serve import server_for
from fitcheck.pages.site_inputs import LOCAL_URL, Inputs, gather
from fitcheck.records import store
from fitcheck.records.reading import parse as parse_record
from fitcheck.records.regressions.metrics import measured
from fitcheck.records.run import Run
from fitcheck.records.schema import Memory, ModelRef, PassRecord, RuntimeUsed, Sample
from fitcheck.units import Interval
from fitcheck.verdict import promise
from fitcheck.verdict.histories import Histories

from .conftest import Site
from .records import GIB, hostile, link, passed
from .test_browser import AXE
from .test_markup import parse
from .test_numbers import numbers, written

RESULTS = Path(__file__).parents[2] / "results"
ATOM = "{http://www.w3.org/2005/Atom}"
DAY = 86_400
JITTER = (0.99, 1.0, 1.01, 1.004, 0.996)
KEPT = """
[[pinned]]
series = "*"
records = [{ids}]
reason = "release <b>1.4</b>"

[[acknowledged]]
series = "*"
metric = "seconds"
ratio = 1.5
reason = "exact attention is worth it"
"""


def run(revision: str, seconds: float, day: int, allocated: float = 3.21) -> PassRecord:
    changed: dict[str, Any] = {
        "created": 1_780_000_000 + day * DAY,
        "runtime": RuntimeUsed(name="sensenova", revision=revision, mode="balanced", policy="upstream"),
        "model": ModelRef(slug="sensenova-u1-8b-mot", tier="Q4_K_S", weights="real", tensor_digest="ab" * 32),
        "samples": (Sample(total=seconds), Sample(total=seconds * 1.005)),
        "memory": Memory(allocated=int(allocated * GIB)),
    }
    return store.seal(passed().model_copy(update=changed))


def runs() -> list[PassRecord]:
    before = [run("pr241", 100 * jitter, day) for day, jitter in enumerate(JITTER)]
    return before + [run("pr243", 130 * jitter, 10 + day, 2.9) for day, jitter in enumerate(JITTER)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    results = tmp_path_factory.mktemp("regressions") / "results"
    for record in runs():
        store.write(results, record)
    store.write(results, link())
    found = gather(results, "rtx-4070", models="sensenova-u1-8b-mot")
    return replace(found, records=(*found.records, hostile()))


@pytest.fixture(scope="module")
def history(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    out = tmp_path_factory.mktemp("regressions-site")
    build.build(inputs, out)
    with server_for(out) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(out, f"http://127.0.0.1:{server.server_address[1]}/", Any)  # type: ignore[arg-type]
        server.shutdown()


def series_page(site: Site) -> Path:
    (page,) = (site.root / "regressions").glob("*/index.html")
    return page


def series_twin(site: Site) -> tuple[Path, dict[str, Any]]:
    """The page of the one series, and what the overview's twin says of it."""
    path = series_page(site)
    (found,) = json.loads((site.root / "regressions/index.json").read_bytes())["histories"]["series"]
    assert found["id"] == path.parent.name
    return path, found


def text(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_the_overview_names_changes_series_and_what_was_left_out(history: Site) -> None:
    page = text(parse(history.root / "regressions/index.html").find("body/main") or ElementTree.Element("x"))
    assert "1 series, 2 changes. Measured once, and so without a history: 1." in page
    for words in (
        "time of a runregression+30.0 %",
        "allocated on the cardimprovement-9.7 %",
        "worse since runtime.revision pr241 -> pr243",
    ):
        assert words in page
    assert "1 record was left out as not valid" in page
    assert "worse allocated on the card" in page, "2.90 GiB where 2.0 are expected of this revision"
    twin = json.loads((history.root / "regressions/index.json").read_bytes())
    assert [one["metric"] for one in twin["histories"]["entries"]] == ["allocated", "seconds"]
    assert latest(twin["histories"]["series"][0])["verdict"] in ("regression", "improvement")


def test_a_series_page_has_a_picture_a_table_and_links_to_its_runs(history: Site) -> None:
    path = series_page(history)
    tree = parse(path)
    pictures_ = [one for one in tree.iter() if one.tag.endswith("svg") and one.get("class") == "trend"]
    labels = [one.get("aria-label") or "" for one in pictures_]
    assert any(label.startswith("time of a run over 10 runs, 2 min 10 s in the newest") for label in labels), labels
    assert any("regression on 2026-" in label and "+30.0 %" in label for label in labels)
    heads = {one.get("id") for one in tree.iter("h2")}
    assert {"seconds", "allocated"} <= heads
    linked = [one.get("href") or "" for one in tree.iter("a") if "/results/" in (one.get("href") or "")]
    records = [one for one in linked if "#" in one]
    assert len(records) == 10
    for one in records:
        where, _, anchor = one.partition("#")
        target = (path.parent / where).resolve() / "index.html"
        assert any(element.get("id") == anchor for element in parse(target).iter()), one


def test_every_number_is_the_twins(history: Site) -> None:
    compared = 0
    overview = history.root / "regressions/index.html"
    for path, twin in ((overview, json.loads(overview.with_name("index.json").read_bytes())), series_twin(history)):
        for bound in numbers(parse(path)):
            written(bound, twin)
            compared += 1
    assert compared > 30


def test_a_picture_draws_points_levels_changes_and_the_expected_span(history: Site) -> None:
    _, twin = series_twin(history)
    track = next(one for one in twin["tracks"] if one["metric"] == "seconds")
    drawn = str(trend(track))
    assert drawn.count("h0") == 10
    assert drawn.count("c-level") == 2
    assert 't-regression" d="M200' in drawn.replace("c-change ", "")
    expected = {"low": 90.0, "best": 100.0, "high": 120.0, "ratio": None, "missed": True}
    assert "c-band" in str(trend({**track, "expected": expected}))
    assert "c-band" not in str(trend({**track, "expected": expected | {"low": 1.0, "high": 2.0}}))
    long = {**track, "changes": [], "points": track["points"] * 100}
    assert str(trend(long)).count("h0") == MOST_POINTS
    assert pictures([{"changes": [], "points": [1, 2]}] * 30) == list(range(12))


def test_the_feed_has_an_entry_for_every_change(history: Site) -> None:
    root = ElementTree.parse(history.root / "regressions/feed.xml").getroot()
    entries = root.findall(f"{ATOM}entry")
    twin = json.loads((history.root / "regressions/index.json").read_bytes())
    assert len(entries) == len(twin["histories"]["entries"]) >= 2
    assert root.findtext(f"{ATOM}updated") == entries[0].findtext(f"{ATOM}updated")
    names = [entry.findtext(f"{ATOM}id") for entry in entries]
    assert len(set(names)) == len(names)
    ids = {one.get("id") for one in parse(series_page(history)).iter()}
    for entry in entries:
        node = entry.find(f"{ATOM}link")
        assert node is not None
        where, _, place = (node.get("href") or "").removeprefix(LOCAL_URL).partition("#")
        assert (history.root / where / "index.html").is_file()
        assert place in ids


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(history: Site, browser: Browser, scheme: Literal["light", "dark"]) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)
    page = context.new_page()
    for address in ("regressions/", f"regressions/{series_page(history).parent.name}/"):
        for width in (1400, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(history.url + address)
            page.add_script_tag(content=AXE)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            problems = [(one["id"], one["nodes"][0]["html"][:160]) for one in found["violations"]]
            assert problems == [], (address, scheme, width)
            assert len(found["passes"]) > 10
    context.close()


@pytest.mark.parametrize("width", [320, 390])
def test_no_page_is_wider_than_a_phone(history: Site, browser: Browser, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    for address in ("regressions/", f"regressions/{series_page(history).parent.name}/"):
        page.goto(history.url + address)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, address
    context.close()


def test_pins_and_acknowledgements_are_shown_with_their_reasons(inputs: Inputs, tmp_path: Path) -> None:
    kept = tmp_path / "regressions.toml"
    kept.write_text(KEPT.format(ids=", ".join(f'"{one.id}"' for one in runs()[:5])), "utf-8")
    with_pins = gather(None, "rtx-4070", models="sensenova-u1-8b-mot", kept=kept)
    build.build(replace(with_pins, records=inputs.records), tmp_path / "out")
    (path,) = (tmp_path / "out/regressions").glob("*/index.html")
    page = text(parse(path).find("body/main") or ElementTree.Element("x"))
    assert "Pinned baseline:" in page
    assert "release <b>1.4</b>" in page
    assert "Acknowledged in time of a run up to +50.0 %: exact attention is worth it" in page
    assert "The newest versions against the pinned baseline" in page
    assert "acknowledged: exact attention is worth it (worse since" in page
    overview = json.loads((tmp_path / "out/regressions/index.json").read_bytes())
    verdicts = {one["metric"]: one["verdict"] for one in overview["histories"]["entries"]}
    assert verdicts["seconds"] == "acknowledged"


def test_a_build_again_draws_nothing_and_a_new_record_only_what_it_changes(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build.build(inputs, out)
    assert build.build(inputs, out).drawn == 0
    more = store.document_of(run("pr243", 131.0, 20, 2.9))
    grown = replace(inputs, records=tuple(sorted((*inputs.records, more), key=lambda one: str(one["id"]))))
    build.build(grown, out)
    fresh = tmp_path / "fresh"
    build.build(grown, fresh)
    for path in (fresh / "regressions").rglob("*"):
        if path.is_file() and path.suffix != ".png":
            assert path.read_bytes() == (out / path.relative_to(fresh)).read_bytes(), path
    shutil.rmtree(out / "regressions")
    build.build(grown, out)
    assert (out / "regressions/index.html").read_bytes() == (fresh / "regressions/index.html").read_bytes()


def test_a_record_that_changes_no_history_leaves_them_as_a_fresh_build_has_them(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.build(inputs, tmp_path / "site", jobs=1)
    measured = run("pr241", 90.0, 1)
    assert measured.card is not None
    larger = {"slug": "rtx-4090", "name": "GeForce RTX 4090", "memory": 24 * GIB}
    elsewhere = measured.card.model_copy(update=larger)
    other = store.seal(measured.model_copy(update={"card": elsewhere}))
    more = replace(inputs, records=(*inputs.records, store.document_of(other)))
    asked, ask = [], promise.promised

    def counted(one: Run) -> promise.Spans:
        asked.append(one)
        return ask(one)

    monkeypatch.setattr(promise, "promised", counted)
    monkeypatch.setattr(Histories, "document", lambda self: pytest.fail("histories were worked out again"))
    kept = histories_of(more, kept_site(tmp_path / "site"))
    assert len(asked) <= 1  # of what was measured before, the estimator said it all
    monkeypatch.undo()
    fresh = histories_of(more, KeptSite(tmp_path / "nowhere", {}))
    assert (kept.found, kept.promises, kept.keys) == (fresh.found, fresh.promises, fresh.keys)
    assert kept.found["single"] == 2


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema":"fitcheck.promises/3"}', b'{"schema":"other"}'])
def test_promises_that_are_none_are_not_believed(content: bytes) -> None:
    told = {"ab": {"seconds": Interval(1.5, 2.0, 2.5)}}
    assert promises.decode(promises.encode(told, "engine"), "engine", [*told, "another"]) == told
    assert promises.decode(promises.encode(told, "engine"), "another", told) == {}
    assert promises.decode(content, "engine", told) == {}


def test_a_site_without_records_says_so_and_a_bad_file_of_pins_is_one_sentence(tmp_path: Path) -> None:
    empty = gather(None, "rtx-4070", models="sensenova-u1-8b-mot")
    build.build(empty, tmp_path / "out")
    page = text(parse(tmp_path / "out/regressions/index.html"))
    assert "Nothing was measured more than once yet." in page
    (tmp_path / "pins.toml").write_text("[[pinned]]\n", "utf-8")
    with pytest.raises(RecordError, match="pinned"):
        gather(None, "rtx-4070", models="sensenova-u1-8b-mot", kept=tmp_path / "pins.toml")


def test_anchors_are_words() -> None:
    assert view.anchor("tokens_per_second tg128 @4096") == "tokens-per-second-tg128-4096"
    assert view.anchor("<>") == "metric"


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("card_peak", "taken of the card"),
        ("pinned_rounded", "pinned system memory"),
        ("tokens_per_second pp512", "speed, prompt of 512"),
        ("tokens_per_second pp512+tg128 @4096", "speed, prompt of 512, answer of 128, behind 4096 in the cache"),
        ("buffer compute CUDA_Host", "compute buffer, CUDA_Host"),
        ("device-to-host pageable 1048576", "copies from the card, pageable, 1 MiB each"),
        ("dequantization Q2_K BF16 16515072", "Q2_K to BF16, 15.75 MiB each"),
        ("matmul BF16 340x1024x4096", "BF16 matrix product, 340x1024x4096"),
        ("of another day", "of another day"),
        ("tokens_per_second ", "tokens_per_second "),
    ],
)
def test_metrics_are_called_what_people_call_them(metric: str, name: str) -> None:
    assert metric_name(metric) == name


def test_no_metric_of_a_record_is_shown_by_its_field() -> None:
    """Every metric that records have here gets words, and no two of them the same."""
    records = [parse_record(path.read_bytes(), path.name).record for path in sorted(RESULTS.glob("*/*/*.json"))]
    found = {name for record in records for name in measured(record)}
    assert len(found) > 60
    assert not [name for name in found if metric_name(name) == name]
    assert len({metric_name(name) for name in found}) == len(found)
