"""Shared settings: property tests are the same in every run and never fail for being slow."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "deterministic", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("deterministic")

# The suite must not depend on a hub, a cache or a colour terminal of the machine it runs on.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["NO_COLOR"] = "1"


def pytest_collection_finish() -> None:
    """What importing and collecting made lives to the end: a search for garbage, of which the bench makes one a phase,
    need not walk over it."""
    _keep_what_is_left()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None, item: pytest.Item) -> Iterator[None]:
    """Nor over what a file leaves in caches: after the kept answers that is a gigabyte, a second for every search."""
    yield
    if nextitem is None or nextitem.path != item.path:
        _keep_what_is_left()


def _keep_what_is_left() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder() -> Iterator[None]:
    """The lock of the bench lies in the folder for temporary files: workers of the suite must not refuse each other."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="fitcheck-tests-") as folder:
        os.environ["TMPDIR"], tempfile.tempdir = folder, None
        os.environ["FITCHECK_CACHE"] = f"{folder}/cache"
        yield
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None
