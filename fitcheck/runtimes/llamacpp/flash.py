"""What flash attention is where nobody asks for it."""

from __future__ import annotations

from datetime import date

from fitcheck.runtimes.llamacpp.builds import Build

AUTOMATIC = date(2025, 8, 30)  # since then llama.cpp turns it on by itself where the card can (pull request 15434)


def flash_of(asked: bool | None, build: Build) -> bool | None:
    """``asked``, or off where a build before ``AUTOMATIC`` was asked nothing; ``None`` leaves it to llama.cpp. What the
    fork does by itself is not known and left to it."""
    return False if asked is None and switched(build) else asked


def switched(build: Build) -> bool:
    """Whether ``-fa`` is a switch without a value, and off unless given."""
    return build.day < AUTOMATIC and not build.fork
