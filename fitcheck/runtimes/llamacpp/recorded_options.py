"""Records of llama.cpp: which cell a run measured, and its tests beside what they are predicted from."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any

from fitcheck.errors import InputError
from fitcheck.hardware.machine import Machine
from fitcheck.models import catalog
from fitcheck.models.companions import DRAFT
from fitcheck.models.families.language.architecture import LanguageArchitecture
from fitcheck.models.workload import Task, Workload
from fitcheck.records.run import Run, TokenTest
from fitcheck.runtimes.base import Ask, Settings
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.builds import parse_build
from fitcheck.runtimes.llamacpp.flash import flash_of
from fitcheck.runtimes.llamacpp.placement import arguments_of, host_of, placement_of
from fitcheck.runtimes.llamacpp.seconds import run_of, token_speed
from fitcheck.runtimes.llamacpp.token_rates import backend_of
from fitcheck.runtimes.llamacpp.token_timing import GENERATION, PROMPT, generation_timing, prompt_timing
from fitcheck.runtimes.llamacpp.token_work import PlacedRun
from fitcheck.runtimes.recorded import machine_of
from fitcheck.speed.timing import Observation, Timing
from fitcheck.units import Interval

# what moves the layers as a check places them; rows and tensors over several cards are other programs to it
_SPLITS = (None, "layer", "none")
_FLASH = {"on": True, "off": False}


def ask_of(run: Run, family: tuple[str, ...]) -> Ask | None:
    """The cell of a record; ``None`` for a model, a card or options that are not modelled."""
    machine = _machine(run)
    if machine is None or not catalog.is_slug(run.cell.model) or run.setting("tags"):
        return None
    model = catalog.get(run.cell.model)
    tier = model.tier(run.cell.tier)
    architecture = model.architecture if tier is None or tier.architecture is None else tier.architecture
    if tier is None or not isinstance(architecture, LanguageArchitecture) or architecture.family not in family:
        return None
    try:
        options = _options(run)
    except (InputError, TypeError):
        return None
    read = max((test.prompt for test in run.tests), default=0)
    written = max((test.new for test in run.tests), default=0)
    workload = Workload(Task.CHAT, prompt_tokens=read, new_tokens=written, context=options.context)
    return Ask(model, tier, placement_of(options, architecture.layers), workload, machine)


def _machine(run: Run) -> Machine | None:
    """The machine with as many cards as took part, where they ran as their maker's cards mostly do."""
    found = machine_of(run)
    if found is None or run.setting("split_mode") not in _SPLITS:
        return None
    named = str(run.setting("backend", "")).split(",")[0].split("+")[0]
    usual = backend_of(found.gpus[0].card)
    if named and backend_of(found.gpus[0].card, named) != usual:
        return None
    return replace(found, gpus=found.gpus * run.cards)


def _options(run: Run) -> LlamaOptions:
    """The options that a record states; what it does not state is llama.cpp's default. Raises OptionError."""
    layers: int = run.setting("gpu_layers", -1)
    build = parse_build(run.cell.revision)
    longest = max((test.depth + test.prompt + test.new for test in run.tests), default=0)
    return LlamaOptions(
        context=run.setting("context") or max(longest, 512),
        gpu_layers=None if layers < 0 else layers,
        cpu_moe_layers=run.setting("cpu_moe_layers", 0),
        cache_type_k=run.setting("type_k", "f16"),
        cache_type_v=run.setting("type_v", "f16"),
        sequences=run.setting("sequences"),
        batch=run.setting("batch", 2048),
        micro_batch=run.setting("ubatch", 512),
        flash_attention=flash_of(_FLASH.get(run.setting("flash_attention", "auto")), build),
        build=build,
        program="bench",
        mmap=run.setting("mmap", True),
        cache_on_host=run.setting("kv_offload") is False,
    )


def stated(options: LlamaOptions) -> Settings:
    """What ``_options`` reads, as a record states it."""
    flash = {True: "on", False: "off", None: "auto"}[options.flash_attention]
    settings: dict[str, Any] = {
        "context": options.context,
        "gpu_layers": -1 if options.gpu_layers is None else options.gpu_layers,
        "cpu_moe_layers": options.cpu_moe_layers,
        "type_k": options.cache_type_k,
        "type_v": options.cache_type_v,
        "batch": options.batch,
        "ubatch": options.micro_batch,
        "flash_attention": flash,
        "mmap": options.mmap,
        "kv_offload": not options.cache_on_host,
    }
    return tuple(sorted(settings.items()))


def alike(ask: Ask, layers: int) -> Hashable:
    """What decides a run's seconds, under the names that a record and a check share: not how much context was
    reserved, nor which program reserved it."""
    options = arguments_of(ask.placement, ask.workload)
    on_cards = options.gpu_layers
    build = None if options.build.has("settled_speed") else str(options.build)
    chosen: tuple[Any, ...] = (
        None if on_cards is None or on_cards > layers else on_cards,
        min(options.cpu_moe_layers, layers),
        options.cache_type_k,
        options.cache_type_v,
        options.micro_batch,
        options.flash,
        options.cache_on_host,
        options.overrides,
        options.tensor_split,
        _drafts(ask, options),
        len(options.workers),
        options.split_mode if options.shares_matrices else None,
    )
    return ask.model.slug, ask.tier.name, build, chosen


def _drafts(ask: Ask, options: LlamaOptions) -> Hashable:
    """How tokens are drafted, of which a benchmark's record knows nothing; ``None`` where they are not."""
    if options.speculative is None:
        return None
    models = tuple((one.name, one.kind) for one in ask.tier.companions if one.role == DRAFT)
    return options.speculative, options.draft_tokens, options.draft_layers, options.draft_devices, models


def timings(ask: Ask, result: PlacedRun) -> dict[str, Timing]:
    """Seconds a token of the asked prompt and answer; empty where a rate of the card is unknown."""
    prompt, new = ask.workload.prompt_tokens or 0, ask.workload.new_tokens
    depth = prompt + new // 2  # half way through the answer
    found = {PROMPT: _timing(ask, result, TokenTest(prompt, 0, depth - prompt // 2, 1.0))}
    found[GENERATION] = _timing(ask, result, TokenTest(0, new, depth - new // 2, 1.0))
    return {name: timing for name, timing in found.items() if timing is not None}


def observed(run: Run, ask: Ask, result: PlacedRun) -> Iterator[Observation]:
    """Tests of reading alone and of writing alone; one of both together tells neither's rate. Nor do made-up weights
    tell how many experts a prompt's tokens choose, which hangs on the file (docs/tokens.md): in some all tokens choose
    the same few, whose weights alone are read. One token reads as many as any other."""
    architecture = ask.architecture
    assert isinstance(architecture, LanguageArchitecture)
    routed = bool(architecture.experts) and run.weights != "real"
    for test in run.tests:
        if test.prompt and routed:
            continue
        timing = _timing(ask, result, test, run.setting("threads"))
        if timing is not None and test.rate > 0:
            yield Observation(PROMPT if test.prompt else GENERATION, timing, 1 / test.rate)


def promises(run: Run, ask: Ask, result: PlacedRun) -> dict[str, Interval[float]]:
    """Tokens a second of each test of reading alone and of writing alone, by the test's name."""
    architecture = ask.architecture
    assert isinstance(architecture, LanguageArchitecture)
    found = {}
    for test in run.tests:
        if bool(test.prompt) == bool(test.new):
            continue
        half_way = test.depth + (test.prompt + test.new) // 2
        host = host_of(ask, run.setting("threads"))
        speed = token_speed(architecture, ask.tier.tensors, result, ask.machine.gpus, half_way, host, reads=test.prompt)
        rate = speed.prompt if test.prompt else speed.generation
        if rate is not None:
            found[test.name] = rate
    return found


def _timing(ask: Ask, result: PlacedRun, test: TokenTest, threads: int | None = None) -> Timing | None:
    if bool(test.prompt) == bool(test.new):
        return None
    architecture = ask.architecture
    assert isinstance(architecture, LanguageArchitecture)
    half_way = test.depth + (test.prompt + test.new) // 2
    host = host_of(ask, threads)
    run = run_of(architecture, ask.tier.tensors, result, ask.machine.gpus, half_way, host, reads=test.prompt)
    return prompt_timing(run) if test.prompt else generation_timing(run)
