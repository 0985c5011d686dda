"""Order relations of the speed model: what is slower stays slower, whatever the constants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitcheck.hardware.card import Card
from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.machine import Link
from fitcheck.memory.placement import comfyui, upstream
from fitcheck.models import catalog
from fitcheck.models.sensenova import SenseNovaArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.speed import work
from fitcheck.speed.rates import Calibration, link_rate, rates_of
from fitcheck.speed.sensenova import Duration, seconds

MODEL = catalog.get("sensenova-u1-8b-mot")
ARCH = MODEL.architecture
assert isinstance(ARCH, SenseNovaArchitecture)
CARD = find_card("RTX 4070")
LINK = Link(4, 16)
T2I = Workload(Task.T2I, steps=8, cfg=1.0)


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
    alone, together = (took(workload=replace(T2I, batch=batch)).seconds.best for batch in (1, 4))
    assert 2 * alone < together < 4 * alone


@pytest.mark.parametrize("tier", ["BF16", "Q8_0", "Q6_K", "Q4_K_S"])
def test_streaming_is_never_faster_than_staying(tier: str) -> None:
    full, balanced, low = (took(tier, mode).seconds.best for mode in ("full", "balanced", "low"))
    assert full <= balanced <= low


def test_k_quants_pay_for_dequantization_and_q8_pays_less() -> None:
    assert took("BF16").dequantization == 0
    assert took("Q8_0").dequantization < took("Q4_K_S").dequantization < took("Q6_K").dequantization


def test_dequantization_can_cost_more_than_the_matrix_products_of_a_small_image() -> None:
    small = took("Q6_K", workload=replace(T2I, width=512, height=512))
    assert small.dequantization > small.compute


@given(st.integers(3, 5), st.sampled_from([4, 8, 16]), st.sampled_from(["low", "balanced", "fast"]))
def test_a_wider_link_is_never_slower(generation: int, lanes: int, mode: str) -> None:
    narrow, wide = took(mode=mode, link=Link(generation, lanes)), took(mode=mode, link=Link(generation, lanes * 2))
    assert wide.seconds.best <= narrow.seconds.best
    assert wide.seconds.high <= narrow.seconds.high


@given(st.integers(1, 60), st.sampled_from([1.0, 4.0]), st.integers(16, 64))
def test_more_work_takes_longer(steps: int, cfg: float, side: int) -> None:
    workload = Workload(Task.T2I, 32 * side, 32 * side, steps, cfg)
    base = took(workload=workload).seconds
    assert base.low <= base.best <= base.high
    assert took(workload=replace(workload, steps=steps + 1)).seconds.best > base.best
    assert took(workload=replace(workload, width=workload.width + 32)).seconds.best > base.best


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
    assert node is not None
    assert node.seconds.best > took(mode="balanced").seconds.best


def test_calibration_scales_compute_and_takes_the_measured_link() -> None:
    tier = MODEL.tier("BF16")
    assert tier is not None
    base = took("BF16").seconds.best
    twice = seconds(ARCH, tier.tensors, T2I, upstream("full"), CARD, LINK, calibration=Calibration(2.0, 0.1, records=1))
    assert twice is not None
    assert twice.seconds.best == pytest.approx(2 * base)
    assert twice.seconds.low == pytest.approx(1.8 * base)
    slow = seconds(ARCH, tier.tensors, T2I, upstream("low"), CARD, LINK, calibration=Calibration(pinned=1e9, records=1))
    assert slow is not None
    assert slow.stream > 100


def test_answers_in_offload_modes_stream_the_branch_for_every_token() -> None:
    answer = Workload(Task.VQA, references=((1024, 1024),), new_tokens=100)
    streamed = took(mode="low", workload=answer).streamed_bytes
    one_branch = took(mode="low", workload=replace(answer, new_tokens=1)).streamed_bytes // 2
    assert streamed == 101 * one_branch
