"""What is known of the views above the final one: votes, certificates, a proposal. A finalisation supersedes the rest.

    final view              rounds above it                                   the current view
    ---------- + ---------- + ---------- + ---------- + ---------- + --------------------------------
    finalised    notarised    nullified    nullified    notarised    votes, a proposal, the timer

A block may stand on a parent if the parent is notarised and every view between the two is nullified: ``best_parent``
finds one for an own block, ``is_parent`` judges somebody else's. Both also say which views are in doubt, because
a certificate that is missing here may well exist.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from p2pledger.consensus.engine import Proposal
from p2pledger.consensus.tally import Tally
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

__all__ = ["Round", "Rounds"]

Views = tuple[int, int]
"""The first and the last of some views."""


@dataclass(slots=True)
class Round:
    """One view that is not superseded: its votes, certificates and proposal."""

    tally: Tally
    own: dict[VoteKind, Vote] = field(default_factory=dict)
    certificates: dict[VoteKind, Certificate] = field(default_factory=dict)
    """The notarisation and the nullification, if held."""
    proposal: Proposal | None = None
    """The leader's first one, with a good signature and the right constants in its header."""
    check_asked: bool = False
    verdict: bool | None = None
    """Whether the proposal may be voted for; None while unknown."""
    build_asked: bytes | None = None
    """The parent on which the node is building."""
    build_declined_ms: int | None = None
    """When the node last said that there was nothing to build."""


class Rounds:
    """By view, from the one above ``final_view`` on. Only views near the current one hold votes."""

    __slots__ = ("_network_id", "_rounds", "_validators", "final_view", "top_notarised")

    def __init__(self, network_id: bytes, validators: Validators, final_view: int) -> None:
        self._network_id = network_id
        self._validators = validators
        self._rounds: dict[int, Round] = {}
        self.final_view = final_view
        """The view of the newest finalisation, whether its block has been handed over or not."""
        self.top_notarised = final_view

    def get(self, view: int) -> Round | None:
        return self._rounds.get(view)

    def at(self, view: int) -> Round:
        """That view's round; a new one if nothing was known of it."""
        held = self._rounds.get(view)
        if held is None:
            held = self._rounds[view] = Round(Tally(self._network_id, self._validators))
        return held

    def certificate(self, view: int, kind: VoteKind) -> Certificate | None:
        held = self._rounds.get(view)
        return None if held is None else held.certificates.get(kind)

    def certificates(self, view: int) -> list[Certificate]:
        """Both that a view may have, in the order of their kinds."""
        held = self._rounds.get(view)
        return [] if held is None else [held.certificates[kind] for kind in sorted(held.certificates)]

    def own_votes(self, kind: VoteKind) -> list[Vote]:
        """By view."""
        return [self._rounds[view].own[kind] for view in sorted(self._rounds) if kind in self._rounds[view].own]

    @property
    def unfinished(self) -> bool:
        """Whether a notarised block is not final yet."""
        return self.top_notarised > self.final_view

    def supersede(self, view: int) -> None:
        """A block of this view is final: nothing at or below it matters any more."""
        self.final_view = view
        self.top_notarised = max(self.top_notarised, view)
        for old in [old for old in self._rounds if old <= view]:
            del self._rounds[old]

    def forget_votes_below(self, view: int) -> None:
        """Certificates stay, votes of long past views go."""
        for old, held in self._rounds.items():
            if old < view:
                held.tally.clear()

    def best_parent(self, view: int, base: bytes, linked: Container[bytes]) -> tuple[bytes | None, Views | None]:
        """[P1] The highest notarised block below ``view`` above which every view is nullified, if it is linked.

        ``base`` is the block of the final view. The second value names views in doubt, if there are any.
        """
        missing: list[int] = []
        for below in range(view - 1, self.final_view, -1):
            notarisation = self.certificate(below, VoteKind.NOTARISE)
            if notarisation is not None and not missing and notarisation.block in linked:
                return notarisation.block, None
            if self.certificate(below, VoteKind.NULLIFY) is None:
                if notarisation is not None:
                    break
                missing.append(below)
        else:
            if not missing:
                return (base if base in linked else None), None
        return None, (missing[-1], missing[0]) if missing else None

    def is_parent(self, view: int, parent: bytes, base: bytes) -> tuple[bool, Views | None]:
        """[P3] Whether a block of ``view`` may stand on ``parent``: notarised, and the gap nullified.

        The second value names views in doubt: either nullifications are missing, or the parent's notarisation, perhaps
        of a view that is nullified as well.
        """
        missing: list[int] = []
        for below in range(view - 1, self.final_view, -1):
            notarisation = self.certificate(below, VoteKind.NOTARISE)
            if notarisation is not None and notarisation.block == parent:
                return (False, (missing[-1], missing[0])) if missing else (True, None)
            if self.certificate(below, VoteKind.NULLIFY) is None:
                missing.append(below)
        if missing:
            return False, (missing[-1], missing[0])
        if parent == base:
            return True, None
        return False, (self.final_view + 1, view - 1) if view - 1 > self.final_view else None
