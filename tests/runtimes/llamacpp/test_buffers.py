"""Options, placement and caches of llama.cpp, and properties that any estimate must have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fitcheck.errors import InputError
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.families.language.known_models import known_language_model, known_language_models
from fitcheck.models.families.language.mixture import mixture_table
from fitcheck.models.tensors import TensorTable
from fitcheck.runtimes.llamacpp.arena import Arena
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions, parse_overrides
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate, estimate
from fitcheck.runtimes.llamacpp.builds import day_of_change, newest_build, parse_build
from fitcheck.runtimes.llamacpp.caches import layer_caches, sliding_cells
from fitcheck.runtimes.llamacpp.schedule import OFFLOAD_MIN_ROWS
from fitcheck.runtimes.llamacpp.weight_placement import HOST, layer_devices
from fitcheck.units import GIB, MIB

LLAMA = known_language_model("llama-3.1-8b")
TABLE = mixture_table(LLAMA, "Q4_K_M")


def total_cache(model: str, **options: Any) -> int:
    architecture = known_language_model(model)
    return sum(layer.total for layer in layer_caches(architecture, LlamaOptions(**options)))


def test_a_plain_cache_is_layers_times_context_times_heads() -> None:
    assert total_cache("llama-3.1-8b", context=8192) == 32 * 8192 * 8 * 128 * 2 * 2


def test_a_quantized_cache_takes_its_blocks() -> None:
    small = total_cache("llama-3.1-8b", context=8192, cache_type_k="q8_0", cache_type_v="q8_0")
    assert small == 32 * 8192 * 8 * 128 * 2 * 34 // 32


def test_sliding_layers_hold_a_window_and_a_micro_batch() -> None:
    gemma = known_language_model("gemma-3-27b")
    options = LlamaOptions(context=32768, sequences=1)
    assert sliding_cells(gemma, options) == 1536
    dense = sum(not block.sliding for block in gemma.blocks)
    assert dense == 10
    cells = dense * 32768 + (62 - dense) * 1536
    assert total_cache("gemma-3-27b", context=32768, sequences=1) == cells * 16 * 128 * 2 * 2
    assert sliding_cells(gemma, LlamaOptions(context=32768, full_sliding_cache=True)) == 32768


def test_slots_multiply_windows_and_states() -> None:
    gemma = known_language_model("gemma-3-27b")
    assert sliding_cells(gemma, LlamaOptions(context=32768, sequences=4, unified=True)) == 4 * 1024 + 512
    assert sliding_cells(gemma, LlamaOptions(context=32768, sequences=4, unified=False)) == 4 * 1536
    one = total_cache("qwen3-next-80b-a3b", context=4096, sequences=1)
    four = total_cache("qwen3-next-80b-a3b", context=4096, sequences=4, unified=True)
    assert four - one == 3 * 36 * (3 * 8192 + 128 * 4096) * 4


def test_latent_attention_by_build() -> None:
    new = total_cache("deepseek-v3", context=16384, build=parse_build("2026-06"))
    old = total_cache("deepseek-v3", context=16384, build=parse_build("2025-05"))
    assert new == 61 * 16384 * 576 * 2
    assert old == 61 * 16384 * (576 + 512) * 2
    heads = total_cache("deepseek-v3 (full heads)", context=16384, build=parse_build("2025-05"))
    assert heads == 61 * 16384 * 128 * (192 + 128) * 2


@pytest.mark.parametrize(
    ("mode", "flash", "elements"), [(1, False, 576 + 512), (1, True, 576), (2, True, 576), (3, True, 576)]
)
def test_the_forks_latent_modes(mode: int, flash: bool, elements: int) -> None:
    fork = parse_build("ik_llama.cpp")
    held = total_cache("deepseek-v3", context=4096, build=fork, latent_mode=mode, flash_attention=flash)
    assert held == 61 * 4096 * elements * 2


def test_a_server_of_late_takes_four_slots_and_says_so() -> None:
    options = LlamaOptions(context=8192)
    assert options.slots == 4
    assert LlamaOptions(context=8192, build=parse_build("b6000")).slots == 1
    assert any("4 slots" in text for text in estimate(LLAMA, TABLE, options, vram=[12 * GIB]).assumptions)


def test_gpu_layers_place_the_head_first_since_the_end_of_2025() -> None:
    new = layer_devices(LLAMA, LlamaOptions(gpu_layers=10), [8 * GIB])
    old = layer_devices(LLAMA, LlamaOptions(gpu_layers=10, build=parse_build("2025-06")), [8 * GIB])
    assert (new.layers.count(0), new.output) == (9, 0)
    assert (old.layers.count(0), old.output) == (10, HOST)
    assert layer_devices(LLAMA, LlamaOptions(), []).full_offload is False


def test_layers_split_over_cards_by_free_memory_or_as_told() -> None:
    even = layer_devices(LLAMA, LlamaOptions(), [8 * GIB, 8 * GIB])
    assert [even.layers.count(card) for card in (0, 1)] == [17, 15]
    told = layer_devices(LLAMA, LlamaOptions(tensor_split=(3, 1)), [8 * GIB, 8 * GIB])
    assert told.layers.count(0) > 2 * told.layers.count(1)
    free = [6 * GIB, 2 * GIB]
    assert layer_devices(LLAMA, LlamaOptions(tensor_split=(0, 0)), free) == layer_devices(LLAMA, LlamaOptions(), free)


@pytest.mark.parametrize("card", [0, 1])
def test_without_a_split_all_lies_on_the_main_card(card: int) -> None:
    found = estimate(LLAMA, TABLE, LlamaOptions(split_mode="none", main_gpu=card), vram=[8 * GIB, 24 * GIB])
    used, idle = found.cards[card], found.cards[1 - card]
    assert used.weights > 4 * GIB
    assert (idle.weights, idle.kv_cache) == (0, 0)


def test_experts_on_the_host_leave_the_card_and_need_room_for_one() -> None:
    architecture = known_language_model("qwen3-30b-a3b")
    table = mixture_table(architecture, "Q4_K_M")
    full = estimate(architecture, table, LlamaOptions(context=4096), vram=[24 * GIB]).cards[0]
    host = estimate(architecture, table, LlamaOptions(context=4096, cpu_moe_layers=48), vram=[24 * GIB]).cards[0]
    largest = max(tensor.nbytes for tensor in table if tensor.role == "expert")
    assert host.weights < full.weights / 10
    assert host.compute > largest > host.compute - 200 * MIB


def test_as_many_layers_of_experts_stay_on_the_host_as_were_asked() -> None:
    architecture = known_language_model("qwen3-30b-a3b")
    table = mixture_table(architecture, "Q8_0")
    layer = sum(tensor.nbytes for tensor in table if tensor.role == "expert" and tensor.layer == 0)
    on_card = [
        estimate(architecture, table, LlamaOptions(sequences=1, cpu_moe_layers=count), vram=[80 * GIB]).cards[0].weights
        for count in (0, 1, 5)
    ]
    moved = [on_card[0] - one for one in on_card]
    assert layer <= moved[1] < 1.2 * layer  # a card pads rows of 768 to 1,024
    assert moved[2] == 5 * moved[1]


def test_the_tied_head_is_copied_to_the_card() -> None:
    gemma = known_language_model("gemma-4-12b")
    table = mixture_table(gemma, "Q6_K")
    result = estimate(gemma, table, LlamaOptions(context=4096), vram=[24 * GIB])
    assert result.cards[0].weights / MIB == pytest.approx(9317.65, abs=0.02)
    assert result.host.weights / MIB == pytest.approx(787.5, abs=0.01)


def test_overrides_are_parsed_and_refused_when_dangerous() -> None:
    first, second = parse_overrides(r"exps=CPU,blk\.1\.=CUDA1", 2)
    assert first.matches("blk.3.ffn_up_exps.weight")
    assert first.device is None
    assert second.device == 1
    for text in ("exps", "exps=CUDA2", "(a+)+b=CPU", "[=CPU", "x" * 300 + "=CPU", ",".join(["a=CPU"] * 65)):
        with pytest.raises(InputError):
            parse_overrides(text, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"context": 0},
        {"micro_batch": 0},
        {"sequences": 0},
        {"cache_type_k": "q9"},
        {"program": "chat"},
        {"cache_type_v": "q8_0", "flash_attention": False},
        {"tensor_split": (-1.0, 1.0)},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        LlamaOptions(**options)


@pytest.mark.parametrize("text", ["b12", "2026-13", "newish", "2026-02-31", "2029-01", "b99999"])
def test_builds_that_cannot_be(text: str) -> None:
    with pytest.raises(InputError):
        parse_build(text)


def test_build_numbers_become_dates() -> None:
    assert parse_build("b7079").day.isoformat() == "2025-11-16"
    assert parse_build("b6097").day.isoformat() == "2025-08-06"
    assert parse_build("b6097").has("set_rows")
    assert parse_build("2027-05").day > newest_build().day
    assert parse_build("b9272").has("rotated_cache")
    assert not parse_build("b9272").has("outputs_limited")
    assert parse_build("b9999").has("outputs_limited")
    assert parse_build("b6301").day < day_of_change("automatic_flash") < parse_build("b6413").day
    assert parse_build("b11469").day < newest_build().day


def test_the_fork_has_what_came_before_it_left() -> None:
    fork = parse_build("ik_llama.cpp")
    assert fork.has("host_tiles")
    assert fork.has("integer_tiles")
    assert not fork.has("glu")
    assert not fork.has("latent")  # of April 2025, before the fork's own day
    assert fork.years_before("settled_speed") == pytest.approx(245 / 365.25)
    assert newest_build().years_before("settled_speed") == 0.0


@given(st.lists(st.tuples(st.integers(1, 5000), st.booleans()), min_size=1, max_size=40))
def test_the_arena_gives_back_what_it_took(steps: list[tuple[int, bool]]) -> None:
    arena = Arena(128)
    held: list[tuple[int, int]] = []
    for size, release in steps:
        offset = arena.take(size)
        assert all(offset + arena.padded(size) <= start or offset >= start + arena.padded(n) for start, n in held)
        held.append((offset, size))
        if release:
            arena.give(*held.pop(0))
    for piece in held:
        arena.give(*piece)
    assert arena.free == ((0,), (1 << 62,))


def test_the_forks_cache_types_take_their_own_bytes() -> None:
    """q6_0: 26 bytes for 32 elements; q8_kv: one byte each and 8 for the row's scale."""
    fork = parse_build("ik_llama.cpp")
    for name, row in (("q6_0", 8 * 128 * 26 // 32), ("q8_kv", 8 * 128 + 8)):
        cache = total_cache("llama-3.1-8b", context=4096, cache_type_k=name, cache_type_v=name, build=fork)
        assert cache == 32 * 4096 * 2 * row


def test_without_flash_attention_values_are_padded_to_the_widest_layer() -> None:
    narrow = replace(LLAMA.blocks[0], value_length=64)
    mixed = replace(LLAMA, blocks=(narrow, *LLAMA.blocks[1:]))
    for flash, width in ((True, 8 * 64), (False, 8 * 128)):
        first = layer_caches(mixed, LlamaOptions(context=1024, flash_attention=flash))[0]
        assert (first.keys, first.values) == (1024 * 8 * 128 * 2, 1024 * width * 2)


def test_a_micro_batch_is_no_larger_than_batch_and_context() -> None:
    assert LlamaOptions(context=4096, batch=64, micro_batch=512).micro == 64
    assert LlamaOptions(context=100, batch=2048, micro_batch=512).micro == 100
    assert LlamaOptions(context=4096, batch=2048, micro_batch=512).micro == 512


def test_what_a_card_holds_besides_buffers_widens_with_what_is_not_known() -> None:
    """120 to 800 MiB of driver and libraries; compute buffers within 5 % on mainline, 90 % on the fork."""
    for build, slack in (("newest", 0.05), ("ik_llama.cpp", 0.9)):
        options = LlamaOptions(context=4096, sequences=1, build=parse_build(build))
        result = estimate(LLAMA, TABLE, options, vram=[24 * GIB])
        card, total = result.cards[0], result.card_totals[0]
        more = round(slack * card.compute)
        assert total.low == card.total - more + 120 * MIB
        assert total.best == card.total + 300 * MIB
        assert total.high == card.total + more + 800 * MIB


def test_a_mapped_file_may_be_absent_and_a_locked_or_copied_one_may_not() -> None:
    plain = LlamaOptions(gpu_layers=0, sequences=1)
    mapped, locked, copied = (
        estimate(LLAMA, TABLE, replace(plain, mmap=mmap, mlock=mlock), vram=[24 * GIB])
        for mmap, mlock in ((True, False), (True, True), (False, False))
    )
    for found in (locked, copied):
        total = found.footprint.host.total
        assert total.low == total.best >= TABLE.nbytes
    host = mapped.footprint.host.total
    assert host.best - host.low == mapped.host_weights_used
    assert host.best == locked.footprint.host.total.best


@pytest.mark.parametrize("layers", [0, 16, 99])
def test_system_memory_may_be_a_twentieth_more_than_expected(layers: int) -> None:
    """A twentieth of all that the host holds: buffers, weights that are read there, and the process."""
    result = estimate(LLAMA, TABLE, LlamaOptions(gpu_layers=layers, sequences=1), vram=[24 * GIB])
    total, host = result.footprint.host.total, result.host
    held = host.kv_cache + host.recurrent + host.compute + host.output + result.host_weights_used + 500 * MIB
    assert total.best == held
    assert total.high - total.best == pytest.approx(held / 20, abs=1)


def test_where_no_file_says_its_size_the_vocabulary_comes_on_top_of_the_tensors() -> None:
    """GGUF: a token's length (8 bytes), text (7), score (4) and type (4), a merge's length (8) and text (9)."""
    entry = (8 + 7) + 4 + 4 + (8 + 9)
    assert estimate(LLAMA, TABLE, LlamaOptions(), vram=[24 * GIB]).disk == TABLE.nbytes + entry * 128_256
    known = estimate(LLAMA, TABLE, LlamaOptions(), vram=[24 * GIB], disk=5_000_000_000)
    assert (known.disk, known.footprint.disk) == (5_000_000_000, 5_000_000_000)


def test_every_card_holds_its_own_share() -> None:
    result = estimate(LLAMA, TABLE, LlamaOptions(sequences=1, tensor_split=(1.0, 5.0)), vram=[24 * GIB] * 2)
    assert result.cards[1].total > result.cards[0].total
    assert tuple(card.card for card in result.footprint.cards) == result.card_totals


def test_the_fork_reads_files_that_hold_the_up_projections_apart() -> None:
    architecture = known_language_model("kimi-k2")
    assert architecture.latent is not None
    assert architecture.latent.absorbed
    table = mixture_table(architecture, "Q4_K_M")
    plain, latent = (
        estimate(
            architecture, table,
            LlamaOptions(context=4096, cpu_moe_layers=99, build=parse_build("ik_llama.cpp"), latent_mode=mode),
            vram=[80 * GIB],
        )
        for mode in (0, 2)
    )  # fmt: skip
    assert plain.kv_cache > 10 * latent.kv_cache
    assert plain.cards[0].compute > 0


@given(
    st.sampled_from(known_language_models()),
    st.sampled_from(["2025-04", "2025-09", "2026-02", "newest", "ik_llama.cpp"]),
    st.sampled_from([1, 100, 4096, 32768]),
    st.one_of(st.none(), st.integers(0, 60)),
    st.sampled_from([0, 3, 99]),
    st.sampled_from(["f16", "q8_0", "q4_0"]),
    st.sampled_from([1, 32, 512, 2048]),
    st.booleans(),
    st.sampled_from([None, 1, 4]),
    st.integers(1, 3),
)
@example("qwen3-vl-235b-a22b", "2025-04", 4096, 1, 0, "f16", 32, True, None, 1)
@example("qwen3-vl-235b-a22b", "2025-04", 4096, None, 0, "f16", 32, True, None, 3)
def test_every_option_moves_memory_the_right_way(
    model: str, build: str, context: int, layers: int | None, experts: int, cache: str, micro: int, flash: bool,
    sequences: int | None, cards: int,
) -> None:  # fmt: skip
    architecture = known_language_model(model)
    table = mixture_table(architecture, "Q4_K_M")
    options = LlamaOptions(
        context=context, gpu_layers=layers, cpu_moe_layers=experts, cache_type_k=cache,
        cache_type_v=cache if flash else "f16", micro_batch=micro, flash_attention=flash, sequences=sequences,
        build=parse_build(build),
    )  # fmt: skip

    def at(**changes: object) -> LlamaEstimate:
        return estimate(architecture, table, options.with_(**changes), vram=[24 * GIB] * cards)

    def fixed(found: LlamaEstimate) -> int:
        return sum(card.weights + card.kv_cache + card.recurrent for card in found.cards)

    here = at()
    assert all(0 <= total.low <= total.best <= total.high for total in here.card_totals)
    assert sum(card.weights for card in here.cards) + here.host_weights_used >= loaded(architecture, table)
    host = here.footprint.host.total
    assert 0 < host.low <= host.best <= host.high
    if layers is not None:
        assert fixed(at(gpu_layers=layers + 1)) >= fixed(here)
    assert fixed(at(cpu_moe_layers=experts + 1)) <= fixed(here)
    assert at(sequences=2 * options.slots).kv_cache + at(sequences=2 * options.slots).recurrent >= (
        here.kv_cache + here.recurrent
    )
    wider = at(micro_batch=2 * micro)
    # ggml's graph allocator packs by best fit, which is not monotone: where weights of the host are copied to a card
    # for a batch, slightly larger activations may let one such copy fall into a gap that it missed before
    copied = max(tensor.nbytes for tensor in table) if here.host_weights_used and 2 * micro >= OFFLOAD_MIN_ROWS else 0
    assert (
        sum(c.compute for c in wider.cards) + wider.host.compute
        >= sum(c.compute for c in here.cards) + here.host.compute - copied - MIB
    )


def loaded(architecture: LanguageArchitecture, table: TensorTable) -> int:
    """Bytes of the file that a run without drafting loads: all but the layers that predict tokens ahead."""
    ahead = [layer for layer, block in enumerate(architecture.blocks) if block.prediction]
    return sum(tensor.nbytes for tensor in table if tensor.layer not in ahead)


@given(
    st.sampled_from(known_language_models()),
    st.integers(256, 65536),
    st.integers(0, 100),
    st.sampled_from([128, 512, 1024]),
)
def test_more_context_never_takes_less_and_nothing_is_lost(model: str, context: int, layers: int, batch: int) -> None:
    architecture = known_language_model(model)
    table = mixture_table(architecture, "Q8_0")
    options = LlamaOptions(context=context, gpu_layers=layers, micro_batch=batch, sequences=1)
    result = estimate(architecture, table, options, vram=[24 * GIB])
    longer = estimate(architecture, table, options.with_(context=context * 2), vram=[24 * GIB])
    assert longer.kv_cache >= result.kv_cache
    assert sum(card.layers for card in result.cards) + result.host.layers == architecture.layers
    placed = sum(card.weights for card in result.cards) + result.host_weights_used
    assert placed >= loaded(architecture, table)
    assert all(value >= 0 for card in result.cards for value in (card.weights, card.kv_cache, card.compute))
