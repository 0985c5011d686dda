"""Regression tracking: did it get slower or hungrier, since when, by how much, and how sure is that?

``series`` says which records are runs of one ask, ``metrics`` what was measured, ``noise`` how much that scatters,
``compare`` judges two sides, ``history`` finds change points, ``bisection`` the revision, ``report`` writes it down.
"""
