"""Records for the pages' tests: valid ones, and one whose every text is an attack that the validator would refuse."""

from __future__ import annotations

from typing import Any

from fitcheck.records import store
from fitcheck.records.schema import (
    CardInfo,
    CopyRate,
    LinkRecord,
    MachineInfo,
    Memory,
    ModelRef,
    Outcome,
    PassRecord,
    PhaseMemory,
    Protocol,
    RuntimeUsed,
    Sample,
    Software,
    Source,
    WorkloadSizes,
)

GIB = 1 << 30
CARD = CardInfo(slug="rtx-4070", name="NVIDIA GeForce RTX 4070", vendor="nvidia", memory=12 * GIB)
MACHINE = MachineInfo(os="linux", cpu="Some CPU", ram=32 * GIB)
SOURCE = Source(tool="fitcheck-bench", version="0.1.0")


def passed(created: int = 1_790_000_000, seconds: float = 21.5, submitter: str = "alice") -> PassRecord:
    return store.seal(
        PassRecord(
            created=created,
            source=SOURCE,
            machine=MACHINE,
            software=Software(torch="2.8.0"),
            submitter=submitter,
            notes="A quiet machine.",
            model=ModelRef(slug="sensenova-u1-8b-mot", tier="Q4_K_S", weights="real"),
            runtime=RuntimeUsed(name="sensenova", revision="phase-aware", mode="balanced", policy="upstream"),
            workload=WorkloadSizes(task="t2i", width=2048, height=2048, steps=8, cfg=1.0, image_cfg=1.0, images=1),
            card=CARD,
            protocol=Protocol(name="fitcheck", version=1, warmup=1, repeats=2),
            samples=(Sample(total=30.0, warmup=True), Sample(total=seconds), Sample(total=seconds)),
            memory=Memory(
                allocated=int(3.21 * GIB),
                device=int(5.13 * GIB),
                rss=int(21.7 * GIB),
                phases=(PhaseMemory(name="prefix", allocated=int(3.21 * GIB)),),
            ),
            outcome=Outcome(result="ok"),
        )
    )


def link(created: int = 1_790_000_100) -> LinkRecord:
    return store.seal(
        LinkRecord(
            created=created,
            source=SOURCE,
            machine=MACHINE,
            software=Software(),
            card=CARD,
            protocol=Protocol(name="fitcheck-link", version=1, warmup=1, repeats=3),
            outcome=Outcome(result="ok"),
            copies=(CopyRate(direction="host-to-device", pinned=True, bytes=1 << 28, bytes_per_second=2.5e10),),
        )
    )


ATTACK = (
    "<script>window.owned=1;document.title='owned'</script><img src=x onerror=\"window.owned=1\">"
    "</title></style></textarea><a href='javascript:window.owned=1'>x</a>\" onload=\"window.owned=1\" ' `${1}` "
    "{{'own' * 7}}"
    "]]>&lt;\u202eesrever\u202c \u2066\u05d0\u05d1\u05d2 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0000\u0007\u200b"
)
LONG = "W" * 10_000
# what decides where a record is shown stays, everything a stranger could write is replaced
_KEPT = {"id", "kind", "slug", "schema_version"}


def hostile() -> dict[str, Any]:
    document: dict[str, Any] = store.document_of(store.seal(passed(created=1_790_000_200)))
    document["outcome"]["message"] = "x"
    attacked: dict[str, Any] = _attack(document)
    attacked["id"] = "e" * 64
    attacked["machine"][f"os {ATTACK}"] = ATTACK
    return attacked


def _attack(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _attack(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_attack(inner, name) for inner in value]
    return ATTACK + LONG if isinstance(value, str) and name not in _KEPT else value
