"""Both consoles: a pipe cuts nothing, and text is no markup."""

from __future__ import annotations

import pytest
from rich.table import Table

from fitcheck.cli.consoles import PlainLines, console, lines_to


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


@pytest.mark.parametrize("stderr", [False, True])
def test_a_pipe_gets_the_lines_that_a_console_prints_there(
    capsys: pytest.CaptureFixture[str], stderr: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    plain = lines_to(stderr=stderr)
    assert isinstance(plain, PlainLines)
    for text in ("[red]m.gguf[/red] :warning:", "a\tb\x07\x08\r", "模型 – 1.0\n  second ", "", "words " * 100):
        console(stderr).print(text, style="bold")
        expected = capsys.readouterr()
        plain.print(text, style="bold", soft_wrap=True)
        assert capsys.readouterr() == expected, text
        assert expected[not stderr] == ""


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_who_asks_for_colours_in_a_pipe_gets_a_console(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert not isinstance(lines_to(), PlainLines)
