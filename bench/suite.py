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
from bench.lock import bench_lock
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
from bench.runner import CellRun, MeasuringProtocol, Stopped, raw_of, run_cell
from bench.unfinished import kept_raw, rescue
from fitcheck.errors import InputError, MeasurementError, RecordError
from fitcheck.records import store

CPU_NOTICE = (
    "No card is measured here: this is the scaled-down model on the CPU. It shows that the bench works; its "
    "numbers say nothing about any card."
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where cells run and where records go. ``ram`` overrides the system's available memory in the preflight; ``force``
    turns refusals of the preflight into warnings. ``out`` of ``None`` keeps no record; ``raw`` is then where a run lies
    that no record can be made of. With less than ``cell_seconds`` left before ``deadline`` (``time.monotonic()``) a
    cell is not begun."""

    out: Path | None
    protocol: MeasuringProtocol
    device: str = "cuda"
    ram: int | None = None
    force: bool = False
    deadline: float | None = None
    cell_seconds: float = 0.0
    raw: Path | None = None


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
    """The card of this bench, on a machine that no other bench uses meanwhile; ``None`` on the CPU and where NVML does
    not know the card."""
    require_torch()
    card = None
    if device == "cpu":
        console.print(CPU_NOTICE, markup=False, highlight=False, soft_wrap=True)
    else:
        card = NvmlCard.open(visible_selector())
        require_card(card)
    with bench_lock():
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
    with ExitStack() as stack:
        card = stack.enter_context(bench_card(setting.device, console))
        require_cap(setting.protocol.cap, card)
        if setting.out is not None:  # behind the other refusals, so that none of them leaves an empty folder
            require_folder(setting.out)
        display = stack.enter_context(Display(len(cells), setting.protocol, console))
        _say(display, card_findings(card) if card else ())
        _hash_files(cells, display)
        series = _Series(cells, setting, card, display, summary, finished, runner)
        for position in range(len(cells)):
            if not series.goes_on_after(position):
                break
    if not summary.rows and summary.skipped and not summary.interrupted:
        raise MeasurementError(f"no cell could run; {label(summary.skipped[0][0])}: {summary.skipped[0][1]}")
    return summary


@dataclass(frozen=True, slots=True)
class _Series:
    """Cells that are measured one after another on a card, and what came of them."""

    cells: Sequence[Job]
    setting: Setting
    card: NvmlCard | None
    display: Display
    summary: Summary
    finished: Finished
    runner: Callable[..., CellRun]

    def goes_on_after(self, position: int) -> bool:
        """Measures the cell at ``position``; False where the series ends with it. Raises InputError for a refusal of
        the only one."""
        cell = self.cells[position]
        try:
            lost = self._measure(cell)
        except Stopped as stopped:
            return self._stop(position, str(stopped), f"{stopped}; {self._count()} are finished.")
        except KeyboardInterrupt:
            self.summary.interrupted = label(cell)
            self.display.note(f"interrupted during {label(cell)}; {self._count()} are finished and kept.")
            return False
        except InputError as error:
            if len(self.cells) == 1:
                raise
            self.summary.skipped.append((cell, str(error)))
            self.display.skip(f"{label(cell)}: refused; {error}")
            return True
        if lost is not None:
            self.summary.unwritten = lost
            kept = f"{lost} What was measured stands in the table; the rest would be lost too."
            return self._stop(position + 1, lost, kept)
        if self.card is not None and self.card.lost:
            gone = "the card no longer answers its driver."
            return self._stop(position + 1, gone, gone)
        return True

    def _measure(self, cell: Job) -> str | None:
        """Why the record of a finished cell could not be written; ``None`` where it was, or none was asked for."""
        setting = self.setting
        _preflight(cell, setting, self.card, self.display)
        self.display.begin(label(cell))
        if setting.deadline is not None and time.monotonic() + setting.cell_seconds >= setting.deadline:
            raise Stopped("no time left")
        return self._keep(self.runner(cell, setting.protocol, self.card, self.display.event, setting.deadline))

    def _stop(self, position: int, why: str, words: str) -> bool:
        """Leaves out the cells from ``position`` on."""
        self.summary.skipped += [(left, why) for left in self.cells[position:]]
        self.display.note(f"stopped: {words}")
        return False

    def _count(self) -> str:
        return f"{len(self.summary.rows)} of {len(self.cells)} cells"

    def _keep(self, run: CellRun) -> str | None:
        """Writes the record of ``run`` and shows it. Returns why it could not be written, if it could not."""
        setting, card = self.setting, self.card
        with kept_raw(raw_of(run), setting.out or setting.raw, "bench", importer=False):
            record = store.seal(record_of(run, card))
        warm = run.protocol.warmup > 0
        row = TableRow(run, record, predict(run.cell, machine_seen(card, run.protocol.cap), warm=warm))
        self.summary.rows.append(row)
        self.display.finish(line(run))
        path = None
        if setting.out is not None:
            try:
                path = store.write(setting.out, record)
            except InputError as error:
                return rescue(record, str(error))
            self.summary.paths.append(path)
        self.finished(row, path)
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
