"""How a measurement tells how far it is."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress"]


class Progress(Protocol):
    """Whoever watches a measurement."""

    def say(self, sentence: str, /) -> None:
        """What is being done."""

    def show(self, elapsed_s: float, expected_s: float, done: int, /) -> None:
        """How far the window is, several times a second."""
