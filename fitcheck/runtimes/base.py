"""The seam between what runs a model and everything else: one folder a runtime, and nothing outside it knows which.

An ``Ask`` is one cell: model, tier, placement, workload, machine. A ``Runtime`` turns a question into asks, and an ask
into memory, seconds, support, changes and commands. All of it is pure: no I/O, no clock, no global state.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fitcheck.dataclass_later import dataclass
from fitcheck.hardware.budget import budgets_of
from fitcheck.hardware.machine import Budget, Gpu, Machine
from fitcheck.memory.footprint import Footprint
from fitcheck.memory.weighing import Constraint, Verdict
from fitcheck.models.architectures import Architecture
from fitcheck.models.model import Model, Tier
from fitcheck.models.workload import Task, Workload
from fitcheck.records.sizes import used_sizes
from fitcheck.runtimes.figures import NOTHING_RESTS, Figure, RestsOn
from fitcheck.speed.duration import Duration
from fitcheck.speed.floor import Floor, floor_of
from fitcheck.speed.rates import Calibration
from fitcheck.speed.timing import WHOLE, Observation, Timing, whole
from fitcheck.units import Interval

if TYPE_CHECKING:
    from fitcheck.records.run import Run

Settings = tuple[tuple[str, Any], ...]
# stands for the card's name in what is said of many cards alike
CARD = "{card}"


@dataclass(frozen=True, slots=True)
class Placement:
    """A runtime's offload mode as a value: which program in which revision or build, the mode as people call it, and
    the settings that decide where things lie, by the runtime's own option names."""

    runtime: str
    revision: str
    mode: str
    settings: Settings = ()

    def __hash__(self) -> int:
        # Enough to tell most apart: placements are looked up for card after card.
        return hash((self.runtime, self.revision, self.mode))

    def get(self, name: str, default: Any = None) -> Any:
        """One setting, ``default`` where it is not set."""
        return next((value for key, value in self.settings if key == name), default)


@dataclass(frozen=True, slots=True)
class Process:
    """How the run is made: by the runtime's own program or by fitcheck's bench, whether the process has made an
    image or answer before (``warm``), and whether its seconds hold what happens once in a process (``first``).
    ``left_out`` names a measured cell whose own rows may not enter the answer, where it is tested."""

    bench: bool = False
    warm: bool = False
    first: bool = False
    left_out: str = ""


OWN_PROGRAM = Process()


@dataclass(frozen=True, slots=True)
class Ask:
    """One cell. A change of mind is a ``replace`` of one field. ``gpu`` is the position of the card that a runtime for
    a single card uses."""

    model: Model
    tier: Tier
    placement: Placement
    workload: Workload
    machine: Machine
    gpu: int = 0
    process: Process = OWN_PROGRAM

    @property
    def architecture(self) -> Architecture:
        """The tier's own shape where a repository holds several models, else the model's."""
        return self.tier.architecture or self.model.architecture

    @property
    def card(self) -> Gpu:
        """The card that a runtime for a single card uses."""
        return self.machine.gpus[self.gpu]

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What each card has to give. Files that lie here already need no more disk."""
        found = budgets_of(self.machine)
        if self.tier.local_path is None or self.machine.disk_free is None:
            return found
        return tuple(replace(one, disk=None) for one in found)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question apart from model and machine: the task, tiers by name, the runtime if one was named, and the options
    that were given, by name. What was not given is not here.

    ``min_speed`` in tokens a second and ``max_seconds`` an image or answer are what it must do to be of use.
    """

    task: str | None = None
    tiers: tuple[str, ...] = ()
    runtime: str | None = None
    options: Settings = ()
    min_speed: float | None = None
    max_seconds: float | None = None

    def floor(self, task: Task) -> Floor:
        """What is fast enough to be of use for a task: as given, else what is usual."""
        return floor_of(self.min_speed, self.max_seconds, task)

    def has(self, name: str) -> bool:
        """Whether the option was given."""
        return any(key == name for key, _ in self.options)

    def with_(self, **options: Any) -> Wanted:
        """The same question with these options besides, or in place of those of the same name."""
        return replace(self, options=tuple(sorted({**dict(self.options), **options}.items())))


@dataclass(frozen=True, slots=True)
class Change:
    """Something a person could change, in words, and the ask it leads to. ``eases`` are the only constraints that it
    can better, ``None`` where it may better any: what hangs on another one is not worked out again. ``settings`` are
    options by name that ask for it, as they are typed, where these do; ``bought`` says that it costs money."""

    words: str
    ask: Ask
    eases: frozenset[Constraint] | None = None
    settings: Settings = ()
    bought: bool = False


@dataclass(frozen=True, slots=True)
class Default:
    """A value that nobody gave and a runtime filled in: in words, and another one that somebody may have meant, as it
    would be typed (``"--size 1024x1024"``), with the ask it leads to."""

    words: str
    typed: str
    other: Ask


@dataclass(frozen=True, slots=True)
class Support:
    """What no amount of memory changes: the verdict that software and card allow at best, and why. ``reason`` is a
    sentence in which ``CARD`` stands for the card's name: cards that are alike share it.

    ``least`` stands where the run is not modelled: what it needs at the very least. Then amounts speak only where even
    that is certainly too much.
    """

    verdict: Verdict
    constraint: Constraint
    reason: str
    least: Footprint | None = None


def named(words: str, ask: Ask) -> str:
    """What is said of many cards alike, with the name of the ask's card."""
    return words.replace(CARD, ask.card.card.name) if CARD in words else words


@dataclass(frozen=True, slots=True)
class Measured:
    """A published measurement as the estimator sees it: bytes and seconds, ``None`` where nothing was measured.

    ``fitted`` names the quantities (``allocated``, ``reserved``, ``host``, ``seconds``) that a constant was fitted on
    or an input inferred from in this row, ``levels`` those whose level of this vendor's or generation's cards was (it
    can be left out with the machine), ``widens`` those that set the width of an interval; ``machine`` tells rows of one
    machine from those of another. ``inferred_text`` says that how much text the run wrote is not known.
    """

    source: str
    name: str
    ask: Ask
    allocated: int | None = None
    reserved: int | None = None
    on_card: int | None = None
    host: int | None = None
    seconds: float | None = None
    fitted: frozenset[str] = frozenset()
    levels: frozenset[str] = frozenset()
    widens: frozenset[str] = frozenset()
    machine: str = ""
    inferred_text: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """What no placement of one kind betters, of a tier on a machine: its verdict, and the tokens a second that it is
    expected to write over ``Runtime.loss``; 0 where that is not known."""

    verdict: Verdict
    pace: float


class Runtime(Protocol):
    """What every runtime offers. A class that inherits from this gets the defaults that are written out here.

    ``families`` are the model families it runs; ``options`` is one frozen dataclass whose fields are declared with
    ``fitcheck.runtimes.options.option``; ``offered`` says whether it is asked when nobody names a runtime; ``modes``
    glosses the modes that have fixed names, from most card memory to least; ``times`` says that it predicts seconds;
    ``needs_card`` that it runs on no machine without a graphics card; ``splits`` that it can put one model over several
    cards; ``searches`` that its cells hang on what the machine has to give, not on the question and its cards alone.
    """

    name: str
    families: tuple[str, ...]
    options: type
    offered: bool = True
    modes: ClassVar[Mapping[str, str]] = {}
    times: bool = True
    needs_card: bool = False
    splits: bool = False
    searches: bool = True

    def asks(self, model: Model, tiers: Sequence[Tier], wanted: Wanted, machine: Machine) -> Iterable[Ask]:
        """The cells worth looking at: defaults filled in, placements chosen. With one tier alone alternatives may be
        shown that many tiers would bury. Raises InputError for values that cannot be."""
        ...

    def leading(self, model: Model, tier: Tier, wanted: Wanted, machine: Machine) -> Iterable[Ask]:
        """Of the cells that ``asks`` gives of one tier alone those among which the one is that leads them, as far as
        that is quicker to know than all of them; what records say must not count."""
        return self.asks(model, (tier,), wanted, machine)

    def closer(self, model: Model, tier: Tier, wanted: Wanted, machine: Machine) -> Iterable[Ask]:
        """Cells of one tier that ``asks`` gives of it alone and not among several: those are looked at of the tier that
        an answer leads with, so that the tier named alone gets the same answer. None holds less on the host than the
        least of the cells that ``asks`` gives of the tier, and none a tenth less on a card."""
        return ()

    def outlook(self, model: Model, tier: Tier, wanted: Wanted, machine: Machine) -> Iterable[Outlook]:
        """Of each cell that ``asks`` gives of one tier something that it does not better, where that is quicker to know
        than the cells are; nothing where it is not. Records may say otherwise."""
        return ()

    def settled(self, ask: Ask, wanted: Wanted) -> int | None:
        """Of a runtime that ``searches``: bytes of system memory from which on the one placement that it found for the
        tier of ``ask``, among several tiers, stays the one on these cards; ``None`` where that is not known."""
        return None

    def footprint(self, ask: Ask) -> Footprint:
        """Memory of the cell on every card of the machine and on its host."""
        ...

    def at_least(self, ask: Ask) -> Footprint | None:
        """A footprint that is nowhere larger than that of the cell at best and in the pessimistic case, and quicker to
        work out: what it alone rules out is not worked out where another cell leads. ``None`` where there is none, or
        where ``platform`` hangs on the footprint itself."""
        return None

    def sees(self, machine: Machine) -> Hashable | None:
        """All that cells hang on of a machine, besides its budgets and whatever records say: machines in which a
        runtime sees the same share their cells. ``None`` where nobody worked out what that is, or sharing is rare."""
        return None

    def weighs(self, machine: Machine) -> Hashable | None:
        """All that ``footprint``, ``at_least``, ``spread`` and ``platform`` hang on of a machine: machines in which it
        is equal share them, and those with equal budgets besides the level that follows. ``None`` where nobody worked
        out what that is."""
        return None

    def spread(self, ask: Ask, footprint: Footprint) -> Footprint:
        """The footprint of a cell that is shown, its intervals as wide as what nobody said of the program leaves them.
        Best estimates and the host's amounts, on which the verdict hangs, stay."""
        return footprint

    def duration(self, ask: Ask, footprint: Footprint, calibration: Calibration | None = None) -> Duration | None:
        """How long it takes; ``None`` where nothing is known of the card's rates."""
        ...

    def platform(self, ask: Ask) -> Support | None:
        """What stands against it whatever the amounts; ``None`` when nothing is known to."""
        ...

    def stacks(self, ask: Ask) -> tuple[str, ...]:
        """What the cell depends on besides memory: program and number formats, by the names of the rules in
        ``fitcheck.hardware.software``."""
        return ()

    def changes(self, ask: Ask, wanted: Wanted) -> Iterable[Change]:
        """What a person could change for free, smallest loss first."""
        return ()

    def defaults(self, ask: Ask, wanted: Wanted) -> Iterable[Default]:
        """What was filled in of the question because nobody said it, one entry a value. Whether it decides anything is
        not asked here; what the tier or the program itself prescribes is no default."""
        return ()

    def loss(self, ask: Ask) -> float:
        """How much faster this placement must be to be worth what it loses in quality beside the tier; 1 for none."""
        return 1.0

    def commands(self, ask: Ask) -> tuple[str, ...]:
        """How to get the files and run the cell; empty where it is not known."""
        return ()

    def details(self, ask: Ask, footprint: Footprint) -> dict[str, Any]:
        """What only this runtime can say of a cell, as JSON values."""
        return {}

    def notes(self, ask: Ask, wanted: Wanted, duration: Duration | None) -> tuple[str, ...]:
        """What a reader of the best cell should know of the question."""
        return ()

    def ask_of(self, run: Run) -> Ask | None:
        """The cell that a record measured; ``None`` for one that this release does not know."""
        ...

    def alike(self, ask: Ask) -> Hashable:
        """What two runs share that are runs of the same cell, on whichever machine."""
        sizes = tuple(used_sizes(ask.workload).items())
        return ask.model.slug, ask.tier.name, ask.workload.task, sizes, ask.placement

    def holds(self, ask: Ask) -> Hashable:
        """What two runs share that hold the same memory, on whichever machine; by default those of one cell do."""
        return self.alike(ask)

    def foreseen(self, ask: Ask) -> Duration | None:
        """The ``duration`` of the cell without records, where that is known before the cell is weighed: what takes too
        long to lead, or to be advised, is not weighed. ``None`` where it is not."""
        return None

    def untimed(self, ask: Ask, footprint: Footprint) -> str:
        """Why the seconds of a cell without any are unknown, as a clause."""
        return "the card's matrix rate, its bandwidth or the link is not known"

    def timings(self, ask: Ask, links: Calibration | None = None) -> Mapping[str, Timing]:
        """What the seconds are made of at the best estimate: one timing, or one for each rate by its name. Of records
        those of the link are in it. Empty where nothing is known of the card's rates."""
        found = self.duration(ask, self.footprint(ask), links)
        return {} if found is None or found.seconds is None else {WHOLE: whole(self.name, found.seconds.best)}

    def observed(self, run: Run, ask: Ask, links: Calibration | None = None) -> Iterable[Observation]:
        """The seconds that a record of ``ask`` holds beside what they are predicted from."""
        if run.seconds:
            timing = self.timings(ask, links).get(WHOLE)
            if timing is not None:
                yield Observation(WHOLE, timing, run.seconds)

    def promises(self, run: Run, ask: Ask) -> Mapping[str, Interval[float]]:
        """What a finished record of ``ask`` should hold where its version does what is known of it, without any record:
        ``seconds``, bytes of ``allocated``, ``reserved``, the ``process`` on the card and ``rss`` on the host."""
        footprint = self.footprint(ask)
        found: dict[str, Interval[float]] = {}
        duration = self.duration(ask, footprint)
        if duration is not None and duration.seconds is not None:
            found["seconds"] = duration.seconds
        if run.cards == 1 and ask.machine.gpus:
            memory = footprint.cards[ask.gpu]
            for name, span in (
                ("allocated", memory.allocated),
                ("reserved", memory.reserved),
                ("process", memory.card),
            ):
                found[name] = _as_floats(span)
        if self.host_bytes(run) is not None:
            found["rss"] = _as_floats(footprint.host.total)
        return found

    def rests_on(self, record: str) -> RestsOn:
        """What of the runtime's constants rests on the record of that id: those quantities of it test nothing."""
        return NOTHING_RESTS

    def stated(self, ask: Ask) -> Settings:
        """The ``settings`` block of a record of ``ask``, from which ``ask_of`` reads it back; empty where the
        ``runtime`` block says it all."""
        return ()

    def host_bytes(self, run: Run) -> int | None:
        """What a record says of system memory, in bytes; ``None`` where its meter also counts what can be dropped."""
        return run.rss or None

    def recorded(self, placement: Placement) -> dict[str, Any]:
        """How a record's ``runtime`` block names ``placement``: name, revision, mode, policy, prefetch."""
        return {"name": self.name, "revision": placement.revision, "mode": placement.mode, "policy": None}

    def published(self) -> Iterable[Measured]:
        """Others' measurements that ship with the runtime."""
        return ()

    def figures(self) -> Iterable[Figure]:
        """Others' exact figures beside this runtime's own."""
        return ()


def _as_floats(span: Interval[int]) -> Interval[float]:
    return Interval(float(span.low), float(span.best), float(span.high))
