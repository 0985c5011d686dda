"""``fitcheck site``: deterministic, incremental, honest about staleness, careful with folders that are not its own."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fitcheck.cli.site import register
from fitcheck.errors import InputError
from fitcheck.hardware.catalog import find_card
from fitcheck.models import catalog
from fitcheck.pages import build as builder
from fitcheck.pages import pairs, single, site_folder, site_inputs, view
from fitcheck.pages.checking import check
from fitcheck.pages.formats import WORDS
from fitcheck.pages.kept_site import SCHEMA
from fitcheck.pages.site_folder import MANIFEST
from fitcheck.pages.site_inputs import EXAMPLE_URL, gather
from fitcheck.records import store
from fitcheck.verdict.usual_machine import ask
from tests.pages.records import link, passed

CARDS = "rtx-4070,rtx-4090,rtx-3050-8gb"


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer()
    register(made)
    made.callback()(lambda: None)
    return made


def run(app: typer.Typer, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["site", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, app: typer.Typer) -> Path:
    """A folder with ``results`` (one record) and the site of it in ``out``."""
    folder = tmp_path_factory.mktemp("site")
    store.write(folder / "results", passed())
    code, _ = run(app, "build", *options(folder))
    assert code == 0
    return folder


def options(folder: Path) -> list[str]:
    there = ["--out", str(folder / "out"), "--results", str(folder / "results")]
    return [*there, "--cards", CARDS, "--models", "published"]


def test_same_inputs_give_the_same_bytes_in_one_process_or_two(built: Path, tmp_path: Path) -> None:
    inputs = gather(built / "results", CARDS)
    builder.build(inputs, tmp_path / "one", jobs=1)
    assert files(tmp_path / "one") == files(built / "out")


def test_a_second_build_touches_nothing(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (built / "out").rglob("*")}
    outcome = builder.build(gather(built / "results", CARDS), built / "out")
    assert (outcome.drawn, outcome.documents, outcome.written, outcome.removed) == (0, 0, 0, 0)
    assert before == {path: path.stat().st_mtime_ns for path in (built / "out").rglob("*")}


def test_check_passes_on_a_current_site_and_names_what_is_not(built: Path, app: typer.Typer) -> None:
    assert run(app, "build", "--check", *options(built))[0] == 0
    page = built / "out/check/sensenova-u1-8b-mot/rtx-4070/index.html"
    kept = page.read_bytes()
    stray = built / "out/stray.html"
    try:
        page.write_bytes(kept.replace(b"Fits", b"Sure"))
        code, output = run(app, "build", "--check", *options(built))
        assert code == 1
        assert "check/sensenova-u1-8b-mot/rtx-4070/index.html" in output
        assert page.read_bytes() != kept, "check writes nothing"
        page.write_bytes(kept)
        stray.write_text("x")
        code, output = run(app, "build", "--check", *options(built))
        assert code == 1
        assert "stray.html" in output
    finally:
        page.write_bytes(kept)
        stray.unlink()


def test_a_damaged_page_is_built_again(built: Path) -> None:
    page = built / "out/cards/rtx-4070/index.html"
    kept = page.read_bytes()
    page.write_bytes(b"half")
    builder.build(gather(built / "results", CARDS), built / "out")
    assert page.read_bytes() == kept


def test_a_new_record_changes_its_own_pages_only_and_leaves_when_it_goes(tmp_path: Path) -> None:
    store.write(tmp_path / "results", passed())
    out = tmp_path / "out"
    builder.build(gather(tmp_path / "results", CARDS), out)
    before = files(out)
    path = store.write(tmp_path / "results", link())
    outcome = builder.build(gather(tmp_path / "results", CARDS), out)
    after = files(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert outcome.documents == 3, "a link record may calibrate every model on its card"
    place = view.place_of(store.document_of(link())).partition("#")[0]
    assert f"{place}index.html" in changed
    assert "results/feed.xml" in changed
    assert "cards/rtx-4070/index.html" in changed
    elsewhere = {name for name in changed if "rtx-4090" in name or "rtx-3050" in name}
    assert not {name for name in elsewhere if name.endswith(".json")}
    for name in elsewhere:  # its seconds beside those of other cards are all that may move there
        gone = set(before[name].splitlines()) - set(after[name].splitlines())
        assert all(b"rtx-4070" in line and b"<tr" in line for line in gone), name
    store.write(tmp_path / "results", passed(created=1_790_000_300, seconds=22.5))
    outcome = builder.build(gather(tmp_path / "results", CARDS), out)
    assert outcome.documents == 6, "a run corrects three models, on its card and on the other of its architecture"
    page = (out / "check/sensenova-u1-8b-mot/rtx-4070/index.html").read_text()
    assert "22 s" in page
    path.unlink()
    builder.build(gather(tmp_path / "results", CARDS), out)
    assert not (out / place).exists()
    assert place not in (out / "results/feed.xml").read_text()


def test_a_site_to_which_a_record_came_is_the_site_that_is_built_with_it(tmp_path: Path) -> None:
    """Whatever a build leaves as it was, a fresh one makes the same."""
    out, results = tmp_path / "out", tmp_path / "results"
    results.mkdir()
    builder.build(gather(results, CARDS), out)
    for record in (passed(), link(), passed(created=1_790_000_300, seconds=22.5)):
        store.write(results, record)
        builder.build(gather(results, CARDS, out=out), out)
    assert json.loads((out / MANIFEST).read_bytes())["log"] == []  # no verdict moved: what is new says nothing
    builder.build(gather(results, CARDS), tmp_path / "fresh")
    assert files(out) == files(tmp_path / "fresh")


def test_a_page_drawn_again_from_what_was_kept_is_the_same_page(tmp_path: Path) -> None:
    """A changed template draws list pages from the manifest's summaries, without asking for answers again."""
    out = tmp_path / "out"
    builder.build(gather(None, CARDS, EXAMPLE_URL), out)
    before = files(out)
    for name in ("index.json", "check/index.json", "cards/rtx-4070/index.json"):
        (out / name).unlink()
    outcome = builder.build(gather(None, CARDS, EXAMPLE_URL), out)
    assert outcome.documents == 0
    assert files(out) == before


def test_the_address_is_kept_from_build_to_build(tmp_path: Path, app: typer.Typer) -> None:
    (tmp_path / "none").mkdir()
    words = ["--out", str(tmp_path / "out"), "--cards", "rtx-4070", "--results", str(tmp_path / "none")]
    words += ["--models", "published"]
    run(app, "build", *words, "--base-url", "https://somewhere.example/fit")
    page = (tmp_path / "out/check/index.html").read_text()
    assert "<link rel=canonical href=https://somewhere.example/fit/check/>" in page
    assert run(app, "build", "--check", *words)[0] == 0


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, app: typer.Typer) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        run(app, "build", "--out", str(tmp_path), "--cards", "rtx-4070")
    assert files(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_build_that_was_stopped_is_taken_up_again(
    tmp_path: Path, app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a first build left files without a manifest, and every later one refused the folder."""
    words = ["build", "--out", str(tmp_path / "out"), "--cards", "rtx-4070", "--models", "qwen3-8b", "--jobs", "1"]
    words += ["--results", str(tmp_path / "none")]
    (tmp_path / "none").mkdir()
    whole = site_folder.write

    def stopped(root: Path, name: str, content: bytes) -> bool:
        if name == MANIFEST:
            raise RuntimeError("stopped")
        return whole(root, name, content)

    monkeypatch.setattr(builder, "write", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        run(app, *words)
    assert len(files(tmp_path / "out")) > 10
    monkeypatch.setattr(builder, "write", whole)
    run(app, *words)
    again = files(tmp_path / "out")
    assert MANIFEST in again
    assert not [name for name in again if name.endswith(".tmp")]
    assert run(app, *words, "--check")[0] == 0


def test_a_slip_is_told_before_any_record_is_read(
    tmp_path: Path, app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(results: Path | None) -> None:
        pytest.fail(f"{results} was read")

    monkeypatch.setattr(site_inputs, "_records", read)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds other files"):
        run(app, "build", "--out", str(tmp_path), "--cards", "rtx-4070")
    for words, sentence in ((("--cards", "rtx-9999"), "no card is called"), (("--models", "nobody"), "--models: ")):
        with pytest.raises(InputError, match=sentence):
            run(app, "build", "--out", str(tmp_path / "out"), *words)


@pytest.mark.parametrize("url", ["ftp://x", "https://a b", "javascript:alert(1)", 'https://x/"><script>'])
def test_an_address_that_is_none_is_refused(tmp_path: Path, app: typer.Typer, url: str) -> None:
    with pytest.raises(InputError, match="--base-url"):
        run(app, "build", "--out", str(tmp_path), "--cards", "rtx-4070", "--base-url", url)
    assert not list(tmp_path.iterdir())


def test_an_unknown_card_stops_the_build_and_a_broken_record_is_left_out(tmp_path: Path, app: typer.Typer) -> None:
    with pytest.raises(InputError, match="no card is called"):
        run(app, "build", "--out", str(tmp_path / "out"), "--cards", "rtx-9999")
    broken = tmp_path / "results/rtx-4070/x.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    code, said = run(app, "build", *options(tmp_path))
    assert (code, said.count("left out: ")) == (0, 1)
    assert (tmp_path / "out/index.html").is_file()


def test_a_tampered_manifest_cannot_reach_outside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    inputs = gather(None, "rtx-4070")
    builder.build(inputs, out)
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["files"]["../outside.txt"] = "0" * 64
    (out / MANIFEST).write_text(json.dumps(manifest))
    builder.build(inputs, out)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("schema", ["fitcheck.site/1", SCHEMA])
def test_files_of_an_older_build_that_belong_no_more_are_taken_away(schema: str, tmp_path: Path) -> None:
    """Whatever the schema of its manifest; what no build wrote stays, and no name that a manifest lists is a trap."""
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    inputs = gather(None, "rtx-4070")
    builder.build(inputs, fresh)
    left = ("check/gone/rtx-4070/index.html", "check/gone/rtx-4070/result.json", "old.css")
    for path in (*left, "mine.txt"):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text("old")
    listed = dict.fromkeys([*left, "index.html", "../fresh/index.html", "check", "gone already", "a\0b"], "0" * 64)
    empty: dict[str, Any] = {name: {} for name in ("pages", "parts", "lists", "verdicts", "running")}
    manifest = {"schema": schema, **empty, "grid": [], "log": [], "files": listed}
    (out / MANIFEST).write_text(json.dumps(manifest))
    outcome = builder.build(inputs, out)
    assert outcome.removed == len(left)
    assert files(out) == {**files(fresh), "mine.txt": b"old"}
    assert not (out / "check/gone").exists()
    assert builder.build(inputs, out).removed == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--cards", ""), "--cards: no card is named"),
        (("--cards", "0"), "--cards: no card is named"),
        (("--cards", "RTX 9999"), "--cards: no card is called"),
        (("--results", "nowhere"), "--results: nowhere is not a folder"),
    ],
)
def test_a_slip_removes_no_page(built: Path, app: typer.Typer, words: tuple[str, str], sentence: str) -> None:
    before = files(built / "out")
    with pytest.raises(InputError, match=sentence):
        run(app, "build", *options(built), *words)
    assert files(built / "out") == before


def test_serve_without_a_site_says_what_to_do(tmp_path: Path, app: typer.Typer) -> None:
    with pytest.raises(InputError, match="run `fitcheck site build` first"):
        run(app, "serve", "--out", str(tmp_path))


def test_one_file_pages_stand_alone(tmp_path: Path) -> None:
    inputs = gather(None, "rtx-4070")
    asked = ask(inputs.models[0], inputs.cards[0])
    page = single.write(asked.report(), tmp_path / "one.html", asked.command()).read_text()
    assert "<style>" in page
    assert "site.css" not in page
    assert "'sha256-" in unescape(page)
    assert "SenseNova-U1-8B-MoT on GeForce RTX 4070: fits" in page
    again = single.write(asked.report(), tmp_path / "one.html", asked.command()).read_text()
    assert again == page
    bench = single.write_records([passed(), link()], tmp_path / "bench.html").read_text()
    assert "Measured on NVIDIA GeForce RTX 4070: 2 records" in bench
    assert "25.0 GB/s" in bench
    with pytest.raises(InputError, match="--html"):
        single.write_records([], tmp_path / "none.html")
    with pytest.raises(InputError, match="cannot be written"):
        single.write(asked.report(), tmp_path / "no" / "folder.html")


def test_lists_say_what_was_asked_and_the_example_can_be_measured(tmp_path: Path) -> None:
    """No page repeats a default that the model or its runtime may change: it says what its own answers were asked."""
    out = tmp_path / "out"
    builder.build(gather(None, CARDS, EXAMPLE_URL), out)
    model, card = catalog.get("sensenova-u1-8b-mot"), find_card("RTX 4070")
    kept = pairs.PairsFile.of(model, [card], (out / pairs.path_of(model.slug)).read_bytes()).pairs()[card.slug].row
    asked = {name: kept[name] for name in ("task", "width", "height", "frames", "context")}
    listed = json.loads((out / "check/sensenova-u1-8b-mot/index.json").read_bytes())
    assert {name: listed[name] for name in asked} == asked
    assert json.loads((out / "check/index.json").read_bytes())["asked"] == [asked]
    assert "for an image of 2048 × 2048 pixels" in (out / "check/index.html").read_text()
    contribute = json.loads((out / "contribute/index.json").read_bytes())
    example, wanted = contribute["example"], contribute["wanted"]
    *_, tier, _, mode = example.split()
    first = next(row for row in wanted if row["verdict"] == "fits")
    assert (tier, mode) == (first["tier"], first["mode"])
    report = ask(model, card).report(advise=False)
    assert (tier, mode) in {(cell.tier.name, cell.placement.mode) for cell in report.cells if cell.tier.published}
    assert example == f"fitcheck bench run sensenova-u1-8b-mot --tier {tier} --mode {mode}"
    assert example in (out / "contribute/index.html").read_text()


def test_what_changed_since_the_last_build_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    out = tmp_path / "out"
    builder.build(gather(None, "rtx-4070", EXAMPLE_URL), out)
    assert json.loads((out / "changes/index.json").read_bytes())["log"] == []
    manifest = json.loads((out / MANIFEST).read_text())
    address = "check/sensenova-u1-8b-mot/rtx-4070/"
    was = WORDS[manifest["verdicts"]["sensenova-u1-8b-mot"]]
    manifest["verdicts"]["sensenova-u1-8b-mot"] = "u"
    (out / MANIFEST).write_text(json.dumps(manifest))
    builder.build(gather(None, "rtx-4070", EXAMPLE_URL), out)
    log = json.loads((out / "changes/index.json").read_bytes())["log"]
    assert [(one["address"], one["from"], one["to"], one["date"]) for one in log] == [
        (address, "unknown", was, "2026-09-21")
    ]
    for feed in ("changes/feed.xml", "cards/rtx-4070/feed.xml", "check/sensenova-u1-8b-mot/feed.xml"):
        assert f"SenseNova-U1-8B-MoT on GeForce RTX 4070: {was}, was unknown" in (out / feed).read_text()
    assert not check(gather(None, "rtx-4070", EXAMPLE_URL), out).stale


def test_a_site_without_an_address_says_so_and_has_no_pictures(tmp_path: Path, app: typer.Typer) -> None:
    (tmp_path / "none").mkdir()
    words = ["--out", str(tmp_path / "out"), "--results", str(tmp_path / "none"), "--cards", "rtx-4070"]
    code, said = run(app, "build", *words, "--models", "sensenova-u1-8b-mot")
    assert code == 0
    assert "to publish it, say where with --base-url" in said
    assert not list((tmp_path / "out").rglob("share.png"))
    assert "canonical" not in (tmp_path / "out/index.html").read_text()
