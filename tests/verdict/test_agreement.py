"""``plan``, ``runs`` and ``compare`` say of every row what ``check`` says of it, and never less of a better machine.
Budgets are in ``test_plan.py``."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fitcheck
from fitcheck.hardware.asked import asked_machine
from fitcheck.memory.weighing import Verdict
from fitcheck.models.find import find_model
from fitcheck.runtimes.base import Wanted
from fitcheck.units import GIB
from fitcheck.verdict.lead import lead

RANKS = {str(one): one.rank for one in Verdict}
CARDS = ("RTX 4060", "RTX 3060 12 GB", "RTX 5060 Ti 16 GB", "RTX 4090", "RX 7900 XTX", "M3 Max 64GB", "2x RTX 3090")
# what a row of a list shares with the headline cell of a check
SHARED = ("verdict", "tier", "runtime", "mode", "binding", "gist", "quality", "card", "host", "disk", "seconds")


def shared(cell: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {end: cell[name][end] for end in ("low", "best", "high")} if name in ("card", "host") else cell[name]
        for name in SHARED
    }


@given(
    card=st.sampled_from((*CARDS, "3070 laptop", "T4", "GTX 1080 Ti", "Arc B580")),
    ram=st.sampled_from((16, 32, 64)),
    purpose=st.sampled_from(("chat", "code", "vision", "image", "edit", "video")),
)
@example(card="3070 laptop", ram=32, purpose="video")  # a free setting, where a larger card would do it too
@example(card="RTX 3060 12 GB", ram=32, purpose="image")  # a mode that only a look at one tier finds
@settings(max_examples=3, deadline=None)
def test_the_command_of_a_row_says_the_same(card: str, ram: int, purpose: str) -> None:
    ram = 64 if card.startswith("M3") else ram
    found = fitcheck.runs(card, purpose=purpose, ram=f"{ram}GB", most=3).to_json()["purposes"][0]
    assert found["rows"] or found["misses"]
    for row in (*found["rows"], *found["misses"]):
        words = shlex.split(row["command"])
        assert words[:2] == ["fitcheck", "check"]
        said = dict(zip(words[3::2], words[4::2], strict=True))
        same = fitcheck.check(words[2], said["--gpu"], ram=said["--ram"], tier=said["--tier"], task=said.get("--task"))
        cell = same.to_json()["cells"][0]
        assert shared(cell) == shared(row)
        flip = cell["flip"] and {"words": cell["flip"]["change"], "verdict": cell["flip"]["verdict"]}
        assert row in found["rows"] or flip == row["change"]


@given(
    model=st.sampled_from(("qwen-image-2512", "flux.2-dev", "flux.2-klein-base-9b", "sdxl", "wan2.1-t2v-1.3b")),
    card=st.sampled_from(("RTX 4060", "RTX 3060 12 GB", "T4", "GTX 1080 Ti", "Arc B580", "RTX 5090")),
    ram=st.sampled_from((16, 24, 32, 64)),
)
@example(model="qwen-image-2512", card="RTX 3060 12 GB", ram=32)
@settings(max_examples=6, deadline=None)
def test_the_tier_that_leads_gets_the_same_answer_by_name(model: str, card: str, ram: int) -> None:
    among = fitcheck.check(model, card, ram=ram * GIB).to_json()["cells"][0]
    named = fitcheck.check(model, card, ram=ram * GIB, tier=among["tier"]).to_json()["cells"][0]
    assert shared(named) == shared(among)


@given(card=st.sampled_from(CARDS), model=st.sampled_from(("gpt-oss-20b", "qwen3-8b", "sensenova-u1-8b-mot")))
@settings(max_examples=8, deadline=None)
def test_a_comparison_says_what_check_says(card: str, model: str) -> None:
    (row,) = fitcheck.compare(model, [card]).to_json()["rows"]
    assert shared(fitcheck.check(model, card).to_json()["cells"][0]) == shared(row)


@given(card=st.sampled_from(CARDS[:5]), ram=st.sampled_from((16, 32, 64)))
@settings(max_examples=2, deadline=None)
def test_a_plan_says_of_the_machine_what_check_says(card: str, ram: int) -> None:
    found = fitcheck.plan("sensenova-u1-8b-mot", have=card, ram=f"{ram}GB").to_json()
    check = fitcheck.check("sensenova-u1-8b-mot", card, ram=f"{ram}GB").to_json()["cells"][0]
    assert shared(check) == shared(found["now"])
    assert all(RANKS[step["verdict"]] < RANKS[check["verdict"]] for step in found["steps"])


def test_a_plan_is_not_content_with_a_file_that_lists_leave_out() -> None:
    """What a person would have to accept is said, and what a finer file takes is offered."""
    found = fitcheck.plan("gemma-4-31b", have="RTX 4060", ram="32GB").to_json()
    assert (found["now"]["verdict"], found["now"]["tier"]) == ("fits", "IQ2_XS")
    assert (found["finer"]["verdict"], found["finer"]["tier"]) == ("tight", "IQ4_XS")
    assert found["steps"]
    # neither another board for a machine that runs it, nor a coarse file
    assert all("system memory" not in step["change"] and "Q2" not in step["tier"] for step in found["steps"])


def test_a_plan_names_the_free_change_and_no_card_for_a_laptop() -> None:
    found = fitcheck.plan("wan2.2-ti2v-5b", have="3070 laptop", ram="32GB").to_json()
    assert found["now"]["change"] == {"words": "--frames 61", "verdict": "fits"}
    assert found["steps"] == []
    assert fitcheck.plan("wan2.2-ti2v-5b", have="RTX 3070", ram="32GB").to_json()["steps"]


@given(ram=st.integers(8, 96), more=st.integers(0, 96), model=st.sampled_from(("gpt-oss-20b", "sensenova-u1-8b-mot")))
@settings(max_examples=8, deadline=None)
def test_more_system_memory_never_worsens_a_comparison(ram: int, more: int, model: str) -> None:
    cards = ["RTX 3060 12 GB", "RTX 4090"]
    less, larger = (fitcheck.compare(model, cards, ram=size * GIB).rows for size in (ram, ram + more))
    for small, large in zip(less, larger, strict=True):
        assert large.report.best.verdict.rank <= small.report.best.verdict.rank


@pytest.mark.parametrize("model", ["sensenova-u1-8b-mot", "flux.2-klein-4b"])
def test_a_wider_link_never_worsens_what_streams(model: str) -> None:
    ranks = [
        fitcheck.compare(model, [asked_machine("RTX 4070", ram=64 * GIB, pcie=slot)], max_seconds=60).rows
        for slot in ((1, 4), (3, 8), (4, 16))
    ]
    found = [rows[0].report.best.verdict.rank for rows in ranks]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("model", ["bge-m3", "bge-reranker-v2-m3"])
@pytest.mark.parametrize("card", ["RTX 4060", "GTX 1080 Ti", "RX 7900 XTX"])
def test_a_list_leads_with_the_tier_of_the_check_where_text_is_read_alone(model: str, card: str) -> None:
    found, machine = find_model(model), asked_machine(card, ram=32 * GIB)
    assert lead(found.model, found.tiers, machine, Wanted()).best.tier is fitcheck.check(model, machine).best.tier
