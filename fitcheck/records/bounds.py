"""How much of the estimator's work a record may ask for: whatever a stranger writes is bounded before it is computed.

Replaying a picture takes the same time whatever its size or its steps; each picture that an interleaved answer makes,
and each reference image, is one more (measured 2026-11 on two cores: 0.06 s a picture, so 17.7 s for 256 of them).
A record beyond the bound is as good as any other. It is judged by everything but the estimate.
"""

from __future__ import annotations

from fitcheck.dataclass_later import dataclass
from fitcheck.records.record_parts import WorkloadSizes

MOST_PICTURES = 32
# of all records that are checked together: 2,000 pictures are two minutes
MOST_TOGETHER = 2000


def pictures(workload: WorkloadSizes) -> int:
    """Pictures that an estimate of this workload goes through: those made and those handed in, and at least one."""
    made = workload.images or 1 if workload.task == "interleave" else 1
    return made + len(workload.references or ())


def beyond(workload: WorkloadSizes) -> str | None:
    """Why a workload is too large to be estimated for a stranger, or None when it is not."""
    asked = pictures(workload)
    if asked <= MOST_PICTURES:
        return None
    return f"asks for {asked:,} pictures in one answer; up to {MOST_PICTURES} are estimated"


@dataclass(slots=True)
class Allowance:
    """What is left of the work for records that are checked together."""

    left: int = MOST_TOGETHER

    def refuse(self, workload: WorkloadSizes) -> str | None:
        """Takes the workload's share. Why it may not be estimated, or None when it may."""
        reason, asked = beyond(workload), pictures(workload)
        if reason is None and asked > self.left:
            reason = f"comes after {MOST_TOGETHER} pictures of other records that were estimated"
        if reason is None:
            self.left -= asked
        return reason
