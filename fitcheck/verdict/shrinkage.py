"""Which parts of the seconds are off, from records of any modes, tiers and cards of one architecture.

The logarithm of measured over predicted seconds is a sum: of each part's error in proportion to its share, and of what
the estimator has wrong about a model, tier, mode or cell. A part's error is one of the architecture, plus one of the
card, plus one of the machine, each as far from zero as such things scatter (verdict/data/evidence.json). The best
estimate of all of them given the records is linear (a Gaussian process, also called kriging): few records are shrunk
towards what the architecture says, and that towards the estimator. A record that the others make improbable counts as
wrong. Seconds are not linear in the parts, so the sum is taken anew around each estimate (Gauss-Newton).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache, cached_property
from math import exp, inf, log, pi, sqrt
from operator import mul
from typing import Any

from fitcheck.data_files import load
from fitcheck.dataclass_later import dataclass
from fitcheck.speed.timing import Timing
from fitcheck.verdict.implied import MAJORITY

_ROUNDS = 6
_ENOUGH = 2e-3  # change of any part's logarithm that ends the rounds
_FARTHEST = 4.0  # no part is believed to be off by more than a factor of 55

_COMMON = "common"

Matrix = list[list[float]]


def _data() -> dict[str, Any]:
    return load("verdict", "evidence")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something ran: a card of the architecture, a machine (``None``: one of which nothing is known), and
    whether link records of the card are in the prediction."""

    card: str
    machine: str | None = None
    linked: bool = False


@dataclass(frozen=True, slots=True)
class Traits:
    """What predictions that are off alike share: the rate's name, model, tier and mode; ``cell`` is all that there
    is."""

    name: str
    model: str
    tier: str
    mode: object
    cell: object


@dataclass(frozen=True, slots=True)
class RunGroup:
    """``count`` observations of one cell on one machine: the logarithm of their median seconds."""

    place: Place
    traits: Traits
    timing: Timing
    measured: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """Measured over predicted seconds: best, its logarithm's standard deviation, and the share of its variance that
    records explain. ``doubt`` are ratios that records without a clear majority against them say instead."""

    ratio: float
    deviation: float
    explained: float
    doubt: tuple[float, ...] = ()


@dataclass(frozen=True)
class Fit:
    """What a set of groups says. ``wrong`` are positions of groups that the others contradict; ``torn`` that there is
    no majority for anything."""

    groups: tuple[RunGroup, ...]
    shares: tuple[Mapping[str, float], ...]
    weights: tuple[float, ...]
    inverse: Matrix = field(repr=False)
    wrong: frozenset[int] = frozenset()
    errors: tuple[float, ...] = ()
    torn: bool = False

    def factors(self, place: Place) -> Mapping[str, float]:
        """Seconds measured over predicted by part, on a card in a machine."""
        found = self._factors.get(place)
        if found is None:
            found = self._factors[place] = {name: exp(value) for name, value in _logs(place, self.sums).items()}
        return found

    @cached_property
    def _factors(self) -> dict[Place, Mapping[str, float]]:
        return {}

    @cached_property
    def sums(self) -> dict[tuple[object, ...], float]:
        """What the groups say of each part, added up."""
        return _sums(self.groups, self.shares, self.weights)

    def of(self, place: Place, traits: Traits, timing: Timing) -> Estimate:
        """What a cell there takes, measured over predicted."""
        factors = self.factors(place)
        shares = timing.shares(factors)
        reach = [
            _covariance(place, traits, shares, group.place, group.traits, known)
            for group, known in zip(self.groups, self.shares, strict=True)
        ]
        residual = sum(
            _similar(traits, group.traits) * weight for group, weight in zip(self.groups, self.weights, strict=True)
        )
        own = _covariance(place, traits, shares, place, traits, shares) + _run_variance(1)
        known = _dot(reach, _products(self.inverse, reach))
        ratio = timing.seconds(factors) / timing.seconds({}) * exp(residual)
        deviation = sqrt(max(own - known, _run_variance(1))) * self._misfit
        return Estimate(ratio, deviation, known / own, self._doubt(place, ratio))

    def doubts(self, card: str) -> tuple[int, ...]:
        """Positions of the card's groups that are called wrong by too few others; all of them where nothing has a
        majority."""
        here = [index for index, group in enumerate(self.groups) if group.place.card == card]
        wrong = tuple(index for index in here if index in self.wrong)
        if self.torn:
            return tuple(here)
        return () if len(here) - len(wrong) >= MAJORITY * len(wrong) else wrong

    @property
    def _misfit(self) -> float:
        """How much farther apart the records are than such records should be; 1 where they are not."""
        kept = [self.errors[index] for index in range(len(self.groups)) if index not in self.wrong]
        return min(max(1.0, sqrt(sum(one * one for one in kept) / len(kept))), 3.0) if len(kept) > 2 else 1.0

    def _doubt(self, place: Place, ratio: float) -> tuple[float, ...]:
        """What the records say that nobody can call right or wrong."""
        errors = (self.weights[index] / self.inverse[index][index] for index in self.doubts(place.card))
        return tuple(ratio * exp(error) for error in errors)


def fit(groups: Sequence[RunGroup]) -> Fit:
    """The best estimate of all parts given ``groups``, which have to be of one architecture."""
    logs: list[dict[str, float]] = [{} for _ in groups]
    found = None
    for _ in range(_ROUNDS):
        found = _round(groups, logs)
        sums = found.sums
        moved = [_logs(group.place, sums) for group in groups]
        change = max(
            (abs(new - old.get(name, 0.0)) for old, now in zip(logs, moved, strict=True) for name, new in now.items()),
            default=0.0,
        )
        logs = moved
        if change < _ENOUGH:
            break
    assert found is not None
    return found


def _round(groups: Sequence[RunGroup], logs: Sequence[Mapping[str, float]]) -> Fit:
    """The sum taken around ``logs``, the parts' errors where each group ran, and solved."""
    shares, seen = [], []
    for group, known in zip(groups, logs, strict=True):
        factors = {name: exp(value) for name, value in known.items()}
        share = group.timing.shares(factors)
        explained = sum(amount * known.get(name, 0.0) for name, amount in share.items())
        shares.append(share)
        seen.append(group.measured - log(group.timing.seconds(factors)) + explained)
    return _solved(tuple(groups), tuple(shares), seen)


def _solved(groups: tuple[RunGroup, ...], shares: tuple[Mapping[str, float], ...], seen: Sequence[float]) -> Fit:
    count = len(groups)
    matrix = [[0.0] * count for _ in range(count)]
    for i, group in enumerate(groups):
        for j in range(i + 1):
            other = groups[j]
            matrix[i][j] = matrix[j][i] = _covariance(
                group.place, group.traits, shares[i], other.place, other.traits, shares[j]
            )
        matrix[i][i] += _run_variance(group.count)
    inverse = inverted(matrix)
    wrong = _without_wrong(inverse, seen)
    torn = bool(wrong) and len(groups) - len(wrong) <= len(wrong)
    if torn:  # as many against as for: all of them are as far off
        inverse, wrong = _contradicting(matrix, seen), set()
    weights = tuple(_products(inverse, seen))
    errors = tuple(weights[i] / sqrt(inverse[i][i]) for i in range(count))
    return Fit(groups, shares, weights, inverse, frozenset(wrong), errors, torn)


def _without_wrong(inverse: Matrix, seen: Sequence[float]) -> set[int]:
    """Positions that the others make improbable, found one by one, the worst first; ``inverse`` becomes that of the
    covariance in which they count for next to nothing."""
    wrong: set[int] = set()
    extra = _data()["wrong"]["scatter"] ** 2
    while len(wrong) < len(seen):
        weights = _products(inverse, seen)
        odds = {
            i: wrong_odds(weights[i] / inverse[i][i], 1 / inverse[i][i]) for i in range(len(seen)) if i not in wrong
        }
        worst = max(odds, key=lambda i: odds[i])
        if odds[worst] <= 0:
            break
        wrong.add(worst)
        _add_variance(inverse, worst, extra)
    for index in sorted(wrong):  # one that was called wrong beside a worse one may have been right
        weights, variance = _products(inverse, seen), 1 / inverse[index][index]
        if wrong_odds(weights[index] * variance, variance - extra) < 0:
            wrong.discard(index)
            _add_variance(inverse, index, -extra)
    return wrong


def wrong_odds(error: float, variance: float) -> float:
    """Logarithm of how much likelier a prediction's ``error`` is of a wrong record than of a right one."""
    rule = _data()["wrong"]
    right = log(1 - rule["share"]) + _log_density(error, variance)
    return float(log(rule["share"]) + _log_density(error, variance + rule["scatter"] ** 2) - right)


def _log_density(value: float, variance: float) -> float:
    return -0.5 * (value * value / variance + log(2 * pi * variance)) if variance > 0 else -inf


def _contradicting(matrix: Matrix, seen: Sequence[float]) -> Matrix:
    """The inverse where every record may be as far off as they are from one another, a lone one as it and the estimate
    are."""
    said = seen if len(seen) > 1 else (*seen, 0.0)
    centre = sum(said) / len(said)
    spread = sum((one - centre) ** 2 for one in said) / len(said)
    return inverted(
        [[value + (spread if i == j else 0.0) for j, value in enumerate(row)] for i, row in enumerate(matrix)]
    )


def _sums(
    groups: Sequence[RunGroup], shares: Sequence[Mapping[str, float]], weights: Sequence[float]
) -> dict[tuple[object, ...], float]:
    """What groups say of each part, by what they ran on: all of them, by card, by machine, each with and without link
    records."""
    found: dict[tuple[object, ...], float] = {}
    shared = _shared()
    for group, share, weight in zip(groups, shares, weights, strict=True):
        place = group.place
        said = [(name, amount * weight) for name, amount in share.items()]
        said.append((_COMMON, sum(amount for name, amount in said if name in shared)))
        for name, amount in said:
            for key in (
                (name, place.linked),
                (name, place.linked, place.card),
                (name, place.linked, place.card, place.machine),
            ):
                found[key] = found.get(key, 0.0) + amount
    return found


def _logs(place: Place, sums: Mapping[tuple[object, ...], float]) -> dict[str, float]:
    """Logarithms of the parts' factors in a place."""
    names = {str(key[0]) for key in sums} | _shared()
    moved = {name: _moved(name, place, sums) for name in names}
    common = moved.pop(_COMMON, 0.0)
    found = {name: value + (common if name in _shared() else 0.0) for name, value in moved.items()}
    return {name: min(max(value, -_FARTHEST), _FARTHEST) for name, value in found.items()}


def _moved(part: str, place: Place, sums: Mapping[tuple[object, ...], float]) -> float:
    known = _variances()
    architecture, card, machine = known.get(part, known["other"])
    total = 0.0
    for linked in (False, True):
        seen = architecture * sums.get((part, linked), 0.0)
        seen += (card - architecture) * sums.get((part, linked, place.card), 0.0)
        if place.machine is not None:
            seen += (machine - card) * sums.get((part, linked, place.card, place.machine), 0.0)
        total += seen * _left_by_links(part, place.linked and linked)
    return total


def _left_by_links(part: str, linked: bool) -> float:
    """The share of a variance that is left where both predictions have link records in them."""
    return float(_data()["linked"]["share"] ** 2) if linked and part.endswith("copies") else 1.0


def _covariance(
    place: Place,
    traits: Traits,
    shares: Mapping[str, float],
    other: Place,
    others: Traits,
    their: Mapping[str, float],
) -> float:
    """Of two logarithms of measured over predicted seconds."""
    known, shared, bond, linked = _variances(), _shared(), _bond(place, other), place.linked and other.linked
    total, mine = _similar(traits, others), 0.0
    for name, amount in shares.items():
        if name in their:
            found = amount * their[name] * known.get(name, known["other"])[bond]
            total += found * _left_by_links(name, linked) if linked else found
        mine += amount if name in shared else 0.0
    yours = sum(amount for name, amount in their.items() if name in shared)
    return total + mine * yours * known[_COMMON][bond]


def _bond(place: Place, other: Place) -> int:
    """What two places share: 0 the architecture, 1 the card as well, 2 the machine as well."""
    if place.card != other.card:
        return 0
    return 2 if place is other or (place.machine is not None and place.machine == other.machine) else 1


@cache
def _variances() -> dict[str, tuple[float, float, float]]:
    """By part, and for what all work on the card has in common: the variance that is shared at each bond."""
    rows = {**_data()["parts"], _COMMON: _data()["common"]}
    found = {}
    for name, row in rows.items():
        architecture, card, machine = (row[level] ** 2 for level in ("architecture", "card", "machine"))
        found[name] = (architecture, architecture + card, architecture + card + machine)
    return found


@cache
def _shared() -> frozenset[str]:
    return frozenset(_data()["common"]["parts"])


def _similar(traits: Traits, other: Traits) -> float:
    """The variance of what the estimator has wrong about both."""
    if traits.name != other.name or traits.model != other.model:
        return 0.0
    alike = _data()["alike"]
    scatter = alike.get(traits.name, alike["other"])
    found = scatter["model"] ** 2
    found += scatter["tier"] ** 2 if traits.tier == other.tier else 0.0
    found += scatter["mode"] ** 2 if traits.mode == other.mode else 0.0
    return float(found + (scatter["cell"] ** 2 if traits.cell == other.cell else 0.0))


def _run_variance(count: int) -> float:
    return float(_data()["run"]["value"] ** 2 / count)


def inverted(matrix: Matrix) -> Matrix:
    """The inverse of a symmetric positive definite matrix, by Cholesky's factors."""
    size = len(matrix)
    lower: Matrix = []
    for i in range(size):
        row: list[float] = []
        for j in range(i):
            row.append((matrix[i][j] - _dot(row, lower[j])) / lower[j][j])
        row.append(sqrt(matrix[i][i] - _dot(row, row)))
        lower.append(row)
    columns = [[lower[i][j] for i in range(j, size)] for j in range(size)]
    return _symmetric([_solve(lower, columns, index) for index in range(size)])


def _solve(lower: Matrix, columns: Matrix, index: int) -> list[float]:
    """One column of the inverse from its diagonal on: forwards, then backwards."""
    size = len(lower)
    found: list[float] = []
    for i in range(index, size):
        left = (1.0 if i == index else 0.0) - _dot(lower[i][index:i], found)
        found.append(left / lower[i][i])
    for i in reversed(range(index, size)):
        below = found[i - index + 1 :]
        found[i - index] = (found[i - index] - _dot(columns[i][1:], below)) / lower[i][i]
    return found


def _symmetric(halves: Matrix) -> Matrix:
    """The whole of a matrix of which each column is given from its diagonal on."""
    size = len(halves)
    return [[halves[min(i, j)][abs(i - j)] for j in range(size)] for i in range(size)]


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    """The sum of products, as far as the shorter goes."""
    return float(sum(map(mul, one, other)))


def _products(matrix: Matrix, vector: Sequence[float]) -> list[float]:
    return [_dot(row, vector) for row in matrix]


def _add_variance(inverse: Matrix, index: int, extra: float) -> None:
    """The inverse after ``extra`` was added to one place of the diagonal (Sherman and Morrison), in place."""
    column = [row[index] for row in inverse]
    scale = extra / (1 + extra * column[index])
    for i, row in enumerate(inverse):
        step = scale * column[i]
        inverse[i] = [value - step * other for value, other in zip(row, column, strict=True)]
