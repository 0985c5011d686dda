"""The options that name a machine, for commands that ask about one without asking about one model."""

from __future__ import annotations

from typing import Annotated

import typer

GpuOption = Annotated[
    list[str] | None,
    typer.Option("--gpu", "-g", help="Card, like 'RTX 4070' or '2x RTX 3090'; repeatable; default: the one here."),
]
RamOption = Annotated[
    str | None, typer.Option("--ram", help="System memory, like 32GB; default: what is usual beside such a card.")
]
OsOption = Annotated[
    str | None, typer.Option("--os", help="Operating system: linux, windows, wsl or macos; default: this one's.")
]
MinSpeedOption = Annotated[
    float | None, typer.Option("--min-speed", help="Tokens a second below which text is too slow to use; default 5.")
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option("--max-seconds", help="Seconds an image or answer above which it is too slow; images: 600."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON (docs/json.md).")]
