"""What a question about text leaves open, and another value that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fitcheck.memory.weighing import Verdict
from fitcheck.runtimes.base import Ask, Default, Wanted
from fitcheck.runtimes.llamacpp.arguments import LlamaOptions
from fitcheck.runtimes.llamacpp.options import GIGA
from fitcheck.runtimes.llamacpp.placement import arguments_of, host_of
from fitcheck.runtimes.llamacpp.proposals import PlacementSearch


def defaults(ask: Ask, wanted: Wanted, search: PlacementSearch) -> Iterator[Default]:
    """The context where the model was trained on longer ones, and how fast the host's memory is read. ``search`` looks
    for placements of the same question."""
    options = arguments_of(ask.placement, ask.workload)
    longer, trained = 2 * options.context, search.architecture.context_length
    if not wanted.has("ctx") and (trained is None or longer <= trained):
        other = _longer(search, options.with_(context=longer))
        yield Default(f"a context of {options.context} tokens", f"--ctx {longer}", other)
    if search.host_bandwidth is None:
        usual = host_of(ask).rated / GIGA
        other = replace(search, asked=replace(search.asked, host_bandwidth=usual / 2)).ask(options)
        yield Default(f"system memory of {usual:.0f} GB/s", f"--host-bandwidth {usual / 2:.0f}", other)


def _longer(search: PlacementSearch, options: LlamaOptions) -> Ask:
    """The longer context in the same placement where that fits, else in the one that a check asked for it chooses."""
    same = search.assess(options)
    if same.level.verdict is Verdict.FITS:
        return same.ask
    return search.best_with(search.wanted.with_(context=options.context), search.cache_types).ask
