"""What the bench expects of a job: the same answer as a record of it is judged by, with the bench's own process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bench_fakes import FakeNvml
from test_suite import fake_runner

from bench.assemble import record_of
from bench.engines import registry
from bench.engines.base import Driver, Engine
from bench.job import Job, Request
from bench.jobs import jobs_of, label
from bench.meters import NvmlCard
from bench.predict import ask_of, machine_seen, predict
from bench.runner import MeasuringProtocol
from fitcheck.data_files import load
from fitcheck.errors import InputError
from fitcheck.records import store
from fitcheck.records.run_index import build
from fitcheck.runtimes import registry as runtimes
from fitcheck.runtimes.base import Ask
from fitcheck.units import GIB

MODEL = "sensenova-u1-8b-mot"
CARD = NvmlCard(FakeNvml(), "card")


def jobs(**options: Any) -> tuple[Job, ...]:
    return jobs_of(Request.of(MODEL, **{"tiers": ("Q4_K_S",), "steps": 2, **options}))


def asked(job: Job, cap: int | None = None, warm: bool = True) -> Ask:
    found = ask_of(job, machine_seen(CARD, cap), warm)
    assert found is not None
    return found


@pytest.mark.parametrize("cap", [None, 24 * GIB])
@pytest.mark.parametrize("warmup", [0, 1])
def test_a_record_asks_what_the_bench_asked(cap: int | None, warmup: int) -> None:
    """One way to the estimator: what was predicted before a run is what its record is held against after it."""
    for job in jobs(mode=("full", "fast", "low"), policy=("upstream", "ring")):
        run = fake_runner(job, MeasuringProtocol(repeats=1, warmup=warmup, cap=cap, hang_seconds=20), CARD)
        (measured,) = build([json.loads(store.encode(store.seal(record_of(run, CARD))))]).rows
        runtime = runtimes.get(job.placement.runtime)
        again = runtime.ask_of(measured)
        assert again is not None
        before = asked(job, cap, warm=warmup > 0)
        assert again.process == before.process
        assert (again.placement, again.machine, again.tier.name) == (before.placement, before.machine, job.tier)
        assert runtime.footprint(again) == predict(job, machine_seen(CARD, cap), warm=warmup > 0)


def test_the_cap_is_the_card_that_is_asked_about() -> None:
    (fast,) = jobs(mode="fast")
    assert asked(fast).card.vram_override == 80 * GIB
    assert asked(fast, 12 * GIB).card.vram_override == 12 * GIB
    assert asked(fast).card.card.compute_capability == (9, 0)
    whole, capped = (predict(fast, machine_seen(CARD, cap), warm=True) for cap in (None, 12 * GIB))
    assert whole is not None
    assert capped is not None
    assert whole.cards[0].allocated.best > capped.cards[0].allocated.best


def test_without_a_card_only_what_depends_on_none_is_said() -> None:
    full, fast = jobs(mode=("full", "fast"))
    nobody = machine_seen(None, None)
    assert predict(full, nobody, warm=True) is not None
    assert predict(fast, nobody, warm=True) is None
    assert predict(fast, machine_seen(None, 12 * GIB), warm=True) is not None


@pytest.mark.parametrize("revision", ["v0", "pr241", "pr243", "phase-aware"])
def test_the_benchs_process_is_its_own_and_nothing_of_it_is_unexplained(revision: str) -> None:
    """What lies unexplained in upstream's program was never seen in the bench's."""
    (low,) = jobs(mode="low", revision=revision)
    mine = predict(low, machine_seen(CARD, None), warm=True)
    assert mine is not None
    process = load("runtimes.sensenova", "host")["process"]["bench"]["streamed"]["bytes"]
    total, pinned = mine.host.total, mine.host.pinned
    assert [total.low - pinned, total.best - pinned, total.high - pinned] == process


class Toy(Driver):
    """A runtime that says no more than it must."""

    name = "weights only"

    def build(self, job: Job) -> Engine:
        raise NotImplementedError


DRIVER = Toy()


def test_a_runtime_joins_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODULES", dict(registry.MODULES))
    registry.get.cache_clear()
    with pytest.raises(InputError, match="the bench does not run 'weights only'"):
        registry.get("weights only")
    registry.register("weights only", __name__)
    (job, *_) = jobs(mode="full")
    toy = Job(job.model, job.tier, job.placement, job.workload)
    driver = registry.get("weights only")
    assert driver is DRIVER
    assert driver.label(toy) == "Q4_K_S full t2i"
    assert label(toy) != driver.label(toy)
    assert driver.table(toy) == registry.of(toy).table(toy)
    assert driver.probe_steps(toy) is None
    assert driver.environment(toy) == {}
    registry.get.cache_clear()
