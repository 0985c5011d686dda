"""What holds for every command: one line for what cannot be, streams that are closed, full or poor in letters."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fitcheck.verdict.purposes import purpose_named
from tests.cli.conftest import Run

U1 = "sensenova-u1-8b-mot"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """``command`` in a shell, where ``fitcheck`` is this interpreter's."""
    start = f"{sys.executable} -c 'from fitcheck.cli.main import main; main()'"
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.run(
        ["bash", "-c", command.replace("fitcheck", start)], capture_output=True, timeout=60, check=False, env=where
    )


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "\u202egnp.evil", "bell\x07", "\u2028"])
@pytest.mark.parametrize("words", [("validate",), ("submit",), ("import", "llama-bench"), ("accuracy", "--results")])
def test_no_typed_name_moves_the_terminal(run: Run, words: tuple[str, ...], name: str) -> None:
    done = run(*words, name)
    assert done.code == 2
    assert done.err.startswith("fitcheck: ")
    assert done.err.endswith("\n")
    assert done.err[:-1].isprintable()


@pytest.mark.parametrize("words", [("validate",), ("results", "list", "--from"), ("check", U1, "--gguf"), ("submit",)])
def test_a_name_too_long_for_the_system_is_one_short_line(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words, "a" * 5000, *(("--gpu", "RTX 4070") if words[0] == "check" else ()))
    assert done.code == 2
    assert done.err.startswith("fitcheck: ")
    assert done.err.count("\n") == 1
    assert len(done.err) < 1500


def test_values_with_spaces_and_no_quotes_are_explained(run: Run) -> None:
    done = run("check", U1, "--gpu", "RTX", "4070", "--ram", "32", "GB")
    assert done.code == 2
    assert "put quotes around" in done.err


def test_models_are_listed_by_any_part_of_a_name_or_a_task(run: Run) -> None:
    slugs = [line.split()[0] for line in run("models", "coder 30b").out.decode().splitlines()[1:]]
    assert slugs == ["qwen3-coder-30b-a3b"]
    videos = json.loads(run("models", "VIDEO wan2.2", "--json").out)
    assert {one["slug"] for one in videos} == {"wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b"}
    refused = run("models", "zzz")
    assert (refused.code, refused.out) == (2, b"")
    assert "no model matches 'zzz'" in refused.err


def test_models_that_embed_are_no_models_to_chat_with(run: Run) -> None:
    embedding = {one["slug"] for one in json.loads(run("models", "embed", "--json").out)}
    assert {"qwen3-embedding-8b", "qwen3-reranker-4b", "nomic-embed-text-v1.5"} <= embedding
    assert not embedding & {one.slug for one, task in purpose_named("chat").models()}
    assert "llama-3.1-8b" not in embedding


def test_a_list_says_how_many_tiers_a_model_has_and_a_whole_name_which(run: Run) -> None:
    listed = run("models", "qwen3-8b").out.decode().splitlines()
    assert listed[0].startswith("qwen3-8b, 8.19 B, apache-2.0, chat")
    assert next(line.split() for line in listed if line.startswith("Q4_K_M"))[1] == "5.0"
    several = run("models", "qwen3 8b")
    row = next(line for line in several.out.decode().splitlines() if line.startswith("qwen3-8b "))
    assert "– 16.4" in row
    assert max(map(len, several.out.decode().splitlines())) < 120
    assert "lists its tiers" in several.err


def test_a_name_that_resembles_nothing_is_given_no_likeness(run: Run) -> None:
    refused = run("bench", "run", "nosuch")
    assert refused.code == 2
    assert "'nosuch' is not in the catalog; `fitcheck models` lists all." in refused.err


def test_inspect_says_what_takes_a_name_of_the_catalog(run: Run) -> None:
    refused = run("inspect", "sdxl")
    assert refused.code == 2
    assert "It is sdxl of the catalog; its files lie in stabilityai/stable-diffusion-xl-base-1.0" in refused.err
    assert "catalog" not in run("inspect", "nosuch").err


def test_what_is_wrong_with_a_choice_is_said_without_its_checker(run: Run, tmp_path: Path) -> None:
    refused = run("import", "nosuch", tmp_path / "x")
    assert (refused.code, "Value error" in refused.err) == (2, False)
    assert "'nosuch' is not one of 'llama-bench'" in refused.err


def test_a_full_disk_behind_stdout_is_an_error() -> None:
    done = shell("fitcheck cards --json > /dev/full")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("fitcheck: No space left on device")
    assert b"Traceback" not in done.stderr
    assert shell("fitcheck cards --json > /dev/full 2> /dev/full").returncode == 2


def test_closed_streams_end_quietly() -> None:
    done = shell(f"fitcheck check {U1} --gpu 'RTX 4070' --ram 64GB --tier Q4_K_S >&-")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert shell("fitcheck validate nowhere 2>&-").returncode == 2
    done = shell("fitcheck explain --oom - <&-")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    done = shell("fitcheck cards --all --json | head -1")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{\n", b"")


def test_an_explanation_tells_several_cards_apart() -> None:
    cards = ("--gpu", "RTX 3090", "--gpu", "RTX 3060 12GB", "--tier", "Q4_K_M")
    done = shell(shlex.join(("fitcheck", "explain", "qwen3-32b", *cards)))
    said = done.stdout.decode()
    assert "GiB on card 1, GeForce RTX 3060 12 GB" in said
    held = dict(re.findall(r"^card (\d) +([\d.]+) GiB of ", said, re.MULTILINE))
    shown = re.search(r"^on the card, with context +([\d.]+) GiB", said, re.MULTILINE)
    assert shown is not None
    assert held["1"] == shown[1]
    assert float(held["0"]) > float(held["1"])
    alone = shell(shlex.join(("fitcheck", "explain", "qwen3-8b", "--gpu", "RTX 4090", "--tier", "Q4_K_M"))).stdout
    assert b"ngl 99: GiB on the card " in alone
    assert b"\ncard 0" not in alone


def test_a_terminal_of_ascii_shows_every_number() -> None:
    done = shell(f"fitcheck explain {U1} --gpu 'RTX 4070' --tier Q4_K_S --mode low", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert b"prefix <- peak" in done.stdout
    assert b"?" not in done.stdout
    assert b"smallest card that works" in done.stdout
