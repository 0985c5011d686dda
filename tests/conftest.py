"""Shared settings: property tests are the same in every run and never fail for being slow."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "deterministic", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("deterministic")

# The suite must not depend on a hub, a cache or a colour terminal of the machine it runs on.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["NO_COLOR"] = "1"
