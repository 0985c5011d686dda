"""What the tests of the bench share: a card for the parent process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench_fakes import FakeNvml

from bench.meters import NvmlCard


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a fake card into the parent."""

    def place(**options: Any) -> None:
        monkeypatch.setattr(NvmlCard, "open", lambda selector: NvmlCard(FakeNvml(**options), "card"))

    place()
    return place
