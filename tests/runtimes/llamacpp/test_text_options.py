"""Options that decide memory: what is typed is what is judged, and the command printed is the one that was."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

import fitcheck
from fitcheck.errors import OptionError
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate
from fitcheck.runtimes.options import tokens
from fitcheck.units import GIB, MIB
from fitcheck.verdict.cell import Cell


def best(model: str = "llama-3.1-8b", card: Any = "RTX 3090", tier: str = "Q4_K_M", **options: Any) -> Cell:
    return fitcheck.check(model, card, ram=64 * GIB, tier=tier, **options).best


def layout(cell: Cell) -> LlamaEstimate:
    assert isinstance(cell.footprint.layout, LlamaEstimate)
    return cell.footprint.layout


def command(cell: Cell) -> list[str]:
    return shlex.split(cell.commands[-1])


@pytest.mark.parametrize(
    ("text", "count"), [("32768", 32768), ("32k", 32768), ("32K", 32768), ("1M", 1 << 20), (" 1.5k ", 1536)]
)
def test_tokens_as_people_write_them(text: str, count: int) -> None:
    assert tokens(text) == count


@pytest.mark.parametrize("text", ["", "k", "1.3", "-4k", "32kb", "1e9", "9" * 40])
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is not a number of tokens"):
        tokens(text)


def test_a_context_in_thousands_is_the_context() -> None:
    cell = best(ctx="16k")
    assert cell.workload.context == 16384
    with pytest.raises(OptionError, match="--ctx: 'many'"):
        best(ctx="many")


def test_a_micro_batch_beyond_the_batch_raises_the_batch() -> None:
    cell = best(ubatch=4096)
    assert {"-ub", "-b"} <= set(command(cell))
    assert command(cell)[command(cell).index("-b") + 1] == "4096"
    assert layout(cell).cards[0].compute > layout(best(ubatch=2048)).cards[0].compute
    assert any(
        "-b 4096" in note for note in fitcheck.check("llama-3.1-8b", "RTX 3090", tier="Q4_K_M", ubatch=4096).notes
    )
    # said together, llama.cpp's own cut holds
    assert layout(best(ubatch=4096, batch_size=1024)).cards == layout(best(ubatch=1024, batch_size=1024)).cards
    cut = fitcheck.check("llama-3.1-8b", "RTX 3090", tier="Q4_K_M", ubatch=4096, batch_size=1024).notes
    assert any("-ub 4096 is cut down" in note and "-b 1024" in note for note in cut)


def test_a_window_cache_holds_the_whole_micro_batch() -> None:
    """MiMo V2.5 at -ub 4096: 4352 cells of 39 layers × 8 heads × (192 + 128) of 2 bytes, 828.75 MiB."""
    from fitcheck.models.families.language.metadata import architecture_from_gguf
    from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
    from fitcheck.runtimes.llamacpp.caches import sliding_cells

    metadata = {
        "general.architecture": "mimo2",
        "mimo2.block_count": 2,
        "mimo2.embedding_length": 4096,
        "mimo2.vocab_size": 1000,
        "mimo2.attention.head_count": 64,
        "mimo2.attention.head_count_kv": [4, 8],
        "mimo2.attention.sliding_window": 128,
        "mimo2.attention.sliding_window_pattern": [False, True],
    }
    options = LlamaOptions(context=262144, batch=4096, micro_batch=4096, sequences=1)
    assert sliding_cells(architecture_from_gguf(metadata), options) == 4352


def test_one_card_of_two() -> None:
    cell = best(card="2x RTX 3090", split_mode="none", main_gpu=1)
    assert [card.layers > 0 for card in layout(cell).cards] == [False, True]
    assert layout(cell).cards[1] == layout(best()).cards[0]
    assert command(cell)[-4:] == ["-sm", "none", "-mg", "1"]


def test_shares_of_cards() -> None:
    cell = best(card="2x RTX 3090", tensor_split="3,1")
    first, second = layout(cell).cards
    assert (first.layers, second.layers) == (25, 7)  # of 33 with the output, three quarters on the first
    assert "3,1" in command(cell)


def test_tensors_by_pattern_go_where_they_are_sent() -> None:
    cell = best(override_tensor=r"blk\.[0-3]\.ffn=CPU")
    moved = sum(
        tensor.nbytes
        for tensor in cell.tier.tensors
        if tensor.layer is not None and tensor.layer < 4 and ".ffn" in tensor.name
    )
    assert moved > 100 * MIB
    assert layout(best()).cards[0].weights - layout(cell).cards[0].weights == moved
    assert r"blk\.[0-3]\.ffn=CPU" in command(cell)


def test_the_cache_in_system_memory() -> None:
    cell = best(no_kv_offload=True, ctx=8192)
    assert layout(cell).cards[0].kv_cache == 0
    assert layout(cell).host.kv_cache == 8192 * 32 * 8 * 128 * 2 * 2
    assert "--no-kv-offload" in command(cell)


def test_whole_caches_of_window_layers() -> None:
    small = best("gemma-3-12b", ctx=32768, sequences=1)
    whole = best("gemma-3-12b", ctx=32768, sequences=1, swa_full=True, ngl=99, cache_type="f16")
    assert layout(whole).kv_cache > 3 * layout(small).kv_cache
    assert "--swa-full" in command(whole)


def test_a_file_in_memory_of_its_own_is_needed_for_sure() -> None:
    mapped, loaded = best(ngl=0), best(ngl=0, no_mmap=True, mlock=True)
    assert mapped.footprint.host.total.low < mapped.tier.tensors.nbytes < loaded.footprint.host.total.low
    assert {"--no-mmap", "--mlock"} <= set(command(loaded))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tensor_split": "3,1"}, "2 shares for 1 cards"),
        ({"tensor_split": "a,b"}, "are no shares"),
        ({"tensor_split": "0,0"}, "are no shares"),
        ({"tensor_split": "nan"}, "are no shares"),
        ({"main_gpu": 1}, "no card 1"),
        ({"split_mode": "row"}, "no row any more"),
        ({"split_mode": "colum"}, "is none; choose layer"),
        ({"override_tensor": "exps"}, "has no buffer"),
        ({"override_tensor": "ffn=CUDA7"}, "there is no buffer"),
        ({"batch_size": 0}, "--batch-size"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        best(**options)


def test_the_settings_of_a_cell_are_json_and_read_back() -> None:
    import json

    from fitcheck.runtimes.llamacpp.placement import arguments_of

    cell = best(override_tensor="ffn_up=CPU", tensor_split="1", ubatch=1024)
    settings = json.loads(json.dumps(dict(cell.placement.settings)))
    assert settings["overrides"] == "ffn_up=CPU"
    assert arguments_of(cell.placement, cell.workload) == layout(cell).options
