"""Somebody who watches a measurement and says nothing."""

from __future__ import annotations


class Silent:
    """A ``Progress``."""

    def say(self, sentence: str) -> None:
        pass

    def show(self, elapsed_s: float, expected_s: float, done: int) -> None:
        pass
