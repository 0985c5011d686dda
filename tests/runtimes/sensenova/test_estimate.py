"""The estimator against published rows and against its own order relations."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensenova_shapes import shape_of

from fitcheck.memory.allocator_blocks import device_block
from fitcheck.memory.context import context
from fitcheck.memory.footprint import Phase, peak
from fitcheck.models import catalog
from fitcheck.models.model import Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova.estimate import KeptLayers, estimate
from fitcheck.runtimes.sensenova.guidance import branches
from fitcheck.runtimes.sensenova.layer_weights import weights_of
from fitcheck.runtimes.sensenova.layout import CardView, staying
from fitcheck.runtimes.sensenova.phases import lay_out, phases
from fitcheck.runtimes.sensenova.streaming import MODES, REVISIONS, comfyui, upstream
from fitcheck.units import GIB
from fitcheck.verdict.accuracy import published_rows

MODEL = catalog.get("sensenova-u1-8b-mot")
ARCH = shape_of(MODEL)
H100 = CardView((9, 0), 80 * GIB)
TIERS = ("Q4_K_S", "Q6_K", "Q8_0", "BF16")  # smallest first


def tier(name: str) -> Tier:
    found = MODEL.tier(name)
    assert found is not None
    return found


def allocated(
    tier_name: str, workload: Workload, mode: str, revision: str = "phase-aware", device: CardView = H100
) -> int:
    placement = upstream(mode, revision)
    return peak(phases(ARCH, weights_of(tier(tier_name).tensors), workload, placement, device)).allocated


workloads = st.builds(
    lambda task, width, height, cfg, references, images: Workload(
        task,
        32 * width,
        32 * height,
        8,
        cfg,
        references=((32 * references, 1024),) if task != Task.T2I else (),
        images=images,
    ),
    st.sampled_from([Task.T2I, Task.EDITING, Task.INTERLEAVE, Task.VQA]),
    st.integers(8, 96),
    st.integers(8, 96),
    st.sampled_from([1.0, 4.0]),
    st.integers(8, 128),
    st.integers(1, 6),
)


def test_allocated_rows_within_the_bar() -> None:
    rows = [row for row in published_rows() if (row.runtime, row.quantity) == ("sensenova", "allocated")]
    errors = [abs(row.error) for row in rows]
    assert len(rows) == 32
    assert median(errors) <= 0.002
    assert max(errors) <= 0.006
    assert all(row.covered for row in rows)


def test_prefix_sets_the_peak_of_editing_with_a_large_reference() -> None:
    workload = Workload(Task.EDITING, 2048, 2048, references=((2048, 2048),))
    laid_out = phases(ARCH, weights_of(tier("BF16").tensors), workload, upstream("low"), H100)
    assert peak(laid_out).name == "prefix"
    text_only = Workload(Task.T2I)
    assert peak(phases(ARCH, weights_of(tier("BF16").tensors), text_only, upstream("full"), H100)).name == "denoise"


@given(workloads, st.sampled_from(TIERS), st.sampled_from(REVISIONS))
def test_more_offload_never_takes_more(workload: Workload, name: str, revision: str) -> None:
    low, balanced, full = (allocated(name, workload, mode, revision) for mode in ("low", "balanced", "full"))
    assert low <= balanced <= full


@given(workloads, st.sampled_from(MODES))
def test_a_bigger_tier_is_never_smaller(workload: Workload, mode: str) -> None:
    if mode == "fast":
        return  # keeps as many layers as fit, so a smaller tier may keep more
    sizes = [allocated(name, workload, mode) for name in TIERS]
    # dequantization scratch of a small tier may exceed what BF16 needs while streaming; whole tiers stay ordered
    if mode == "full":
        assert sizes == sorted(sizes)
    else:
        assert sizes[0] <= sizes[2] + weights_scratch(workload)


def weights_scratch(workload: Workload) -> int:
    found = phases(ARCH, weights_of(tier("Q4_K_S").tensors), workload, upstream("low"), H100)
    return max(phase.scratch for phase in found)


@given(workloads, st.sampled_from(MODES), st.sampled_from(TIERS))
def test_the_three_numbers_are_ordered(workload: Workload, mode: str, name: str) -> None:
    found = estimate(ARCH, tier(name), workload, upstream(mode), H100)
    assert found.cards[0].allocated.best <= found.cards[0].reserved.best <= found.cards[0].card.best
    assert (
        found.cards[0].allocated.low
        <= found.cards[0].required.low
        <= found.cards[0].required.best
        <= found.cards[0].required.high
    )
    assert found.cards[0].required.best <= found.cards[0].card.best


@given(st.integers(8, 90), st.integers(8, 90), st.sampled_from(MODES))
def test_larger_images_never_take_less(width: int, height: int, mode: str) -> None:
    small = Workload(Task.T2I, 32 * width, 32 * height)
    large = replace(small, width=small.width + 32)
    if mode != "fast":
        assert allocated("BF16", small, mode) <= allocated("BF16", large, mode)


@given(st.integers(6, 96), st.integers(0, 16))
def test_fast_keeps_more_on_a_larger_card_and_stays_inside_it(total: int, more: int) -> None:
    workload = Workload(Task.T2I)
    placement = upstream("fast")
    found = [
        estimate(ARCH, tier("BF16"), workload, placement, CardView((8, 9), size * GIB)).layout
        for size in (total, total + more)
    ]
    assert all(isinstance(one, KeptLayers) for one in found)
    fewer, most = (one.denoising for one in found if isinstance(one, KeptLayers))
    assert 0 <= fewer <= most <= 1
    if fewer > 0:
        denoise = next(
            phase
            for phase in phases(
                ARCH, weights_of(tier("BF16").tensors), workload, placement, CardView((8, 9), total * GIB)
            )
            if phase.name == "denoise"
        )
        assert denoise.allocated <= total * GIB


@pytest.mark.parametrize(("total", "free"), [(23.6, 23.6), (23.6, 20.0), (16.0, 15.0), (11.6, 11.6), (79.2, 79.2)])
def test_a_ring_keeps_what_upstreams_two_limits_allow(total: float, free: float) -> None:
    """allocated + 4 GiB <= min(0.9 total, total - 2 GiB), and 6 GiB free beside what is allocated and the context."""
    device = CardView((8, 9), round(total * GIB), round(free * GIB))
    streamed = replace(upstream("fast", policy="ring"), keep_generation=False)
    weights, workload = weights_of(tier("BF16").tensors), Workload(Task.T2I)
    found = lay_out(ARCH, weights, workload, upstream("fast", policy="ring"), device)
    alone = next(one for one in phases(ARCH, weights, workload, streamed, device) if one.name == "denoise")
    room = min(0.9 * total * GIB - 4 * GIB, (total - 6) * GIB, (free - 6) * GIB - BESIDE) - base_of(alone) - 2 * LAYER
    assert found.kept == max(0, min(42, int(room // LAYER)))
    denoise = next(one for one in found.phases if one.name == "denoise")
    assert denoise.resident - alone.resident == weights.kept(found.kept, exact=True)
    assert denoise.window == (0 if found.kept == 42 else alone.window)


BESIDE = context((8, 9), second_stream=True).best
LAYER = weights_of(tier("BF16").tensors).layers["generation"][0]


def base_of(denoise: Phase) -> int:
    """What is allocated between two layers of a denoising pass, without the layers."""
    hidden = 4096 * 4096 * 2
    return denoise.resident + denoise.kv_cache + (3 + 3) * 4096 * 3 * 32 * 32 * 2 + 3 * hidden + 2 * hidden


@pytest.mark.parametrize(("total", "free"), [(23.6, 23.6), (23.6, 20.0), (16.0, 15.0), (11.6, 11.6), (79.2, 79.2)])
def test_upstream_keeps_layers_while_all_that_are_there_go_under_its_limits(total: float, free: float) -> None:
    """The last layers of a pass have fewer ahead of them that are not there anyway, so a few more stay than the rule
    allows at its start; never more are there at once than the limit and the layers in flight."""
    device = CardView((8, 9), round(total * GIB), round(free * GIB))
    weights, workload = weights_of(tier("BF16").tensors), Workload(Task.T2I)
    found = lay_out(ARCH, weights, workload, upstream("fast"), device)
    alone = next(
        one
        for one in phases(ARCH, weights, workload, replace(upstream("fast"), keep_generation=False), device)
        if one.name == "denoise"
    )
    room = min(0.9 * total * GIB - 4 * GIB, (total - 6) * GIB, (free - 6) * GIB - BESIDE) - base_of(alone)
    at_start = max(0, min(42, int(room // LAYER) - 2))
    assert at_start <= found.kept <= min(42, at_start + 2)
    denoise = next(one for one in found.phases if one.name == "denoise")
    there = denoise.resident - alone.resident + denoise.window
    assert found.kept * LAYER <= there <= max(3 * LAYER, room + 3 * LAYER)


@given(st.integers(1, 60), st.integers(0, 70), st.integers(1, 4))
def test_layers_that_stay_fit_and_more_room_never_keeps_fewer(count: int, room: int, prefetch: int) -> None:
    """By simulation: equal layers of one byte, ``room`` bytes."""
    kept, most = staying((1,) * count, room, prefetch)
    more, _ = staying((1,) * count, room + 1, prefetch)
    assert len(kept) <= len(more)
    assert len(kept) <= max(0, room)
    assert len(kept) <= most <= count
    assert most <= max(room, 0) + prefetch + 1
    if room >= count:
        assert len(kept) == most == count


def test_embedding_and_head_return_before_kept_layers_leave_only_where_they_left() -> None:
    warm = replace(H100, warm=True)
    weights = weights_of(tier("BF16").tensors)
    names = {
        task: [phase.name for phase in phases(ARCH, weights, Workload(task, references=size), upstream("fast"), warm)]
        for task, size in ((Task.T2I, ()), (Task.EDITING, ((512, 512),)), (Task.VQA, ((512, 512),)))
    }
    assert names[Task.T2I][0] == names[Task.EDITING][0] == "return"
    assert "return" not in names[Task.VQA]
    returning = phases(ARCH, weights, Workload(Task.T2I), upstream("fast"), warm)[0]
    assert returning.resident > weights.kept(42) + weights.embedding + weights.head
    small = replace(warm, total=24 * GIB, free=20 * GIB)
    returning, *_, denoise = phases(ARCH, weights, Workload(Task.T2I), upstream("fast"), small)
    assert returning.resident - denoise.resident == weights.embedding + weights.head


def test_few_streamed_layers_hold_back_few_units() -> None:
    """Between a card that keeps all generation layers and one that keeps all but a few, the cache grows in steps."""
    found = [
        estimate(ARCH, tier("BF16"), Workload(Task.T2I), upstream("fast"), CardView((8, 9), 80 * GIB, free))
        for free in range(21 * GIB, 26 * GIB, GIB // 8)
    ]
    slacks = [one.cards[0].reserved.best - one.cards[0].allocated.best for one in found]
    assert slacks == sorted(slacks, reverse=True)
    assert slacks[0] - slacks[-1] > 2 * GIB
    assert max(a - b for a, b in pairwise(slacks)) < 1.2 * GIB  # three layers at most


def test_a_batch_shares_its_prefix_cache_and_has_buffers_of_its_own() -> None:
    def denoise(batch: int) -> Phase:
        workload = Workload(Task.T2I, 1024, 1024, prompt_tokens=1000, batch=batch)
        laid_out = phases(ARCH, weights_of(tier("BF16").tensors), workload, upstream("full"), H100)
        return next(phase for phase in laid_out if phase.name == "denoise")

    one, three = denoise(1), denoise(3)
    each = 1024 + 1000, 1024 + 9  # image and prefix tokens of the two branches' own buffers
    assert three.kv_cache - one.kv_cache == 2 * sum(each) * ARCH.kv_bytes_per_token
    assert three.activations == pytest.approx(3 * one.activations)


def test_the_text_of_an_interleaved_answer_enters_one_cache_only() -> None:
    workload = Workload(Task.INTERLEAVE, 1024, 1024, images=3, new_tokens=900, prompt_tokens=100)
    laid_out = phases(ARCH, weights_of(tier("BF16").tensors), workload, upstream("full"), H100)
    denoise = next(phase for phase in laid_out if phase.name == "denoise")
    earlier = 2 * (1024 + 2)  # two images were read back, each with its start and end token
    prefixes = 100 + 900 + earlier, 9 + earlier, 9
    assert denoise.kv_cache == ARCH.kv_bytes_per_token * sum(2 * prefix + 1024 for prefix in prefixes)


def test_each_reference_brings_its_start_and_end_token() -> None:
    sizes = ((1024, 1024),) * 3
    found = branches(ARCH, Workload(Task.EDITING, references=sizes, prompt_tokens=300))
    assert [(branch.name, branch.prefix) for branch in found] == [
        ("condition", 300 + 3 * 1024),
        ("image condition", 9 + 3 * 2 + 3 * 1024),
    ]


def test_revisions_drop_the_embedding_and_head_step_by_step() -> None:
    workload = Workload(Task.T2I)
    v0, pr241, pr243, newest = (allocated("BF16", workload, "low", revision) for revision in REVISIONS)
    assert v0 > pr241 > newest > pr243
    embedding_and_head = 2 * device_block(151936 * 4096 * 2)
    assert pr241 - pr243 == embedding_and_head


def test_the_comfyui_node_streams_both_branches_unpinned() -> None:
    found = estimate(ARCH, tier("Q4_K_S"), Workload(Task.T2I), comfyui(2), H100)
    assert found.host.pinned == 0
    assert found.host.pageable > 10 * GIB
    one_layer = weights_of(tier("Q4_K_S").tensors).window_both(1)
    assert found.cards[0].peak.window == 3 * one_layer


def test_pinning_rounds_to_powers_of_two() -> None:
    found = estimate(ARCH, tier("BF16"), Workload(Task.T2I), upstream("low", "pr241"), H100)
    assert found.host.pinned == pytest.approx(38.06 * GIB, rel=1e-3)
    ring = estimate(ARCH, tier("BF16"), Workload(Task.T2I), upstream("low", "pr241", "ring"), H100)
    assert ring.host.pinned == pytest.approx(30.19 * GIB, rel=1e-3)
