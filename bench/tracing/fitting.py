"""Exact polynomials through integer values: rational coefficients, refused where one value is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm, prod

Sizes = Mapping[str, int]
Term = tuple[int, ...]


class Inexact(Exception):
    """No polynomial of these terms goes through every value."""


class PolynomialFit:
    """Polynomials over ``terms`` (exponents by variable), through values at ``points``.

    Terms that the points cannot tell from earlier ones are left out. Points beyond the number of terms check the rest;
    ``checks`` counts them.
    """

    def __init__(self, variables: Sequence[str], terms: Sequence[Term], points: Sequence[Sizes]) -> None:
        self.variables, self.terms = tuple(variables), list(terms)
        rows = [[Fraction(_value(term, self.variables, point)) for term in terms] for point in points]
        self._rows = rows
        self._columns = _independent([[row[i] for row in rows] for i in range(len(terms))])
        self._chosen = _independent([[row[i] for i in self._columns] for row in rows])
        self._inverse = _inverted([[rows[p][i] for i in self._columns] for p in self._chosen])
        self.checks = len(points) - len(self._chosen)

    def coefficients(self, values: Sequence[int]) -> dict[int, Fraction]:
        """Coefficients by position of the term. Raises Inexact."""
        picked = [values[p] for p in self._chosen]
        solved = [sum((c * v for c, v in zip(row, picked, strict=True)), Fraction(0)) for row in self._inverse]
        found = {i: c for i, c in zip(self._columns, solved, strict=True) if c}
        for row, value in zip(self._rows, values, strict=True):
            if sum((row[i] * c for i, c in found.items()), Fraction(0)) != value:
                raise Inexact(f"{list(values)[:6]}")
        return found

    def packed(self, values: Sequence[int]) -> tuple[int, ...]:
        """(common denominator, term, numerator, term, numerator, …). Raises Inexact."""
        found = self.coefficients(values)
        base = lcm(*(c.denominator for c in found.values())) if found else 1
        row = [base]
        for position, coefficient in sorted(found.items()):
            row += [position, int(coefficient * base)]
        return tuple(row)


def _value(term: Term, variables: Sequence[str], point: Sizes) -> int:
    return prod(int(point[name]) ** exponent for name, exponent in zip(variables, term, strict=True))


def _independent(vectors: list[list[Fraction]]) -> list[int]:
    """Positions of the vectors that no earlier ones make up."""
    kept: list[tuple[int, list[Fraction]]] = []
    found = []
    for position, vector in enumerate(vectors):
        rest = list(vector)
        for pivot, basis in kept:
            if rest[pivot]:
                factor = rest[pivot] / basis[pivot]
                rest = [a - factor * b for a, b in zip(rest, basis, strict=True)]
        pivot_at = next((i for i, a in enumerate(rest) if a), None)
        if pivot_at is not None:
            kept.append((pivot_at, rest))
            found.append(position)
    return found


def _inverted(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    size = len(matrix)
    rows = [row + [Fraction(int(i == j)) for j in range(size)] for i, row in enumerate(matrix)]
    for column in range(size):
        swap = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[swap] = rows[swap], rows[column]
        factor = rows[column][column]
        rows[column] = [a / factor for a in rows[column]]
        for i in range(size):
            if i != column and rows[i][column]:
                times = rows[i][column]
                rows[i] = [a - times * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]
