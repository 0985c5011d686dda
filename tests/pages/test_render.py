"""Pages in few bytes: what is left out is what a reader and a browser do without."""

from __future__ import annotations

import html5lib
import pytest

from fitcheck.pages.render import foreign, nearer, shorter


@pytest.mark.parametrize("text", ["RTX 4090", "2048 × 2048, 8 steps", "日本語 4-bit", "Ωmega"])
def test_text_that_runs_from_the_left_stands_as_it_is(text: str) -> None:
    assert foreign(text) == text


@pytest.mark.parametrize("text", ["كرت 4090", "card שלום!", "\u0661\u0662 GB", "a\u061c!"])
def test_text_that_could_move_its_neighbours_is_isolated(text: str) -> None:
    assert foreign(text) == f"<bdi>{text}</bdi>"


def test_foreign_text_is_escaped_with_and_without_isolation() -> None:
    assert foreign("<b>&") == "&lt;b&gt;&amp;"
    assert foreign("<b>ש") == "<bdi>&lt;b&gt;ש</bdi>"
    assert foreign("a\u202eb") == "ab"


@pytest.mark.parametrize(
    ("address", "link", "said"),
    [
        ("check/flux.1-dev/rtx-4070/", "../../../check/flux.1-dev/rtx-3060/", "../rtx-3060/"),
        ("check/flux.1-dev/rtx-4070/", "../../../check/flux.1-dev/feed.xml", "../feed.xml"),
        ("check/flux.1-dev/rtx-4070/", "../../../check/flux.1-dev/rtx-4070/#files", "./#files"),
        ("check/flux.1-dev/rtx-4070/", "../../../check/flux.1-dev-2/", "../../flux.1-dev-2/"),
        ("check/flux.1-dev/rtx-4070/", "../../../cards/rtx-4070/", "../../../cards/rtx-4070/"),
        ("check/", "../check/sdxl/", "./sdxl/"),
        ("", "./check/", "./check/"),
    ],
)
def test_links_start_at_the_nearest_folder(address: str, link: str, said: str) -> None:
    assert nearer(f'<a href="{link}">', address) == f'<a href="{said}">'


def test_a_paragraph_keeps_its_end_where_text_would_run_into_it() -> None:
    html = "<body>\n<div><p>one</p> tail<p>two</p>\n<p>three</p> <em>and</em><p>four</p>\n</div></body>\n"
    short = shorter(f"<!DOCTYPE html>\n<html><head>\n<title>t</title></head>\n{html}</html>\n")
    assert "one</p> tail" in short
    assert "three</p> <em>" in short
    assert short.count("</p>") == 2
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(short)
    assert ["".join(one.itertext()).strip() for one in tree.iter("p")] == ["one", "two", "three", "four"]
    assert tree.find("head/title").text == "t"
