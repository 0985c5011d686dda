"""Seconds that the host's memory and cores add to llama.cpp's tokens, by the constants of ``token_rates``."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.runtimes.llamacpp.token_rates import Constants, data, touched_share
from fitcheck.runtimes.llamacpp.token_work import TokenWork


@dataclass(frozen=True, slots=True)
class Host:
    """The host as far as it is known: ``bandwidth`` of its memory in B/s as the modules are rated, or what was ``read``
    from it by many threads; ``threads`` that compute, ``server`` for a board with eight or more channels."""

    bandwidth: float | None = None
    threads: int | None = None
    server: bool = False
    read: bool = False

    @property
    def rated(self) -> float:
        """B/s; what is usual for such a machine where nobody said."""
        usual = data()["host_usual"]["server" if self.server else "desktop"]
        return self.bandwidth if self.bandwidth is not None else float(usual["best"])

    def reading_rate(self, constants: Constants) -> float:
        """B/s that CPU kernels read weights with: a share of what modules are rated, a larger one of a plain read."""
        return self.rated * constants["host share of a read" if self.read else "host share"]


def host_generation_seconds(work: TokenWork, host: Host, constants: Constants, *, alone: bool) -> float:
    """Seconds that the host adds to one generated token: reading, or decoding where few threads are slower than that.

    ``alone`` is a run without a card; with one, every layer on the host also waits for the card and back.
    """
    rate = host.reading_rate(constants)
    seconds = work.cache_cost / rate
    for read, factor in ((work.read, 1.0), (work.experts, constants["host expert read"])):
        for kind, amount in read.items():
            spent = factor * constants.get(f"host read {kind}", 1.0) * amount / rate
            if host.threads:
                thread = constants.get(f"thread {kind}", constants["thread Q4"])
                spent = max(spent, amount / (host.threads * thread))
            seconds += spent
    layers = max(work.layers, work.expert_layers)
    return float(seconds + (0.0 if alone else constants["host layer"] * layers))


def host_prompt_seconds(work: TokenWork, host: Host, batch: int, constants: Constants) -> float:
    """Seconds of one micro-batch on the host's own cores: arithmetic or reading its weights, whichever takes longer."""
    rate = constants["host flops a thread"] * (host.threads or float(data()["host_usual"]["threads"]["best"]))
    seconds = work.attention_flops / rate
    for flops, factor in ((work.flops, 1.0), (work.expert_flops, constants["host prompt experts"])):
        for kind, amount in flops.items():
            seconds += factor * amount * constants.get(f"host prompt {kind}", 1.0) / rate
    return max(batch * seconds, passed_bytes(work, batch, constants) / host.reading_rate(constants))


def passed_bytes(work: TokenWork, batch: int, constants: Constants) -> float:
    """Bytes of weights and cache that one micro-batch reads: of the experts those that any of its tokens chose."""
    return _needed_bytes(work, batch, constants["evenness of routing"]) + work.cache


def carried_bytes(work: TokenWork, batch: int, constants: Constants) -> float:
    """Bytes of weights that cross the link for a micro-batch: all dense ones, and the experts that its tokens chose."""
    return _needed_bytes(work, batch, constants["evenness of carried experts"])


def _needed_bytes(work: TokenWork, batch: int, evenness: float) -> float:
    return work.held - work.experts_held * (1 - touched_share(work, batch, evenness))
