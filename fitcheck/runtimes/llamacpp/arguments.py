"""The options of a llama.cpp run that decide its memory, under llama.cpp's own names."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import field, replace
from functools import cached_property

from fitcheck.dataclass_later import dataclass
from fitcheck.errors import OptionError
from fitcheck.models.quant import TYPES
from fitcheck.runtimes.llamacpp.builds import Build, newest_build

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
MTP, DRAFT = "draft-mtp", "draft-simple"  # by the model's own layers, by a second model
SPECULATIVE = (MTP, DRAFT)
DRAFT_TOKENS = 3  # common/common.h, speculative.draft.n_max
LAYER, ONE_CARD, ROW, TENSOR = "layer", "none", "row", "tensor"
SPLIT_MODES = (LAYER, ONE_CARD, ROW, TENSOR)
PROGRAMS = ("server", "bench", "library")
MAX_CARDS = 64  # llama.cpp's own limit
MAX_OVERRIDES = 64
MAX_PATTERN = 256
_WHERE = {"gpu_layers", "cpu_moe_layers"}
# a quantified group that is quantified again, the shape whose matching time explodes
_NESTED = re.compile(r"\([^()]*[+*}][^()]*\)[+*{]")


@dataclass(frozen=True, slots=True)
class TensorOverride:
    """``-ot PATTERN=BUFFER``: tensors whose name the pattern is found in go to ``device`` (None is the host)."""

    pattern: str
    device: int | None

    def matches(self, name: str) -> bool:
        """Whether the pattern, a regular expression, is found anywhere in the tensor's name."""
        return re.search(self.pattern, name) is not None


@dataclass(frozen=True)
class LlamaOptions:
    """One run. ``gpu_layers`` None puts everything on the cards; ``sequences`` None takes the program's own default.

    ``flash_attention`` None is llama.cpp's ``auto`` (on where the card can). ``program`` is "server" (llama-server and
    llama-cli of late), "bench" (llama-bench, which computes logits for no row it does not need but reserves for all)
    or "library" (llama-cpp-python, embeddings). ``latent_mode`` is ik_llama.cpp's ``-mla``. ``alignment`` in bytes is
    the card's buffer alignment. ``projector`` False leaves the one beside the model out,
    ``projector_on_host`` keeps it off the cards. With ``split_mode`` "none" the card ``main_gpu`` is the only one;
    "row" and "tensor" share each matrix. ``workers`` are addresses of RPC servers, whose cards are the first ones.

    Fields that begin with ``draft`` are of the second model that drafts: its layers on cards (None for all), the cards
    it may use (None for all, empty for none), its cache's types and, where the build lets one choose, its context (0
    for the model's own).
    """

    context: int = 4096
    gpu_layers: int | None = None
    cpu_moe_layers: int = 0
    overrides: tuple[TensorOverride, ...] = ()
    tensor_split: tuple[float, ...] = ()
    projector: bool = True
    projector_on_host: bool = False
    speculative: str | None = None
    draft_tokens: int = DRAFT_TOKENS
    draft_layers: int | None = None
    draft_devices: tuple[int, ...] | None = None
    draft_type_k: str = "f16"
    draft_type_v: str = "f16"
    draft_context: int = 0
    split_mode: str = "layer"
    main_gpu: int = 0
    workers: tuple[str, ...] = ()
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    sequences: int | None = None
    unified: bool | None = None
    batch: int = 2048
    micro_batch: int = 512
    flash_attention: bool | None = None
    build: Build = field(default_factory=newest_build)
    program: str = "server"
    mmap: bool = True
    mlock: bool = False
    repack: bool = True
    cache_ram: int | None = None
    full_sliding_cache: bool = False
    cache_on_host: bool = False
    op_offload: bool = True
    latent_mode: int = 0
    fused_experts: bool = False
    attention_limit: int = 0
    backend: str = "cuda"
    holds_fused: bool = True  # cards keep what their fused operations read; one device that stands for all does not
    alignment: int = 128

    def __post_init__(self) -> None:
        _within("--ctx-size", self.context, 1, 1 << 27)
        _within("--ubatch-size", self.micro_batch, 1, 1 << 17)
        _within("--batch-size", self.batch, 1, 1 << 20)
        _within("--spec-draft-n-max", self.draft_tokens, 0, 64)
        _within("--n-gpu-layers-draft", self.draft_layers if self.draft_layers is not None else 0, 0, 10_000)
        _within("--ctx-size-draft", self.draft_context, 0, 1 << 27)
        _within("--cache-ram", self.cache_ram or 0, -1, 1 << 24)
        _within("--parallel", self.sequences if self.sequences is not None else 1, 1, 256)
        _within("--n-gpu-layers", self.gpu_layers if self.gpu_layers is not None else 0, 0, 10_000)
        _within("--n-cpu-moe", self.cpu_moe_layers, 0, 10_000)
        types = self.cache_type_k, self.cache_type_v, self.draft_type_k, self.draft_type_v
        flags = "--cache-type-k", "--cache-type-v", "--cache-type-k-draft", "--cache-type-v-draft"
        for option, name in zip(flags, types, strict=True):
            if name not in CACHE_TYPES and not (self.build.fork and name in ("q6_0", "q8_kv")):
                raise OptionError(
                    f"{option}: {name!r} is not a cache type of llama.cpp; choose {', '.join(CACHE_TYPES)}."
                )
        if self.program not in PROGRAMS:
            raise OptionError(f"--program: {self.program!r} is unknown; choose {', '.join(PROGRAMS)}.")
        if any(share < 0 for share in self.tensor_split):
            raise OptionError("--tensor-split: shares cannot be negative; write them like 3,1.")
        self._check_split()
        if not self.flash and TYPES[cache_type(self.cache_type_v)].quantized and not self.build.fork:
            raise OptionError("--cache-type-v: a quantized V cache needs flash attention; leave --flash-attn on.")

    def _check_split(self) -> None:
        """Raises OptionError for a way to share the model that the build does not have."""
        if self.split_mode == ROW and self.build.has("no_row_split"):
            raise OptionError(
                "--split-mode: CUDA builds since June 2026 have no row any more, tensor took its place; choose layer, "
                "tensor or none, or name an older --build."
            )
        if self.split_mode == TENSOR and not self.build.has("tensor_split"):
            raise OptionError("--split-mode: tensor came in April 2026; choose layer or row, or name a newer --build.")
        if self.split_mode == TENSOR and not self.flash:
            raise OptionError("--split-mode: tensor needs flash attention; leave --flash-attn on.")

    @property
    def shares_matrices(self) -> bool:
        """Whether cards share each matrix instead of whole layers."""
        return self.split_mode in (ROW, TENSOR)

    @property
    def flash(self) -> bool:
        """Flash attention as it will be: auto counts as on, as it is on every card with tensor cores."""
        return self.flash_attention is not False

    @property
    def slots(self) -> int:
        """Sequences the run holds at once."""
        if self.sequences is not None:
            return self.sequences
        if self.speculative == DRAFT and not self.build.has("shared_draft"):
            return 1
        return 4 if self.program == "server" and self.build.has("auto_slots") else 1

    @property
    def unified_cache(self) -> bool:
        """Whether all sequences share one cache: the server's choice where it also chose the number of slots."""
        if self.unified is not None:
            return self.unified
        if self.slots == 1:
            return True
        return self.sequences is None or not self.build.has("sliding_cache")

    @property
    def padded_context(self) -> int:
        """Cells of the cache over all sequences, as llama.cpp rounds them."""
        step = 256 if self.build.has("padded_context") or self.flash else 32
        if self.unified_cache:
            return _round_up(self.context, step)
        return _round_up(max(self.context // self.slots, 1), step) * self.slots

    @property
    def micro(self) -> int:
        """Tokens the largest graph is reserved for: a micro-batch is never larger than batch or context."""
        return min(self.micro_batch, self.batch, self.context)

    @property
    def drafted(self) -> int:
        """Tokens drafted ahead, each of which the model checks."""
        return self.draft_tokens if self.speculative else 0

    @property
    def predicts(self) -> bool:
        """Whether the model's own prediction layers draft."""
        return self.speculative == MTP

    @property
    def states(self) -> int:
        """Recurrent states of a sequence: one, and one more for every token drafted with the model's own layers. What
        a second model drafts is taken back from a copy in system memory (common.h, need_n_rs_seq)."""
        return 1 + (self.draft_tokens if self.predicts else 0)

    @property
    def outputs(self) -> int:
        """Rows of logits the compute buffer is reserved for."""
        if self.program == "server" and self.build.has("outputs_limited"):
            return min(self.micro, self.slots * (1 + self.drafted))
        return self.micro

    @property
    def prompts_kept(self) -> int:
        """Bytes of system memory that prompts seen before may fill, where somebody said how many (--cache-ram)."""
        return max(self.cache_ram or 0, 0) << 20

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # a search looks things up by options again and again, and one over every field takes as long as much of that
        return hash((self.context, self.gpu_layers, self.cpu_moe_layers, self.cache_type_k, self.build.day))

    def with_(self, **changes: Hashable) -> LlamaOptions:
        """The same options with these fields changed; the same object for the same changes."""
        key = tuple(changes.items())
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = replace(self, **changes)  # type: ignore[arg-type]
            if changes.keys() <= _WHERE:
                made.__dict__["anywhere"] = self.anywhere
        return made

    @cached_property
    def _made(self) -> dict[object, LlamaOptions]:
        return {}

    @cached_property
    def anywhere(self) -> LlamaOptions:
        """The same run but for how many layers lie where."""
        return replace(self, gpu_layers=None, cpu_moe_layers=0)


def parse_overrides(text: str, cards: int) -> tuple[TensorOverride, ...]:
    """``"exps=CPU,blk\\.1\\.=CUDA1"`` -> overrides. Raises OptionError for a pattern that is wrong or dangerous."""
    found = []
    parts = [part for part in text.split(",") if part]
    if len(parts) > MAX_OVERRIDES:
        raise OptionError(f"--override-tensor: {len(parts)} patterns are too many; give at most {MAX_OVERRIDES}.")
    for part in parts:
        pattern, separator, buffer = part.rpartition("=")
        if not separator or not pattern:
            raise OptionError(f"--override-tensor: {part!r} has no buffer; write it like exps=CPU.")
        if len(pattern) > MAX_PATTERN or _NESTED.search(pattern):
            raise OptionError("--override-tensor: a pattern is too long or nests repetitions; write a simpler one.")
        try:
            re.compile(pattern)
        except re.error as problem:
            raise OptionError(f"--override-tensor: {pattern!r} is not a regular expression ({problem}).") from None
        found.append(TensorOverride(pattern, _device(buffer, cards)))
    return tuple(found)


def override_text(overrides: Sequence[TensorOverride]) -> str:
    """The overrides as ``parse_overrides`` reads them."""
    return ",".join(f"{one.pattern}={'CPU' if one.device is None else f'CUDA{one.device}'}" for one in overrides)


def device_of(name: str) -> int | None:
    """The position of a card as llama.cpp names it, like CUDA1; ``None`` for what is no card's name."""
    match = re.fullmatch(r"(?:CUDA|ROCm|Vulkan|SYCL|GPU|Metal)(\d{0,3})", name, re.IGNORECASE)
    return int(match.group(1) or 0) if match else None


def device_text(cards: Sequence[int]) -> str:
    """Cards as llama.cpp names them: ``(0, 1)`` → ``"CUDA0,CUDA1"``."""
    return ",".join(f"CUDA{index}" for index in cards)


def _device(buffer: str, cards: int) -> int | None:
    if buffer.upper() == "CPU":
        return None
    index = device_of(buffer)
    if index is None or index >= max(cards, 1):
        raise OptionError(
            f"--override-tensor: there is no buffer {buffer!r}; use CPU or CUDA0 to CUDA{max(cards, 1) - 1}."
        )
    return index


def cache_type(name: str) -> str:
    """The ggml type of a cache type's name."""
    return {"q6_0": "Q6_K", "q8_kv": "Q8_0"}.get(name, name.upper())


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _within(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OptionError(f"{option}: {value} is out of range; give {low} to {high}.")
