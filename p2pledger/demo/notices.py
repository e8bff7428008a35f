"""What clients are told about their trades before and after these are final, and whether it fits together.

Until a trade is final its client may hear *pending* and *reverted* any number of times. Then it hears *settled*, from
each session that sent the trade exactly once, always with the same outcome, and after that nothing more.
"""

from __future__ import annotations

from p2pledger.primitives.messages import ProgressStatus

__all__ = ["Notices"]

_FINDINGS: int = 10


class Notices:
    """All that was told to all sessions. ``findings`` says what must not have happened, the first ten times."""

    def __init__(self) -> None:
        self.reverted: set[bytes] = set()
        """Trades that fell out of the chain of some node at least once after their client had been told *pending*."""
        self.findings: list[str] = []
        self._settled: dict[bytes, tuple[int, int]] = {}
        self._by_session: set[tuple[int, bytes]] = set()

    def progress(self, session: int, status: ProgressStatus, identifier: bytes) -> None:
        """A session was told something that is not the last word."""
        if (session, identifier) in self._by_session:
            self._found(f"{identifier.hex()} was told {status.name.lower()} after it was settled")
        elif status is ProgressStatus.REVERTED:
            self.reverted.add(identifier)

    def settled(self, session: int, identifier: bytes, height: int, code: int) -> None:
        """A session was told the last word."""
        if (session, identifier) in self._by_session:
            self._found(f"{identifier.hex()} was settled twice in one session")
        self._by_session.add((session, identifier))
        before = self._settled.setdefault(identifier, (height, code))
        if before != (height, code):
            self._found(
                f"{identifier.hex()} was settled with code {before[1]} at height {before[0]}, and with code {code} at "
                f"height {height}"
            )

    def applied_again(self) -> int:
        """Reverted trades that were settled in the end."""
        return sum(1 for identifier in self.reverted if identifier in self._settled)

    def _found(self, sentence: str) -> None:
        if len(self.findings) < _FINDINGS:
            self.findings.append(sentence)
