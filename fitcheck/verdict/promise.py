"""What the estimator says that a record should have measured, for whoever tracks regressions.

No record enters the interval: a version that regressed must not be what it is held to. Records of others only say
whether the estimator is to be believed of that program.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from fitcheck.errors import FitcheckError
from fitcheck.records.regressions.metrics import measured
from fitcheck.records.regressions.tracked_runs import Promise
from fitcheck.records.run import Run
from fitcheck.records.run_index import build
from fitcheck.records.schema import AnyRecord
from fitcheck.records.store import document_of
from fitcheck.runtimes import registry
from fitcheck.units import Interval
from fitcheck.verdict.evidence import ask_of

Spans = Mapping[str, Interval[float]]
# a record may ask for anything: what cannot be reckoned is not promised
_SENSELESS = (FitcheckError, ArithmeticError, ValueError, TypeError, KeyError, AssertionError)
_NOTHING: Spans = {}
# the card's peak less what others held before is the process, seen from the card
_SAME = {"card_peak": "process"}
# by how much a record beside may miss before it counts as a miss, as a fraction
_SLACK = 0.05
_NUMBER = re.compile(r"\d+")


class Promises:
    """``promises(record, metric)`` is what the estimator expects of the metric; ``None`` where it knows nothing.

    ``beside`` are other records; those of the same cell and version say nothing of it. Records of one cell are reckoned
    once, or not at all where ``told`` has what this estimator said of one of them, by its id.
    """

    def __init__(self, beside: Iterable[AnyRecord] = (), told: Mapping[str, Spans] | None = None) -> None:
        self._told = told or {}
        self._cells: dict[object, Spans] = {}
        self._records: dict[int, tuple[AnyRecord, object]] = {}
        self._beside = tuple(beside)
        self._kept: dict[tuple[str, str], list[tuple[object, bool]]] | None = None

    def __call__(self, record: AnyRecord, metric: str) -> Promise | None:
        """The promise of one metric of a record."""
        cell = self._cell_of(record)
        span = self._cells[cell].get(_SAME.get(metric, metric))
        if span is None:
            return None
        if self._kept is None:
            self._kept = self._count()
        kept = [kept for other, kept in self._kept.get((_program(record), _kind(metric)), ()) if other != cell]
        return Promise(span, sum(kept), len(kept))

    def said(self) -> dict[str, Spans]:
        """What was said of each record that anybody asked about, by its id; nothing of records without one."""
        return {str(record.id): self._cells[cell] for record, cell in self._records.values() if record.id}

    def _count(self) -> dict[tuple[str, str], list[tuple[object, bool]]]:
        """By program and kind of metric, the cell of each record beside and whether it did what is expected of it."""
        found: dict[tuple[str, str], list[tuple[object, bool]]] = defaultdict(list)
        for record in self._beside:
            cell = self._cell_of(record)
            spans = self._cells[cell]
            for one in measured(record).values() if spans else ():
                span = spans.get(_SAME.get(one.metric.name, one.metric.name))
                if span is not None:
                    kept = not Promise(span).missed(one.value, one.metric.higher, _SLACK)
                    found[_program(record), _kind(one.metric.name)].append((cell, kept))
        return found

    def _cell_of(self, record: AnyRecord) -> object:
        """What is measured, by which version; its promises are in ``_cells`` from then on."""
        known = self._records.get(id(record))
        if known is None:  # the record is kept too, so that its id stays its own
            known = self._records[id(record)] = record, self._reckoned(record)
        return known[1]

    def _reckoned(self, record: AnyRecord) -> object:
        finished = record.outcome.result == "ok" and record.card is not None
        runs = build([{"id": "unnamed"} | document_of(record)]).rows if finished else ()
        cell = runs[0].kind if runs else None
        if cell not in self._cells:
            told = self._told.get(str(record.id))
            self._cells[cell] = told if told is not None else promised(runs[0]) if runs else _NOTHING
        return cell


def promised(run: Run) -> Spans:
    """What the run should hold by the name of the metric; nothing for a cell that this release does not know."""
    ask = ask_of(run)
    if ask is None:
        return _NOTHING
    try:
        return registry.get(ask.placement.runtime).promises(run, ask)
    except _SENSELESS:
        return _NOTHING


def _program(record: AnyRecord) -> str:
    runtime = getattr(record, "runtime", None)
    return "" if runtime is None else runtime.name


def _kind(metric: str) -> str:
    """Metrics that are predicted alike: prompts of any length, generation of any length."""
    return _NUMBER.sub("", metric)
