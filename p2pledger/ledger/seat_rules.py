"""The rules about who keeps the ledger: validators are seated by a quorum of those before them, and culprits excluded.

Both operations carry their own proof, signatures of validators, so that whoever pays the fee may hand them in. The
sets of the present epoch and the next are fixed when they are used; what can still be changed is the one after.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import Account, EvidenceRow, Staked, ValidatorsRow
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.evidence import Culprit, EvidenceKind, check_evidence
from p2pledger.primitives.names import account_of_key
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.validators import Validators

__all__ = ["EPOCHS_AHEAD", "ReportRule", "SetValidatorsRule"]

EPOCHS_AHEAD: Final = 2
"""The first epoch after the present one whose validators are not fixed yet."""
_EVIDENCE_OF: Final = {
    "simplex": EvidenceKind.VOTES,
    "dpos": EvidenceKind.SEALS,
    "poa": EvidenceKind.SEALS,
}
"""engine -> what its members can contradict themselves with."""


class SetValidatorsRule:
    """Seats the validators from an epoch on.

    who may     anybody who has the approvals of a quorum
    signed by   nobody but the payer of the fee; a quorum of the present validators has signed the seats themselves
    needs       simplex; the epoch after the next, for which nothing is set yet; seats of keys that nobody has reported
    changes     the validators of the epoch; the accounts of the seats' keys are opened
    refuses     wrong_engine, bad_epoch, bad_seats, too_few_approvals
    """

    def must_sign(self, books: Books, operation: tx.SetValidators) -> Iterator[bytes]:
        return iter(())

    def execute(self, books: Books, operation: tx.SetValidators, place: Place) -> None:
        epoch = place.spec.epoch_of(place.height)
        if place.spec.engine != "simplex":
            raise Refused(Reason.WRONG_ENGINE)
        if operation.epoch != epoch + EPOCHS_AHEAD or books.seats(operation.epoch) is not None:
            raise Refused(Reason.BAD_EPOCH)
        if any(books.is_reported(seat.key) for seat in operation.seats):
            raise Refused(Reason.BAD_SEATS)
        message = tx.approval_message(place.spec.network_id, operation.epoch, operation.seats)
        present = books.validators_in_force(epoch)
        if _approving_weight(operation.approvals, message, present) < present.quorum:
            raise Refused(Reason.TOO_FEW_APPROVALS)
        books.put_seats(operation.epoch, ValidatorsRow(operation.seats))
        for seat in operation.seats:
            account = account_of_key(seat.key)
            if books.account(account) is None:
                books.put_account(account, Account(Policy.of(seat.key)))


def _approving_weight(approvals: tuple[tuple[bytes, bytes], ...], message: bytes, present: Validators) -> int:
    """The weight of the present validators whose approval is valid; the approvals of others count nothing."""
    known = [(key, signature) for key, signature in approvals if present.signer_of(key) is not None]
    keys, signatures = b"".join(key for key, _ in known), b"".join(signature for _, signature in known)
    flags = core.verify_batch(keys, signatures, [message] * len(known))
    signers = [present.signer_of(key) for (key, _), valid in zip(known, flags, strict=True) if valid]
    return present.weight_of(signer for signer in signers if signer is not None)


class ReportRule:
    """Puts on record that one key contradicted itself, and excludes it as soon as that can be.

    who may     anybody who has the evidence
    signed by   nobody but the payer of the fee; the culprit has signed the two statements
    needs       an engine whose members promise not to contradict themselves; a member as the culprit
    changes     the record; under simplex the validators of the first epoch that is not fixed yet. Delegates (dpos) and
                authorities (poa) are read without those on record.
    refuses     wrong_engine, bad_evidence, already_reported
    """

    def must_sign(self, books: Books, operation: tx.Report) -> Iterator[bytes]:
        return iter(())

    def execute(self, books: Books, operation: tx.Report, place: Place) -> None:
        engine, now = place.spec.engine, place.spec.epoch_of(place.height)
        if engine not in _EVIDENCE_OF:
            raise Refused(Reason.WRONG_ENGINE)

        def validators_of(epoch: int) -> Validators | None:
            return books.validators_in_force(epoch) if epoch < now + EPOCHS_AHEAD else None

        culprit = check_evidence(operation.first, operation.second, place.spec.network_id, validators_of)
        if not isinstance(culprit, Culprit) or culprit.kind is not _EVIDENCE_OF[engine]:
            raise Refused(Reason.BAD_EVIDENCE)
        if culprit.kind is EvidenceKind.SEALS and not (culprit.epoch == 0 and _is_member(books, engine, culprit.key)):
            raise Refused(Reason.BAD_EVIDENCE)
        if books.evidence(culprit.key, culprit.epoch) is not None:
            raise Refused(Reason.ALREADY_REPORTED)
        row = EvidenceRow(place.height, int(culprit.kind), culprit.view)
        books.put_evidence(culprit.key, culprit.epoch, row)
        if engine == "simplex":
            open_epoch = now + EPOCHS_AHEAD
            seats = books.validators_in_force(open_epoch).members
            others = tuple(seat for seat in seats if seat.key != culprit.key)
            if others and others != seats:
                books.put_seats(open_epoch, ValidatorsRow(others))


def _is_member(books: Books, engine: str, key: bytes) -> bool:
    """Whether a key is a delegate that somebody votes for, or an authority: strangers' seals concern nobody."""
    if engine == "dpos":
        return books.staked(key) != Staked()
    return books.validators_in_force(0).signer_of(key) is not None
