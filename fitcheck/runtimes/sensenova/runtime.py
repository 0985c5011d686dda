"""SenseNova-U1 through upstream's own programs: ``--vram_mode full | fast | balanced | low``."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

from fitcheck.data_files import load
from fitcheck.errors import InputError
from fitcheck.hardware.card import Card
from fitcheck.hardware.machine import Machine
from fitcheck.memory.footprint import CardMemory, Footprint, Phase, drawn_from_host
from fitcheck.models.families.sensenova.architecture import SenseNovaArchitecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import Run
from fitcheck.runtimes.base import Ask, Change, Default, Measured, Placement, Runtime, Support, Wanted
from fitcheck.runtimes.downloads import download
from fitcheck.runtimes.imagined import eased_by_less, without_display
from fitcheck.runtimes.options import read
from fitcheck.runtimes.recorded import ask_of
from fitcheck.runtimes.sensenova import commands
from fitcheck.runtimes.sensenova.card_seen import architecture_of, seen_of, seen_on, view_of
from fitcheck.runtimes.sensenova.defaults import defaults
from fitcheck.runtimes.sensenova.estimate import KeptLayers, estimate, kept_shares
from fitcheck.runtimes.sensenova.guidance import text_ends, written
from fitcheck.runtimes.sensenova.host import pinnable_bytes
from fitcheck.runtimes.sensenova.layer_weights import weights_of
from fitcheck.runtimes.sensenova.layout import CardView
from fitcheck.runtimes.sensenova.options import PictureOptions, UpstreamOptions
from fitcheck.runtimes.sensenova.pass_work import passes_of
from fitcheck.runtimes.sensenova.seconds import pace_of, seconds, with_pinning
from fitcheck.runtimes.sensenova.streaming import (
    MODES,
    POLICIES,
    REVISIONS,
    UPSTREAM,
    Stream,
    Streaming,
    placement_of,
    streaming_of,
    upstream,
)
from fitcheck.runtimes.sensenova.token_counts import tokens
from fitcheck.runtimes.sensenova.workloads import check_options, workload_for
from fitcheck.runtimes.torch_platform import torch_stacks, torch_support
from fitcheck.speed.duration import Duration
from fitcheck.speed.overlap import timing_of
from fitcheck.speed.passes import Pass
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import WHOLE, Observation, Timing
from fitcheck.units import Interval, format_gib, format_seconds

SMALL_SIDE = 1024  # pixels of a picture that needs a quarter of the usual one's tokens


@lru_cache(maxsize=4096)
def _estimate(
    arch: SenseNovaArchitecture, tier: Tier, workload: Workload, streaming: Streaming, view: CardView, *, bench: bool
) -> Footprint:
    """The estimator is pure, and a site asks for the same footprint on hundreds of cards."""
    found = estimate(arch, tier, workload, streaming, view, bench=bench)
    return _with_text_ends(found, arch, workload) if workload.text_assumed else found


@lru_cache(maxsize=64)
def _parts_of_asks(
    runtime: PictureRuntime, task: Task, tiers: tuple[Tier, ...], options: PictureOptions, unsaid: bool
) -> tuple[tuple[Tier, Placement, Workload], ...]:
    """What the asks of a question are, whichever the machine. ``unsaid`` (thinking without a number of tokens) tells
    ``True`` from 1, which are one key."""
    placements = [placement_of(one, options.attention) for one in runtime.streamings(options)]
    found = [(tier, workload_for(task, tier, options)) for tier in tiers]
    return tuple((tier, placement, workload) for tier, workload in found for placement in placements)


class PictureRuntime(Runtime):
    """What upstream's programs and the ComfyUI node share: memory, seconds and platform of one card."""

    families = ("sensenova-u1",)
    needs_card = True
    searches = False

    def streamings(self, options: PictureOptions) -> Iterable[Streaming]:
        """The offload modes to look at. Raises OptionError."""
        raise NotImplementedError

    def asks(self, model: Model, tiers: Sequence[Tier], wanted: Wanted, machine: Machine) -> Iterator[Ask]:
        """Every tier in every placement of the options, for the task asked or the model's first. Raises InputError."""
        options: PictureOptions = read(self.options, wanted)
        check_options(options)
        task = Task(wanted.task) if wanted.task else model.tasks[0]
        for tier, placement, workload in _parts_of_asks(self, task, tuple(tiers), options, options.think is True):
            yield Ask(model, tier, placement, workload, machine)

    def sees(self, machine: Machine) -> Hashable | None:
        """Of one card what the estimate looks at, what PyTorch allows and what its seconds are made of; a cell of
        several cards names the one that works."""
        if len(machine.gpus) != 1:
            return None
        seen, gpu = seen_on(machine), machine.gpus[0]
        platform = _support(gpu.card, streams=False), _support(gpu.card, streams=True)
        return seen, gpu.carved, platform, pace_of(gpu) if seen.timed else None

    def footprint(self, ask: Ask) -> Footprint:
        """The bytes of the one card that works; other cards stay idle, unified memory counts on the host."""
        streaming, seen = streaming_of(ask.placement), seen_of(ask)
        found = _estimate(
            architecture_of(ask), ask.tier, ask.workload, streaming, view_of(ask, streaming), bench=ask.process.bench
        )
        if seen.shares_memory:
            found = _in_one_memory(found, ask.card.carved)
        elif seen.total is not None:
            found = _within(found, seen.total)
        return found if len(ask.machine.gpus) == 1 else _on_one_of_several(found, ask)

    def duration(self, ask: Ask, footprint: Footprint, calibration: Calibration | None = None) -> Duration | None:
        """Seconds of one picture or answer on the one card, over its own PCIe link."""
        streaming, gpu = streaming_of(ask.placement), ask.card
        if not seen_of(ask).timed:
            return None
        kept = footprint.layout
        assert isinstance(kept, KeptLayers)
        found = seconds(
            architecture_of(ask),
            ask.tier.tensors,
            ask.workload,
            streaming,
            gpu.card,
            gpu.link,
            kept_share=kept.denoising,
            thinking_share=kept.thinking,
            calibration=calibration,
        )
        known = calibration is not None and calibration.ratio(WHOLE) is not None
        if found is None or ask.process.bench or (known and not ask.process.first):
            return found
        pinned = pinnable_bytes(weights_of(ask.tier.tensors), streaming)
        return with_pinning(found, pinned, gpu.card, first=ask.process.first)

    def timings(self, ask: Ask, links: Calibration | None = None) -> Mapping[str, Timing]:
        """Passes by what they compute, dequantize, launch and copy."""
        pinned, plan = streaming_of(ask.placement).pinned, _plan(ask)
        found = timing_of(plan, ask.card.card, ask.card.link, pinned=pinned, calibration=links)
        return {} if found is None else {WHOLE: found}

    def observed(self, run: Run, ask: Ask, links: Calibration | None = None) -> Iterator[Observation]:
        """Its seconds, and those of its copies alone where the bench has seen their rate."""
        timing = self.timings(ask, links).get(WHOLE)
        if timing is None:
            return
        if run.seconds:
            yield Observation(WHOLE, timing, run.seconds)
        if run.link_rate and timing.copies.names:
            streamed = sum(one.count * one.nbytes for one in _plan(ask))
            yield Observation("copies", timing.copies, streamed / run.link_rate)

    def platform(self, ask: Ask) -> Support | None:
        """What PyTorch on the card's vendor and generation allows, and whether streaming works there."""
        return _support(ask.card.card, streams=streaming_of(ask.placement).stream is not Stream.NOTHING)

    def stacks(self, ask: Ask) -> tuple[str, ...]:
        """PyTorch, which multiplies in bfloat16."""
        return torch_stacks(ask.tier)

    def changes(self, ask: Ask, wanted: Wanted) -> Iterator[Change]:
        """Lighter modes, the display elsewhere, less guidance, smaller pictures, smaller published tiers."""
        yield from self.lighter_modes(ask)
        yield from without_display(ask)
        stays = min(phase.resident for phase in self.footprint(ask).cards[ask.gpu].phases)
        if stays <= ask.budgets[ask.gpu].vram.best:  # else the weights alone are too much, whatever the pictures
            yield from _lighter_work(ask)
        current = ask.tier.tensors.nbytes
        options: PictureOptions = read(self.options, wanted)
        for tier in sorted(ask.model.tiers, key=lambda tier: -tier.tensors.nbytes):
            if tier.published and tier.tensors.nbytes < current:
                workload = workload_for(ask.workload.task, tier, options)  # distilled tiers have steps of their own
                yield Change(f"tier {tier.name}", replace(ask, tier=tier, workload=workload))

    def defaults(self, ask: Ask, wanted: Wanted) -> Iterator[Default]:
        """Sizes, steps and pictures that nobody named."""
        return defaults(ask, wanted)

    def lighter_modes(self, ask: Ask) -> Iterator[Change]:
        """Modes that keep less on the card."""
        yield from ()

    def notes(self, ask: Ask, wanted: Wanted, duration: Duration | None) -> tuple[str, ...]:
        """What happens once in a process, and what was assumed of the text that the model writes."""
        found: list[str] = []
        workload, streaming = ask.workload, streaming_of(ask.placement)
        if duration is not None and duration.first is not None and duration.seconds is not None:
            once = format_seconds(duration.first.best - duration.seconds.best)
            pinned = format_gib(pinnable_bytes(weights_of(ask.tier.tensors), streaming))
            found.append(f"The first image of a process takes about {once} more, while {pinned} of weights are pinned.")
        if workload.text_assumed:
            what = "thinks" if workload.makes_one_picture else "writes"
            found.append(
                f"How much the model {what} is not known before it does: {written(workload)} tokens are assumed, and "
                "the intervals hold a quarter and four times as many; --think and --new-tokens say it."
            )
        if workload.task is Task.INTERLEAVE and not wanted.has("images"):
            found.append("An answer with one image is assumed; the model decides itself, up to ten: --images says it.")
        return tuple(found)

    def commands(self, ask: Ask) -> tuple[str, ...]:
        """How to download the tier."""
        return download(ask.tier)

    def ask_of(self, run: Run) -> Ask | None:
        """``None`` for a record whose mode, policy or revision this release does not know."""
        try:
            streaming = streaming_of(_recorded_placement(self.name, run))
        except InputError:
            return None
        ask = ask_of(run, placement_of(streaming, _recorded_attention(run)), self.families)
        if ask is None or ask.workload.task is not Task.INTERLEAVE or ask.workload.prompt_tokens:
            return ask
        return replace(ask, workload=ask.workload.with_(prompt_tokens=tokens("interleave_prompt_unsaid")))

    def recorded(self, placement: Placement) -> dict[str, Any]:
        """Policy and prefetch are ``None`` where everything is on the card."""
        streaming = streaming_of(placement)
        streams = streaming.stream is not Stream.NOTHING
        return {
            "name": self.name,
            "revision": placement.revision,
            "mode": placement.mode,
            "policy": streaming.policy if streams else None,
            "prefetch": streaming.prefetch if streams else None,
        }


class Upstream(PictureRuntime):
    """See ``fitcheck.runtimes.base.Runtime``."""

    name = UPSTREAM
    options = UpstreamOptions
    modes: ClassVar[Mapping[str, str]] = {
        "full": "all weights on the card",
        "fast": "streams layers, keeps as many as fit",
        "balanced": "streams layers, two ahead",
        "low": "one layer at a time",
    }

    def streamings(self, options: PictureOptions) -> Iterator[Streaming]:
        """The modes asked for, else all that the revision has. Raises OptionError for one that it lacks."""
        assert isinstance(options, UpstreamOptions)
        chosen = options.mode or _modes_of(options.revision)
        return (upstream(mode, options.revision, options.policy) for mode in chosen)

    def lighter_modes(self, ask: Ask) -> Iterator[Change]:
        """The revision's modes that take less card memory than this one, from most to least."""
        streaming = streaming_of(ask.placement)
        known = _modes_of(streaming.revision)
        for mode in known[known.index(streaming.mode) + 1 :]:
            lighter = upstream(mode, streaming.revision, streaming.policy)
            placement = placement_of(lighter, ask.placement.get("attention"))
            yield Change(
                f"--vram_mode {mode}", replace(ask, placement=placement), eased_by_less(ask), (("mode", mode),)
            )

    def commands(self, ask: Ask) -> tuple[str, ...]:
        """How to download the tier and run upstream's program on it."""
        return download(ask.tier) + commands.run(ask)

    def published(self) -> Iterator[Measured]:
        """Others' measurements of SenseNova-U1, in the modes that are modelled."""
        from fitcheck.runtimes.sensenova.published import published_rows

        return published_rows()


def _modes_of(revision: str) -> tuple[str, ...]:
    """The modes of a revision: ``fast`` came with the second."""
    return tuple(mode for mode in MODES if mode != "fast") if revision == REVISIONS[0] else MODES


def _recorded_placement(name: str, run: Run) -> Placement:
    cell = run.cell
    return Placement(name, cell.revision or "", cell.mode or "", (("policy", cell.policy or POLICIES[0]),))


def _recorded_attention(run: Run) -> str:
    """What attends decides what a pass keeps alive; torch's own kernels, flash among them, all count as SDPA."""
    return "flash" if run.attention == "flash-attn" else "sdpa"


def _plan(ask: Ask) -> tuple[Pass, ...]:
    """The passes of a cell; which layers stay on the card is all that they need of its memory."""
    streaming, arch = streaming_of(ask.placement), architecture_of(ask)
    kept = KeptLayers()
    if streaming.keep_generation:
        kept = kept_shares(arch, ask.tier, ask.workload, streaming, view_of(ask, streaming))
    return passes_of(arch, ask.tier.tensors, ask.workload, streaming, kept.denoising, kept.thinking)


@lru_cache(maxsize=8192)
def _support(card: Card, *, streams: bool) -> Support | None:
    vendors = load("runtimes.sensenova", "support")["vendors"]
    return torch_support(card, vendors.get(card.vendor, vendors["other"]), streams=streams)


def _with_text_ends(found: Footprint, arch: SenseNovaArchitecture, workload: Workload) -> Footprint:
    """Intervals as wide as the caches of much less and much more text than is assumed."""
    each = arch.kv_bytes_per_token * (1 + workload.batch)
    less, more = (each * (written(end) - written(workload)) for end in text_ends(workload))
    memory = found.cards[0]

    def wider(span: Interval[int]) -> Interval[int]:
        return Interval(max(0, span.low + less), span.best, span.high + more)

    wide = CardMemory(
        memory.phases,
        wider(memory.allocated),
        wider(memory.reserved),
        wider(memory.card),
        wider(memory.required),
        memory.crowded,
    )
    return replace(found, cards=(wide,))


@lru_cache(maxsize=8192)
def _within(found: Footprint, total: int) -> Footprint:
    """The footprint on a card of ``total`` bytes."""
    inside = found.cards[0].within(total)
    return found if inside is found.cards[0] else replace(found, cards=(inside,))


@lru_cache(maxsize=8192)
def _in_one_memory(found: Footprint, carved: int) -> Footprint:
    """Where host and card share one memory, the host holds the card's part as well, but for what is ``carved`` out."""
    memory = found.cards[0]
    held = Interval(memory.required.low, memory.required.best, memory.card.high)
    both = found.host.total + drawn_from_host(held, carved)
    return replace(found, host=replace(found.host, total=both))


_NOTHING = Interval.exactly(0)
_IDLE = CardMemory((Phase("idle", 0, 0, 0, 0, 0),), _NOTHING, _NOTHING, _NOTHING, _NOTHING)


def _on_one_of_several(found: Footprint, ask: Ask) -> Footprint:
    cards = tuple(found.cards[0] if index == ask.gpu else _IDLE for index in range(len(ask.machine.gpus)))
    note = f"runs on one card, {ask.card.card.name}; the machine's other cards stay idle"
    return replace(found, cards=cards, assumptions=(*found.assumptions, note))


def _lighter_work(ask: Ask) -> Iterator[Change]:
    """Less guidance, smaller pictures in and out."""
    workload, makes_pictures, eases = ask.workload, ask.workload.task is not Task.VQA, eased_by_less(ask)
    if workload.cfg > 1 and makes_pictures:
        yield Change("--cfg 1 (needs distilled weights)", replace(ask, workload=workload.with_(cfg=1.0)), eases)
    if workload.references and max(max(size) for size in workload.references) > SMALL_SIDE:
        smaller = tuple((min(width, SMALL_SIDE), min(height, SMALL_SIDE)) for width, height in workload.references)
        fewer = replace(ask, workload=workload.with_(references=smaller))
        yield Change("reference images of 1024x1024", fewer, eases)
    if makes_pictures and workload.width * workload.height > SMALL_SIDE**2:
        smaller_work = workload.with_(width=SMALL_SIDE, height=SMALL_SIDE)
        yield Change("--size 1024x1024", replace(ask, workload=smaller_work), eases, (("size", "1024x1024"),))


RUNTIME = Upstream()
