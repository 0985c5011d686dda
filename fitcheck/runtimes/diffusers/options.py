"""The options of a diffusers pipeline, declared once; where diffusers has a name for a switch it is that name."""

from __future__ import annotations

from collections.abc import Sequence

from fitcheck.dataclass_later import dataclass
from fitcheck.models.companions import LORA
from fitcheck.runtimes.diffusers.lora import is_spec, read_spec
from fitcheck.runtimes.options import names, option
from fitcheck.units import parse_size

Size = tuple[int, int]


def _size(text: str) -> Size:
    return parse_size(text, "--size")


def _references(texts: str | Sequence[str]) -> tuple[Size, ...]:
    return tuple(parse_size(text, "--reference") for text in ([texts] if isinstance(texts, str) else texts))


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What is asked of a pipeline and how it is placed; ``None`` takes the pipeline's own default. Sizes in pixels."""

    mode: tuple[str, ...] = option(
        (),
        "Offload modes, comma separated: none, model, sequential, group-block, group-leaf, group-block-stream, "
        "group-leaf-stream; auto tries them all.",
        parse=names,
        short="-m",
    )
    size: Size | None = option(None, "Output size, WIDTHxHEIGHT; default: the pipeline's own.", parse=_size)
    frames: int | None = option(None, "Frames of a video; default: the pipeline's own.", type=int)
    steps: int | None = option(None, "Sampling steps; default: the pipeline's own.", type=int)
    cfg: float | None = option(
        None, "Guidance scale; default: the pipeline's own, none for distilled weights.", type=float
    )
    reference: tuple[Size, ...] = option((), "Size of an image handed in; repeatable.", parse=_references, many=True)
    batch: int = option(1, "Images or videos made at once; default 1.", type=int)
    vae: tuple[str, ...] = option(
        (),
        "VAE decoding, comma separated: tiling, slicing; or whole; default: whole where the card holds it.",
        parse=names,
    )
    record_stream: bool = option(False, "With a stream: blocks return without waiting (record_stream).", type=bool)
    low_cpu_mem: bool = option(False, "With a stream: pin one group at a time (low_cpu_mem_usage).", type=bool)
    blocks_per_group: int = option(1, "Blocks that move together (num_blocks_per_group); default 1.", type=int)
    free_text_encoder: bool = option(False, "Text encoders are deleted once the prompt is encoded.", type=bool)
    offload_to_disk: bool = option(False, "Groups lie on disk, not in memory (offload_to_disk_path).", type=bool)
    load_lora_weights: str = option(
        "",
        "A LoRA beside the denoiser, not fused: its FILE, RANK or RANK:LAYERS (16:to_q,to_k); named alone, rank 16.",
        parse=read_spec,
        bare=True,
        role=LORA,
        told=is_spec,
    )
    controlnet: bool = option(False, "A ControlNet runs beside the denoiser.", type=bool)
