"""fitcheck: will this generative model run on this machine, in which tier and mode, how fast, and how do we know?"""

__version__ = "0.1.0"
