"""Order relations of the speed model: what is slower stays slower, whatever the constants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensenova_shapes import shape_of

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Link
from fitcheck.models import catalog
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova import forward as work
from fitcheck.runtimes.sensenova.guidance import branches
from fitcheck.runtimes.sensenova.pass_work import denoising_pass, passes_of
from fitcheck.runtimes.sensenova.seconds import seconds
from fitcheck.runtimes.sensenova.streaming import comfyui, upstream
from fitcheck.speed.duration import Duration
from fitcheck.speed.generations import slowness
from fitcheck.speed.rates import Calibration, link_rate, rates_of
from fitcheck.units import Interval

MODEL = catalog.get("sensenova-u1-8b-mot")
ARCH = shape_of(MODEL)
CARD = find_card("RTX 4070")
LINK = Link(4, 16)
T2I = Workload(Task.T2I, steps=8, cfg=1.0)
LAYERS = 42 * 385_892_864  # bytes of one branch in bfloat16
ENDS = 2 * 151_936 * 4096 * 2  # embedding and head
SLOW = ((1 << 20, 1e9), (1 << 30, 1e9))


def known(duration: Duration | None) -> Interval[float]:
    """The seconds of an estimate that has them."""
    assert duration is not None
    assert duration.seconds is not None
    return duration.seconds


def took(
    tier: str = "Q4_K_S", mode: str = "full", workload: Workload = T2I, card: Card = CARD, link: Link = LINK
) -> Duration:
    found = MODEL.tier(tier)
    assert found is not None
    duration = seconds(ARCH, found.tensors, workload, upstream(mode), card, link)
    assert duration is not None
    return duration


def test_one_forward_is_the_published_79_teraflop() -> None:
    tier = MODEL.tier("BF16")
    assert tier is not None
    one = work.forward(ARCH, tier.tensors, "generation", 4096, 340, eager=False) + work.head(ARCH, 4096)
    assert one.matrix_flops + one.attention_flops == pytest.approx(79.3e12, rel=0.01)


def test_images_of_a_batch_do_not_attend_to_each_other() -> None:
    tier = MODEL.tier("BF16")
    assert tier is not None
    one = work.forward(ARCH, tier.tensors, "generation", 1024, 340, eager=False)
    four = work.forward(ARCH, tier.tensors, "generation", 4096, 340, eager=False, batch=4)
    assert four.attention_flops == 4 * one.attention_flops
    assert four.matrix_flops == 4 * one.matrix_flops
    weights = 2.0 * one.matrix_flops / 2 / 1024  # bf16, read once a pass whatever the batch
    assert four.traffic - weights == pytest.approx(4 * (one.traffic - weights), rel=1e-3)
    alone, together = (known(took(workload=replace(T2I, batch=batch))).best for batch in (1, 4))
    assert 2 * alone < together < 4 * alone


def test_a_denoising_pass_computes_every_image_of_a_batch() -> None:
    """What tells whether the host keeps up: 8 images are 8 times the FLOP, weights are read and kernels issued once."""
    tier = MODEL.tier("BF16")
    assert tier is not None
    for cfg in (1.0, 4.0):
        workload = Workload(Task.T2I, 1024, 1024, steps=8, cfg=cfg)
        one, eight = (
            denoising_pass(ARCH, tier.tensors, replace(workload, batch=batch), upstream("low")) for batch in (1, 8)
        )
        assert eight.work.matrix_flops == 8 * one.work.matrix_flops
        assert eight.work.attention_flops == 8 * one.work.attention_flops
        weights = LAYERS + 42 * 4096 * 2  # in bfloat16, and little besides
        assert eight.work.traffic - weights == pytest.approx(8 * (one.work.traffic - weights), rel=1e-2)
        assert eight.work.kernels == one.work.kernels
        assert (eight.ahead, eight.waited) == (one.ahead, one.waited)
        assert passes_of(ARCH, tier.tensors, replace(workload, batch=8), upstream("low"), 1.0)[-1].work == eight.work


@pytest.mark.parametrize(
    ("task", "cfg", "image_cfg", "prefixes"),
    [
        (Task.INTERLEAVE, 4.0, 1.0, ["condition", "text unconditional"]),
        (Task.INTERLEAVE, 4.0, 4.0, ["condition", "unconditional"]),
        (Task.INTERLEAVE, 4.0, 2.0, ["condition", "text unconditional", "unconditional"]),
        (Task.EDITING, 4.0, 4.0, ["condition", "unconditional"]),
    ],
)
def test_a_step_attends_to_the_caches_of_the_branches_that_guide(
    task: Task, cfg: float, image_cfg: float, prefixes: list[str]
) -> None:
    """4 FLOP for each of heads x head length x key: the image itself, and the branch's own prefix."""
    tier = MODEL.tier("BF16")
    assert tier is not None
    workload = Workload(task, 512, 512, steps=3, cfg=cfg, image_cfg=image_cfg, references=((1024, 1024),), new_tokens=1)
    image = 16 * 16
    known = {branch.name: branch.prefix for branch in branches(ARCH, workload)}
    plan = passes_of(ARCH, tier.tensors, workload, upstream("full"), 1.0)
    keys = [
        one.work.attention_flops / (4.0 * image * ARCH.heads * ARCH.head_dim * ARCH.layers)
        for one in plan
        if one.branch == "generation"
    ]
    text = {"condition": 1} if task is Task.INTERLEAVE else {}  # what it wrote before the picture
    assert keys == [image + known[name] + text.get(name, 0) for name in prefixes]


@pytest.mark.parametrize("tier", ["BF16", "Q8_0", "Q6_K", "Q4_K_S"])
def test_streaming_is_never_faster_than_staying(tier: str) -> None:
    full, balanced, low = (known(took(tier, mode)).best for mode in ("full", "balanced", "low"))
    assert full <= balanced <= low


def test_k_quants_pay_for_dequantization_and_q8_pays_less() -> None:
    assert took("BF16").part("dequantization") == 0
    assert (
        took("Q8_0").part("dequantization")
        < took("Q4_K_S").part("dequantization")
        < took("Q6_K").part("dequantization")
    )


def test_dequantization_can_cost_more_than_the_matrix_products_of_a_small_image() -> None:
    small = took("Q6_K", workload=replace(T2I, width=512, height=512))
    assert small.part("dequantization") > small.part("compute")


@given(st.integers(3, 5), st.sampled_from([4, 8, 16]), st.sampled_from(["low", "balanced", "fast"]))
def test_a_wider_link_is_never_slower(generation: int, lanes: int, mode: str) -> None:
    narrow, wide = took(mode=mode, link=Link(generation, lanes)), took(mode=mode, link=Link(generation, lanes * 2))
    assert known(wide).best <= known(narrow).best
    assert known(wide).high <= known(narrow).high


@given(st.integers(1, 60), st.sampled_from([1.0, 4.0]), st.integers(16, 64))
def test_more_work_takes_longer(steps: int, cfg: float, side: int) -> None:
    workload = Workload(Task.T2I, 32 * side, 32 * side, steps, cfg)
    base = known(took(workload=workload))
    assert base.low <= base.best <= base.high
    assert known(took(workload=replace(workload, steps=steps + 1))).best > base.best
    assert known(took(workload=replace(workload, width=workload.width + 32))).best > base.best


def test_a_card_without_rates_or_a_link_without_width_gives_no_seconds() -> None:
    tier = MODEL.tier("Q4_K_S")
    assert tier is not None
    unknown = replace(CARD, tensor_flops=None)
    assert rates_of(unknown) is None
    assert seconds(ARCH, tier.tensors, T2I, upstream("full"), unknown, LINK) is None
    assert seconds(ARCH, tier.tensors, T2I, upstream("low"), CARD, Link()) is None
    assert seconds(ARCH, tier.tensors, T2I, upstream("full"), CARD, Link()) is not None


def test_pageable_copies_are_slower_than_pinned_ones() -> None:
    pinned, pageable = link_rate(LINK, pinned=True), link_rate(LINK, pinned=False)
    assert pinned is not None
    assert pageable is not None
    assert pageable.best < pinned.best
    tier = MODEL.tier("Q4_K_S")
    assert tier is not None
    node = seconds(ARCH, tier.tensors, T2I, comfyui(2), CARD, LINK)
    assert known(node).best > known(took(mode="balanced")).best


def test_calibration_scales_compute_and_takes_the_measured_link() -> None:
    tier = MODEL.tier("BF16")
    assert tier is not None
    base = known(took("BF16")).best
    said = Calibration((("compute", 2.0),), (("seconds", Interval(1.8, 2.0, 2.3)),))
    twice = seconds(ARCH, tier.tensors, T2I, upstream("full"), CARD, LINK, calibration=said)
    ends = (known(twice).low, known(twice).best, known(twice).high)
    assert ends == pytest.approx((1.8 * base, 2 * base, 2.3 * base))
    assert twice is not None
    assert twice.part("compute") == pytest.approx(2 * took("BF16").part("compute"))
    slow = seconds(ARCH, tier.tensors, T2I, upstream("low"), CARD, LINK, calibration=Calibration(pinned=(SLOW,)))
    assert slow is not None
    assert slow.part("streaming") == pytest.approx((9 * LAYERS + ENDS) / 1e9)
    assert known(slow).best == pytest.approx(known(took("BF16")).best + slow.part("streaming"), rel=0.01)


def test_answers_in_offload_modes_stream_the_branch_for_every_token() -> None:
    answer = Workload(Task.VQA, references=((1024, 1024),), new_tokens=100)
    streamed = took(mode="low", workload=answer).amount("streamed")
    one_branch = took(mode="low", workload=replace(answer, new_tokens=1)).amount("streamed") // 2
    assert streamed == 101 * one_branch


def parts(
    workload: Workload,
    mode: str,
    tier: str = "BF16",
    *,
    kept: float = 1.0,
    policy: str = "upstream",
    revision: str = "pr241",
) -> Duration:
    found = MODEL.tier(tier)
    assert found is not None
    duration = seconds(
        ARCH, found.tensors, workload, upstream(mode, revision, policy), CARD, Link(measured_pinned=25e9),
        kept_share=kept,
    )  # fmt: skip
    assert duration is not None
    return duration


SMALL = Workload(Task.T2I, 256, 256, steps=10, cfg=4.0)


def test_every_pass_streams_its_branch_and_fast_only_what_does_not_stay() -> None:
    """2 prefixes and 10 steps of 2 branches; the first pass of mode fast brings everything. Two layers copied ahead are
    dropped when denoising begins, and two when the next picture does, unless they stay."""
    ahead = 2 * LAYERS // 42
    assert parts(SMALL, "full").amount("streamed") == 0
    assert parts(SMALL, "low").amount("streamed") == (2 + 20) * LAYERS
    assert parts(SMALL, "balanced").amount("streamed") == (2 + 20) * LAYERS + 2 * ahead
    assert parts(SMALL, "fast").amount("streamed") == (2 + 1) * LAYERS + ahead
    quarter = parts(SMALL, "fast", kept=0.25).amount("streamed")
    assert quarter == pytest.approx((2 + 1 + 19 * 0.75) * LAYERS + ahead, rel=1e-9)
    one = parts(replace(SMALL, steps=1, cfg=1.0), "fast", kept=0.25).amount("streamed")
    assert one == 2 * LAYERS + ahead


def test_v0_never_changes_what_it_streams() -> None:
    """Both branches of a layer travel together, so nothing that was copied ahead is dropped."""
    assert parts(SMALL, "balanced", revision="v0").amount("streamed") == (2 + 20) * 2 * LAYERS


def test_embedding_and_head_return_for_each_picture_and_the_card_waits_for_them() -> None:
    for mode in ("low", "balanced"):
        resident, moving = (parts(SMALL, mode, revision=revision) for revision in ("pr241", "phase-aware"))
        assert moving.amount("streamed") == resident.amount("streamed") + ENDS
        assert known(moving).best == pytest.approx(known(resident).best + ENDS / 25e9, abs=1e-4)
    assert parts(SMALL, "full", revision="phase-aware").amount("streamed") == 0
    answer = Workload(Task.VQA, references=((256, 256),), new_tokens=3)
    assert parts(answer, "low", revision="phase-aware").amount("streamed") == 4 * LAYERS
    own = parts(answer, "low", revision="pr243").amount("streamed")
    assert own == 4 * (LAYERS + ENDS)
    assert parts(SMALL, "low", revision="pr243").amount("streamed") == 22 * LAYERS + 2 * ENDS // 2
    # 3 prefixes and 10 tokens need both, each of 2 pictures is read back twice through the head
    story = Workload(Task.INTERLEAVE, 256, 256, steps=7, cfg=1.0, images=2, new_tokens=10)
    own = parts(story, "low", revision="pr243").amount("streamed")
    assert own == (3 + 10 + 2 * 7 + 2 * 2) * LAYERS + (3 + 10) * ENDS + 2 * 2 * ENDS // 2


def test_interleaved_answers_run_one_velocity_branch_without_guidance() -> None:
    """3 prefixes, 2 images: a step each, text token by token, and each image read back into two caches."""
    workload = Workload(Task.INTERLEAVE, 256, 256, steps=7, cfg=1.0, images=2, new_tokens=10)
    assert parts(workload, "low").amount("streamed") == (3 + 10 + 2 * 7 + 2 * 2) * LAYERS
    assert parts(replace(workload, cfg=4.0), "low").amount("streamed") == (3 + 10 + 2 * 14 + 2 * 2) * LAYERS
    # text to image and back, twice
    assert parts(workload, "balanced").amount("streamed") == (3 + 10 + 2 * 7 + 2 * 2) * LAYERS + 4 * 2 * LAYERS // 42


def test_every_copy_is_set_up() -> None:
    """13 tensors a layer travel one by one upstream, as one in a ring; the copies alone take 16.2 GB at 25 GB/s."""
    passes, plain = 22, 22 * LAYERS / 25e9
    assert parts(SMALL, "low").part("streaming") == pytest.approx(plain + passes * 42 * 13 * 5e-6, rel=1e-9)
    assert parts(SMALL, "low", policy="ring").part("streaming") == pytest.approx(plain + passes * 42 * 5e-6, rel=1e-9)
    dropped = 2 * 2 * (LAYERS / 42 / 25e9 + 13 * 5e-6)
    assert parts(SMALL, "balanced").part("streaming") == pytest.approx(
        plain + passes * 42 * 13 * 5e-6 + dropped, rel=1e-9
    )


def test_the_ends_of_seconds_take_the_ends_of_the_link() -> None:
    nbytes, copies = 22 * LAYERS, 22 * 42 * 13
    tier = MODEL.tier("BF16")
    assert tier is not None
    ends = []
    for rate, policy in ((25e9, "upstream"), (12.5e9, "upstream"), (25e9, "ring")):
        link, placement = Link(measured_pinned=rate), upstream("low", "pr241", policy)
        found = seconds(ARCH, tier.tensors, SMALL, placement, CARD, link)
        ends.append((known(found).low, known(found).best, known(found).high))
    fast, slow, ring = ends
    for end, factor in enumerate((1.05, 1.0, 0.95)):
        assert slow[end] - fast[end] == pytest.approx(nbytes / 25e9 / factor)
        assert fast[end] - ring[end] == pytest.approx((copies - 22 * 42) * 5e-6)


def test_tensors_that_are_pointed_anew_cost_the_host_time() -> None:
    """Where the card waits for the host: 13 tensors a layer of 42, at 60 microseconds each."""
    card = find_card("H100 SXM")
    tiny = replace(SMALL, width=64, height=64)
    tier = MODEL.tier("BF16")
    assert tier is not None
    full, low, balanced = (
        seconds(ARCH, tier.tensors, tiny, upstream(mode, "pr241"), card, Link(measured_pinned=1e15))
        for mode in ("full", "low", "balanced")
    )
    assert full is not None
    assert low is not None
    assert balanced is not None
    for streamed in (low, balanced):
        added = known(streamed).best - known(full).best - 22 * 42 * 13 * 5e-6 * (streamed is low)
        assert added == pytest.approx(22 * 42 * 13 * 6e-5, rel=0.1)


def test_what_binds_is_the_largest_part() -> None:
    assert parts(SMALL, "low").binding == "streaming weights over the link"
    assert parts(SMALL, "full", "Q6_K").binding == "dequantization"
    assert parts(replace(SMALL, width=2048, height=2048), "low").binding == "compute"


def test_an_answers_tokens_attend_to_half_of_it_on_average() -> None:
    def each(new: int, prompt: int) -> float:
        return parts(Workload(Task.VQA, references=((512, 512),), prompt_tokens=prompt, new_tokens=new), "full").part(
            "compute"
        )

    long, short = each(2000, 1000), each(1, 1000)
    shifted = each(2000, 2000) - each(1, 2000)
    assert long - short < shifted  # a later start reads a longer cache
    tier = MODEL.tier("BF16")
    assert tier is not None
    one = work.forward(ARCH, tier.tensors, "understanding", 1, 256 + 1000 + 1000, eager=True) + work.vocabulary(ARCH, 1)
    rates = rates_of(CARD)
    assert rates is not None
    expected = one.matrix_flops / rates.matrix.best + one.attention_flops / rates.attention.best
    expected += one.traffic / rates.elementwise.best
    prefix = work.forward(ARCH, tier.tensors, "understanding", 256 + 1000, 0, eager=True)
    first = prefix.matrix_flops / rates.matrix.best + prefix.attention_flops / rates.attention.best
    first += prefix.traffic / rates.elementwise.best
    assert long == pytest.approx(first + 2000 * expected, rel=1e-9)


def test_multiprocessors_limit_elementwise_kernels_where_bandwidth_does_not() -> None:
    """An H100's 67 TFLOP/s are 132 multiprocessors of 128 lanes at 1.98 GHz; 6.2 B a clock each is below 3.35 TB/s."""
    rates = rates_of(find_card("H100 SXM"))
    assert rates is not None
    assert rates.elementwise.best == pytest.approx(132 * 1.98e9 * 6.2, rel=0.01)
    ada = rates_of(find_card("RTX 4060"))
    assert ada is not None
    assert ada.elementwise.best == pytest.approx(0.85 * 272e9 / slowness(find_card("RTX 4060")).best)


def test_bfloat16_begins_with_compute_capability_8() -> None:
    assert rates_of(find_card("A100 PCIe 80GB")) is not None
    assert rates_of(find_card("RTX 2080 Ti")) is None


def test_a_measured_link_keeps_a_twentieth_of_doubt() -> None:
    rate = link_rate(replace(LINK, measured_pinned=50e9), pinned=True)
    assert rate is not None
    assert (rate.low, rate.best, rate.high) == pytest.approx((47.5e9, 50e9, 52.5e9))


def test_link_records_take_the_place_of_the_links_rate() -> None:
    """Both calibrated and by rate alone, a card that only its link limits takes 10 s for 10 GB at 1 GB/s."""
    tier = MODEL.tier("BF16")
    assert tier is not None
    calibration = Calibration(pinned=(SLOW,), pageable=(((1 << 30, 0.5e9),),))
    wide, unknown = Link(5, 16), Link()
    pinned, pageable = (
        seconds(ARCH, tier.tensors, SMALL, placement, CARD, unknown, calibration=calibration)
        for placement in (upstream("low", "v0"), comfyui(2))
    )
    assert pinned is not None
    assert pageable is not None
    assert pinned.part("streaming") == pytest.approx(44 * LAYERS / 1e9)
    assert pageable.part("streaming") == pytest.approx(44 * LAYERS / 0.5e9)
    by_rate = seconds(ARCH, tier.tensors, SMALL, upstream("low", "v0"), CARD, wide, calibration=Calibration())
    assert by_rate is not None
    assert by_rate.part("streaming") < pinned.part("streaming") / 40
    assert seconds(ARCH, tier.tensors, SMALL, upstream("low"), CARD, unknown, calibration=Calibration()) is None


def test_sparse_passes_compute_the_chosen_experts_and_read_those_that_are_touched() -> None:
    sparse = catalog.get("sensenova-u1-a3b-mot")
    arch, table = shape_of(sparse), sparse.tiers[0].tensors
    expert, attention = 3 * 768 * 2048, 2 * 2048 * 4096 + 2 * 2048 * 512
    one = work.forward(arch, table, "understanding", 1, 0, eager=True)
    assert one.matrix_flops == pytest.approx(2 * 48 * (attention + 8 * expert), rel=0.01)
    assert one.traffic == pytest.approx(2 * 48 * (attention + 8 * expert), rel=0.02)
    many = work.forward(arch, table, "understanding", 1000, 0, eager=True)
    assert many.matrix_flops == pytest.approx(1000 * one.matrix_flops)
    moved = work._elementwise_bytes(arch, 1000, 1000, eager=True, batch=1) * 48
    assert many.traffic - moved == pytest.approx(2 * 48 * (attention + 128 * expert), rel=0.02)


def test_eager_attention_moves_its_scores_and_a_pass_reads_the_cache() -> None:
    tier = MODEL.tier("BF16")
    assert tier is not None
    eager, fused = (work.forward(ARCH, tier.tensors, "understanding", 1000, 0, eager=on) for on in (True, False))
    assert eager.traffic - fused.traffic == 42 * 32 * 1000 * 1000 * 30
    short, long = (work.forward(ARCH, tier.tensors, "generation", 16, past, eager=False) for past in (0, 1000))
    repeated = 42 * 1.25 * 2 * 1000 * 4096 * 2
    assert long.traffic - short.traffic == pytest.approx(2 * 172_032 * 1000 + repeated)
