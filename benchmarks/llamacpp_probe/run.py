"""Ask llama.cpp itself which buffers it reserves for a model that is only a shape, and compare with fitcheck.

A GGUF file with real metadata and a hole where the weights would be is written to a sparse file; ``probe`` (see
probe.cpp) loads it on stand-in cards and prints every buffer. Results are saved as a fixture of the test suite.

usage: python benchmarks/llamacpp_probe/run.py PROBE [--save FIXTURE] [--only NAME]
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fitcheck.models.families.language.metadata import architecture_from_gguf
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions, TensorOverride
from fitcheck.runtimes.llamacpp.buffers import estimate
from fitcheck.runtimes.llamacpp.builds import parse_build

MIB = 1 << 20
CASES = Path(__file__).with_name("cases.json")
_TAKEN = re.compile(r"stand-in: (\S+) took ([\d.]+) MiB")
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")


def write_sparse_gguf(path: Path, metadata: dict[str, Any], tensors: TensorTable) -> None:
    """A GGUF version 3 file whose tensor data is a hole."""
    keys = {**metadata, "tokenizer.ggml.model": "none"}
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys))
    for key, value in keys.items():
        head += _text(key) + _value(value)
    offset = 0
    for tensor in tensors:
        dimensions = tuple(reversed(tensor.shape))
        head += _text(tensor.name) + struct.pack("<I", len(dimensions))
        head += b"".join(struct.pack("<Q", side) for side in dimensions)
        head += struct.pack("<IQ", tensor.quant.ggml_id, offset)
        offset += -(-tensor.nbytes // 32) * 32
    start = -(-len(head) // 32) * 32
    with path.open("wb") as file:
        file.write(head)
        file.truncate(start + offset)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    kinds = {bool: (7, "B"), float: (6, "f")}
    kind, layout = kinds.get(type(value[0]), (4, "I"))
    return struct.pack("<IIQ", 9, kind, len(value)) + struct.pack(f"<{len(value)}{layout}", *value)


def probe(program: str, file: Path, arguments: list[str]) -> dict[str, float]:
    """{"CUDA0 KV": MiB, ...} as printed; several buffers of one kind are summed. Raises RuntimeError on failure."""
    done = subprocess.run([program, str(file), *arguments], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-300:] + done.stderr[-300:])
    found: dict[str, float] = {}
    for device, kind, size in _BUFFER.findall(done.stdout):
        key = f"{'CUDA0' if device == 'Meta()' else device} {kind}"  # the one device that stands for all cards
        found[key] = round(found.get(key, 0.0) + float(size), 2)
    if any(key.startswith("Meta") for key, *_ in _BUFFER.findall(done.stdout)):
        # what is printed of cards that share tensors is the largest
        found |= {f"{device} total": float(size) for device, size in _TAKEN.findall(done.stdout)}
    return found


def options_of(case: dict[str, Any], build: str | None = None) -> tuple[LlamaOptions, list[str], int]:
    """The same options for fitcheck and for the probe."""
    given = dict(case.get("options", {}))
    if build:
        given |= {"build": build, "program": "library"}
    if given.get("build"):
        given["build"] = parse_build(given["build"])
    cards = int(given.pop("cards", 1))
    patterns = given.pop("cpu", [])
    overrides = tuple(TensorOverride(pattern, None) for pattern in patterns)
    options = LlamaOptions(**{"sequences": 1, **given}, overrides=overrides)
    arguments = [f"cards={cards}", f"ctx={options.context}", f"ub={options.micro_batch}", f"b={options.batch}"]
    arguments += [f"seq={options.slots}", f"unified={int(options.unified_cache)}", f"fa={int(options.flash)}"]
    arguments += [
        f"ctk={options.cache_type_k}",
        f"ctv={options.cache_type_v}",
        f"swa_full={int(options.full_sliding_cache)}",
    ]
    arguments += [
        f"nkvo={int(options.cache_on_host)}",
        f"op_offload={int(options.op_offload)}",
        f"mmap={int(options.mmap)}",
    ]
    arguments += [f"cpu={pattern}" for pattern in patterns]
    if options.split_mode == "tensor":
        arguments.append("sm=3")
    if options.tensor_split:
        arguments.append("ts=" + ",".join(map(str, options.tensor_split)))
    if options.gpu_layers is not None:
        arguments.append(f"ngl={options.gpu_layers}")
    if options.program == "server":
        arguments.append(f"out={options.slots}")
    return options, arguments, cards


def predicted(case: dict[str, Any], tensors: TensorTable, options: LlamaOptions, cards: int) -> dict[str, float]:
    architecture = architecture_from_gguf(case["metadata"], tensors)
    result = estimate(architecture, tensors, options, vram=[24 << 30] * cards)
    found: dict[str, int] = {}
    shared = options.split_mode == "tensor"
    for index, device in enumerate(result.cards):
        at = 0 if shared else index
        parts = {"model": device.weights, "KV": device.kv_cache, "RS": device.recurrent, "compute": device.compute}
        for kind, size in parts.items():
            found[f"CUDA{at} {kind}"] = max(size, found.get(f"CUDA{at} {kind}", 0)) if shared else size
        if shared:
            found[f"CUDA{index} total"] = device.total
    found["CPU_Mapped model" if options.mmap else "CPU model"] = result.host.weights
    found["CPU KV"] = result.host.kv_cache
    found["CPU RS"] = result.host.recurrent
    found["CPU compute"] = result.host.compute
    return {key: round(value / MIB, 2) for key, value in found.items() if value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probe")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--build", help="when the probe was built from an older llama.cpp: its date")
    given = parser.parse_args()
    saved = []
    for case in json.loads(CASES.read_text()):
        if not any(part in case["name"] for part in given.only.split(",")):
            continue
        architecture = architecture_from_gguf(case["metadata"])
        tensors = mixture_table(architecture, case["tier"])
        options, arguments, cards = options_of(case, given.build)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.gguf"
            write_sparse_gguf(file, case["metadata"], tensors)
            try:
                printed = probe(given.probe, file, arguments)
            except RuntimeError as problem:
                print(f"{case['name']}: llama.cpp refused: {problem}")
                continue
        ours = predicted(case, tensors, options, cards)
        told = {**case.get("options", {}), **({"build": given.build, "program": "library"} if given.build else {})}
        saved.append({**case, "options": told, "printed": printed})
        worst = max(
            (abs(ours.get(k, 0) / v - 1) for k, v in printed.items() if v >= 1 and "output" not in k), default=0
        )
        mark = "ok " if worst < 0.005 else "OFF"
        print(f"{mark} {case['name']} {worst:.2%}")
        if worst >= 0.005:
            for key in sorted(set(printed) | set(ours)):
                if abs(printed.get(key, 0) - ours.get(key, 0)) > 0.05 and "output" not in key:
                    print(f"      {key:20} llama.cpp {printed.get(key, 0):12.2f}  fitcheck {ours.get(key, 0):12.2f}")
    if given.save:
        given.save.write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
