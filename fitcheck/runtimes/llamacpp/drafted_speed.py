"""Tokens a second with a second model that drafts: bounds, because how many drafts are accepted depends on the text."""

from __future__ import annotations

from fitcheck.runtimes.base import Ask
from fitcheck.runtimes.llamacpp.buffers import LlamaEstimate
from fitcheck.runtimes.llamacpp.drafting import architecture_of_draft, draft_among
from fitcheck.runtimes.llamacpp.estimates import architecture_of
from fitcheck.runtimes.llamacpp.placement import host_of
from fitcheck.runtimes.llamacpp.seconds import TokenSpeed, depth_of, run_of, token_speed
from fitcheck.runtimes.llamacpp.token_passes import batch_seconds
from fitcheck.runtimes.llamacpp.token_rates import fitted
from fitcheck.units import Interval

Rate = Interval[float] | None


def drafted_rates(ask: Ask, result: LlamaEstimate, reading: Rate, writing: Rate) -> tuple[Rate, Rate]:
    """The rates of prompt and answer, given those without a draft: both models read the prompt, one after the other."""
    draft = draft_among(ask.tier.companions)
    if result.draft is None or draft is None:
        return reading, writing
    asked = ask.machine.gpus, depth_of(ask.workload), host_of(ask)
    prompt = ask.workload.prompt_tokens
    own = token_speed(architecture_of_draft(draft), draft.tensors, result.draft, *asked, reads=prompt)
    run = run_of(architecture_of(ask), ask.tier.tensors, result, *asked)
    check = batch_seconds(run, 1 + result.options.drafted, fitted())
    return one_after_the_other(reading, own.prompt), _writing(result.options.drafted, writing, check, own)


def one_after_the_other(one: Rate, two: Rate) -> Rate:
    """The rate at which both have read."""
    if one is None or two is None:
        return None
    return Interval(*(1 / (1 / getattr(one, end) + 1 / getattr(two, end)) for end in ("low", "best", "high")))


def _writing(ahead: int, plain: Rate, check: float | None, draft: TokenSpeed) -> Rate:
    if plain is None or check is None or draft.generation is None:
        return None
    return between_none_and_all(ahead, plain, check * plain.best / plain.low, draft.generation)


def between_none_and_all(ahead: int, plain: Interval[float], check: float, draft: Interval[float]) -> Interval[float]:
    """Tokens a second where ``ahead`` are drafted each time at the rate ``draft``, ``plain`` is the model's own rate
    and ``check`` the most seconds in which it reads all of them at once.

    Low is where no draft is accepted, high where all are. In between nothing is known: the best value is the model's
    own rate, as far as that lies within.
    """
    if not ahead:
        return plain
    slow = 1 / plain.low
    checked = min((1 + ahead) * slow, max(slow, check))  # reading them one by one is the worst that can be
    high = (1 + ahead) / (ahead / draft.high + 1 / plain.high)
    low = min(1 / (ahead / draft.low + checked), high)
    return Interval(low, min(max(plain.best, low), high), high)
