"""Several cells one after another: lock, preflight, progress, and a record on disk as soon as each is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.assemble import file_sha256, record_of
from bench.job import Job
from bench.jobs import label
from bench.lock import card_lock
from bench.meters import NvmlCard
from bench.meters.nvml import visible_selector
from bench.predict import machine_seen, predict
from bench.preflight import (
    Notice,
    card_findings,
    ram_finding,
    require_cap,
    require_card,
    require_folder,
    require_torch,
    vram_finding,
)
from bench.progress import Display
from bench.results_table import TableRow, line
from bench.runner import CellRun, MeasuringProtocol, Stopped, run_cell
from fitcheck.errors import InputError, MeasurementError, RecordError
from fitcheck.records import store

CPU_NOTICE = (
    "No card is measured here: this is the scaled-down model on the CPU. It shows that the bench works; its "
    "numbers say nothing about any card."
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where cells run and where records go. ``ram`` overrides the system's available memory in the preflight; ``force``
    turns refusals of the preflight into warnings. ``out`` of ``None`` keeps no record. With less than
    ``cell_seconds`` left before ``deadline`` (``time.monotonic()``) a cell is not begun."""

    out: Path | None
    protocol: MeasuringProtocol
    device: str = "cuda"
    ram: int | None = None
    force: bool = False
    deadline: float | None = None
    cell_seconds: float = 0.0


@dataclass(slots=True)
class Summary:
    """What a series came to. ``skipped`` holds (cell, why) that the preflight refused or that time did not reach."""

    rows: list[TableRow] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    skipped: list[tuple[Job, str]] = field(default_factory=list)
    interrupted: str | None = None
    unwritten: str | None = None

    @property
    def exit_code(self) -> int:
        """0 when every cell has an answer (an out-of-memory is one), 1 when one was skipped, broke or could not be
        kept, 130 on Ctrl-C."""
        if self.interrupted:
            return 130
        broken = any(row.run.outcome in ("error", "killed", "hang") for row in self.rows)
        return 1 if self.skipped or broken or self.unwritten else 0


Finished = Callable[[TableRow, Path | None], None]


def default_out(tiny: bool, out: Path | None) -> Path | None:
    """Where records go: ``--out``, else this user's record folder. Scaled-down cells are kept only where asked, and
    never among accepted results. Raises InputError for that."""
    if tiny and out is not None and "results" in out.resolve().parts:
        raise RecordError("--out: records of the scaled-down model never go into results/; choose another folder.")
    if out is not None:
        return out
    return None if tiny else store.local_root()


@contextmanager
def bench_card(device: str, console: Console) -> Iterator[NvmlCard | None]:
    """The card of this bench, locked for the block; ``None`` on the CPU and where NVML does not know the card."""
    require_torch()
    if device == "cpu":
        console.print(CPU_NOTICE, markup=False, highlight=False, soft_wrap=True)
        yield None
        return
    selector = visible_selector()
    card = NvmlCard.open(selector)
    require_card(card)
    with card_lock((card.uuid if card else None) or selector, (card.name if card else None) or "this card"):
        yield card


def run_suite(
    cells: Sequence[Job],
    setting: Setting,
    console: Console,
    finished: Finished = lambda row, path: None,
    runner: Callable[..., CellRun] = run_cell,
) -> Summary:
    """Runs ``cells`` in order and writes each record when its cell ends; narrative goes to ``console``.

    Raises InputError before anything is loaded when the whole series cannot run. Ctrl-C and the deadline end the
    series; what was finished stands.
    """
    summary = Summary()
    protocol = setting.protocol
    with ExitStack() as stack:
        card = stack.enter_context(bench_card(setting.device, console))
        require_cap(protocol.cap, card)
        if setting.out is not None:  # behind the other refusals, so that none of them leaves an empty folder
            require_folder(setting.out)
        display = stack.enter_context(Display(len(cells), protocol, console))
        _say(display, card_findings(card) if card else ())
        _hash_files(cells, display)
        for position, cell in enumerate(cells):
            try:
                _preflight(cell, setting, card, display)
                display.begin(label(cell))
                if setting.deadline is not None and time.monotonic() + setting.cell_seconds >= setting.deadline:
                    raise Stopped("no time left")
                run = runner(cell, protocol, card, display.event, setting.deadline)
                lost = _keep(run, card, setting, summary, display, finished)
            except Stopped as stopped:
                summary.skipped += [(left, str(stopped)) for left in cells[position:]]
                display.note(f"stopped: {stopped}; {len(summary.rows)} of {len(cells)} cells are finished.")
                break
            except KeyboardInterrupt:
                summary.interrupted = label(cell)
                display.note(
                    f"interrupted during {label(cell)}; {len(summary.rows)} of {len(cells)} cells are finished "
                    "and kept."
                )
                break
            except InputError as error:
                if len(cells) == 1:
                    raise
                summary.skipped.append((cell, str(error)))
                display.skip(f"{label(cell)}: refused; {error}")
                continue
            if lost is not None:
                summary.skipped += [(left, lost) for left in cells[position + 1 :]]
                summary.unwritten = lost
                display.note(f"stopped: {lost} What was measured stands in the table; the rest would be lost too.")
                break
    if not summary.rows and summary.skipped and not summary.interrupted:
        raise MeasurementError(f"no cell could run; {label(summary.skipped[0][0])}: {summary.skipped[0][1]}")
    return summary


def _keep(
    run: CellRun, card: NvmlCard | None, setting: Setting, summary: Summary, display: Display, finished: Finished
) -> str | None:
    """Writes the record of ``run`` and shows it. Returns why it could not be written, if it could not."""
    record = store.seal(record_of(run, card))
    row = TableRow(run, record, predict(run.cell, machine_seen(card, run.protocol.cap), warm=run.protocol.warmup > 0))
    summary.rows.append(row)
    display.finish(line(run))
    path = None
    if setting.out is not None:
        try:
            path = store.write(setting.out, record)
        except InputError as error:
            return str(error)
        summary.paths.append(path)
    finished(row, path)
    return None


def _hash_files(cells: Sequence[Job], display: Display) -> None:
    """The record names a weights file by its digest. It is taken before anything is measured: afterwards the file could
    be gone, or Ctrl-C could meet the minute that this takes."""
    for path in sorted({cell.gguf for cell in cells if cell.gguf is not None}):
        display.note(f"hashing {path}")
        file_sha256(path)


def _preflight(cell: Job, setting: Setting, card: NvmlCard | None, display: Display) -> None:
    """Shows what is doubtful about this cell. Raises InputError when it cannot run."""
    footprint = predict(cell, machine_seen(card, setting.protocol.cap), warm=setting.protocol.warmup > 0)
    if footprint is None:
        return
    found = [ram_finding(footprint, setting.ram)]
    if card is not None:
        found.append(vram_finding(card, footprint, setting.protocol.cap))
    for finding in found:
        if finding is None:
            continue
        if finding.level == "refuse" and not setting.force:
            raise MeasurementError(finding.text)
        _say(display, [finding])


def require_room(cell: Job, card: NvmlCard | None, ram: int | None, force: bool) -> None:
    """Raises InputError when ``cell``, run without a cap, would not find the memory that it pins: for searches, whose
    probes all pin the same."""
    footprint = predict(cell, machine_seen(card, None), warm=False)
    finding = None if footprint is None else ram_finding(footprint, ram)
    if finding is not None and finding.level == "refuse" and not force:
        raise MeasurementError(f"{label(cell)}: {finding.text}")


def _say(display: Display, findings: Iterator[Notice] | Sequence[Notice]) -> None:
    for finding in findings:
        display.note(f"{'note' if finding.level == 'note' else 'warning'}: {finding.text}")
