"""The engine on a scaled-down model on the CPU: every placement gives the same bytes, and the accounting adds up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.engines.sensenova.streaming.ring import RingPolicy
from bench.engines.sensenova.streaming.upstream import UpstreamPolicy

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from tiny_engine import MODEL, T2I, Watch, run

from bench.engines.sensenova.engine import PictureEngine
from bench.engines.sensenova.scaled_down import _TINY
from bench.engines.sensenova.streaming.device import HostAccelerator, MemoryState
from bench.job import Job
from bench.told import PassReport
from fitcheck.errors import InputError
from fitcheck.memory.allocator_blocks import pinned_block
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.streaming import MODES, REVISIONS, Streaming, placement_of, upstream

LAYERS = 4


def streamed(report: PassReport) -> dict[str, int]:
    """Bytes of weights by phase: this engine counts them."""
    assert report.streamed_bytes is not None
    return report.streamed_bytes


def copies(report: PassReport) -> dict[str, int]:
    """Copies of weights by phase."""
    assert report.copies is not None
    return report.copies


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def placements() -> list[Streaming]:
    made = []
    for revision in REVISIONS:
        for mode in MODES:
            for policy in ("upstream", "ring"):
                if (mode == "fast" and revision == "v0") or (mode == "full" and policy == "ring"):
                    continue
                made.append(upstream(mode, revision, policy))
    return made


@pytest.mark.parametrize("tier", ["BF16", "Q4_K_S"])
def test_every_placement_makes_the_same_image(tier: str) -> None:
    reports = {f"{p.revision} {p.mode} {p.policy}": run(p, tier=tier)[1] for p in placements()}
    assert len(reports) == 26
    digests = {report.output_digest for report in reports.values()}
    assert len(digests) == 1, {name: report.output_digest[:8] for name, report in reports.items()}
    assert all(report.finite and report.output_shape == (1, 3, 64, 64) for report in reports.values())


@pytest.mark.parametrize("tier", ["Q8_0", "Q6_K"])
def test_other_tiers_stream_identically(tier: str) -> None:
    made = [upstream("full"), upstream("low"), upstream("balanced", policy="ring"), upstream("fast", "pr243", "ring")]
    assert len({run(placement, tier=tier)[1].output_digest for placement in made}) == 1


@pytest.mark.parametrize(
    "workload",
    [
        T2I.with_(cfg=1.0),
        T2I.with_(task=Task.EDITING, references=((64, 64),), steps=1),
        T2I.with_(task=Task.EDITING, references=((64, 64),), steps=1, image_cfg=2.0),
        T2I.with_(task=Task.VQA, references=((96, 64),), new_tokens=3),
        T2I.with_(task=Task.INTERLEAVE, steps=1, images=2, new_tokens=3),
    ],
    ids=["cfg1", "editing", "editing-3-branches", "vqa", "interleave"],
)
def test_streaming_is_bit_identical_in_every_task(workload: Workload) -> None:
    full = run(upstream("full"), workload)[1]
    for placement in (
        upstream("low"),
        upstream("balanced", "pr243"),
        upstream("balanced", policy="ring"),
        upstream("fast", policy="ring"),
    ):
        assert run(placement, workload)[1].output_digest == full.output_digest, placement


@pytest.mark.parametrize("model", ["sensenova-u1.5-8b-mot", "sensenova-u1-a3b-mot"])
def test_other_heads_and_experts_stream_identically(model: str) -> None:
    full = run(upstream("full"), model=model)[1]
    ring = run(upstream("balanced", policy="ring"), model=model)[1]
    assert full.finite
    assert ring.output_digest == full.output_digest


def test_seed_and_tier_change_the_image() -> None:
    digests = {
        run(upstream("full"), tier=t, seed=s)[1].output_digest for t, s in (("BF16", 0), ("BF16", 1), ("Q8_0", 0))
    }
    assert len(digests) == 3


def test_a_second_pass_repeats_the_first() -> None:
    for policy in ("upstream", "ring"):
        _, first, _, engine = run(upstream("fast", policy=policy))
        assert engine.run(Watch()).output_digest == first.output_digest


@pytest.mark.parametrize("policy", ["upstream", "ring"])
def test_low_streams_each_branch_once_a_forward(policy: str) -> None:
    load, report, watch, engine = run(upstream("low", "pr241", policy))
    in_layers = [t for t in engine.table if t.layer is not None]
    branch = {name: sum(t.nbytes for t in in_layers if t.branch == name) for name in ("understanding", "generation")}
    slack = 1.005  # the ring's alignment, upstream's rotary frequencies
    assert 2 * branch["understanding"] <= streamed(report)["prefix"] <= 2 * slack * branch["understanding"]
    forwards = 2 * T2I.steps
    assert forwards * branch["generation"] <= streamed(report)["denoise"] <= forwards * slack * branch["generation"]
    assert copies(report)["denoise"] == forwards * LAYERS * (1 if policy == "ring" else 15)
    assert watch.phases == ["load", "prefix", "denoise"]
    assert watch.steps == T2I.steps == len(report.step_seconds)
    assert load.pinned_bytes >= sum(branch.values())
    assert load.pinned_rounded_bytes >= load.pinned_bytes


@pytest.mark.parametrize("placement", [p for p in placements() if p.in_flight], ids=str)
def test_no_more_layers_in_flight_than_the_placement_says(placement: Streaming) -> None:
    *_, engine = run(placement)
    assert engine._model is not None
    policy = engine._model.language_model.model.policy
    assert isinstance(policy, UpstreamPolicy | RingPolicy)
    assert policy.most_in_flight == placement.in_flight


class SmallCard(HostAccelerator):
    """Has room for ``stays`` layers and a half: so it answers once to the ring, and layer by layer to upstream."""

    def __init__(self, unit: int, stays: int) -> None:
        super().__init__(torch.device("cpu"))
        self.unit, self.stays, self.asked = unit, stays, 0

    def memory(self) -> MemoryState:
        self.asked += 1
        total = 100 << 30
        room = int(self.unit * (self.stays + 0.5)) if self.asked == 1 else 0
        limit = int(0.9 * total) - (4 << 30)
        allocated = limit - room if self.asked <= self.stays else limit + 1
        return MemoryState(allocated, allocated, total - allocated, total)


@pytest.mark.parametrize("policy", ["upstream", "ring"])
def test_fast_keeps_what_fits_and_streams_the_rest(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_TINY, "layers", 8)
    full = run(upstream("full"))[1]
    streamed_all = run(upstream("balanced", policy=policy))[1]
    *_, probe = run(upstream("full"))
    unit = sum(t.nbytes for t in probe.table if t.layer == 0 and t.branch == "generation")
    unit = -(-unit // 512) * 512 + 5120
    card = SmallCard(unit, 2)
    monkeypatch.setattr("bench.engines.sensenova.engine.accelerator", lambda name: card)
    report = run(upstream("fast", policy=policy))[1]
    assert report.output_digest == full.output_digest
    assert report.resident_layers == (2 if policy == "ring" else 0)  # upstream gives them up once the card is full
    assert streamed(report)["denoise"] < streamed(streamed_all)["denoise"]


@pytest.mark.parametrize("policy", ["upstream", "ring"])
def test_copies_and_waits_are_timed_where_weights_move(policy: str) -> None:
    low = run(upstream("low", policy=policy))[1]
    assert low.copy_seconds
    assert low.wait_seconds
    for phase in ("prefix", "denoise"):  # each copy holds the computation up for as long as it runs
        assert 0 < low.copy_seconds[phase] < low.seconds[phase]
        assert low.wait_seconds[phase] >= low.copy_seconds[phase]
        assert low.wait_seconds[phase] < low.seconds[phase]
    balanced = run(upstream("balanced", policy=policy))[1]
    assert balanced.copy_seconds
    assert balanced.wait_seconds
    assert balanced.wait_seconds["denoise"] < balanced.copy_seconds["denoise"]
    full = run(upstream("full"))[1]
    assert full.copy_seconds == full.wait_seconds == {"prefix": 0, "denoise": 0}


def test_without_meters_nothing_is_timed() -> None:
    *_, engine = run(upstream("balanced"))
    report = engine.run(Watch(metered=False))
    assert report.copy_seconds is None
    assert report.wait_seconds is None
    assert streamed(report)["denoise"] > 0


def test_ring_lets_kept_layers_go_before_embedding_and_head_return(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, engine = run(upstream("fast", policy="ring"))
    assert engine._model is not None
    policy = engine._model.language_model.model.policy
    assert policy.resident_layers == LAYERS
    kept = []
    uploads = engine._accelerator.upload

    def upload(host: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        kept.append(policy.resident_layers)
        return uploads(host, non_blocking)

    monkeypatch.setattr(engine._accelerator, "upload", upload)
    engine.run(Watch())
    assert kept
    assert set(kept) == {0}


def test_phase_aware_moves_embedding_and_head_once_a_pass() -> None:
    _, first, _, engine = run(upstream("low"))
    second = engine.run(Watch())
    table = {t.name: t for t in engine.table}
    both = table["language_model.model.embed_tokens.weight"].nbytes + table["language_model.lm_head.weight"].nbytes
    assert streamed(second)["prefix"] - streamed(first)["prefix"] == both
    assert streamed(second)["denoise"] == streamed(first)["denoise"]


def test_the_prefix_ends_with_the_departure_of_embedding_and_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is the prefix's, as upstream's callback stands before the denoising is prepared."""
    *_, engine = run(upstream("balanced"))
    assert engine._model is not None
    policy = engine._model.language_model.model.policy
    told: list[str] = []
    monkeypatch.setattr(policy, "phase", lambda name: told.append(f"policy {name}"))

    class Follow(Watch):
        @contextmanager
        def phase(self, name: str) -> Iterator[None]:
            told.append(f"begin {name}")
            yield
            told.append(f"end {name}")

    engine.run(Follow())
    assert told == [
        "begin prefix", "policy prefix", "policy denoise", "end prefix", "begin denoise", "end denoise",
    ]  # fmt: skip


def test_pinned_bytes_are_what_each_way_of_pinning_takes() -> None:
    load, *_, engine = run(upstream("low", "pr241"), tier="Q4_K_S")
    inside = [t.nbytes if t.quant.quantized else 2 * t.elements for t in engine.table if t.layer is not None]
    rotary = [4 * 16, 4 * 8] * LAYERS  # f32 frequencies of a head of 64: half of it for time, a quarter for each side
    assert load.pinned_bytes == sum(inside) + sum(rotary)
    assert load.pinned_rounded_bytes == sum(map(pinned_block, inside + rotary)) > load.pinned_bytes
    flat, *_ = run(upstream("low", "pr241", "ring"), tier="Q4_K_S")
    assert flat.pinned_bytes == sum(inside)
    # a buffer for each branch of each layer: its tensors aligned to 512 bytes, the whole to a page
    assert flat.pinned_bytes <= flat.pinned_rounded_bytes <= flat.pinned_bytes + 2 * LAYERS * (4096 + 13 * 512)
    assert flat.pinned_rounded_bytes % 4096 == 0


@pytest.mark.parametrize(("revision", "reads"), [("v0", 2 * 2 * LAYERS), ("pr241", 2), ("phase-aware", 2)])
def test_how_often_a_forward_waits_for_the_card_to_know_its_branch(
    revision: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("bench.engines.sensenova.network._host_bool", lambda flag: asked.append(bool(flag)))
    run(upstream("balanced", revision))
    assert len(asked) == reads * 2 * T2I.steps  # two forwards a step, none in the prefix
    assert asked[:2] == [False, True]


@pytest.mark.parametrize(
    ("workload", "positions"),
    [
        (T2I, []),
        (T2I.with_(task=Task.EDITING, references=((64, 64),), steps=1), []),
        (T2I.with_(task=Task.VQA, references=((64, 64),), new_tokens=3), [1, 1, 1]),
        # three prefixes; a word, and the image's start in both that grow; the image with its end, read back in both
        (T2I.with_(task=Task.INTERLEAVE, steps=1, images=1, new_tokens=1), [12, 9, 9, 1, 1, 1, 5, 5]),
    ],
    ids=["t2i", "editing", "vqa", "interleave"],
)
def test_the_head_sees_the_positions_that_upstream_gives_it(workload: Workload, positions: list[int]) -> None:
    """Every position's logits are 300 kB of the real model: a prefill of text generation makes one of them."""
    *_, engine = run(upstream("full"), workload)
    assert engine._model is not None
    seen: list[int] = []
    engine._model.language_model.lm_head.register_forward_hook(lambda head, given, out: seen.append(out.shape[1]))
    engine.run(Watch())
    assert seen == positions


def test_full_puts_everything_on_the_device() -> None:
    load, report, _, _ = run(upstream("full"))
    assert load.device_bytes == load.weight_bytes > 0
    assert load.pinned_bytes == load.pinned_rounded_bytes == 0
    assert sum(streamed(report).values()) == 0
    assert load.weights == "synthetic"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"width": 100}, "--size"),
        ({"steps": 0}, "--steps"),
        ({"task": Task.EDITING}, "--reference"),
        ({"task": Task.CHAT}, "task"),
        ({"batch": 2}, "batch"),
        ({"task": Task.EDITING, "references": ((64, 64),), "prompt_tokens": 1}, "--prompt-tokens"),
    ],
)
def test_workloads_that_cannot_run_are_refused(changes: dict[str, object], names: str) -> None:
    with pytest.raises(InputError, match=names):
        PictureEngine(Job(MODEL, "BF16", placement_of(upstream("low")), T2I.with_(**changes), device="cpu", tiny=True))


def test_unknown_tier_device_and_runtime_are_refused() -> None:
    cell = Job(MODEL, "Q99", placement_of(upstream("low")), T2I, device="cpu", tiny=True)
    with pytest.raises(InputError, match="no tier 'Q99'"):
        PictureEngine(cell)
    with pytest.raises(InputError, match="not a device"):
        PictureEngine(Job(MODEL, "BF16", placement_of(upstream("low")), T2I, device="toaster", tiny=True))


def test_cell_round_trip_and_bad_json() -> None:
    workload = T2I.with_(task=Task.EDITING, references=((64, 96), (32, 32)))
    placement = placement_of(upstream("fast", "pr243", "ring"))
    cell = Job(MODEL, "Q8_0", placement, workload, device="cpu", gguf="/x.gguf", seed=3, tiny=True)
    assert Job.from_json(cell.to_json()) == cell
    deep = '{"placement": ' + "[" * 40_000 + "]" * 40_000 + "}"
    whole = cell.to_json()
    for text in (
        "", "[]", "{}", '{"placement": 1, "workload": 2}', deep, whole + " " * (1 << 16),
        whole.replace("editing", "painting"), whole.replace('"tiny": true', '"tiny": "yes"'),
        whole.replace('"ring"', '{"a": 1}'), whole.replace('"mode": "fast"', '"mode": 5'),
        whole.replace('"seed": 3', '"sead": 3'), whole.replace("[64, 96]", "[64, 1e999]"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="job"):
            Job.from_json(text)
