"""diffusers' offload switches as a value: what lies on the card while a module runs, and what travels for it.

Sources: diffusers 0.42.1, pipelines/pipeline_utils.py (enable_model_cpu_offload, enable_sequential_cpu_offload) and
hooks/group_offloading.py; accelerate 1.15.0, hooks.py.
"""

from __future__ import annotations

from functools import lru_cache

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.runtimes.base import Placement, Settings
from fitcheck.runtimes.diffusers.lora import USUAL_RANK, is_spec, read_spec, unwritten, written
from fitcheck.runtimes.diffusers.options import PipelineOptions

NAME, REVISION = "diffusers", "0.42.1"
NONE, MODEL, SEQUENTIAL = "none", "model", "sequential"
BLOCK, LEAF = "block", "leaf"
GROUPS = ("group-block", "group-block-stream", "group-leaf", "group-leaf-stream")
# from most card memory to least
MODES = (NONE, MODEL, *GROUPS, SEQUENTIAL)
# what people type elsewhere → the mode that comes nearest
NEAREST = {"full": NONE, "fast": MODEL, "balanced": "group-leaf-stream", "low": SEQUENTIAL}
# every mode of the question, of which the best that fits is recommended
AUTO = "auto"
TILING, SLICING = "tiling", "slicing"
# the decode of the whole, also where the card is too small for it
WHOLE = "whole"
# words of a record's policy → settings that they stand for
_WORDS: dict[str, tuple[str, object]] = {
    "record-stream": ("record_stream", True),
    "low-cpu-mem": ("low_cpu_mem", True),
    "free-text-encoder": ("free_text_encoder", True),
    "disk": ("offload_to_disk", True),
    "lora": ("load_lora_weights", str(USUAL_RANK)),
    "controlnet": ("controlnet", True),
}
_PER_GROUP = "-blocks"
_LORA = "lora-"
# settings of what lies beside a denoiser in every mode
BESIDE = ("load_lora_weights", "controlnet")


@dataclass(frozen=True, slots=True)
class Offload:
    """One way to place a pipeline. ``level`` is what a group holds, empty without groups; ``blocks`` how many blocks
    move together; ``disk`` that groups lie in files until they move, ``lora`` what LoRA
    lies beside the denoisers (``lora.read_spec``), ``controlnet`` that one runs in every step."""

    mode: str
    level: str = ""
    stream: bool = False
    record_stream: bool = False
    low_cpu_mem: bool = False
    blocks: int = 1
    tiling: bool = False
    slicing: bool = False
    free_text_encoder: bool = False
    disk: bool = False
    lora: str = ""
    controlnet: bool = False

    @property
    def resident(self) -> bool:
        """Whether components stay on the card while another runs."""
        return self.mode == NONE

    @property
    def by_component(self) -> bool:
        """Whether a component comes to the card as a whole."""
        return self.mode == MODEL

    @property
    def empties(self) -> bool:
        """Whether the allocator's cache is emptied behind every tensor that comes or goes."""
        return self.mode == SEQUENTIAL

    @property
    def pinned(self) -> bool:
        """Whether copies come from pinned memory."""
        return self.stream


@lru_cache(maxsize=256)
def offload_of(placement: Placement) -> Offload:
    """What a placement means. Raises OptionError for a mode that does not exist."""
    mode = placement.mode
    if mode not in MODES:
        raise OptionError(f"--mode: {mode!r} is not an offload mode of diffusers; choose from {', '.join(MODES)}.")
    level = next((name for name in (BLOCK, LEAF) if name in mode.split("-")), "")
    vae = str(placement.get("vae") or "").split(",")
    return Offload(
        mode,
        level,
        stream=mode.endswith("-stream"),
        record_stream=bool(placement.get("record_stream")),
        low_cpu_mem=bool(placement.get("low_cpu_mem")),
        blocks=int(placement.get("blocks_per_group") or 1),
        tiling=TILING in vae,
        slicing=SLICING in vae,
        free_text_encoder=bool(placement.get("free_text_encoder")),
        disk=bool(placement.get("offload_to_disk")),
        lora=str(placement.get("load_lora_weights") or ""),
        controlnet=bool(placement.get("controlnet")),
    )


@lru_cache(maxsize=256)
def placement_of(mode: str, options: PipelineOptions) -> Placement:
    """A mode with the switches that count in it. Raises OptionError for names that do not exist."""
    stream, block = mode.endswith("-stream"), "-block" in mode
    found: dict[str, object] = {}
    if options.vae and options.vae != (WHOLE,):
        found["vae"] = ",".join(sorted(options.vae))
    if stream and options.record_stream:
        found["record_stream"] = True
    if stream and options.low_cpu_mem:
        found["low_cpu_mem"] = True
    # with a stream diffusers sets it to 1 and warns
    if block and not stream and options.blocks_per_group > 1:
        found["blocks_per_group"] = options.blocks_per_group
    if options.free_text_encoder and mode in (NONE, MODEL):
        found["free_text_encoder"] = True
    if mode in GROUPS and options.offload_to_disk:
        found["offload_to_disk"] = True
    found |= {name: value for name in BESIDE if (value := getattr(options, name))}
    placement = _placement(mode, tuple(sorted(found.items())))
    offload_of(placement)
    return placement


def _placement(mode: str, settings: Settings) -> Placement:
    return Placement(NAME, REVISION, mode, settings)


def policy_of(placement: Placement) -> str | None:
    """The settings as one word for a record, ``"record-stream+tiling"``; ``None`` where all are diffusers' defaults."""
    words = [word for word, (name, value) in _WORDS.items() if placement.get(name) == value]
    words += [word for word in str(placement.get("vae") or "").split(",") if word]
    if (count := placement.get("blocks_per_group")) is not None:
        words.append(f"{count}{_PER_GROUP}")
    if (lora := placement.get("load_lora_weights")) and "lora" not in words:
        words.append(f"{_LORA}{written(str(lora))}")
    return "+".join(sorted(words)) or None


def recorded_placement(revision: str, mode: str, policy: str | None) -> Placement:
    """The placement that ``policy_of`` was written of. Raises OptionError for words that mean nothing here."""
    if revision != REVISION or mode not in MODES:
        raise OptionError(f"diffusers {revision}, mode {mode!r}: not known to this release.")
    settings: dict[str, object] = {}
    vae = []
    for word in (policy or "").split("+") if policy else ():
        count = word.removesuffix(_PER_GROUP)
        if word in _WORDS:
            name, value = _WORDS[word]
            settings[name] = value
        elif word in (TILING, SLICING):
            vae.append(word)
        elif word != count and count.isdecimal():
            settings["blocks_per_group"] = int(count)
        elif word.startswith(_LORA) and is_spec(spec := unwritten(word.removeprefix(_LORA))):
            settings["load_lora_weights"] = read_spec(spec)
        else:
            raise OptionError(f"policy {word!r} means nothing to diffusers.")
    if vae:
        settings["vae"] = ",".join(vae)
    return _placement(mode, tuple(sorted(settings.items())))
