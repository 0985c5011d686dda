"""What programs ask of cards and their software, against known facts: each with where it is known from."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fitcheck.hardware.catalog import all_cards, find_card
from fitcheck.hardware.machine import Machine
from fitcheck.hardware.software import (
    Compatibility,
    Setup,
    compatibility,
    gfx_of,
    setup_of,
    sources,
    torch_build,
    version,
)

ROOT = Path(__file__).parents[2]
OK, CHOICE, UNKNOWN, FALLBACK, FAILS = (
    Compatibility.OK,
    Compatibility.CHOICE,
    Compatibility.UNKNOWN,
    Compatibility.FALLBACK,
    Compatibility.FAILS,
)
TORCH = "https://github.com/pytorch/pytorch"
LLAMA = "https://github.com/ggml-org/llama.cpp"
TE = "https://nvidia.github.io/TransformerEngine/support_matrix.html"
DRIVERS = "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
FLASH = "https://github.com/Dao-AILab/flash-attention"
MATRIX_2_9, MATRIX_2_11, MATRIX_2_12 = (f"{TORCH}/pull/{number}" for number in (164471, 175253, 182849))
NO_CU126, ARM = f"{TORCH}/issues/190385", f"{TORCH}/issues/172663"
NO_SM_61 = "https://github.com/jhj0517/Whisper-WebUI/issues/653"
ROCM = f"{TORCH}/blob/027375bffdc7aa980c93df464526ff2d83ad8349/.ci/docker/manywheel/build.sh"
HIP = "https://rocm.docs.amd.com/projects/HIP/en/docs-7.2.4/reference/hardware_features.html"
XPU = "https://docs.pytorch.org/docs/2.12/notes/get_start_xpu.html"
MPS, MPS_2_15 = "https://developer.apple.com/metal/pytorch", "https://docs.pytorch.org/docs/2.15/notes/mps.html"
SCALED_MM = "https://github.com/kijai/ComfyUI-HunyuanVideoWrapper/issues/98"
GGML_CUDA = f"{LLAMA}/blob/00a2d60921595ea66853568270b3060490040dea/ggml/src/ggml-cuda/CMakeLists.txt"
GGML_HIP, GGML_RELEASE = f"{LLAMA}/pull/28423", f"{LLAMA}/blob/master/.github/workflows/release.yml"
GGML_SYCL = f"{LLAMA}/blob/master/docs/backend/SYCL.md"

WHEEL, BUILD, DRIVER, PYTHON, SYSTEM = "PyTorch wheel", "build", "driver", "Python", "operating system"
STACK = {WHEEL: "torch", BUILD: "ggml", DRIVER: "torch", PYTHON: "torch", SYSTEM: "torch"}
STACK |= {"bfloat16": "bf16", "fp8": "fp8", "fp4": "fp4", "flash-attention": "flash-attn"}


def torch(number: str, wheel: str, **more: str) -> Setup:
    return replace(Setup(torch=number, wheel=wheel), **more)  # type: ignore[arg-type]


# card, its software, component, how it stands, where that is known from
CASES: list[tuple[str, Setup, str, Compatibility, str]] = [
    # kernels of PyTorch's CUDA wheels
    ("RTX 5090", torch("2.6.0", "cu126"), WHEEL, FAILS, f"{TORCH}/issues/159207"),
    ("RTX 5090", torch("2.9.1", "cu126"), WHEEL, FAILS, MATRIX_2_9),
    ("RTX 5090", torch("2.7.0", "cu128"), WHEEL, OK, "https://github.com/aime-team/aime-mlc/releases/tag/v2.1.0"),
    ("RTX 5090", torch("2.9.0", "cu130"), WHEEL, OK, MATRIX_2_9),
    ("RTX 5090", torch("2.12.0", "cu132"), WHEEL, OK, MATRIX_2_12),
    ("RTX 5090", Setup(), WHEEL, CHOICE, MATRIX_2_9),
    ("B200", torch("2.9.0", "cu128"), WHEEL, OK, MATRIX_2_9),
    ("B200", torch("2.9.0", "cu126"), WHEEL, FAILS, MATRIX_2_9),
    ("RTX 4090", torch("2.9.0", "cu126"), WHEEL, OK, "https://docs.nvidia.com/cuda/blackwell-compatibility-guide"),
    ("RTX 4070", Setup(), WHEEL, OK, MATRIX_2_12),
    ("H100 PCIe 80GB", torch("2.11.0", "cu130"), WHEEL, OK, MATRIX_2_11),
    ("RTX 3090", torch("2.9.0", "cpu"), WHEEL, FAILS, f"{TORCH}/blob/main/RELEASE.md"),
    ("RTX 2080 Ti", torch("2.11.0", "cu128"), WHEEL, OK, MATRIX_2_11),
    ("Tesla T4", torch("2.14.0", "cu132"), WHEEL, OK, f"{TORCH}/issues/190355"),
    ("V100 PCIe 16GB", torch("2.10.0", "cu128"), WHEEL, OK, f"{TORCH}/issues/172352"),
    ("V100 PCIe 16GB", torch("2.11.0", "cu128"), WHEEL, FAILS, MATRIX_2_11),
    ("V100 PCIe 16GB", torch("2.9.0", "cu130"), WHEEL, FAILS, MATRIX_2_9),
    ("V100 PCIe 16GB", torch("2.14.0", "cu126"), WHEEL, OK, NO_CU126),
    ("V100 PCIe 16GB", torch("2.7.1", "cu128"), WHEEL, UNKNOWN, f"{TORCH}/issues/157517"),
    ("RTX 3090", torch("2.1.0", "cu121"), WHEEL, UNKNOWN, f"{TORCH}/issues/80857"),
    ("GTX 1080 Ti", torch("2.8.0", "cu128"), WHEEL, FAILS, NO_SM_61),
    ("GTX 1080 Ti", torch("2.8.0", "cu126"), WHEEL, OK, NO_SM_61),
    ("GTX 1080 Ti", torch("2.15.0", "cu130"), WHEEL, FAILS, NO_CU126),
    ("Tesla P100 PCIe 16GB", Setup(), WHEEL, CHOICE, NO_CU126),
    ("GTX 980 Ti", torch("2.9.0", "cu126"), WHEEL, OK, MATRIX_2_9),
    ("GTX 780M", Setup(), WHEEL, FAILS, MATRIX_2_9),
    ("Jetson AGX Orin 64GB", Setup(), WHEEL, UNKNOWN, ARM),
    ("GB10", torch("2.9.0", "cu126"), WHEEL, FAILS, ARM),
    ("GB10", torch("2.11.0", "cu130"), WHEEL, OK, ARM),
    ("Jetson T5000", torch("2.9.0", "cu130"), WHEEL, OK, MATRIX_2_9),
    ("Jetson T5000", torch("2.9.0", "cu128"), WHEEL, FAILS, ARM),
    # of its wheels for AMD, Intel and Apple
    ("RX 7900 XTX", torch("2.9.1", "rocm6.4"), WHEEL, OK, ROCM),
    ("RX 7900 XTX", torch("2.9.1", "cu128"), WHEEL, FAILS, ROCM),
    ("RX 7600", torch("2.6.0", "rocm6.2.4"), WHEEL, FAILS, f"{TORCH}/pull/147761"),
    ("RX 7600", torch("2.7.0", "rocm6.3"), WHEEL, OK, f"{TORCH}/pull/147761"),
    ("RX 9070 XT", torch("2.9.1", "rocm6.4"), WHEEL, OK, f"{TORCH}/pull/148562"),
    ("RX 9070 XT", torch("2.6.0", "rocm6.2.4"), WHEEL, FAILS, f"{TORCH}/pull/148562"),
    ("RX 9070 XT", Setup("Windows"), WHEEL, CHOICE, "https://github.com/Nerogar/OneTrainer/issues/1381"),
    ("RX 6800 XT", Setup("Windows"), WHEEL, UNKNOWN, "https://github.com/ssubedir/RCOm-windows-gfx1030"),
    ("RX 6800 XT", torch("2.9.1", "rocm6.4", system="Linux"), WHEEL, OK, ROCM),
    ("RX 6700 XT", Setup("Linux"), WHEEL, CHOICE, "https://github.com/unslothai/unsloth/pull/9829"),
    ("Radeon 780M", torch("2.12.0", "rocm7.2"), WHEEL, FAILS, "https://github.com/unslothai/unsloth/pull/9829"),
    ("Radeon 8060S", Setup("Linux"), WHEEL, CHOICE, f"{TORCH}/pull/167299"),
    ("Radeon VII", torch("2.9.1", "rocm6.4"), WHEEL, FAILS, "https://github.com/unslothai/unsloth/pull/7354"),
    ("Radeon VII", torch("2.7.0", "rocm6.3"), WHEEL, OK, "https://github.com/unslothai/unsloth/pull/7354"),
    ("RX 5700 XT", Setup("Linux"), WHEEL, UNKNOWN, "https://github.com/unslothai/unsloth/pull/9138"),
    ("RX 580 8GB", Setup("Linux"), WHEEL, FAILS, ROCM),
    ("MI300X", torch("2.11.0", "rocm7.2"), WHEEL, OK, ROCM),
    ("Arc B580", torch("2.9.0", "xpu"), WHEEL, OK, XPU),
    ("Arc A770 16 GB", torch("2.9.0", "cpu"), WHEEL, FAILS, XPU),
    ("Iris Xe Graphics G7 96EU Mobile", Setup(), WHEEL, UNKNOWN, XPU),
    ("Apple M3 Max", Setup("macOS", "14.5"), WHEEL, OK, MPS),
    # drivers
    ("RTX 4070", torch("2.11.0", "cu130", driver="570.86.10"), DRIVER, FAILS, DRIVERS),
    ("RTX 4070", torch("2.11.0", "cu130", driver="580.65.06"), DRIVER, OK, DRIVERS),
    ("RTX 4070", torch("2.8.0", "cu128", driver="535.154.05"), DRIVER, OK, DRIVERS),
    ("RTX 4070", torch("2.8.0", "cu128", driver="470.82.01"), DRIVER, FAILS, DRIVERS),
    ("RTX 4070", torch("2.5.1", "cu118", driver="470.82.01"), DRIVER, OK, DRIVERS),
    ("RTX 4070", Setup(driver="550.54.14"), DRIVER, CHOICE, ARM),
    ("RTX 4070", Setup(driver="470.82.01"), DRIVER, FAILS, DRIVERS),
    # Python
    ("RTX 4070", torch("2.6.0", "cu126", python="3.14.0"), PYTHON, FAILS, f"{TORCH}/pull/143538"),
    ("RTX 4070", torch("2.10.0", "cu128", python="3.9.18"), PYTHON, FAILS, f"{TORCH}/pull/170603"),
    ("RTX 4070", torch("2.10.0", "cu128", python="3.14.0"), PYTHON, OK, f"{TORCH}/pull/170603"),
    ("RTX 4070", torch("2.12.0", "cu130", python="3.15.0"), PYTHON, FAILS, "https://github.com/PyTorchKR/pytorch.kr/pull/82"),
    ("RTX 4070", torch("2.14.0", "cu130", python="3.15.0"), PYTHON, OK, f"{TORCH}/pull/194367"),
    # number formats
    ("A100 PCIe 80GB", Setup(), "bfloat16", OK, TE),
    ("RTX 2080 Ti", Setup(), "bfloat16", FALLBACK, f"{TORCH}/pull/148322"),
    ("V100 PCIe 16GB", Setup(), "bfloat16", FALLBACK, f"{TORCH}/issues/124996"),
    ("Tesla P100 PCIe 16GB", Setup(), "bfloat16", FAILS, f"{TORCH}/issues/57773"),
    ("RX 7900 XTX", Setup(), "bfloat16", OK, HIP),
    ("RX 6800 XT", Setup(), "bfloat16", FALLBACK, HIP),
    ("MI210", Setup(), "bfloat16", OK, HIP),
    ("RTX 4090", Setup(), "fp8", OK, TE),
    ("RTX 3090", Setup(), "fp8", FALLBACK, SCALED_MM),
    ("H100 PCIe 80GB", Setup(), "fp8", OK, TE),
    ("MI300X", Setup(), "fp8", OK, SCALED_MM),
    ("RX 7900 XTX", Setup(), "fp8", FALLBACK, HIP),
    ("B200", Setup(), "fp4", OK, TE),
    ("H100 PCIe 80GB", Setup(), "fp4", FALLBACK, TE),
    ("RTX 5090", torch("2.9.0", "cu128"), "fp4", FALLBACK, "https://github.com/numz/ComfyUI-SeedVR2_VideoUpscaler/issues/482"),
    # flash-attention
    ("RTX 3090", Setup(), "flash-attention", OK, FLASH),
    ("H100 PCIe 80GB", Setup(), "flash-attention", OK, FLASH),
    ("Tesla T4", Setup(), "flash-attention", FALLBACK, FLASH),
    ("RTX 5090", Setup(), "flash-attention", UNKNOWN, f"{FLASH}/issues/1987"),
    ("MI300X", Setup(), "flash-attention", OK, FLASH),
    ("RX 7900 XTX", Setup(), "flash-attention", FALLBACK, FLASH),
    # operating systems
    ("RTX 4070", Setup("Windows", "11"), SYSTEM, CHOICE, "https://github.com/tensorflow/tensorflow/issues/22623"),
    ("RTX 4070", Setup("WSL"), SYSTEM, CHOICE, "https://github.com/microsoft/WSL/issues/8447"),
    ("RTX 4070", Setup("Linux"), SYSTEM, OK, f"{TORCH}/blob/main/RELEASE.md"),
    ("Apple M1", Setup("macOS", "13.6"), SYSTEM, FAILS, MPS),
    ("Apple M1", torch("2.15.0", "", system="macOS", system_version="14.6"), SYSTEM, FAILS, MPS_2_15),
    ("Apple M1", Setup("macOS", "15.1"), SYSTEM, OK, MPS_2_15),
    # builds of llama.cpp
    ("GTX 1080 Ti", Setup(), BUILD, CHOICE, GGML_CUDA),
    ("RTX 3060 12GB", Setup(), BUILD, OK, GGML_CUDA),
    ("RTX 5090", Setup(), BUILD, CHOICE, GGML_CUDA),
    ("GB10", Setup(), BUILD, CHOICE, GGML_CUDA),
    ("RX 9070 XT", Setup("Windows"), BUILD, OK, GGML_HIP),
    ("MI50", Setup("Windows"), BUILD, CHOICE, GGML_HIP),
    ("RX 7900 XTX", Setup("Linux"), BUILD, OK, GGML_HIP),
    ("Arc B580", Setup(), BUILD, OK, GGML_SYCL),
    ("Apple M2", Setup("macOS", "15"), BUILD, OK, GGML_RELEASE),
]  # fmt: skip


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert all(source.startswith("https://") for *_, source in CASES)
    assert {component for _, _, component, *_ in CASES} == set(STACK)
    assert {status for _, _, _, status, _ in CASES} == set(Compatibility)


@pytest.mark.parametrize(("card", "setup", "component", "expected", "source"), CASES)
def test_a_known_fact(card: str, setup: Setup, component: str, expected: Compatibility, source: str) -> None:
    rows = {row.name: row for row in compatibility(find_card(card), setup, (STACK[component],))}
    assert rows[component].status is expected, (rows[component], source)


def test_every_rule_has_sources_with_dates_and_every_source_is_used() -> None:
    data = json.loads((ROOT / "fitcheck/hardware/data/software.json").read_bytes())
    named = {key for rule in data["rules"] for key in rule["source"]} | set(data["gfx_source"])
    assert named == set(sources())
    for one in sources().values():
        assert re.fullmatch(r"2026-\d\d-\d\d", one["read"])
        assert one["url"].startswith("https://")
    assert len({rule["id"] for rule in data["rules"]}) == len(data["rules"])
    unsourced = {rule["id"] for rule in data["rules"] if not rule["source"]}
    assert unsourced == {"driver-other", "os-linux", "os-unknown", "python-unknown"}  # which claim nothing


def test_a_rule_for_several_vendors_names_hardware_of_none() -> None:
    """What one vendor's card must be says nothing to another's owner; a rule on a system may ask for other hardware."""
    own = {
        "NVIDIA": r"Ampere|Ada|Hopper|Turing|CUDA|compute capability|\bcu1",
        "AMD": r"\bMI\d|RDNA|Radeon|ROCm|\bgfx",
        "Intel": r"\bArc\b|XPU|SYCL",
        "Apple": r"Apple silicon|\bM\d\b|\bMPS\b",
    }
    text = (ROOT / "fitcheck/hardware/data/software.json").read_text("utf-8")
    foreign = [
        rule["id"]
        for rule in json.loads(text)["rules"]
        for vendor, pattern in own.items()
        if "system" not in rule["when"]
        and rule["when"].get("vendor", [vendor]) != [vendor]
        and re.search(pattern, rule["minimum"])
    ]
    assert foreign == []


def test_what_was_tested_stands_in_the_records() -> None:
    data = json.loads((ROOT / "fitcheck/hardware/data/software.json").read_bytes())
    seen = set()
    for path in (ROOT / "results/h100-sxm5-80gb").rglob("*.json"):
        record = json.loads(path.read_bytes())
        software, machine = record.get("software") or {}, record.get("machine") or {}
        seen.add((software.get("torch"), software.get("python"), machine.get("os_version")))
    assert (data["tested"][WHEEL], data["tested"][PYTHON], data["tested"][SYSTEM]) in seen


def test_a_driver_never_gets_worse_by_being_newer() -> None:
    order = list(Compatibility)
    drivers = ("450.1", "470.82", "525.60", "550.54", "579.99", "580.0", "595.10")
    for wheel in (None, "cu118", "cu126", "cu130"):
        for card in ("RTX 4070", "GTX 1080 Ti", "RTX 5090"):
            ranks = [
                order.index(row.status)
                for one in drivers
                for row in compatibility(find_card(card), Setup(driver=one, torch="2.9", wheel=wheel), ("torch",))
                if row.name == DRIVER
            ]
            assert len(ranks) == len(drivers)
            assert ranks == sorted(ranks, reverse=True), (card, wheel)


def test_every_card_gets_a_row_for_everything() -> None:
    wanted = ("torch", "bf16", "fp8", "fp4", "flash-attn", "ggml")
    names = {WHEEL, DRIVER, PYTHON, SYSTEM, BUILD, "bfloat16", "fp8", "fp4", "flash-attention"}
    for card in list(all_cards())[::23]:
        rows = compatibility(card, Setup(), wanted)
        assert {row.name for row in rows} == names
        assert all(row.words and row.minimum for row in rows)


def test_versions_and_builds_are_read() -> None:
    assert version("580.95.05") == (580, 95, 5)
    assert version("no number") == ()
    assert version("9" * 5000)[:1] != ()
    assert torch_build("2.11.0+cu130") == ("2.11.0", "cu130")
    assert torch_build("2.9.0") == ("2.9.0", None)
    assert torch_build("2.10.0a0+rocm6.4.git1234") == ("2.10.0a0", "rocm6.4")


def test_a_machine_tells_its_system() -> None:
    for text, expected in (
        ("Linux (Ubuntu 24.04.1 LTS)", ("Linux", None)),
        ("Linux in WSL (Ubuntu 24.04)", ("WSL", None)),
        ("Windows 11", ("Windows", "11")),
        ("macOS 15.1", ("macOS", "15.1")),
        (None, (None, None)),
    ):
        found = setup_of(Machine((), operating_system=text, driver="580.1"))
        assert (found.system, found.system_version, found.driver) == (*expected, "580.1")


def test_chips_have_their_names() -> None:
    assert gfx_of(find_card("RX 7900 XTX")) == "gfx1100"
    assert gfx_of(find_card("RX 9070 XT")) == "gfx1201"
    assert gfx_of(find_card("RTX 4070")) is None


def test_a_wheel_of_a_release_that_is_not_known_is_not_said_to_fail() -> None:
    """Only cu126 wheels up to a release carry Pascal: of which release this one is nobody said."""
    card = find_card("GTX 1080")
    told, untold, wrong = (
        next(row for row in compatibility(card, setup, ("torch",)) if row.name == "PyTorch wheel").status
        for setup in (Setup(torch="2.8.0", wheel="cu126"), Setup(wheel="cu126"), Setup(torch="2.8.0", wheel="cu130"))
    )
    assert (told, untold, wrong) == (OK, OK, FAILS)
