"""fitcheck: will this generative model run on this machine, in which tier and mode, how fast, and how do we know?

>>> import fitcheck
>>> report = fitcheck.check("sensenova-u1-8b-mot", "RTX 4070", ram=32 << 30)
>>> report.best.tier.name, report.best.placement.mode, str(report.best.verdict)
('Q4_K_S', 'balanced', 'fits')
"""

from fitcheck.api import check, compare, plan, runs

__version__ = "0.1.0"
__all__ = ["__version__", "check", "compare", "plan", "runs"]
