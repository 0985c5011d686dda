"""Both consoles: a pipe cuts nothing, and text is no markup."""

from __future__ import annotations

import pytest
from rich.table import Table

from fitcheck.cli.consoles import console


@pytest.mark.parametrize("stderr", [False, True])
def test_a_pipe_gets_whole_cells_as_they_are(capsys: pytest.CaptureFixture[str], stderr: bool) -> None:
    table = Table(box=None)
    table.add_column("name")
    table.add_column("what")
    table.add_row("[red]m.gguf[/red]", "words " * 60 + "end :warning:")
    console(stderr).print(table)
    printed = capsys.readouterr()[stderr]
    assert len(printed.splitlines()) == 2
    assert "[red]m.gguf[/red]" in printed
    assert "words " * 60 + "end :warning:" in printed
