"""The state transition: a block comes in, and out come the next version of the state and one receipt a transaction.

A block names batches; here they arrive as columns, checked and in the order in which the block names them. What may
happen to a transaction is said in ``_execute_one``, rule by rule as in docs/protocol.md, section 4.1:

    1. it is valid neither for a height that has passed nor for one too far ahead,
    2. it was not executed before,
    3. the fee is not above what the payer allows,
    4. everybody has signed who must, judged on the state before it,
    5. the payer has the fee;                                             up to here a refusal leaves no trace,
    6. all of its operations succeed, or none does;                       from here on it is remembered, and paid for.

Before the transactions the engine's own rows are kept (``elections/``), and then what is due is done
(``market/agenda.py``); after them the proposer of the block gets the fees and the reward.

Rule by rule in Python is slow. So a block is executed in runs: the core executes plain transactions (transfers, locks
and releases between accounts without flags, of assets without flags) by the very same rules until it meets one that it
cannot decide; that one is executed here, over the same tree, and the core resumes behind it. The result is that of
strict order, transaction after transaction, which ``execute_block_in_python`` shows to the tests.

Nothing here reads a clock: header and chainspec are arguments. A parent version is only read; a failure in the middle
(there is none that a block could cause, if its engine found the header in order) drops the branch and leaves the parent
as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from p2pledger import core
from p2pledger.ledger import elections
from p2pledger.ledger.books import Books, Readable
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.market.agenda import NOTHING_DUE, DueDone, run_due
from p2pledger.ledger.market.due import next_due_ms
from p2pledger.ledger.operations import RULES
from p2pledger.ledger.receipts import Receipt
from p2pledger.ledger.rule import Place, Refused, require_account
from p2pledger.ledger.tables import Account, Issued, ReplayRow, Table, engine_key, replay_key
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.names import account_of_key
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason
from p2pledger.primitives.transactions import SignedTransaction

__all__ = ["Outcome", "Simulation", "execute_block", "execute_block_in_python", "reward_at", "simulate"]


_NO_RULES: Final[Mapping[int, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a block did. Its roots stand in the header of the next block.

    ``ids`` holds 32 bytes a transaction and ``codes`` 4 (code, then operation, two bytes each, big-endian), in the
    order of execution over all batches. ``rules`` names what refused a transaction, by its index, where a rule of the
    market did. ``due`` is what due work came to; where it cost something, the block changed the state even if it has no
    transaction.
    """

    version: core.Version
    ids: bytes
    codes: bytes
    state_root: bytes
    receipts_root: bytes
    rules: Mapping[int, str] = field(default_factory=lambda: _NO_RULES)
    due: DueDone = NOTHING_DUE

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

    def rules_of(self, start: int, count: int) -> Mapping[int, str]:
        """The rules that were named for ``count`` transactions from ``start`` on, counted from there."""
        if not self.rules:
            return _NO_RULES
        return {index - start: rule for index, rule in self.rules.items() if start <= index < start + count}

    def receipts(self) -> Iterator[Receipt]:
        return (self.receipt(index) for index in range(len(self)))


@dataclass(frozen=True, slots=True)
class Simulation:
    """The receipt that a transaction would get, and exactly where: on which version, at which height and block time.

    ``generation`` names the version in this process, ``state_root`` names its contents everywhere. ``rule`` names what
    would refuse it, where a rule of the market does.
    """

    receipt: Receipt
    height: int
    time_ms: int
    generation: int
    state_root: bytes
    rule: str = ""


def execute_block(parent: core.Version, batches: Sequence[core.Columns], *, header: Header, spec: Chainspec) -> Outcome:
    """Executes the batches of the block of ``header`` on the state after its parent.

    The batches must have passed ``core.scan_batch`` under the limits of the chainspec and the check of all their
    signatures: what is malformed never gets here. The header must have been found in order by the engine (its slot,
    proposer and proof): PeerFault, before anything is executed, where the engine's own rows show that it is not.
    """
    return _execute(parent, batches, header, spec, in_bulk=True)


def execute_block_in_python(
    parent: core.Version, batches: Sequence[core.Columns], *, header: Header, spec: Chainspec
) -> Outcome:
    """The same, without the core's bulk path: the second witness, for tests."""
    return _execute(parent, batches, header, spec, in_bulk=False)


def _execute(
    parent: core.Version, batches: Sequence[core.Columns], header: Header, spec: Chainspec, *, in_bulk: bool
) -> Outcome:
    place, parameters = Place(header.height, header.time_ms, spec), spec.parameters
    window, least_fee, limit_bytes = parameters.replay_window, parameters.least_fee, parameters.max_transaction_bytes
    with parent.branch() as branch:
        elections.open_block(branch, header, spec)
        # What was remembered for heights that have passed can expire only: nobody needs to remember it.
        branch.delete_below(Table.REPLAY, place.height.to_bytes(8, "big"))
        due = run_due(branch, place)
        all_codes: list[bytes] = []
        rules: dict[int, str] = {}
        done = 0
        fees = 0
        for columns in batches:
            codes = bytearray(4 * columns.count)
            at = 0
            while at < columns.count:
                if in_bulk:
                    at = branch.execute_plain(columns, at, place.height, window, least_fee, codes)
                if at < columns.count:
                    # The core's scan has judged its form already; PeerFault here would mean that two scanners differ.
                    signed = SignedTransaction.decode(columns.transaction(at), limit_bytes=limit_bytes)
                    receipt, books, paid, rule = _execute_one(branch, signed, place)
                    if books is not None:
                        books.post(branch)
                    if rule:
                        rules[done + at] = rule
                    fees += paid
                    codes[4 * at : 4 * at + 2] = receipt.code.to_bytes(2, "big")
                    codes[4 * at + 2 : 4 * at + 4] = receipt.operation.to_bytes(2, "big")
                    at += 1
            all_codes.append(bytes(codes))
            done += columns.count
        _pay_proposer(branch, header, parameters, fees + branch.fees_taken)
        version = branch.commit()
    ids = b"".join([columns.ids for columns in batches])
    joined = b"".join(all_codes)
    named = MappingProxyType(rules) if rules else _NO_RULES
    return Outcome(version, ids, joined, version.root(), core.receipts_root(ids, joined), named, due)


def reward_at(height: int, parameters: Parameters) -> int:
    """The native money that the block of this height brings into being, unless too much of it is there already."""
    if not parameters.halving_blocks:
        return parameters.block_reward
    return parameters.block_reward >> (height // parameters.halving_blocks)


def _pay_proposer(branch: core.Branch, header: Header, parameters: Parameters, fees: int) -> None:
    """The fees and the reward of a block, to the account of its proposer's key."""
    reward = reward_at(header.height, parameters)
    if reward:
        row = branch.get(Table.ENGINE, engine_key(0))
        issued = 0 if row is None else Issued.decode(row).amount
        reward = min(reward, U64_MAX - issued)
        branch.put(Table.ENGINE, engine_key(0), Issued(issued + reward).encode())
    if not fees + reward:
        return
    account, books = account_of_key(header.proposer), Books(branch)
    if books.account(account) is None:
        books.put_account(account, Account(Policy.of(header.proposer)))
    books.put_native(account, books.native(account) + fees + reward)
    books.post(branch)


def simulate(
    version: core.Version,
    signed: SignedTransaction | bytes,
    *,
    height: int,
    time_ms: int,
    spec: Chainspec,
) -> Simulation:
    """The receipt that ``execute_block`` gives this transaction alone in a block of the same version, height and time.

    What is due by then is done first, as there; nothing is written. Signatures are not checked here, as in execution:
    authority is judged by whose signatures are there, so one may ask what would happen if somebody signed. PeerFault
    where bytes are no transaction.
    """
    if not isinstance(signed, SignedTransaction):
        signed = SignedTransaction.decode(signed, limit_bytes=spec.parameters.max_transaction_bytes)
    place = Place(height, time_ms, spec)
    due_ms = next_due_ms(version)
    if due_ms is None or due_ms > time_ms:
        receipt, _, _, rule = _execute_one(version, signed, place)
    else:
        with version.branch() as branch:
            run_due(branch, place)
            receipt, _, _, rule = _execute_one(branch, signed, place)
    return Simulation(receipt, height, time_ms, version.generation, version.root(), rule)


def _execute_one(state: Readable, signed: SignedTransaction, place: Place) -> tuple[Receipt, Books | None, int, str]:
    """The rules for one transaction: its receipt; books of what it changes, or None where it leaves no trace; its fee;
    and the name of the rule that refuses it, where one is named.
    """
    transaction, parameters = signed.transaction, place.spec.parameters

    def refused(reason: Reason, operation: int = WHOLE_TRANSACTION, rule: str = "") -> tuple[Receipt, None, int, str]:
        return Receipt(signed.id, int(reason), operation), None, 0, rule

    # Rule 1: validity.
    if transaction.valid_until < place.height:
        return refused(Reason.EXPIRED)
    if transaction.valid_until > place.height + parameters.replay_window:
        return refused(Reason.TOO_FAR_AHEAD)

    # Rule 2: replay.
    remembered = replay_key(transaction.valid_until, signed.id)
    if state.get(Table.REPLAY, remembered) is not None:
        return refused(Reason.DUPLICATE)

    # Rule 3: the fee that the payer allows.
    fee = parameters.least_fee * len(transaction.operations)
    if fee > transaction.max_fee:
        return refused(Reason.FEE_TOO_LOW)

    # Rule 4: authority, on the state before the transaction: nothing has been written into these books yet.
    books = Books(state)
    reason, at, rule = _judge_authority(books, signed)
    if reason is not Reason.OK:
        return refused(reason, at, rule)

    # Rule 5: the fee that the payer has.
    money = books.native(transaction.fee_payer) if fee else 0
    if money < fee:
        return refused(Reason.CANNOT_PAY_FEE)

    # Rule 6: all or nothing, but for the fee. Whatever comes of it, it is remembered until it expires.
    if fee:
        books.put_native(transaction.fee_payer, money - fee)
    reason, at, rule = _execute_operations(books, signed, place)
    if reason is not Reason.OK:
        books = Books(state)
        if fee:
            books.put_native(transaction.fee_payer, money - fee)
    books.write(Table.REPLAY, remembered, ReplayRow(place.height, int(reason), at, rule).encode())
    return Receipt(signed.id, int(reason), at), books, fee, rule


def _judge_authority(books: Books, signed: SignedTransaction) -> tuple[Reason, int, str]:
    """Whether everybody has signed who must: the fee payer, then for each operation those whom its rule names."""
    try:
        _require_authority(books, signed.transaction.fee_payer, signed.signers)
    except Refused as refusal:
        return refusal.reason, WHOLE_TRANSACTION, refusal.rule
    for index, operation in enumerate(signed.transaction.operations):
        try:
            for account in RULES[type(operation)].must_sign(books, operation):
                _require_authority(books, account, signed.signers)
        except Refused as refusal:
            return refusal.reason, index, refusal.rule
    return Reason.OK, 0, ""


def _require_authority(books: Books, account: bytes, signers: Sequence[bytes]) -> None:
    if not require_account(books, account).policy.satisfied_by(signers):
        raise Refused(Reason.UNAUTHORISED)


def _execute_operations(books: Books, signed: SignedTransaction, place: Place) -> tuple[Reason, int, str]:
    """The operations in order, into the books, up to the first that fails."""
    for index, operation in enumerate(signed.transaction.operations):
        try:
            RULES[type(operation)].execute(books, operation, place)
        except Refused as refusal:
            return refusal.reason, index, refusal.rule
    return Reason.OK, 0, ""
