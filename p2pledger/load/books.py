"""Bookkeeping of its own, which shares no code with the ledger.

It knows what was issued before the first trade, hears which trades became final, and applies those. At the end the
holdings that it arrives at are compared with those of a node, account by account, and with the node's supply: in each
register, what was issued and what crossed into it, less what crossed out of it, is what is held. Units of an ISIN are
also added up over all registers: moving a bond between depositories must neither make nor lose any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from p2pledger.load.trades import Trade, World

__all__ = ["Books"]


class Books:
    """Holdings by (asset, holder); units issued, and net units that crossed into it, by asset; all by name."""

    def __init__(self, world: World) -> None:
        self.holdings: Counter[tuple[str, str]] = Counter()
        self.issued: Counter[str] = Counter()
        self.crossed: Counter[str] = Counter()
        for asset, units in world.opening.items():
            for broker in world.brokers:
                self.holdings[asset, broker] += units
                self.issued[asset] += units

    def settle(self, trade: Trade) -> None:
        """One trade is final and succeeded."""
        self.holdings[trade.source, trade.seller] -= trade.quantity
        self.holdings[trade.target, trade.buyer] += trade.quantity
        self.holdings[trade.money, trade.buyer] -= trade.price
        self.holdings[trade.money, trade.seller] += trade.price
        if trade.is_cross:
            self.crossed[trade.source] -= trade.quantity
            self.crossed[trade.target] += trade.quantity

    def compare(
        self,
        supply: Mapping[str, tuple[int, int, int]],
        holdings: Mapping[tuple[str, str], int],
    ) -> list[str]:
        """What differs, one sentence each; empty if all agrees.

        ``supply``: asset -> (issued, redeemed, held) as a node counts them; ``holdings``: (asset, holder) -> units.
        """
        findings = []
        for asset in sorted(self.issued.keys() | supply.keys()):
            issued, redeemed, held = supply.get(asset, (0, 0, 0))
            if (issued, redeemed) != (self.issued[asset], 0):
                findings.append(
                    f"{asset}: the ledger says {issued} issued and {redeemed} redeemed, "
                    f"the recount {self.issued[asset]} and 0"
                )
            if held != (expected := issued - redeemed + self.crossed[asset]):
                findings.append(f"{asset}: {held} held, but {expected} in existence in this register")
        for asset, holder in sorted(self.holdings.keys() | holdings.keys()):
            if holdings.get((asset, holder), 0) != self.holdings[asset, holder]:
                findings.append(
                    f"{holder} holds {holdings.get((asset, holder), 0)} of {asset} on the ledger, "
                    f"{self.holdings[asset, holder]} by the recount"
                )
        findings += self._instrument_findings({asset: held for asset, (_, _, held) in supply.items()})
        return findings

    def _instrument_findings(self, held: Mapping[str, int]) -> Iterable[str]:
        opened, now = _by_instrument(self.issued), _by_instrument(held)
        for instrument in sorted(opened.keys() | now.keys()):
            if now[instrument] != opened[instrument]:
                yield f"{instrument}: {now[instrument]} units over all registers, {opened[instrument]} before"


def _by_instrument(units: Mapping[str, int]) -> Counter[str]:
    """Units by asset, added up over all registers."""
    sums: Counter[str] = Counter()
    for asset, count in units.items():
        sums[asset.partition("@")[0]] += count
    return sums
