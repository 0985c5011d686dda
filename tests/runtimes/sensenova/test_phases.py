"""Phases of every task against numbers worked out by hand from upstream's code, one term at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensenova_shapes import shape_of

from fitcheck.data_files import load
from fitcheck.memory.allocator_blocks import runtime_bytes
from fitcheck.memory.context import context
from fitcheck.memory.dequantization import Linear, cost
from fitcheck.memory.footprint import Phase
from fitcheck.models import catalog
from fitcheck.models.families.sensenova.architecture import GENERATION, UNDERSTANDING
from fitcheck.models.model import Tier
from fitcheck.models.tensors import Tensor
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.sensenova import activations
from fitcheck.runtimes.sensenova.estimate import estimate
from fitcheck.runtimes.sensenova.guidance import (
    branches,
    guiding,
    reference_grid,
    reference_grids,
    reference_tokens,
    velocity_branches,
)
from fitcheck.runtimes.sensenova.host import host_memory
from fitcheck.runtimes.sensenova.layer_weights import LayerWeights, weights_of
from fitcheck.runtimes.sensenova.layout import CardView
from fitcheck.runtimes.sensenova.phases import phases
from fitcheck.runtimes.sensenova.streaming import upstream
from fitcheck.units import GIB

MODEL = catalog.get("sensenova-u1-8b-mot")
ARCH = shape_of(MODEL)
DEVICE = CardView((8, 9), 24 * GIB, 23 * GIB)
HIDDEN, KV, VOCABULARY = 4096 * 2, 172_032, 151_936 * 2  # bytes a token
PIXELS = 3 * 32 * 32 * 2
TABLE = 40_960_000  # one vision tower's rotary tables


def tier(name: str) -> Tier:
    found = MODEL.tier(name)
    assert found is not None
    return found


WEIGHTS = weights_of(tier("BF16").tensors)
BOTH = WEIGHTS.embedding + WEIGHTS.head


def laid_out(workload: Workload, mode: str = "low", revision: str = "phase-aware") -> dict[str, Phase]:
    return {phase.name: phase for phase in phases(ARCH, WEIGHTS, workload, upstream(mode, revision), DEVICE)}


@pytest.mark.parametrize(
    ("task", "cfg", "image_cfg", "names", "velocities"),
    [
        (Task.T2I, 1.0, 1.0, ["condition"], 1),
        (Task.T2I, 1.5, 1.0, ["condition", "unconditional"], 2),
        (Task.EDITING, 1.0, 1.0, ["condition"], 1),
        (Task.EDITING, 4.0, 1.0, ["condition", "image condition"], 2),
        (Task.EDITING, 4.0, 4.0, ["condition", "unconditional"], 2),
        (Task.EDITING, 4.0, 2.0, ["condition", "image condition", "unconditional"], 3),
        (Task.EDITING, 1.0, 2.0, ["condition", "image condition", "unconditional"], 3),
        (Task.INTERLEAVE, 1.0, 1.0, ["condition", "text unconditional", "unconditional"], 1),
        (Task.VQA, 4.0, 1.0, ["condition"], 2),
    ],
)
def test_guidance_decides_what_is_cached_and_how_many_velocities_are_kept(
    task: Task, cfg: float, image_cfg: float, names: list[str], velocities: int
) -> None:
    workload = Workload(task, cfg=cfg, image_cfg=image_cfg)
    assert [branch.name for branch in branches(ARCH, workload)] == names
    assert velocity_branches(workload) == velocities


@pytest.mark.parametrize(
    ("task", "cfg", "image_cfg", "names"),
    [
        (Task.T2I, 1.0, 1.0, ["condition"]),
        (Task.T2I, 4.0, 1.0, ["condition", "unconditional"]),
        (Task.EDITING, 4.0, 1.0, ["condition", "image condition"]),
        (Task.EDITING, 4.0, 4.0, ["condition", "unconditional"]),
        (Task.EDITING, 4.0, 2.0, ["condition", "image condition", "unconditional"]),
        (Task.EDITING, 1.0, 2.0, ["condition", "image condition", "unconditional"]),
        (Task.INTERLEAVE, 1.0, 1.0, ["condition"]),
        (Task.INTERLEAVE, 4.0, 1.0, ["condition", "text unconditional"]),
        (Task.INTERLEAVE, 4.0, 4.0, ["condition", "unconditional"]),
        (Task.INTERLEAVE, 4.0, 2.0, ["condition", "text unconditional", "unconditional"]),
        (Task.INTERLEAVE, 1.0, 2.0, ["condition", "text unconditional", "unconditional"]),
    ],
)
def test_a_step_mixes_the_branches_that_its_guidance_names(
    task: Task, cfg: float, image_cfg: float, names: list[str]
) -> None:
    """Upstream: plain + cfg (full - images) + image_cfg (images - plain). Without guidance of images the plain one
    drops out, with equal guidance of both the one of images does."""
    workload = Workload(task, cfg=cfg, image_cfg=image_cfg)
    assert [branch.name for branch in guiding(branches(ARCH, workload), workload)] == names


@pytest.mark.parametrize(
    ("size", "count", "grid"),
    [
        ((2048, 2048), 1, (64, 64)),
        ((2048, 1152), 1, (36, 64)),
        ((1000, 700), 1, (22, 31)),  # 21.9 and 31.2 tokens
        ((1040, 1008), 1, (32, 32)),  # halves go to the even side
        ((2060, 2040), 1, (64, 64)),  # more than 2048² pixels, but not after rounding
        ((4000, 3000), 1, (55, 73)),  # 1.691 times too long: 55.4 and 73.9
        ((4096, 4096), 1, (64, 64)),
        ((32, 32), 1, (16, 16)),
        ((300, 200), 1, (14, 20)),  # 2.090 times too short: 13.1 and 19.6
        ((8192, 16), 1, (1, 256)),
        ((2048, 2048), 4, (64, 64)),
        ((2048, 2048), 5, (57, 57)),  # 4096² // 5 pixels: 57.2 tokens a side
        ((2048, 2048), 16, (32, 32)),
        ((1024, 1024), 16, (32, 32)),
        ((1024, 512), 16, (16, 32)),
    ],
)
def test_references_are_scaled_as_upstream_does(size: tuple[int, int], count: int, grid: tuple[int, int]) -> None:
    assert reference_grid(ARCH, size, count) == grid
    workload = Workload(Task.EDITING, references=(size,) * count)
    assert reference_grids(ARCH, workload) == (grid,) * count
    assert reference_tokens(ARCH, workload) == count * grid[0] * grid[1]
    assert branches(ARCH, workload)[0].prefix == 286 + count * grid[0] * grid[1]


def test_a_question_about_a_small_image_enlarges_it_less() -> None:
    assert reference_grid(ARCH, (300, 200), task=Task.VQA) == (7, 10)  # 1.045 times too short: 6.5 and 9.8
    assert reference_tokens(ARCH, Workload(Task.VQA, references=((300, 200),))) == 70
    assert reference_grid(ARCH, (300, 200), task=Task.INTERLEAVE) == (14, 20)


@given(st.integers(16, 20_000), st.integers(16, 20_000), st.integers(1, 16))
def test_references_stay_in_upstreams_range(width: int, height: int, count: int) -> None:
    rows, columns = reference_grid(ARCH, (width, height), count)
    if 200 * min(width, height) >= max(width, height):  # upstream refuses what is narrower
        assert 256 <= rows * columns <= min(4096, 16384 // count)


def test_the_second_prefix_runs_on_top_of_the_first_ones_cache() -> None:
    prefix = laid_out(Workload(Task.EDITING, references=((1024, 1024),), prompt_tokens=11))["prefix"]
    assert prefix.kv_cache == 2 * KV * (11 + 1024)
    one = activations.understanding_pass(ARCH, WEIGHTS, 11 + 1024)
    inputs = 2 * (11 + 1024) * HIDDEN + 2 * 4 * (11 + 1024) ** 2 + 1024 * PIXELS
    assert prefix.activations == one.activations + inputs


def test_an_interleaved_prefix_keeps_the_heads_output_of_the_branch_before() -> None:
    prefix = laid_out(Workload(Task.INTERLEAVE, 512, 512, references=((1024, 1024),), prompt_tokens=9))["prefix"]
    long = 9 + 1024
    inputs = (2 * long + 9) * HIDDEN + 4 * (2 * long**2 + 81) + 1024 * PIXELS
    one = activations.understanding_pass(ARCH, WEIGHTS, long)
    assert prefix.kv_cache == 2 * KV * long
    assert prefix.activations == one.activations + inputs + long * VOCABULARY


def test_reading_an_image_back_and_going_on_keep_the_heads_outputs() -> None:
    workload = Workload(Task.INTERLEAVE, 1024, 1024, images=2, new_tokens=400, prompt_tokens=100)
    found = laid_out(workload)
    read = 1024 + 1
    condition, text = 100 + 400 + 1026, 9 + 1026
    cached = condition + text + 9 + read
    first = activations.understanding_pass(ARCH, WEIGHTS, read, condition)
    second = activations.understanding_pass(ARCH, WEIGHTS, read, text)
    sampler = activations.sampler_bytes(ARCH, 1024, 2) + 2 * 1024 * PIXELS
    sides = [
        KV * cached + first.activations + 4 * read * (read + condition),
        KV * (cached + read) + second.activations + 4 * read * (read + text) + read * VOCABULARY,
    ]
    back = found["read image back"]
    assert back.kv_cache + back.activations == max(sides) + sampler + read * HIDDEN
    after = cached + read
    moment = activations.understanding_pass(ARCH, WEIGHTS, 1, after)
    assert found["decode"].activations == moment.activations + 2 * read * VOCABULARY + VOCABULARY
    assert found["decode"].kv_cache == KV * after + KV * after // 42


def test_a_decoded_token_grows_one_layer_at_a_time() -> None:
    workload = Workload(Task.VQA, references=((1024, 1024),), prompt_tokens=76, new_tokens=900)
    decode = laid_out(workload)["decode"]
    assert decode.kv_cache == KV * 2000 + KV * 2000 // 42


@pytest.mark.parametrize(
    ("task", "revision", "phase", "kept"),
    [
        (Task.T2I, "pr241", "denoise", BOTH),
        (Task.T2I, "pr243", "denoise", 0),
        (Task.T2I, "phase-aware", "denoise", 0),
        (Task.T2I, "phase-aware", "prefix", BOTH),
        (Task.EDITING, "phase-aware", "denoise", 0),
        (Task.INTERLEAVE, "phase-aware", "denoise", BOTH),
        (Task.INTERLEAVE, "pr243", "decode", max(WEIGHTS.embedding, WEIGHTS.head)),
        (Task.INTERLEAVE, "pr243", "read image back", WEIGHTS.head),
        (Task.VQA, "phase-aware", "decode", BOTH),
        (Task.VQA, "pr243", "decode", max(WEIGHTS.embedding, WEIGHTS.head)),
        (Task.VQA, "pr243", "embed", WEIGHTS.embedding),
    ],
)
def test_embedding_and_head_are_where_each_revision_leaves_them(
    task: Task, revision: str, phase: str, kept: int
) -> None:
    references = () if task is Task.T2I else ((512, 512),)
    found = laid_out(Workload(task, 512, 512, references=references), "low", revision)[phase]
    tables = {Task.T2I: 0 if phase == "prefix" else 1, Task.VQA: 1}.get(task, 2)
    base = WEIGHTS.outer + 8_519_680 + tables * TABLE
    assert found.resident == base + kept


def test_v0_moves_both_towers_tables_to_the_card_at_the_start() -> None:
    early, late = (laid_out(Workload(Task.T2I, 512, 512), "low", revision)["prefix"] for revision in ("v0", "pr241"))
    assert early.resident - late.resident == 2 * TABLE


def lone(kind: str, elements: int = 10**8, type_name: str = "Q5_K") -> LayerWeights:
    """Weights whose only quantized matrix is ``kind`` of the generation branch."""
    return replace(WEIGHTS, largest={(GENERATION, kind): Linear(elements, type_name, 4096)})


@pytest.mark.parametrize(
    ("kind", "hidden", "wide"),
    [("q_proj", 2, 1), ("o_proj", 2, 1), ("gate_proj", 3, 0), ("up_proj", 3, 3), ("down_proj", 3, 3)],
)
def test_a_matrix_is_dequantized_beside_what_lives_at_that_point(kind: str, hidden: int, wide: int) -> None:
    tokens = 256
    moment = activations.generation_pass(ARCH, lone(kind), tokens, 0)
    assert moment.scratch == round(cost("Q5_K").peak_bytes * 10**8)
    assert moment.activations == (hidden + wide) * tokens * HIDDEN


def test_sdpa_repeats_keys_and_values_to_every_head_and_flash_attention_does_not() -> None:
    tokens, prefix = 256, 20_000
    plain, flash = (activations.generation_pass(ARCH, WEIGHTS, tokens, prefix, flash=on) for on in (False, True))
    query, key = tokens * HIDDEN, tokens * 1024 * 2
    attention = 2 * tokens * HIDDEN + round(4.5 * query) + round(4.5 * key)
    assert plain.total == attention + 2 * (tokens + prefix) * HIDDEN
    assert flash.total == 12 * tokens * HIDDEN  # the MLP: 3u + 3 × 3u


def test_the_mlp_of_a_long_pass_takes_twelve_hidden_tensors() -> None:
    assert activations.generation_pass(ARCH, WEIGHTS, 4096, 340).total == 12 * 4096 * HIDDEN


def test_experts_are_routed_within_their_branch() -> None:
    sparse = catalog.get("sensenova-u1-a3b-mot")
    arch, weights = shape_of(sparse), weights_of(sparse.tiers[0].tensors)
    tokens, hidden = 64, 64 * 2048 * 2
    expert = tokens * (2 * 2048 + 3 * 768) * 2 + 4 * hidden
    routing = tokens * 32 * 6 + tokens * 8 * 32 * 8
    attention = 2 * hidden + round(4.5 * 2 * hidden) + round(4.5 * tokens * 512 * 2)
    found = activations.generation_pass(arch, weights, tokens, 0, flash=True)
    assert found.total == max(expert + routing, attention)
    more = tokens * 128 * 6 + tokens * 8 * 128 * 8 - routing
    sides = [activations._mlp_moments(arch, weights, branch, tokens)[0].total for branch in (GENERATION, UNDERSTANDING)]
    assert sides == [expert + routing, expert + routing + more]


def test_small_tensors_of_a_gguf_file_become_bfloat16_and_blocks_stay() -> None:
    assert runtime_bytes(Tensor("norm", (4096,), "F32")) == 8192
    assert runtime_bytes(Tensor("matrix", (4096, 4096), "Q6_K")) == 4096 * 4096 // 256 * 210


def test_the_window_is_the_largest_run_and_wraps_around() -> None:
    uneven = replace(WEIGHTS, layers={GENERATION: (5, 1, 1, 4), UNDERSTANDING: (1, 1, 7, 1)})
    assert uneven.window(GENERATION, 1) == 5
    assert uneven.window(GENERATION, 2) == 9
    assert uneven.window(GENERATION, 3) == 10
    assert uneven.window(GENERATION, 9) == 11
    assert uneven.window_both(2) == 13
    exact = replace(WEIGHTS, exact={GENERATION: (5, 1, 1, 4), UNDERSTANDING: (1, 1, 7, 1)})
    assert (exact.slot(), exact.slot(both=True)) == (7, 8)


def held(revision: str, mode: str = "low", name: str = "BF16") -> tuple[int, int, int, int]:
    table = tier(name)
    found = host_memory(weights_of(table.tensors), upstream(mode, revision), quantized=table.quantized)
    return found.pinned, found.total.low, found.total.best, found.total.high


def test_later_revisions_pin_embedding_and_head_too_each_in_two_gibibytes() -> None:
    assert held("phase-aware")[0] - held("pr241")[0] == held("pr243")[0] - held("pr241")[0] == 4 * GIB


def test_the_shard_that_is_being_pinned_counts_where_it_was_seen_to() -> None:
    table = load("runtimes.sensenova", "host")
    process, shard = table["process"]["upstream"]["streamed"]["bytes"], table["mapped_shard"]["bytes"]
    for revision, more in (("v0", shard), ("pr241", [0, 0, 0]), ("pr243", shard), ("phase-aware", shard)):
        pinned, *total = held(revision)
        assert [one - pinned for one in total] == [a + b for a, b in zip(process, more, strict=True)]
    pinned, *total = held("phase-aware", name="Q8_0")
    assert [one - pinned for one in total] == process, "clean pages of a GGUF file are dropped before memory is short"


def test_a_checkpoint_passes_through_host_memory_and_a_mapped_file_does_not() -> None:
    process = load("runtimes.sensenova", "host")["process"]["upstream"]["resident"]["bytes"]
    for name, passing in (("BF16", tier("BF16").tensors.nbytes), ("Q8_0", 0)):
        assert held("phase-aware", "full", name) == (0, process[0], process[1], process[2] + passing)


def test_the_context_comes_on_top_of_what_is_reserved_and_of_what_is_required() -> None:
    found = estimate(ARCH, tier("BF16"), Workload(Task.T2I), upstream("balanced"), DEVICE)
    beside = context((8, 9), second_stream=True)
    assert found.cards[0].card == found.cards[0].reserved + beside
    assert (
        found.cards[0].allocated.best + beside.best
        <= found.cards[0].required.best
        <= found.cards[0].card.best - 2 * GIB
    )
    assert found.cards[0].required.low >= found.cards[0].allocated.low + beside.low
    beyond = load("memory", "allocator")["moved_prefix"]["bytes"][1]
    assert (found.cards[0].reserved.best - beyond) % (2 << 20) == 0


def test_an_untested_family_has_a_wider_interval() -> None:
    sparse = catalog.get("sensenova-u1-a3b-mot")
    for arch, one, width in ((ARCH, tier("BF16"), 0.01), (shape_of(sparse), sparse.tiers[0], 0.08)):
        allocated = estimate(arch, one, Workload(Task.T2I), upstream("low"), DEVICE).cards[0].allocated
        assert allocated.high / allocated.best == pytest.approx(1 + width)
        assert allocated.low / allocated.best == pytest.approx(1 - width)
