"""Ratings are others', each with its board, address and day, and only of the release that the catalog holds."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from fitcheck.models import catalog
from fitcheck.models.families import registry
from fitcheck.verdict.public_scores import board_named, score_of
from fitcheck.verdict.purposes import purpose_named, purposes

BOARDS: dict[str, Any] = json.loads(
    resources.files("fitcheck.verdict").joinpath("data/public_scores.json").read_text("utf-8")
)["boards"]


def test_every_rating_is_of_a_model_of_the_catalog() -> None:
    for name, board in BOARDS.items():
        assert board["url"].startswith("https://")
        assert board["read"].endswith("looked up 2026-11-26")
        assert re.fullmatch(r"2026-\d\d-\d\d", board["date"])
        for slug, (own_name, value, spread) in board["scores"].items():
            assert catalog.has(slug), slug
            assert own_name
            assert 900 < value < 1600
            assert 0 < spread < 30
            found = score_of(name, slug)
            assert found is not None
            assert found.to_json()["source"] == board["url"]


def test_a_release_is_rated_under_its_own_name() -> None:
    """The numbers in a repository's name, which tell sizes and dates, stand in the board's name too."""
    for slug, (name, *_) in BOARDS["text"]["scores"].items():
        repository = catalog.get(slug).repository or ""
        sizes = re.findall(r"\d+(?:\.\d+)?b(?![a-z])", repository.lower())
        told = re.findall(r"\d+(?:\.\d+)?b(?![a-z])", name.lower())
        assert not told or set(told) <= set(sizes), (slug, name, repository)


def test_what_no_board_lists_is_ordered_by_its_day() -> None:
    assert score_of("text", "qwen3.6-27b") is None
    assert purpose_named("edit").board is None
    assert "no public score was found" in purpose_named("edit").order
    for one in purposes():
        assert one.board is None or board_named(one.board).words in one.order


def test_days_are_days_with_a_source() -> None:
    for name in ("pipeline", "sensenova"):
        data = json.loads(
            resources.files(f"fitcheck.models.families.{name}").joinpath("data/first_seen.json").read_text("utf-8")
        )
        assert data["source"]
        assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", day) for day in data["days"].values())
        known = {slug for family in registry.every() for slug in family.slugs()}
        assert set(data["days"]) <= known
    undated = [one.slug for one in catalog.listed() if one.day is None]
    assert len(undated) < 30
