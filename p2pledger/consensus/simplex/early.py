"""Messages of the next epoch that came before this one ended: kept for its engine, a bounded number of each sender.

They cannot be judged yet, for they are signed by validators whom this engine does not know. So the newest of each sort
stays: from one sender one proposal, one certificate, and a vote of each kind for each of the last four views. Whatever
is lost here is said again.
"""

from __future__ import annotations

from typing import Final

from p2pledger.consensus.engine import CertificateArrived, Input, ProposalArrived, VoteArrived

__all__ = ["EarlyMessages"]

_VIEWS_OF_VOTES: Final = 4

Early = ProposalArrived | CertificateArrived | VoteArrived


class EarlyMessages:
    """At most 14 messages from each of at most ``senders`` peers."""

    __slots__ = ("_held", "_senders")

    def __init__(self, senders: int) -> None:
        self._senders = senders
        self._held: dict[bytes, dict[tuple[int, ...], Early]] = {}

    def __len__(self) -> int:
        return sum(len(held) for held in self._held.values())

    def keep(self, event: Early) -> bool:
        """False if there is no room for another sender, or something newer of the sort is here."""
        held = self._held.get(event.sender)
        if held is None:
            if len(self._held) >= self._senders:
                return False
            held = self._held[event.sender] = {}
        sort, view = _sort_of(event)
        known = held.get(sort)
        if known is not None and _sort_of(known)[1] > view:
            return False
        held[sort] = event
        return True

    def take(self) -> list[Input]:
        """All of them, certificates and proposals first; nothing stays."""
        found = [(sort, event) for held in self._held.values() for sort, event in held.items()]
        self._held = {}
        return [event for _, event in sorted(found, key=lambda entry: (entry[0], _sort_of(entry[1])[1]))]


def _sort_of(event: Early) -> tuple[tuple[int, ...], int]:
    if isinstance(event, CertificateArrived):
        return (0,), event.certificate.view
    if isinstance(event, ProposalArrived):
        return (1,), event.proposal.vote.view
    return (2, int(event.vote.kind), event.vote.view % _VIEWS_OF_VOTES), event.vote.view
