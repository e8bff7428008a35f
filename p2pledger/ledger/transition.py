"""The state transition: a block comes in, and out come the next version of the state and one receipt a transaction.

A block names batches; here they arrive as columns, checked and in the order in which the block names them. What may
happen to a transaction is said in ``_execute_one``, rule by rule as in docs/protocol.md, section 4.1:

    1. it is valid neither for a height that has passed nor for one too far ahead,
    2. it was not executed before,
    3. the fee is not above what the payer allows,
    4. everybody has signed who must, judged on the state before it;      up to here a refusal leaves no trace,
    5. all of its operations succeed, or none does;                       from here on it is remembered either way.

Rule by rule in Python is slow. So a block is executed in runs: the core executes plain transactions (transfers, locks
and releases between unrestricted accounts, of unrestricted assets) by the very same rules until it meets one that it
cannot decide; that one is executed here, over the same tree, and the core resumes behind it. The result is that of
strict order, transaction after transaction, which ``execute_block_in_python`` shows to the tests.

Nothing here reads a clock: height and block time are arguments, and so is every parameter. A parent version is only
read; a failure in the middle (there is none that a block could cause) drops the branch and leaves the parent as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from p2pledger import core
from p2pledger.ledger.books import Books, Readable
from p2pledger.ledger.operations import RULES, Refused, require_account
from p2pledger.ledger.receipts import Receipt
from p2pledger.ledger.tables import ReplayRow, Table, replay_key
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason
from p2pledger.primitives.transactions import SignedTransaction

__all__ = ["FEE", "Outcome", "Simulation", "execute_block", "execute_block_in_python", "simulate"]

FEE: Final = 0
"""What a transaction costs in this version of the protocol."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a block did. Its roots stand in the header of the next block.

    ``ids`` holds 32 bytes a transaction and ``codes`` 4 (code, then operation, two bytes each, big-endian), in the
    order of execution over all batches.
    """

    version: core.Version
    ids: bytes
    codes: bytes
    state_root: bytes
    receipts_root: bytes

    def __len__(self) -> int:
        """The number of transactions."""
        return len(self.ids) // 32

    @property
    def roots(self) -> tuple[bytes, bytes]:
        """State root and receipts root, as they must stand in a child's header."""
        return self.state_root, self.receipts_root

    def receipt(self, index: int) -> Receipt:
        if not 0 <= index < len(self):
            raise IndexError(index)
        code, operation = self.codes[4 * index : 4 * index + 2], self.codes[4 * index + 2 : 4 * index + 4]
        return Receipt(
            self.ids[32 * index : 32 * index + 32], int.from_bytes(code, "big"), int.from_bytes(operation, "big")
        )

    def receipts(self) -> Iterator[Receipt]:
        return (self.receipt(index) for index in range(len(self)))


@dataclass(frozen=True, slots=True)
class Simulation:
    """The receipt that a transaction would get, and exactly where: on which version, at which height and block time.

    ``generation`` names the version in this process, ``state_root`` names its contents everywhere.
    """

    receipt: Receipt
    height: int
    time_ms: int
    generation: int
    state_root: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a transaction is executed, beside the state: all that the rules may depend on."""

    height: int
    time_ms: int
    replay_window: int
    fee: int


def execute_block(
    parent: core.Version,
    batches: Sequence[core.Columns],
    *,
    height: int,
    time_ms: int,
    parameters: Parameters,
    fee: int = FEE,
) -> Outcome:
    """Executes the batches of the block of ``height`` and ``time_ms`` on the state after its parent.

    The batches must have passed ``core.scan_batch`` under the limits of ``parameters`` and the check of all their
    signatures: what is malformed never gets here.
    """
    place = _Place(height, time_ms, parameters.replay_window, fee)
    return _execute(parent, batches, place, parameters.max_transaction_bytes, in_bulk=True)


def execute_block_in_python(
    parent: core.Version,
    batches: Sequence[core.Columns],
    *,
    height: int,
    time_ms: int,
    parameters: Parameters,
    fee: int = FEE,
) -> Outcome:
    """The same, without the core's bulk path: the second witness, for tests."""
    place = _Place(height, time_ms, parameters.replay_window, fee)
    return _execute(parent, batches, place, parameters.max_transaction_bytes, in_bulk=False)


def _execute(
    parent: core.Version,
    batches: Sequence[core.Columns],
    place: _Place,
    limit_bytes: int,
    *,
    in_bulk: bool,
) -> Outcome:
    with parent.branch() as branch:
        # What was remembered for heights that have passed can expire only: nobody needs to remember it.
        branch.delete_below(Table.REPLAY, place.height.to_bytes(8, "big"))
        all_codes = []
        for columns in batches:
            codes = bytearray(4 * columns.count)
            at = 0
            while at < columns.count:
                if in_bulk:
                    at = branch.execute_plain(columns, at, place.height, place.replay_window, place.fee, codes)
                if at < columns.count:
                    # The core's scan has judged its form already; PeerFault here would mean that two scanners differ.
                    signed = SignedTransaction.decode(columns.transaction(at), limit_bytes=limit_bytes)
                    receipt = _execute_and_post(branch, signed, place)
                    codes[4 * at : 4 * at + 2] = receipt.code.to_bytes(2, "big")
                    codes[4 * at + 2 : 4 * at + 4] = receipt.operation.to_bytes(2, "big")
                    at += 1
            all_codes.append(bytes(codes))
        version = branch.commit()
    ids = b"".join([columns.ids for columns in batches])
    joined = b"".join(all_codes)
    return Outcome(version, ids, joined, version.root(), core.receipts_root(ids, joined))


def simulate(
    version: core.Version,
    signed: SignedTransaction | bytes,
    *,
    height: int,
    time_ms: int,
    parameters: Parameters,
    fee: int = FEE,
) -> Simulation:
    """The receipt that ``execute_block`` gives this transaction alone in a block of the same version, height and time.

    Nothing is written. Signatures are not checked here, as in execution: authority is judged by whose signatures are
    there, so one may ask what would happen if somebody signed. PeerFault where bytes are no transaction.
    """
    if not isinstance(signed, SignedTransaction):
        signed = SignedTransaction.decode(signed, limit_bytes=parameters.max_transaction_bytes)
    place = _Place(height, time_ms, parameters.replay_window, fee)
    receipt, _ = _execute_one(version, signed, place)
    return Simulation(receipt, height, time_ms, version.generation, version.root())


def _execute_and_post(branch: core.Branch, signed: SignedTransaction, place: _Place) -> Receipt:
    receipt, books = _execute_one(branch, signed, place)
    if books is not None:
        books.post(branch)
    return receipt


def _execute_one(state: Readable, signed: SignedTransaction, place: _Place) -> tuple[Receipt, Books | None]:
    """The rules for one transaction. The books hold what it changes, or None where it leaves no trace."""
    transaction = signed.transaction

    def refused(reason: Reason, operation: int = WHOLE_TRANSACTION) -> tuple[Receipt, None]:
        return Receipt(signed.id, int(reason), operation), None

    # Rule 1: validity.
    if transaction.valid_until < place.height:
        return refused(Reason.EXPIRED)
    if transaction.valid_until > place.height + place.replay_window:
        return refused(Reason.TOO_FAR_AHEAD)

    # Rule 2: replay.
    remembered = replay_key(transaction.valid_until, signed.id)
    if state.get(Table.REPLAY, remembered) is not None:
        return refused(Reason.DUPLICATE)

    # Rule 3: the fee.
    if place.fee > transaction.max_fee:
        return refused(Reason.FEE_TOO_LOW)

    # Rule 4: authority, on the state before the transaction: nothing has been written into these books yet.
    books = Books(state)
    reason, at = _judge_authority(books, signed)
    if reason is not Reason.OK:
        return refused(reason, at)

    # Rule 5: all or nothing. Whatever comes of it, it is remembered until it expires.
    reason, at = _execute_operations(books, signed)
    if reason is not Reason.OK:
        books = Books(state)
    books.write(Table.REPLAY, remembered, ReplayRow(place.height, int(reason), at).encode())
    return Receipt(signed.id, int(reason), at), books


def _judge_authority(books: Books, signed: SignedTransaction) -> tuple[Reason, int]:
    """Whether everybody has signed who must: the fee payer, then for each operation those whom its rule names."""
    try:
        _require_authority(books, signed.transaction.fee_payer, signed.signers)
    except Refused as refusal:
        return refusal.reason, WHOLE_TRANSACTION
    for index, operation in enumerate(signed.transaction.operations):
        try:
            for account in RULES[type(operation)].must_sign(books, operation):
                _require_authority(books, account, signed.signers)
        except Refused as refusal:
            return refusal.reason, index
    return Reason.OK, 0


def _require_authority(books: Books, account: bytes, signers: Sequence[bytes]) -> None:
    if not require_account(books, account).policy.satisfied_by(signers):
        raise Refused(Reason.UNAUTHORISED)


def _execute_operations(books: Books, signed: SignedTransaction) -> tuple[Reason, int]:
    """The operations in order, into the books, up to the first that fails."""
    for index, operation in enumerate(signed.transaction.operations):
        try:
            RULES[type(operation)].execute(books, operation)
        except Refused as refusal:
            return refusal.reason, index
    return Reason.OK, 0
