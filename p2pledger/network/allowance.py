"""How much a peer may ask for. Answers cost more than questions, so questions are what an attacker sends.

A bucket for each session: an answered item takes a token, tokens come back with time. What exceeds it is not answered,
and counted; an honest peer asks somebody else, or again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Allowance"]

_MOST: Final = 4_096
_PER_S: Final = 1_024


@dataclass(slots=True)
class Allowance:
    """Tokens of one session; full at the beginning."""

    refused: int = 0
    _tokens_ms: int = _MOST * 1_000
    _at_ms: int = 0

    def take(self, items: int, now_ms: int) -> bool:
        """Whether so many items may be sent now; at least one is counted."""
        self._tokens_ms = min(_MOST * 1_000, self._tokens_ms + (now_ms - self._at_ms) * _PER_S)
        self._at_ms = now_ms
        cost_ms = max(1, items) * 1_000
        if cost_ms > self._tokens_ms:
            self.refused += 1
            return False
        self._tokens_ms -= cost_ms
        return True
