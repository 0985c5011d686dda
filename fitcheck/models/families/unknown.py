"""Whatever no family knows: a model of which the tensor tables alone are known."""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.models.families.base import Family, Found, Recognized, printable
from fitcheck.models.model import Model
from fitcheck.models.workload import Task
from fitcheck.units import format_gb


@dataclass(frozen=True, slots=True)
class UnknownArchitecture:
    """A model of which only the tensor table is known."""

    name: str

    @property
    def family(self) -> str:
        """The key of the registry."""
        return "unknown"

    @property
    def context_length(self) -> int | None:
        """Not known."""
        return None

    def cache_bytes(self, context: int) -> int:
        """No cache is known of."""
        return 0


class Unknown(Family):
    """See ``fitcheck.models.families.base.Family``; recognizes everything, so it is asked last."""

    name = "unknown"
    tasks = (Task.T2I,)

    def recognize(self, found: Found) -> Recognized:
        """Pipelines by component, single files as a whole."""
        named = (found.pipeline or {}).get("_class_name") or getattr(found.tiers[0].header, "architecture", None)
        kind = printable(named) or "unknown"
        notes = [f"The run of this model ({kind}) is not modelled: only its weights are judged."]
        for one in found.tiers:
            if one.candidate.components:
                parts = ", ".join(
                    f"{name} {format_gb(size)}" for name, size in one.tier.tensors.bytes_by_branch.items()
                )
                notes.append(f"Weights of {one.tier.name} by component: {parts}.")
        model = Model(
            slug=found.repository or found.name,
            name=found.name,
            architecture=UnknownArchitecture(kind),
            tiers=tuple(one.tier for one in found.tiers),
            tasks=self.tasks,
            runtimes=("weights only",),
            repository=found.repository,
            notes=tuple(notes),
        )
        return Recognized(model, model.tiers)


FAMILY = Unknown()
