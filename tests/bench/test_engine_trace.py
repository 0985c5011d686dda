"""The dry run on meta tensors: against published allocated peaks, and against the engine's own accounting."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from tiny_engine import MODEL, T2I, run

from bench.engines.sensenova.traced import trace_peak
from bench.job import Job
from bench.trace import StorageTracker
from fitcheck.errors import InputError
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import placement_of, upstream

GIB = 1 << 30
HOPPER = (9, 0)


def test_tracker_counts_storages_until_they_die() -> None:
    with StorageTracker() as tracker, tracker.phase("all"):
        first = torch.empty(1000, dtype=torch.uint8, device="meta")
        view = first[10:]
        assert tracker.live == 1024
        second = first + 1
        assert tracker.live == 2048
        del first
        assert tracker.live == 2048
        del view, second
        assert tracker.live == 0
        hosted = tracker.host(1 << 20)
        assert (hosted + 1).device.type == "meta"
    assert tracker.live == 0
    assert tracker.peaks == {"all": 1 << 20}


def test_published_low_mode_peak_on_an_h100() -> None:
    """PR 241's table: U1-8B BF16, t2i 2048², cfg 4, SDPA, low: 4.96 GiB allocated."""
    cell = Job(MODEL, "BF16", placement_of(upstream("low", "pr241")), Workload(Task.T2I, 2048, 2048, cfg=4.0))
    peaks = trace_peak(cell, HOPPER)
    assert max(peaks, key=peaks.__getitem__) == "denoise"
    assert peaks["denoise"] / GIB == pytest.approx(4.96, abs=0.015)


def tiny(mode: str, policy: str = "upstream", revision: str = "pr241", tier: str = "BF16") -> dict[str, int]:
    return trace_peak(Job(MODEL, tier, placement_of(upstream(mode, revision, policy)), T2I, tiny=True), HOPPER)


def test_loading_holds_exactly_the_weights() -> None:
    load, *_ = run(upstream("full"))
    rounded = tiny("full")["load"]
    assert 0 <= rounded - load.device_bytes <= 512 * (load.tensors + 2 * 4)


def test_modes_differ_by_whole_layers() -> None:
    *_, engine = run(upstream("full"))
    layer = sum(-(-t.nbytes // 512) * 512 for t in engine.table if t.layer == 0 and t.branch == "generation")
    low, balanced, fast = (tiny(mode)["denoise"] for mode in ("low", "balanced", "fast"))
    rotary = 2 * 512
    assert balanced - low == 2 * (layer + rotary)
    # kept layers outlive the decoder, where the small model's head needs a little more than its layers do
    assert 3 * layer <= fast - low < 3.1 * layer


@pytest.mark.parametrize("mode", ["low", "balanced", "fast"])
def test_the_ring_allocates_no_layer_more_than_upstream(mode: str) -> None:
    *_, engine = run(upstream("full"))
    layer = sum(t.nbytes for t in engine.table if t.layer == 0 and t.branch == "generation")
    # the ring's slots outlive the decoder; in the small model the head, not a layer, then sets the peak
    assert tiny(mode, "ring")["denoise"] <= tiny(mode)["denoise"] + 0.1 * layer


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_a_prompts_token_leaves_its_keys_and_values_twice_and_nothing_else(cfg: float) -> None:
    """Once in the cache, once in the buffer of the denoising, and one layer's repeated for the heads that share them;
    its embedding, its mask and its hidden states are gone."""
    denoise = [
        trace_peak(
            Job(
                MODEL,
                "BF16",
                placement_of(upstream("low", "pr241")),
                T2I.with_(cfg=cfg, prompt_tokens=count),
                tiny=True,
            )
        )
        for count in (64, 128)
    ]
    heads, kv_heads, width, layers, bf16 = 4, 2, 64, 4, 2
    kept, repeated = 2 * layers * 2 * kv_heads * width * bf16, 2 * heads * width * bf16
    assert denoise[1]["denoise"] - denoise[0]["denoise"] == 64 * (kept + repeated)


def test_revisions_move_embedding_and_head() -> None:
    *_, engine = run(upstream("full"))
    both = sum(t.nbytes for t in engine.table if t.role in ("embedding", "head"))
    denoise = {revision: tiny("low", revision=revision)["denoise"] for revision in ("pr241", "pr243", "phase-aware")}
    assert denoise["pr241"] - denoise["pr243"] == both
    assert denoise["phase-aware"] == denoise["pr243"]


def test_models_with_experts_are_refused() -> None:
    cell = Job("sensenova-u1-a3b-mot", "BF16", placement_of(upstream("low")), T2I, tiny=True)
    with pytest.raises(InputError, match="experts"):
        trace_peak(cell)
