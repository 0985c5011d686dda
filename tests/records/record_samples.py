"""Complete, believable records for tests: nothing in them is rejected or flagged."""

from __future__ import annotations

import copy
import json
from typing import Any

from fitcheck.models.workload import Task, Workload
from fitcheck.records import schema, store
from fitcheck.units import GIB, MIB

NOW = 1_795_000_000


def card(**changes: Any) -> schema.CardInfo:
    values: dict[str, Any] = {
        "slug": "rtx-4070",
        "name": "NVIDIA GeForce RTX 4070",
        "vendor": "nvidia",
        "memory": 12282 * MIB,
        "pci_id": "10de:2786",
        "compute_capability": "8.9",
        "driver": "580.95.05",
        "power_limit_watts": 200.0,
        "pcie_generation_max": 4,
        "pcie_width_max": 16,
    }
    return schema.CardInfo(**(values | changes))


def common() -> dict[str, Any]:
    return {
        "created": NOW - 86_400,
        "source": schema.Source(tool="fitcheck-bench", version="0.1.0"),
        "machine": schema.MachineInfo(
            os="linux", os_version="6.8.0", cpu="AMD Ryzen 7 7800X3D 8-Core Processor", ram=64 * GIB, logical_cores=16
        ),
        "software": schema.Software(fitcheck="0.1.0", python="3.12.8", torch="2.9.1+cu128", cuda="12.8"),
    }


def protocol(**changes: Any) -> schema.Protocol:
    values: dict[str, Any] = {"name": "fitcheck-bench", "version": 1, "warmup": 1, "repeats": 3, "fresh_process": True}
    return schema.Protocol(**(values | changes))


def model(**changes: Any) -> schema.ModelRef:
    values: dict[str, Any] = {
        "slug": "sensenova-u1-8b-mot",
        "tier": "Q4_K_M",
        "weights": "real",
        "repository": "sensenova/SenseNova-U1-8B-MoT",
        "tensor_digest": "ab" * 32,
        "quant_bytes": {"Q4_K": 9 * 10**9, "F32": 10**6},
    }
    return schema.ModelRef(**(values | changes))


def samples(*totals: float) -> tuple[schema.Sample, ...]:
    warm = schema.Sample(total=totals[0] * 1.1, warmup=True)
    return (warm, *(schema.Sample(total=t, phases={"prefix": t * 0.01, "denoise": t * 0.95}) for t in totals))


def make_pass(**changes: Any) -> schema.PassRecord:
    values: dict[str, Any] = common() | {
        "model": model(),
        "runtime": schema.RuntimeUsed(name="sensenova", revision="pr243", mode="low", policy="upstream", prefetch=0),
        "workload": schema.WorkloadSizes.of(Workload(Task.T2I)),
        "card": card(),
        "protocol": protocol(),
        "samples": samples(100.5, 101.25, 100.75),
        "memory": schema.Memory(
            allocated=6 * GIB,
            reserved=7 * GIB,
            process=7 * GIB + 400 * MIB,
            device=8 * GIB,
            context=400 * MIB,
            rss=20 * GIB,
            pinned_requested=9 * GIB,
            pinned_rounded=16 * GIB,
            phases=(schema.PhaseMemory(name="denoise", allocated=6 * GIB, reserved=7 * GIB),),
        ),
        "outcome": schema.Outcome(result="ok"),
        "transfer": schema.Transfer(bytes_streamed=450 * GIB, bytes_per_second=12.5e9),
        "power": schema.Power(joules=15_000.5, seconds=100.5, watts_mean=149.3, watts_max=180.5),
    }
    return schema.PassRecord(**(values | changes))


def make_link(**changes: Any) -> schema.LinkRecord:
    values: dict[str, Any] = common() | {
        "card": card(),
        "protocol": protocol(),
        "outcome": schema.Outcome(result="ok"),
        "copies": (
            schema.CopyRate(direction="host-to-device", pinned=True, bytes=GIB, bytes_per_second=25.1e9),
            schema.CopyRate(direction="host-to-device", pinned=False, bytes=GIB, bytes_per_second=9.5e9),
        ),
        "pinning": (schema.PinRate(bytes=3 * GIB, seconds=1.5, taken=4 * GIB),),
        "matmul": (schema.MatmulRate(dtype="BF16", m=4096, n=4096, k=4096, flops=5.5e13),),
        "dequantization": (schema.DequantRate(type="Q4_K", dtype="BF16", bytes=GIB, bytes_per_second=1.5e11),),
        "context_bytes": 400 * MIB,
    }
    return schema.LinkRecord(**(values | changes))


def make_llm(**changes: Any) -> schema.LlmRecord:
    values: dict[str, Any] = common() | {
        "model": model(slug="smollm2-135m-instruct", tier="Q4_1", repository=None),
        "runtime": schema.RuntimeUsed(name="llama.cpp", commit="0c1e570"),
        "card": card(),
        "protocol": protocol(name="llama-bench", version=0),
        "settings": schema.LlmSettings(backend="CUDA", gpu_layers=99, type_k="f16", type_v="f16"),
        "rates": (schema.TokenRate(prompt_tokens=512, new_tokens=0, mean=5000.5, samples=(4990.5, 5000.5, 5010.5)),),
        "buffers": (schema.Buffer(kind="model", device="CUDA0", bytes=90 * MIB),),
        "outcome": schema.Outcome(result="ok"),
    }
    return schema.LlmRecord(**(values | changes))


def make_external(**changes: Any) -> schema.ExternalRecord:
    values: dict[str, Any] = common() | {
        "runtime": schema.RuntimeUsed(name="comfyui", version="0.3.60"),
        "card": card(),
        "protocol": protocol(),
        "samples": samples(30.5, 31.25, 30.75),
        "memory": schema.Memory(device=9 * GIB, device_before=700 * MIB),
        "outcome": schema.Outcome(result="ok"),
    }
    return schema.ExternalRecord(**(values | changes))


def document(record: Any) -> dict[str, Any]:
    """A sealed record as JSON values, free to be damaged."""
    return copy.deepcopy(store.document_of(store.seal(record)))


def resealed(values: dict[str, Any]) -> bytes:
    """The file that a forger would write: any content, a fitting id, canonical JSON."""
    body = {key: value for key, value in values.items() if key != "id"}
    return store.canonical(body | {"id": store.document_id(body)}) + b"\n"


def as_json(values: Any) -> bytes:
    return json.dumps(values).encode()
