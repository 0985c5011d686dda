"""What makes two records runs of one series, and what changed between them."""

from __future__ import annotations

from typing import Any

import pytest
from regression_runs import a_model, a_run, common

from fitcheck.records import schema
from fitcheck.records.regressions.tracked_series import causes, changed
from fitcheck.units import GIB

CAP = schema.Cap(bytes=GIB, enforced_by="mig")


def software(**changes: str) -> schema.Software:
    software: schema.Software = common()["software"]
    return software.model_copy(update=changes)


def test_versions_do_not_make_another_series() -> None:
    old, new = a_run(), a_run(revision="pr243", software=software(torch="2.10.0"))
    assert old.series == new.series
    assert {change.name for change in changed([old.state], [new.state])} == {"runtime.revision", "torch"}


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "balanced"},
        {
            "protocol": schema.Protocol(
                name="b", version=1, warmup=1, repeats=3, cap=schema.Cap(bytes=GIB, enforced_by="mig")
            )
        },
        {"workload": schema.WorkloadSizes(task="t2i", width=1024, height=1024, steps=50, cfg=4.0)},
        {"card": None},
        {"model": a_model(tensor_digest="cd" * 32)},
        {
            "model": schema.ModelRef(
                slug="sensenova-u1-8b-mot", tier="Q4_K_M", weights="synthetic", tensor_digest="ab" * 32
            )
        },
    ],
)
def test_another_ask_is_another_series(changes: dict[str, Any]) -> None:
    assert a_run(**changes).series != a_run().series
    assert a_run(**changes).series.id != a_run().series.id


def test_a_setting_compared_across_is_a_version() -> None:
    across = ("runtime.mode",)
    old, new = a_run(across=across), a_run(across=across, mode="balanced")
    assert old.series == new.series
    assert [str(change) for change in changed([old.state], [new.state])] == ["runtime.mode low -> balanced"]


def test_two_causes_are_confounded_and_one_runtime_is_one_cause() -> None:
    old = a_run().state
    runtime = schema.RuntimeUsed(
        name="sensenova", revision="pr243", commit="abcdef0", mode="low", policy="upstream", prefetch=0
    )
    assert causes(changed([old], [a_run(runtime=runtime).state])) == ("runtime",)
    both = changed([old], [a_run(runtime=runtime, software=software(torch="2.10.0")).state])
    assert set(causes(both)) == {"runtime", "torch"}
