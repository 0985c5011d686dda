"""How to get the files and run the cell: Python for diffusers, as one command that a shell reads."""

from __future__ import annotations

import json
import shlex

from fitcheck.models.companions import LORA
from fitcheck.models.families.pipeline.architecture import DENOISER, ControlNet, PipelineArchitecture, is_modular
from fitcheck.models.workload import Product
from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.diffusers.offloading import BLOCK, MODEL, NONE, SEQUENTIAL, Offload, offload_of
from fitcheck.runtimes.downloads import download

# pipelines made of blocks are loaded and placed otherwise
_GUIDER, _TRUE_CFG = "guider", "QwenImage"


def commands(ask: Ask) -> tuple[str, ...]:
    """Download, then a measurement or the Python lines that make one picture; nothing where the files are unknown."""
    program = script(ask)
    return (*download(ask.tier), *((shlex.join(["python", "-c", program]),) if program else ()))


def script(ask: Ask) -> str:
    """The Python lines of one run; empty for tiers whose files diffusers needs more than a name to load."""
    arch, tier, model = ask.architecture, ask.tier, ask.model
    assert isinstance(arch, PipelineArchitecture)
    if model.repository is None or tier.quantized or tier.format != "safetensors" or is_modular(arch):
        return ""
    offload, work = offload_of(ask.placement), ask.workload
    whole = ', device_map="cuda"' if offload.mode == NONE else ""
    guide = arch.controlnet if offload.controlnet else None
    pipeline, handed = (arch.pipeline, "") if guide is None else (guide.pipeline, ", controlnet=guide")
    lines = [
        "import torch",
        f"from diffusers import {pipeline}",
        *([] if guide is None else _guide(guide, _dtype(arch), '.to("cuda")' if whole else "")),
        f"pipe = {pipeline}.from_pretrained({_quoted(model.repository)}{handed}, torch_dtype={_dtype(arch)}{whole})",
        *_beside(ask),
        *placing(offload),
    ]
    if work.references:
        return ""
    video = work.task.produces is Product.VIDEO
    frames = f", num_frames={work.frames}" if video else ""
    guided, in_call = _guidance(arch, work.cfg)
    if guide is not None:
        in_call += f', {guide.picture}=load_image("guide.png")'
    lines += guided
    lines.append(
        f'out = pipe("A poster of a lighthouse", width={work.width}, height={work.height}, '
        f"num_inference_steps={work.steps}{in_call}{frames})"
    )
    lines.append('out.images[0].save("output.png")' if not video else _save_video(arch))
    return "\n".join(lines)


def _guide(found: ControlNet, dtype: str, placed: str) -> list[str]:
    """The lines that load a ControlNet, which a pipeline is handed as it lies."""
    cls = found.component.cls
    return [
        f"from diffusers import {cls}",
        "from diffusers.utils import load_image",
        f"guide = {cls}.from_pretrained({_quoted(found.repository)}, torch_dtype={dtype}){placed}",
    ]


def _beside(ask: Ask) -> list[str]:
    """The line that loads a LoRA, before any hook is set (diffusers issue #11791)."""
    if not offload_of(ask.placement).lora:
        return []
    file = next((one for one in ask.tier.companions if one.role == LORA), None)
    return [f"pipe.load_lora_weights({_quoted('LORA.safetensors' if file is None else file.path or file.file)})"]


def _guidance(arch: PipelineArchitecture, cfg: float) -> tuple[list[str], str]:
    """Lines before the call, and arguments of it, that set the guidance's scale."""
    if arch.guidance == _GUIDER:
        return [f"pipe.guider = pipe.guider.new(guidance_scale={cfg:g})"], ""
    if arch.pipeline.startswith(_TRUE_CFG):  # which without a negative prompt guides nothing
        return [], f', true_cfg_scale={cfg:g}, negative_prompt=" "' if cfg > 1 else ", true_cfg_scale=1"
    return [], f", guidance_scale={cfg:g}"


def _quoted(text: str) -> str:
    """A name in double quotes, which a shell's single quotes leave alone."""
    return json.dumps(text)


def _dtype(arch: PipelineArchitecture) -> str:
    denoiser = next(one for one in arch.components if one.role == DENOISER)
    return {"bf16": "torch.bfloat16", "fp16": "torch.float16"}.get(denoiser.dtype, "torch.float32")


def _save_video(arch: PipelineArchitecture) -> str:
    fps = arch.defaults.fps or 24
    return f'from diffusers.utils import export_to_video; export_to_video(out.frames[0], "output.mp4", fps={fps})'


def placing(offload: Offload) -> list[str]:
    """The lines that switch the mode on."""
    lines = []
    if offload.mode == MODEL:
        lines.append("pipe.enable_model_cpu_offload()")
    elif offload.mode == SEQUENTIAL:
        lines.append("pipe.enable_sequential_cpu_offload()")
    elif offload.level:
        lines.append(f"pipe.enable_group_offload({', '.join(_arguments(offload))})")
    if offload.tiling:
        lines.append("pipe.vae.enable_tiling()")
    if offload.slicing:
        lines.append("pipe.vae.enable_slicing()")
    return lines


def _arguments(offload: Offload) -> list[str]:
    words = ['onload_device=torch.device("cuda")', f'offload_type="{offload.level}_level"']
    if offload.level == BLOCK:
        words.append(f"num_blocks_per_group={offload.blocks}")
    if offload.stream:
        words.append("use_stream=True")
    if offload.record_stream:
        words.append("record_stream=True")
    if offload.low_cpu_mem:
        words.append("low_cpu_mem_usage=True")
    if offload.disk:
        words.append('offload_to_disk_path="offloaded"')
    return words
