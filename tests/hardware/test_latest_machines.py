"""What follows from a machine is worked out once for each of the few that a page asks about in turn."""

from __future__ import annotations

from dataclasses import replace

from fitcheck.hardware.catalog import find_card
from fitcheck.hardware.latest import once_a_machine
from fitcheck.hardware.machine import Machine, machine_for
from fitcheck.units import GIB


def test_machines_asked_about_in_turn_are_worked_out_once() -> None:
    worked_out: list[int | None] = []

    @once_a_machine
    def memory(machine: Machine) -> int | None:
        worked_out.append(machine.ram_total)
        return machine.ram_total

    card = find_card("rtx-4070")
    machines = [machine_for(card, ram=size * GIB) for size in (16, 32, 64, 128)]
    assert [memory(one) for one in 3 * machines] == 3 * [one.ram_total for one in machines]
    assert len(worked_out) == len(machines)
    # told by identity: another machine is never taken for one that was there
    assert memory(replace(machines[0], ram_total=GIB)) == GIB
    assert memory(machines[-1]) == 128 * GIB
