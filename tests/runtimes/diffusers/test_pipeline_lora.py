"""A LoRA beside a denoiser: what it is told by, the file that it lies in, and what it takes."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fitcheck
from fitcheck.errors import InputError, OptionError
from fitcheck.hardware.catalog import find_card
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Verdict
from fitcheck.models import catalog
from fitcheck.models.families.pipeline.architecture import DENOISER, PipelineArchitecture
from fitcheck.runtimes import registry
from fitcheck.runtimes.base import Ask, Wanted
from fitcheck.runtimes.diffusers.lora import (
    MatrixPair,
    changed,
    component_trace,
    is_spec,
    linears_of,
    pairs_of,
    read_spec,
    with_lora,
    with_pairs,
)
from fitcheck.runtimes.diffusers.offloading import MODES, policy_of, recorded_placement
from fitcheck.runtimes.diffusers.traces import ALLOCATE, ENTER, FREE, LEAVE, Event
from fitcheck.runtimes.recorded import machine_with

RUNTIME = registry.get("diffusers")


def ask_for(slug: str, tier: str, **options: object) -> Ask:
    machine = machine_with(find_card("RTX 4090"), None)
    model = catalog.get(slug)
    found = model.tier(tier)
    assert found is not None
    return next(iter(RUNTIME.asks(model, [found], Wanted(tiers=(tier,), options=tuple(options.items())), machine)))


def footprint(slug: str, tier: str, mode: str, **options: object) -> Footprint:
    return RUNTIME.footprint(ask_for(slug, tier, mode=(mode,), **options))


def architecture(slug: str) -> PipelineArchitecture:
    found = catalog.get(slug).architecture
    assert isinstance(found, PipelineArchitecture)
    return found


def matrices(slug: str, spec: str) -> dict[str, MatrixPair]:
    """By path, beside the first denoiser."""
    found = with_lora(architecture(slug), spec).of_role_or_name(DENOISER)[0]
    return dict(pairs_of(found))


def test_the_usual_lora_of_flux_has_the_size_of_published_files() -> None:
    """ai-toolkit's have 172 MB in 16 bit, and 494 pairs of matrices."""
    found = matrices("flux.1-dev", "16")
    assert len(found) == 494
    assert sum(sum(one.sizes) for one in found.values()) == pytest.approx(172e6, rel=0.005)
    assert found["single_transformer_blocks.0.proj_mlp"] == MatrixPair(16, 3072, 12288)


def test_of_a_unet_the_transformers_alone_are_changed() -> None:
    assert all(".attentions." in path for path in matrices("sdxl", "16"))


@pytest.mark.parametrize(
    ("told", "spec"),
    [
        (True, "16"), (False, ""), (64, "64"), ("64", "64"), (" 8 ", "8"), ("usual", "16"), ("", "16"),
        ("8:to_v,to_q,to_q", "8:to_v,to_q"), ("mine.safetensors", "mine.safetensors"),
    ],
)  # fmt: skip
def test_what_was_told_has_one_form(told: str | int | bool, spec: str) -> None:
    assert read_spec(told) == spec
    assert read_spec(spec) == spec or not spec


def test_a_rank_that_cannot_be_is_refused() -> None:
    for text in ("0", "5000", "99999999"):
        with pytest.raises(OptionError, match="is no rank of a LoRA; give 1 to 4096"):
            read_spec(text)


def test_the_name_of_no_layer_is_refused() -> None:
    with pytest.raises(OptionError, match=r"no linear layer in a block of FluxPipeline's transformer is called"):
        ask_for("flux.1-dev", "bf16", load_lora_weights="16:to_q,zzz")


def test_layers_are_told_by_last_names_or_whole() -> None:
    every = dict(linears_of(architecture("flux.1-dev").component("transformer")))
    attention = changed("4:to_q,to_out.0", every.items(), unet=False)
    assert len(attention) == 2 * 19 + 38
    assert {one.rank for one in attention.values()} == {4}
    double = changed("4:transformer_blocks.*.attn.to_q", every.items(), unet=False)
    assert set(double) == {f"transformer_blocks.{number}.attn.to_q" for number in range(19)}


def test_what_follows_a_layer_takes_its_place() -> None:
    """x (4 bytes, rank 1) of 2 to 3 numbers; the result is handed on and freed by the next layer's end."""
    plain = [
        Event(ENTER, path="a"), Event(ALLOCATE, 600), Event(LEAVE, path="a"),
        Event(ALLOCATE, 40), Event(FREE, 0), Event(FREE, 1),
    ]  # fmt: skip
    found = list(with_pairs(plain, {"a": MatrixPair(1, 2, 3)}))
    assert found == [
        Event(ENTER, path="a"), Event(ALLOCATE, 600), Event(LEAVE, path="a"),
        Event(ENTER, path="a.lora_A"), Event(ALLOCATE, 200), Event(LEAVE, path="a.lora_A"),
        Event(ENTER, path="a.lora_B"), Event(ALLOCATE, 600), Event(LEAVE, path="a.lora_B"),
        Event(FREE, 1), Event(ALLOCATE, 600), Event(FREE, 2), Event(ALLOCATE, 600), Event(FREE, 3), Event(FREE, 0),
        Event(ALLOCATE, 40), Event(FREE, 4), Event(FREE, 5),
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_allocation_is_freed_once_as_before(data: st.DataObject) -> None:
    """Of any call: as many bytes are left as without, none is freed twice, and none before it is there."""
    slug = data.draw(st.sampled_from(["flux.1-dev", "sdxl", "wan2.1-t2v-1.3b", "sd1.5", "z-image"]))
    spec = data.draw(st.sampled_from(["16", "4:to_q", "128:to_k,to_v", "8:to_out.0"]))
    arch = architecture(slug)
    component = arch.of_role_or_name(DENOISER)[0]
    plain, with_it = component_trace(component), component_trace(with_lora(arch, spec).component(component.name))
    assert plain is not None
    assert with_it is not None
    sizes = {"width": 8 * data.draw(st.integers(2, 9)), "height": 48, "frames": 3, "text": 128, "batch": 1}
    sizes["tokens"] = sizes["width"] * sizes["height"] // 4
    before, after = (left(list(one.call("forward", sizes).events(sizes))) for one in (plain, with_it))
    assert before == after


def left(events: list[Event]) -> int:
    alive: dict[int, int] = {}
    made = 0
    for event in events:
        if event.kind == ALLOCATE:
            alive[made] = event.value
            made += 1
        elif event.kind == FREE:
            del alive[event.value]
    return sum(alive.values())


@pytest.mark.parametrize("mode", MODES)
def test_more_rank_never_takes_less(mode: str) -> None:
    found = [footprint("flux.1-dev", "Q4_K_S", mode, load_lora_weights=str(rank)) for rank in (1, 32, 256)]
    for less, more in pairwise(found):
        assert less.cards[0].allocated.best <= more.cards[0].allocated.best
        assert less.host.total.best <= more.host.total.best


def test_without_offload_the_matrices_lie_on_the_card() -> None:
    plain, with_it = (
        footprint("flux.1-dev", "bf16", "none", **told).cards[0].allocated.best
        for told in ({}, {"load_lora_weights": "16"})
    )
    assert with_it - plain == pytest.approx(172e6, rel=0.01)


def test_it_answers_with_a_verdict_and_the_line_that_loads_it() -> None:
    ask = ask_for("flux.1-dev", "bf16", mode=("group-leaf-stream",), load_lora_weights=True)
    assert RUNTIME.platform(ask) is None
    script = RUNTIME.commands(ask)[-1]
    assert script.index('pipe.load_lora_weights("LORA.safetensors")') < script.index("enable_group_offload")


def test_beside_a_quantizers_weights_it_is_unknown_with_lower_bounds() -> None:
    plain = RUNTIME.footprint(ask_for("flux.1-dev", "nf4", mode=("model",)))
    found = RUNTIME.platform(ask_for("flux.1-dev", "nf4", mode=("model",), load_lora_weights=True))
    assert found is not None
    assert found.verdict is Verdict.UNKNOWN
    assert found.least is not None
    assert found.least.cards[0].required.high <= plain.cards[0].required.best + 172e6


def test_a_pipeline_that_loads_none_says_so() -> None:
    with pytest.raises(OptionError, match="--load-lora-weights: PixArtSigmaPipeline loads no LoRA; leave it out"):
        ask_for("pixart-sigma", "fp16", load_lora_weights="16")


def test_both_experts_have_one() -> None:
    arch = with_lora(architecture("wan2.2-t2v-a14b"), "16")
    assert [one.lora for one in arch.components if one.role == DENOISER] == ["16", "16"]
    assert all(not one.lora for one in arch.components if one.role != DENOISER)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("16", "lora"), ("32", "lora-32"), ("64:to_k,to_q", "lora-64-to_k-to_q"), ("8:to_out.0", "lora-8-to_out.0"),
        ("8:transformer_blocks.*.attn.to_out.*", "lora-8-transformer_blocks..attn.to_out."),
    ],
)  # fmt: skip
def test_it_survives_a_record(spec: str, word: str) -> None:
    placement = ask_for("flux.1-dev", "bf16", mode=("group-leaf",), load_lora_weights=spec).placement
    policy = policy_of(placement)
    assert policy == word
    assert recorded_placement(placement.revision, placement.mode, policy) == placement


def written(folder: Path, layers: dict[str, tuple[int, int]], rank: int = 8, style: str = "peft") -> Path:
    """A LoRA's file without data: name of each layer → numbers in and out."""
    down, up = {"peft": ("lora_A", "lora_B"), "kohya": ("lora_down", "lora_up")}[style]
    header, at = {}, 0
    for name, (inputs, outputs) in layers.items():
        for side, shape in ((down, [rank, inputs]), (up, [outputs, rank])):
            size = 2 * shape[0] * shape[1]
            header[f"{name}.{side}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            at += size
    text = json.dumps(header).encode()
    file = folder / "mine.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + at)
    return file


def attention(blocks: str, count: int) -> dict[str, tuple[int, int]]:
    """Queries and keys of FLUX.1's blocks."""
    names = [f"transformer.{blocks}.{number}.attn" for number in range(count)]
    return {f"{name}.{one}": (3072, 3072) for name in names for one in ("to_q", "to_k")}


def said(file: Path, slug: str = "flux.1-dev", tier: str = "bf16") -> str:
    """The setting that a check ends with."""
    report = fitcheck.check(slug, "RTX 4090", ram="64GB", tier=tier, mode="model", load_lora_weights=str(file))
    cell = report.cells[0]
    assert cell.judgement.verdict is not Verdict.UNKNOWN
    return str(cell.placement.get("load_lora_weights"))


def test_a_file_says_rank_and_layers_by_diffusers_names(tmp_path: Path) -> None:
    layers = attention("transformer_blocks", 19)
    assert said(written(tmp_path, layers)) == "8:transformer_blocks.*.attn.to_k,transformer_blocks.*.attn.to_q"
    assert said(written(tmp_path, layers | attention("single_transformer_blocks", 38))) == "8:to_k,to_q"


def test_underscores_and_text_encoders_are_kohyas(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    layers = {name: (640, 640), "lora_te1_text_model_encoder_layers_0_mlp_fc1": (768, 3072)}
    assert said(written(tmp_path, layers, 4, "kohya"), "sdxl", "fp16").startswith("4:")


def test_joined_layers_are_told_by_their_shapes(tmp_path: Path) -> None:
    """As Black Forest Labs name FLUX.1's, with queries, keys and values in one."""
    layers = {f"lora_unet_double_blocks_{n}_img_attn_qkv": (3072, 9216) for n in range(19)}
    found = said(written(tmp_path, layers, 32, "kohya"))
    assert found.startswith("32:")
    assert "to_q" in found
    assert "proj_mlp" not in found


def test_a_lora_of_another_model_is_refused(tmp_path: Path) -> None:
    layers = {f"lora_unet_down_blocks_1_attentions_{n}_proj_in": (640, 640) for n in range(4)}
    with pytest.raises(OptionError, match=r"mine\.safetensors is a LoRA of another model: it changes layers like"):
        said(written(tmp_path, layers, 4, "kohya"))


def test_what_is_no_lora_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"blocks.0.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    file = tmp_path / "other.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(InputError, match="this is a model and no LoRA; name the LoRA's own file"):
        said(file)
    with pytest.raises(InputError, match="no-such-file"):
        said(tmp_path / "no-such-file.safetensors")


def test_a_file_is_told_from_what_a_lora_is_like() -> None:
    assert is_spec("16:to_q")
    assert not is_spec("mine.safetensors")
    assert not is_spec("16/mine")
