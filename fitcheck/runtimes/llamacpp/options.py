"""llama.cpp's options as people type them, declared once."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.models.workload import Task, Workload
from fitcheck.runtimes.llamacpp.arguments import (
    DRAFT,
    DRAFT_TOKENS,
    MTP,
    SPECULATIVE,
    SPLIT_MODES,
    LlamaOptions,
    device_of,
    parse_overrides,
)
from fitcheck.runtimes.llamacpp.builds import Build, newest_build, parse_build
from fitcheck.runtimes.llamacpp.flash import check_values, flash_of
from fitcheck.runtimes.llamacpp.workers import Worker, addresses, parse_workers
from fitcheck.runtimes.options import LONGEST, context_tokens, flag, lower, names, option, tokens

if TYPE_CHECKING:
    from fitcheck.models.families.language.architecture import LanguageArchitecture

# llama-bench's own defaults of -p and -n, so that seconds can be compared with what people post
PROMPT_TOKENS, NEW_TOKENS = 512, 128
USUAL_CONTEXT, LEAST_CONTEXT = 8192, 2048
USUAL_BATCH = 2048
MOST_CONTEXT = 1 << 27
ALL = 10_000  # more layers than there are
BANDWIDTH = (0.1, 100_000)  # GB/s that a host's memory can have
GIGA = 1e9
USUAL_CHANNELS, CHANNEL_BYTES = 2, 8
_RAM = re.compile(r"(?:LP)?(?:DDR\dX?[- ]?)?(\d{3,5})(?: ?(?:MT/s|MHz))?(?: ?[x×] ?(\d{1,2}))?", re.IGNORECASE)


def _cache_types(text: str) -> tuple[str, str]:
    """ "q8_0" for both, or "q8_0,f16" for K and V."""
    types = names(text)
    if not 1 <= len(types) <= 2:
        raise OptionError(f"--cache-type: {text!r} is not one type, or one each for K and V; give q8_0 or q8_0,f16.")
    return types[0], types[-1]


def _layers(text: str) -> int | None:
    """Layers as llama.cpp takes them: a number, "all", or "auto" for what is best."""
    word = text.strip().lower()
    if word == "auto":
        return None
    if word == "all":
        return ALL
    if re.fullmatch(r"\d{1,5}", word) is None:
        raise OptionError(f"--ngl: {text[:40]!r} is no number of layers; give one, all or auto.")
    return int(word)


def _flash(text: str) -> bool | None:
    """Flash attention as llama.cpp takes it (common/arg.cpp: is_truthy, is_falsey, is_autoy)."""
    on, off = (
        dict.fromkeys(("on", "enabled", "true", "1"), True),
        dict.fromkeys(("off", "disabled", "false", "0"), False),
    )
    found: dict[str, bool | None] = {**on, **off, "auto": None, "-1": None}
    if text.strip().lower() not in found:
        raise OptionError(f"--flash-attn: {text[:40]!r} is no setting; choose on, off or auto.")
    return found[text.strip().lower()]


def _ram_speed(text: str) -> float:
    """The bandwidth in B/s of memory as it is sold: transfers a second × channels of 64 bits."""
    found = _RAM.fullmatch(text.strip())
    rate, channels = (int(found[1]), int(found[2] or USUAL_CHANNELS)) if found is not None else (0, 0)
    if not (200 <= rate <= 20_000 and 1 <= channels <= 24):
        raise OptionError(f"--ram-speed: {text[:40]!r} is no memory; write it like DDR5-5600 or 4800x8.")
    return rate * 1e6 * CHANNEL_BYTES * channels


def _split(text: str) -> str:
    """How several cards share the model."""
    if text.strip().lower() not in SPLIT_MODES:
        raise OptionError(f"--split-mode: {text[:40]!r} is none; choose {', '.join(SPLIT_MODES)}.")
    return text.strip().lower()


def _speculative(text: str) -> str:
    """How tokens are drafted."""
    name = {"mtp": MTP, "draft": DRAFT}.get(text.strip().lower(), text.strip().lower())
    if name not in SPECULATIVE:
        raise OptionError(f"--spec-type: {text[:40]!r} is not modelled; choose {' or '.join(SPECULATIVE)}.")
    return name


def _devices(text: str) -> tuple[int, ...]:
    """ "CUDA1", "CUDA0,CUDA1" or "none"."""
    if text.strip().lower() in ("none", "cpu"):
        return ()
    found = tuple(dict.fromkeys(device_of(part.strip()) for part in text.split(",")))
    if any(index is None for index in found):
        raise OptionError(f"--device-draft: {text[:40]!r} names no cards; write CUDA0, CUDA0,CUDA1 or none.")
    return tuple(index for index in found if index is not None)


def _shares(text: str) -> tuple[float, ...]:
    """ "3,1" or, as llama.cpp takes it too, "3/1"."""
    try:
        found = tuple(float(part) for part in re.split("[,/]", text))
    except ValueError:
        found = ()
    if not found or not all(math.isfinite(one) and 0 <= one <= 1e6 for one in found) or not any(found):
        raise OptionError(f"--tensor-split: {text[:60]!r} are no shares; write them like 3,1.")
    return found


_OF_DRAFT = ("gpu_layers_draft", "device_draft", "cache_type_k_draft", "cache_type_v_draft", "ctx_size_draft")


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What is asked of a language model; ``None`` leaves the choice to fitcheck or to llama.cpp. ``host_bandwidth`` is
    in GB/s."""

    ctx: int | None = option(
        None,
        "Tokens of context, like 32k, or max for the longest that fits; default: 8192 or the model's own.",
        parse=context_tokens,
        short="-c",
        also=("--ctx-size",),
    )
    prompt_tokens: int | None = option(None, "Tokens of the prompt; default 512.", type=int)
    new_tokens: int | None = option(None, "Tokens of the answer; default 128.", type=int)
    ngl: int | None = option(
        None,
        "Layers on the card, or all; default: what is best.",
        parse=_layers,
        short="-ngl",
        also=("--n-gpu-layers", "--gpu-layers"),
    )
    n_cpu_moe: int | None = option(None, "Layers whose experts stay on the host.", type=int, short="-ncmoe")
    cpu_moe: bool | None = option(None, "Keep the experts of all layers on the host.", type=bool, short="-cmoe")
    cache_type: tuple[str, str] | None = option(
        None, "Type of the KV cache, like q8_0 or q8_0,f16 (K,V).", parse=_cache_types
    )
    cache_type_k: str | None = option(None, "Type of the K cache alone.", parse=lower, short="-ctk")
    cache_type_v: str | None = option(None, "Type of the V cache alone.", parse=lower, short="-ctv")
    flash_attn: bool | None = option(None, "Flash attention: on, off or auto (default).", parse=_flash, short="-fa")
    batch_size: int | None = option(None, "Tokens of a batch; default 2048.", type=int, short="-b")
    ubatch: int | None = option(
        None, "Tokens of a micro-batch; default 512.", type=int, short="-ub", also=("--ubatch-size",)
    )
    sequences: int | None = option(
        None, "Parallel sequences; default: the server's own.", type=int, short="-np", also=("--parallel",)
    )
    cache_ram: int | None = option(
        None, "MiB of system memory that prompts seen before may fill; -1 for no limit.", type=int, short="-cram"
    )
    build: Build | None = option(None, "Build: b9272, 2026-03 or ik_llama.cpp; default: newest.", parse=parse_build)
    mmproj: str | None = option(None, "Projector file, instead of the one beside the model.", role="projector")
    no_mmproj: bool | None = option(None, "Leave the projector out.", type=bool)
    no_mmproj_offload: bool | None = option(None, "Keep the projector in system memory.", type=bool)
    lora: str | None = option(None, "Adapter file (LoRA).", role="adapter")
    control_vector: str | None = option(None, "Control vector file.", role="control vector")
    spec_type: str | None = option(
        None, "Drafting: draft-mtp, by the model's own layers, or draft-simple, by --model-draft.", parse=_speculative
    )
    spec_draft_n_max: int | None = option(None, "Tokens drafted ahead; default 3.", type=int)
    model_draft: str | None = option(
        None,
        "A second, small model that drafts: TARGET as for the model, or TARGET:TIER.",
        role="draft",
        short="-md",
        also=("--spec-draft-model", "-hfd"),
    )
    gpu_layers_draft: int | None = option(
        None, "Layers of the draft on cards; default: all.", parse=_layers, short="-ngld", also=("--spec-draft-ngl",)
    )
    device_draft: tuple[int, ...] | None = option(
        None,
        "Cards of the draft, like CUDA1, or none; default: the model's.",
        parse=_devices,
        short="-devd",
        also=("--spec-draft-device",),
    )
    cache_type_k_draft: str | None = option(None, "Type of the draft's K cache; default f16.", parse=str, short="-ctkd")
    cache_type_v_draft: str | None = option(None, "Type of the draft's V cache; default f16.", parse=str, short="-ctvd")
    ctx_size_draft: int | None = option(
        None, "Tokens of the draft's context, in builds before May 2026.", parse=tokens, short="-cd"
    )
    split_mode: str | None = option(
        None, "Several cards: layer (default), none, tensor; row in builds before June 2026.", parse=_split, short="-sm"
    )
    tensor_split: tuple[float, ...] | None = option(
        None, "Each card's share, like 3,1; default: by free memory.", parse=_shares, short="-ts"
    )
    main_gpu: int | None = option(None, "The card that --split-mode none uses; default 0.", type=int, short="-mg")
    rpc: tuple[Worker, ...] | None = option(
        None, "Cards of other machines, like box:24GB or 'RTX 3090'; they come before this one's.", parse=parse_workers
    )
    override_tensor: str | None = option(None, "Tensors by pattern, like exps=CPU.", parse=str, short="-ot")
    swa_full: bool | None = option(None, "Keep the whole context in sliding-window layers.", type=bool)
    kv_unified: bool | None = option(None, "One cache that all sequences share.", type=bool, short="-kvu")
    no_kv_offload: bool | None = option(None, "Keep the KV cache in system memory.", type=bool, short="-nkvo")
    no_mmap: bool | None = option(None, "Load the file into memory of its own.", type=bool)
    mlock: bool | None = option(None, "Keep the file in memory.", type=bool)
    no_repack: bool | None = option(None, "Keep weights in the file's order on the processor.", type=bool, short="-nr")
    ram_speed: float | None = option(
        None, "System memory as sold, like DDR5-5600 or 5600x2 (MT/s x channels; default 2).", parse=_ram_speed
    )
    host_bandwidth: float | None = option(None, "Bandwidth of system memory in GB/s.", type=float)

    def arguments(self, architecture: LanguageArchitecture, cards: int = 1) -> LlamaOptions:
        """llama.cpp's own options on ``cards`` cards as far as they were asked. Raises OptionError for what cannot be.

        A micro-batch beyond the batch raises the batch: llama.cpp would cut it down without a word.
        """
        return _arguments(self, architecture, cards)

    def _arguments(self, architecture: LanguageArchitecture, cards: int) -> LlamaOptions:
        keys, values = self.cache_types or ("f16", "f16")
        micro = 512 if self.ubatch is None else self.ubatch
        if architecture.embeds and self.ubatch is None:  # such a text must go through in one piece
            micro = max(micro, self.prompt_tokens or 0)
        self._check_cards(cards)
        self._check_draft(cards)
        build = self.build or newest_build()
        check_values(values, self.flash_attn, build)
        return LlamaOptions(
            context=self.context_of(architecture),
            gpu_layers=self.ngl,
            cpu_moe_layers=architecture.layers if self.cpu_moe else self.n_cpu_moe or 0,
            cache_type_k=keys,
            cache_type_v=values,
            batch=max(USUAL_BATCH, micro) if self.batch_size is None else self.batch_size,
            micro_batch=micro,
            sequences=self.sequences,
            flash_attention=flash_of(self.flash_attn, build),
            cache_ram=self.cache_ram,
            build=build,
            projector=not self.no_mmproj,
            projector_on_host=bool(self.no_mmproj_offload),
            speculative=DRAFT if self.model_draft is not None else self.spec_type,
            draft_tokens=DRAFT_TOKENS if self.spec_draft_n_max is None else self.spec_draft_n_max,
            draft_layers=self.gpu_layers_draft,
            draft_devices=self.device_draft,
            draft_type_k=(self.cache_type_k_draft or "f16").lower(),
            draft_type_v=(self.cache_type_v_draft or "f16").lower(),
            draft_context=self.ctx_size_draft or 0,
            split_mode=self.split_mode or "layer",
            tensor_split=self.tensor_split or (),
            main_gpu=self.main_gpu or 0,
            workers=addresses(self.rpc or ()),
            overrides=() if self.override_tensor is None else parse_overrides(self.override_tensor, cards),
            full_sliding_cache=bool(self.swa_full),
            unified=self.kv_unified,
            cache_on_host=bool(self.no_kv_offload),
            mmap=not self.no_mmap,
            mlock=bool(self.mlock),
            repack=not self.no_repack,
        )

    @property
    def cache_types(self) -> tuple[str, str] | None:
        """Types of the K and V cache as far as they were asked for; ``None`` where neither was."""
        if self.cache_type is None and self.cache_type_k is None and self.cache_type_v is None:
            return None
        keys, values = self.cache_type or ("f16", "f16")
        return self.cache_type_k or keys, self.cache_type_v or values

    def _check_cards(self, cards: int) -> None:
        """Raises OptionError for shares or a card beyond those there are."""
        if len(self.tensor_split or ()) > max(cards, 1):
            raise OptionError(
                f"--tensor-split: {len(self.tensor_split or ())} shares for {cards} cards; name the cards."
            )
        if not 0 <= (self.main_gpu or 0) < max(cards, 1):
            raise OptionError(f"--main-gpu: there is no card {self.main_gpu}; this machine has {cards}, from 0 on.")

    def _check_draft(self, cards: int) -> None:
        """Raises OptionError for options of a draft where none is named, and for what cannot be of one."""
        if self.model_draft is None:
            given = next((name for name in _OF_DRAFT if getattr(self, name) is not None), None)
            if given is not None or self.spec_type == DRAFT:
                what = flag(given) if given is not None else "--spec-type"
                raise OptionError(f"{what}: no model drafts here; name one with --model-draft.")
            return
        if self.spec_type == MTP:
            raise OptionError(
                "--spec-type: draft-mtp drafts with the model's own layers; leave it or --model-draft out."
            )
        if self.ctx_size_draft is not None and (self.build or newest_build()).has("shared_draft"):
            raise OptionError(
                "--ctx-size-draft: since May 2026 a draft's context is as long as the model's; leave it out, or name "
                "an older --build."
            )
        beyond = next((one for one in self.device_draft or () if one >= max(cards, 1)), None)
        if beyond is not None:
            raise OptionError(f"--device-draft: there is no card {beyond}; this machine has {cards}, from 0 on.")

    def context_of(self, architecture: LanguageArchitecture) -> int:
        """Tokens of context: as asked, else the usual ones as far as the model was trained on them."""
        if self.ctx is not None and self.ctx != LONGEST:
            if not 1 <= self.ctx <= MOST_CONTEXT:
                raise OptionError(f"--ctx: {self.ctx} is out of range; give 1 to {MOST_CONTEXT}.")
            return self.ctx
        return min(architecture.context_length or USUAL_CONTEXT, USUAL_CONTEXT)

    def workload(self, context: int, *, embeds: bool = False) -> Workload:
        """The answer that seconds are given for, or the text to embed. Raises OptionError when the context cannot hold
        it."""
        prompt = self.prompt_tokens if self.prompt_tokens is not None else min(PROMPT_TOKENS, max(context // 2, 1))
        if embeds:
            if self.new_tokens:
                raise OptionError("--new-tokens: a model for embeddings writes none; leave it out.")
            if not 1 <= prompt <= context:
                raise OptionError(f"--prompt-tokens: {prompt} is out of range; give 1 to {context}, the context.")
            return Workload(task=Task.EMBED, prompt_tokens=prompt, new_tokens=0, context=context)
        new = self.new_tokens if self.new_tokens is not None else min(NEW_TOKENS, max(context - prompt, 1))
        for name, count in (("--prompt-tokens", prompt), ("--new-tokens", new)):
            if count < 1:
                raise OptionError(f"{name}: {count} is out of range; give at least 1.")
        if prompt + new > max(context, 2):
            raise OptionError(
                f"--ctx: {context} tokens cannot hold a prompt of {prompt} and an answer of {new}; give at least "
                f"{prompt + new}."
            )
        return Workload(task=Task.CHAT, prompt_tokens=prompt, new_tokens=new, context=context)

    @property
    def bandwidth(self) -> float | None:
        """The host's bandwidth in B/s. Raises OptionError for what is none."""
        given = self.host_bandwidth
        if given is None:
            return self.ram_speed
        if not (math.isfinite(given) and BANDWIDTH[0] <= given <= BANDWIDTH[1]):
            raise OptionError(f"--host-bandwidth: {given:g} is out of range; give GB/s, like 51.2.")
        return given * GIGA


@lru_cache(maxsize=512)
def _arguments(asked: TextOptions, architecture: LanguageArchitecture, cards: int) -> LlamaOptions:
    """Once for all tiers and machines of a question."""
    return asked._arguments(architecture, cards)
