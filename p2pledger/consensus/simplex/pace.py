"""How long to wait: the view timer, which adapts, and the pauses between resends.

normal            base                                        the paper's 3 Delta
in a row nullified  doubled for each view, up to the cap      back to base with the next finalisation
nothing to wait for a tenth, at least 50 ms                   the leader is dead, or its proposal invalid
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

_QUICK_TIMEOUT_LEAST_MS: Final = 50


class Pace:
    """Timeouts in milliseconds, and which leaders are taken for dead (``silent``: signers)."""

    __slots__ = ("_base_ms", "_cap_ms", "_nullified_streak", "interval_ms", "share_ms", "silent", "timeout_ms")

    def __init__(self, base_ms: int, cap_ms: int) -> None:
        self._base_ms = base_ms
        self._cap_ms = cap_ms
        self._nullified_streak = 0
        self.timeout_ms = self._doubled_ms()
        """[P2] The paper's 3 Delta; [D] doubled for each view nullified in a row, up to the cap."""
        self.interval_ms = max(1, base_ms // 2)
        """Between two helps for one peer, and before the first resend."""
        self.share_ms = max(1, base_ms // 20)
        """Before a certificate is passed on that all others have probably made themselves."""
        self.silent: set[int] = set()

    @property
    def quick_timeout_ms(self) -> int:
        """Where there is nothing to wait for."""
        return min(self.timeout_ms, max(_QUICK_TIMEOUT_LEAST_MS, self.timeout_ms // 10))

    @property
    def grace_ms(self) -> int:
        """How long finalise votes may still arrive before an empty block is made to get its parent final."""
        return self.timeout_ms // 4

    def resend_pause_ms(self, resends: int) -> int:
        """Growing, up to a quarter of the cap."""
        return min(self.interval_ms << min(resends, 32), max(self.interval_ms, self._cap_ms // 4))

    def finalised(self) -> None:
        self._nullified_streak = 0
        self.timeout_ms = self._doubled_ms()

    def nullified(self, leader: int, *, own: bool) -> None:
        """[D] A nullified view makes the next ones longer, unless it was cut short because its leader is dead."""
        if leader not in self.silent:
            self._nullified_streak += 1
            self.timeout_ms = self._doubled_ms()
        if not own:
            self.silent.add(leader)

    def _doubled_ms(self) -> int:
        return min(self._base_ms << min(self._nullified_streak, 32), self._cap_ms)
