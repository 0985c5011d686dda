"""The toy is registered while a test of this folder runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract import toy


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    with toy.installed():
        yield
