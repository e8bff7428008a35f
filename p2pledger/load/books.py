"""Bookkeeping of its own, which shares no code with the ledger.

It knows what was issued before the first trade, hears which trades became final, and applies those. At the end the
holdings that it arrives at are compared with those of a node, account by account, and with the node's supply. Units
of an ISIN are also added up over all registers: moving a bond between depositories must neither make nor lose any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from p2pledger.load.trades import Trade, World

__all__ = ["Books"]


class Books:
    """Holdings by (asset, holder), and units issued and redeemed by asset; all by name."""

    def __init__(self, world: World) -> None:
        self.holdings: Counter[tuple[str, str]] = Counter()
        self.issued: Counter[str] = Counter()
        self.redeemed: Counter[str] = Counter()
        for asset, units in world.opening.items():
            for broker in world.brokers:
                self.holdings[asset, broker] += units
                self.issued[asset] += units
        self._opened = self._units_by_instrument()

    def settle(self, trade: Trade) -> None:
        """One trade is final and succeeded."""
        self.holdings[trade.source, trade.seller] -= trade.quantity
        self.holdings[trade.target, trade.buyer] += trade.quantity
        self.holdings[trade.money, trade.buyer] -= trade.price
        self.holdings[trade.money, trade.seller] += trade.price
        if trade.is_cross:
            self.redeemed[trade.source] += trade.quantity
            self.issued[trade.target] += trade.quantity

    def _units_by_instrument(self) -> Counter[str]:
        units: Counter[str] = Counter()
        for asset in self.issued:
            units[asset.partition("@")[0]] += self.issued[asset] - self.redeemed[asset]
        return units

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
            if (issued, redeemed) != (self.issued[asset], self.redeemed[asset]):
                findings.append(
                    f"{asset}: the ledger says {issued} issued and {redeemed} redeemed, "
                    f"the recount {self.issued[asset]} and {self.redeemed[asset]}"
                )
            if held != issued - redeemed:
                findings.append(f"{asset}: {held} held, but {issued - redeemed} in existence")
        for asset, holder in sorted(self.holdings.keys() | holdings.keys()):
            if holdings.get((asset, holder), 0) != self.holdings[asset, holder]:
                findings.append(
                    f"{holder} holds {holdings.get((asset, holder), 0)} of {asset} on the ledger, "
                    f"{self.holdings[asset, holder]} by the recount"
                )
        now: Counter[str] = Counter()
        for asset, (issued, redeemed, _) in supply.items():
            now[asset.partition("@")[0]] += issued - redeemed
        findings += self._instrument_findings(now)
        return findings

    def _instrument_findings(self, now: Counter[str]) -> Iterable[str]:
        for instrument in sorted(self._opened.keys() | now.keys()):
            if now[instrument] != self._opened[instrument]:
                yield f"{instrument}: {now[instrument]} units over all registers, {self._opened[instrument]} before"
