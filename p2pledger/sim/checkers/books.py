"""A second ledger, written from docs/protocol.md alone: what the final blocks mean, according to somebody else.

Plain dictionaries, one transaction after the other, no tree, no shortcuts. ``replay`` reads the final chain from its
bytes and computes every receipt, every state root and every receipts root on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgpack
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from p2pledger.sim.checkers.elections import Delegation, Election, Stakes, Turns, View, Work, contradiction
from p2pledger.sim.evidence import Evidence

__all__ = ["Books", "History", "Page", "identifier_of", "replay", "unpack"]

LIMIT = 2**64
LOOKALIKES, OFFERS, TABLES = 22, 34, 46
ESCROWED, EXPIRY = 3, b"\x03"
USED, LATE, SELF_TRADE = 51, 55, 57
NAMED = {LATE: "expiry of the offer"}
"""The rules that are named with a receipt."""
LOOKS_LIKE = {"0": "o", "1": "l", "i": "l", "|": "l"}
WHOLE = 65535
OK, EXPIRED, TOO_FAR, DUPLICATE, FEE, UNAUTHORISED, NO_ACCOUNT, NO_ASSET, NO_FREE, NO_LOCKED = range(10)
ZERO, SAME, OVERFLOW, ASSET_EXISTS, ISIN, CURRENCY, NO_REGISTER, ACCOUNT_EXISTS, POLICY_VERSION = range(10, 19)
NO_FEE, NO_NATIVE, NO_STAKE, STAKE_EXISTS, BAD_EVIDENCE, REPORTED, EPOCH, APPROVALS, SEATS, ENGINE = range(20, 30)


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, use_list=False)


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def list_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it stands there."""
    if not leaves:
        return digest()
    if len(leaves) == 1:
        return digest(b"\x00", leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return digest(b"\x01", list_root(leaves[:split]), list_root(leaves[split:]))


def table_root(number: int, rows: list[tuple[bytes, bytes]]) -> bytes:
    """The crit-bit tree of a table, top down over its sorted rows (docs/protocol.md, section 7)."""
    if not rows:
        return bytes(32)

    def root(low: int, high: int) -> bytes:
        if high - low == 1:
            return digest(b"\x02", bytes([number]), *rows[low])
        width = len(rows[low][0]) * 8
        first, last = int.from_bytes(rows[low][0], "big"), int.from_bytes(rows[high - 1][0], "big")
        bit = width - (first ^ last).bit_length()
        middle = low
        while not int.from_bytes(rows[middle][0], "big") >> (width - 1 - bit) & 1:
            middle += 1
        return digest(b"\x03", bit.to_bytes(2, "big"), root(low, middle), root(middle, high))

    return root(0, len(rows))


def identifier_of(body: Any) -> bytes:
    return digest(b"p2pl.tx1", pack(body))


def account_of(key: bytes) -> bytes:
    return digest(b"p2pl.ak1", key)


def alone(key: bytes) -> tuple[Any, ...]:
    """The policy of an account that belongs to one key."""
    return (1, ((key, 1),), 1)


def remembered(height: int, code: int, operation: int) -> bytes:
    """A row of REPLAY: of version 2 where a rule is named."""
    if code in NAMED:
        return pack([2, height, code, operation, NAMED[code]])
    return pack([1, height, code, operation])


def skeleton_of(name: str) -> bytes:
    """Under what all names of parties lie that look like this one; of names in ASCII, which all are here."""
    assert name.isascii()
    letters = "".join(LOOKS_LIKE.get(letter, letter) for letter in name.lower())
    return digest(b"p2pl.lk1", bytes([2]), "".join(letter for letter in letters if letter.isalnum()).encode())


class Refused(Exception):
    """A transaction is refused or fails: code and operation of its receipt."""

    def __init__(self, code: int, operation: int = WHOLE) -> None:
        super().__init__(code, operation)
        self.receipt = (code, operation)


def isin_is_right(text: bytes) -> bool:
    if not (len(text) == 12 and text.isascii() and text.isalnum() and text.upper() == text):
        return False
    if not (text[:2].isalpha() and text[11:].isdigit()):
        return False
    digits = [int(digit) for letter in text.decode() for digit in str(int(letter, 36))]
    for index in range(len(digits) - 2, -1, -2):
        digits[index] = sum(divmod(digits[index] * 2, 10))
    return sum(digits) % 10 == 0


class Books:
    """Accounts, assets, holdings, locks and remembered transactions, by their keys."""

    def __init__(self, genesis: bytes) -> None:
        _, _, self.profile, engine, time_ms, parameters, validators, members, registers, money, stakes = unpack(genesis)
        genesis_hash = digest(b"p2pl.ge1", genesis)
        self.network = genesis_hash[:8]
        self.engine, self.genesis_time_ms, self.parameters = engine, time_ms, parameters
        self.seats: dict[int, tuple[Any, ...]] = {0: tuple(sorted(validators))}
        named = {name: digest(b"p2pl.ac1", pack(name)) for name, _, _ in members}
        keys = [key for key, _, _ in validators] + [key for _, _, key in stakes]
        self.accounts: dict[bytes, tuple[int, Any]] = {account_of(key): (0, alone(key)) for key in keys}
        self.accounts |= {named[name]: (0, policy) for name, policy, _ in members}
        self.parties = {named[name]: (name, roles) for name, _, roles in members}
        self.taken: dict[bytes, bytes] = {}
        for name, _, _ in members:
            self.taken.setdefault(skeleton_of(name), pack([1, 2, name, named[name], 1]))
        self.registers = {
            code.encode().ljust(4, b"\0"): (named[depository], title) for code, depository, title in registers
        }
        self.assets: dict[bytes, tuple[Any, ...]] = {}
        self.holdings: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        self.locks: dict[tuple[bytes, bytes, bytes], int] = {}
        self.replay: dict[tuple[int, bytes], tuple[int, int, int]] = {}
        self.native: dict[bytes, int] = dict(money)
        self.stakes: dict[bytes, tuple[bytes, int, int, bytes]] = {
            digest(b"p2pl.sk1", account, number.to_bytes(16, "big")): (account, amount, 0, key)
            for number, (account, amount, key) in enumerate(stakes)
        }
        self.issued = sum(amount for _, amount in money) + sum(amount for _, amount, _ in stakes)
        self.reports: dict[tuple[bytes, int], tuple[int, int, int]] = {}
        self.finality: dict[bytes, int] = {}
        self.offers: dict[bytes, tuple[Any, ...]] = {}
        self.election = self._election(genesis_hash)
        self._undo: list[Callable[[], None]] = []

    def _election(self, genesis_hash: bytes) -> Election:
        slot_ms, _, _, width, rounds, _, _, _, cap, depth, difficulty, size, *_ = self.parameters[16:]
        if self.engine == "pow":
            return Work(slot_ms, size, [(self.genesis_time_ms, difficulty)])
        if self.engine == "pos":
            total = sum(amount for _, amount, _, _ in self.stakes.values())
            return Stakes(size, depth, cap, [(0, 4 * total)], [digest(b"p2pl.md1", genesis_hash)])
        if self.engine == "dpos":
            delegation = Delegation(width, rounds, digest(b"p2pl.sd1", genesis_hash))
            delegation.elect(self.view())
            return delegation
        return Turns(self.engine)

    def view(self) -> View:
        """What an election may read; under pos it changes the age of a stake there."""
        return View(self.stakes, frozenset(key for key, _ in self.reports), self.seats[0])

    def seats_of(self, epoch: int) -> tuple[Any, ...]:
        """The validators of an epoch: those that were seated last, up to it."""
        return self.seats[max(number for number in self.seats if number <= epoch)]

    def epoch_of(self, height: int) -> int:
        """Of simplex; the chain family has one epoch only."""
        return (height - 1) // int(self.parameters[18]) if self.engine == "simplex" else 0

    # Rows

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if key in table:
            old = table[key]
            self._undo.append(lambda: table.__setitem__(key, old))
        else:
            self._undo.append(lambda: table.pop(key, None))
        table[key] = value

    def _hold(self, asset: bytes, account: bytes, free: int, locked: int) -> None:
        have = self.holdings.get((asset, account), (0, 0))
        self._set(self.holdings, (asset, account), (have[0] + free, have[1] + locked))

    def _free(self, asset: bytes, account: bytes) -> int:
        return self.holdings.get((asset, account), (0, 0))[0]

    def _has_room(self, asset: bytes, account: bytes, amount: int) -> bool:
        return sum(self.holdings.get((asset, account), (0, 0))) + amount < LIMIT

    # Execution, section 4.1

    def execute_block(self, header: Any, transactions: Iterable[tuple[Any, Any]]) -> list[tuple[bytes, int, int]]:
        """The receipts (id, code, operation) of a block's signed transactions, in order."""
        self.height = height = header[4]
        self.election.follow(header, self.view())
        earned = 0
        for key in [key for key in self.replay if key[0] < height]:
            del self.replay[key]
        self.time_ms = header[6]
        self._expire_offers()
        receipts = []
        for body, signatures in transactions:
            identifier = identifier_of(body)
            try:
                self._judge(height, body, identifier, {key for key, _ in signatures})
                fee = self._fee(body)
                if fee:
                    self.native[body[4]] -= fee
                earned += fee
                code, operation = self._operate(body[6])
                self.replay[body[2], identifier] = (height, code, operation)
            except Refused as refusal:
                code, operation = refusal.receipt
            receipts.append((identifier, code, operation))
        self._reward(height, header[7], earned)
        return receipts

    def _expire_offers(self) -> None:
        """Section 4.4: what is due by the time of the block, in its order, as far as the budget of a block goes."""
        due = sorted((row[6] + 1, name) for name, row in self.offers.items() if row[6] < self.time_ms)
        for _, name in due[: self.parameters[28]]:
            account, asset, amount, _, _, lots = self.offers.pop(name)[:6]
            self._hold(asset, account, amount * lots, -amount * lots)
        self._undo.clear()

    def _fee(self, body: Any) -> int:
        return int(self.parameters[21]) * len(body[6])

    def _reward(self, height: int, proposer: bytes, fees: int) -> None:
        reward, halving = self.parameters[22:24]
        for _ in range(min(height // halving, 64) if halving else 0):
            reward //= 2
        reward = min(reward, LIMIT - 1 - self.issued)
        self.issued += reward
        account = account_of(proposer)
        if fees + reward:
            self.accounts.setdefault(account, (0, alone(proposer)))
            self.native[account] = self.native.get(account, 0) + fees + reward
        self._tidy()

    def _tidy(self) -> None:
        """Rows of nothing are no rows."""
        for key in [key for key, row in self.holdings.items() if row == (0, 0)]:
            del self.holdings[key]
        tables: tuple[dict[Any, Any], ...] = (self.locks, self.native, self.stakes, self.finality)
        for table in tables:
            for name in [name for name, row in table.items() if not row]:
                del table[name]

    def _judge(self, height: int, body: Any, identifier: bytes, signers: set[bytes]) -> None:
        valid_until = body[2]
        if valid_until < height:
            raise Refused(EXPIRED)
        if valid_until > height + self.parameters[0]:
            raise Refused(TOO_FAR)
        if (valid_until, identifier) in self.replay:
            raise Refused(DUPLICATE)
        if self._fee(body) > body[5]:
            raise Refused(FEE)
        needed = [(body[4], WHOLE)]

        def judge_needed() -> None:
            for account, operation in needed:
                if account not in self.accounts:
                    raise Refused(NO_ACCOUNT, operation)
                _, (threshold, keys, _) = self.accounts[account]
                if sum(weight for key, weight in keys if key in signers) < threshold:
                    raise Refused(UNAUTHORISED, operation)
            needed.clear()

        judge_needed()
        for index, operation in enumerate(body[6]):
            code = operation[0]
            if code in (13, 14):
                continue
            if code in (1, 2, 7, 8, 9, 10, 11, 57):
                needed.append((operation[1], index))
            elif code == 3:
                needed.append((operation[4], index))
            else:
                if code == 5:
                    needed.append((operation[2], index))
                    judge_needed()
                asset = operation[1]
                if code == 6:
                    if asset[12:] not in self.registers:
                        raise Refused(NO_REGISTER, index)
                    needed += [(self.registers[asset[12:]][0], index), (operation[4], index)]
                elif asset not in self.assets:
                    raise Refused(NO_ASSET, index)
                else:
                    needed.append((self.assets[asset][2], index))
            judge_needed()
        if self.native.get(body[4], 0) < self._fee(body):
            raise Refused(NO_FEE)

    def _operate(self, operations: Any) -> tuple[int, int]:
        self._undo.clear()
        for index, operation in enumerate(operations):
            fault = self._apply(*operation)
            if fault:
                while self._undo:
                    self._undo.pop()()
                return fault, index
        self._tidy()
        return OK, 0

    def _apply(self, code: int, *fields: Any) -> int:
        """One operation; the code of its failure, 0 if it was done."""
        if code == 1:
            source, target, asset, amount = fields
            for fault, is_wrong in (
                (ZERO, amount == 0),
                (SAME, source == target),
                (NO_ACCOUNT, target not in self.accounts),
                (NO_ASSET, asset not in self.assets),
                (NO_FREE, self._free(asset, source) < amount),
                (OVERFLOW, not self._has_room(asset, target, amount)),
            ):
                if is_wrong:
                    return fault
            self._hold(asset, source, -amount, 0)
            self._hold(asset, target, amount, 0)
        elif code == 2:
            account, asset, amount, controller = fields
            for fault, is_wrong in (
                (ZERO, amount == 0),
                (SAME, controller == account),
                (NO_ACCOUNT, controller not in self.accounts),
                (NO_ASSET, asset not in self.assets),
                (NO_FREE, self._free(asset, account) < amount),
            ):
                if is_wrong:
                    return fault
            self._hold(asset, account, -amount, amount)
            lock = (asset, account, controller)
            self._set(self.locks, lock, self.locks.get(lock, 0) + amount)
        elif code == 3:
            account, asset, amount, controller = fields
            lock = (asset, account, controller)
            for fault, is_wrong in (
                (ZERO, amount == 0),
                (NO_ASSET, asset not in self.assets),
                (NO_LOCKED, self.locks.get(lock, 0) < amount),
            ):
                if is_wrong:
                    return fault
            self._hold(asset, account, amount, -amount)
            self._set(self.locks, lock, self.locks[lock] - amount)
        elif code == 4:
            asset, target, amount = fields
            kind, decimals, issuer, issued, redeemed, name = self.assets[asset]
            for fault, is_wrong in (
                (ZERO, amount == 0),
                (NO_ACCOUNT, target not in self.accounts),
                (OVERFLOW, issued + amount >= LIMIT or not self._has_room(asset, target, amount)),
            ):
                if is_wrong:
                    return fault
            self._set(self.assets, asset, (kind, decimals, issuer, issued + amount, redeemed, name))
            self._hold(asset, target, amount, 0)
        elif code == 5:
            asset, source, amount = fields
            if amount == 0:
                return ZERO
            if self._free(asset, source) < amount:
                return NO_FREE
            kind, decimals, issuer, issued, redeemed, name = self.assets[asset]
            self._set(self.assets, asset, (kind, decimals, issuer, issued, redeemed + amount, name))
            self._hold(asset, source, -amount, 0)
        elif code == 6:
            asset, kind, decimals, issuer, name = fields
            if kind == 0 and not isin_is_right(asset[:12]):
                return ISIN
            is_currency = asset[:3].isascii() and asset[:3].isalpha() and asset[:3].isupper() and not any(asset[3:12])
            if kind == 1 and not is_currency:
                return CURRENCY
            if asset in self.assets:
                return ASSET_EXISTS
            self._set(self.assets, asset, (kind, decimals, issuer, 0, 0, name))
        elif code == 7:
            opener, salt, policy = fields
            if policy[2] != 1:
                return POLICY_VERSION
            account = digest(b"p2pl.ac1", opener, salt, pack(policy))
            if account in self.accounts:
                return ACCOUNT_EXISTS
            self._set(self.accounts, account, (0, policy))
        elif code == 57:
            account, salt, asset, amount, wanted, price, lots, expires_ms, taker = fields
            name = digest(b"p2pl.ob1", bytes([code]), account, salt)
            for fault, is_wrong in (
                (OVERFLOW, amount * lots >= LIMIT),
                (USED, name in self.offers),
                (ZERO, amount == 0 or price == 0),
                (OVERFLOW, price * lots >= LIMIT),
                (NO_ASSET, wanted not in self.assets),
                (SELF_TRADE, asset == wanted),
                (LATE, self.time_ms > expires_ms),
                (NO_ASSET, asset not in self.assets),
                (NO_FREE, self._free(asset, account) < amount * lots),
            ):
                if is_wrong:
                    return fault
            self._hold(asset, account, -amount * lots, amount * lots)
            row = (account, asset, amount, wanted, price, lots, expires_ms, taker, self.height, self.time_ms)
            self._set(self.offers, name, row)
        elif code >= 9:
            return self._apply_native(code, *fields) if code < 12 else self._apply_seats(code, *fields)
        else:
            account, policy = fields
            flags, old = self.accounts[account]
            if policy[2] != old[2] + 1:
                return POLICY_VERSION
            self._set(self.accounts, account, (flags, policy))
        return OK

    def _apply_native(self, code: int, *fields: Any) -> int:
        """pay, stake, unstake."""
        if code == 9:
            source, target, amount = fields
            for fault, is_wrong in (
                (ZERO, amount == 0),
                (SAME, source == target),
                (NO_ACCOUNT, target not in self.accounts),
                (NO_NATIVE, self.native.get(source, 0) < amount),
            ):
                if is_wrong:
                    return fault
            self._set(self.native, source, self.native[source] - amount)
            self._set(self.native, target, self.native.get(target, 0) + amount)
        elif code == 10:
            account, amount, salt, key = fields
            name = digest(b"p2pl.sk1", account, salt)
            for fault, is_wrong in (
                (ENGINE, self.engine not in ("pos", "dpos")),
                (ZERO, amount == 0),
                (STAKE_EXISTS, bool(self.stakes.get(name))),
                (NO_NATIVE, self.native.get(account, 0) < amount),
            ):
                if is_wrong:
                    return fault
            self._set(self.native, account, self.native[account] - amount)
            self._set(self.stakes, name, (account, amount, self.height, key))
        else:
            account, name = fields
            stake = self.stakes.get(name)
            if not stake or stake[0] != account:
                return NO_STAKE
            self._set(self.stakes, name, ())
            self._set(self.native, account, self.native.get(account, 0) + stake[1])
        return OK

    def _apply_seats(self, code: int, *fields: Any) -> int:
        """set_finality, set_validators, report."""
        now = self.epoch_of(self.height)
        if code == 12:
            self._set(self.finality, *fields)
        elif code == 13:
            epoch, seats, approvals = fields
            if self.engine != "simplex":
                return ENGINE
            if epoch != now + 2 or epoch in self.seats:
                return EPOCH
            if {key for key, _, _ in seats} & {key for key, _ in self.reports}:
                return SEATS
            weights = {key: weight for key, weight, _ in self.seats_of(now)}
            words = b"p2pl.sv1" + pack([self.network, epoch, seats])
            agreed = sum(weights.get(key, 0) for key, mark in approvals if _signature_is_valid(key, mark, words))
            if 3 * agreed <= 2 * sum(weights.values()):
                return APPROVALS
            self._set(self.seats, epoch, seats)
            for key, _, _ in seats:
                if account_of(key) not in self.accounts:
                    self._set(self.accounts, account_of(key), (0, alone(key)))
        else:
            if self.engine in ("pow", "pos"):
                return ENGINE
            first, second = fields
            found = contradiction(self.network, first, second, self._seat, _signature_is_valid)
            if found is None or (found[2] == 1) != (self.engine == "simplex"):
                return BAD_EVIDENCE
            key, epoch, kind, view = found
            if kind == 3:
                members = {stake[3] for stake in filter(None, self.stakes.values())}
                if self.engine == "poa":
                    members = {member for member, _, _ in self.seats[0]}
                if epoch or key not in members:
                    return BAD_EVIDENCE
            if (key, epoch) in self.reports:
                return REPORTED
            self._set(self.reports, (key, epoch), (self.height, kind, view))
            others = tuple(seat for seat in self.seats_of(now + 2) if seat[0] != key)
            if self.engine == "simplex" and others and others != self.seats_of(now + 2):
                self._set(self.seats, now + 2, others)
        return OK

    def _seat(self, epoch: int, signer: int) -> bytes | None:
        """The key of a signer, as far as the validators of the epoch are fixed."""
        if epoch > self.epoch_of(self.height) + 1 or signer >= len(self.seats_of(epoch)):
            return None
        key: bytes = self.seats_of(epoch)[signer][0]
        return key

    # The state, section 7

    def tables(self) -> list[list[tuple[bytes, bytes]]]:
        """The rows of the tables, as they must stand in the state of a node."""
        rows = [
            [(number.to_bytes(2, "big"), pack([1, value])) for number, value in enumerate(self.parameters, 1)],
            [(account, pack([1, flags, policy])) for account, (flags, policy) in self.accounts.items()],
            [
                (asset, pack([1, 0, kind, decimals, issuer, issued, redeemed, name]))
                for asset, (kind, decimals, issuer, issued, redeemed, name) in self.assets.items()
            ],
            [(asset + account, pack([1, *amounts])) for (asset, account), amounts in self.holdings.items()],
            [(b"".join(lock), pack([1, amount])) for lock, amount in self.locks.items()],
            [(code, pack([1, depository, title])) for code, (depository, title) in self.registers.items()],
            [
                (account, pack([1, name, roles, "", "", bytes(32), 0]))
                for account, (name, roles) in self.parties.items()
            ],
            [(epoch.to_bytes(8, "big"), pack([1, seats])) for epoch, seats in self.seats.items()],
            [(until.to_bytes(8, "big") + name, remembered(*row)) for (until, name), row in self.replay.items()],
            [(account, pack([1, free])) for account, free in self.native.items()],
            [(name, pack([1, *stake])) for name, stake in self.stakes.items()],
            [(key, pack([1, *sums])) for key, sums in self.staked().items()],
            [(bytes(8), pack([1, self.issued])), *self.election.rows()],
            [(key + epoch.to_bytes(8, "big"), pack([1, *row])) for (key, epoch), row in self.reports.items()],
            [(asset, pack([1, confirmations])) for asset, confirmations in self.finality.items()],
            # Of the market nobody in this world uses more than offers; names were taken by the genesis.
            [(row[1] + row[0] + name, pack([1, ESCROWED, row[2] * row[5]])) for name, row in self.offers.items()],
            [((row[6] + 1).to_bytes(8, "big") + EXPIRY + name, pack([1])) for name, row in self.offers.items()],
            *([] for _ in range(17, LOOKALIKES)),
            list(self.taken.items()),
            *([] for _ in range(LOOKALIKES + 1, OFFERS)),
            [(name, pack([1, *row])) for name, row in self.offers.items()],
            *([] for _ in range(OFFERS + 1, TABLES)),
        ]
        return [sorted(table) for table in rows]

    def staked(self) -> dict[bytes, tuple[int, int]]:
        """What stands behind each key: the sum and the number of its stakes."""
        amounts: dict[bytes, list[int]] = {}
        for _, amount, _, key in self.stakes.values():
            amounts.setdefault(key, []).append(amount)
        return {key: (sum(found), len(found)) for key, found in amounts.items()}

    def root(self) -> bytes:
        tops = [table_root(number, rows) for number, rows in enumerate(self.tables())]
        return list_root(tops + [bytes(32)] * (64 - len(tops)))


@dataclass(frozen=True, slots=True)
class Page:
    """What one final block did, according to these books."""

    height: int
    block: bytes
    receipts: tuple[tuple[bytes, int, int], ...]
    state_root: bytes


@dataclass(slots=True)
class History:
    """The whole final chain: its pages by height, the books after the last, and everything that is wrong with it."""

    books: Books
    pages: dict[int, Page] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def _signature_is_valid(key: bytes, signature: bytes, message: bytes) -> bool:
    """By libsodium: honest signers make no signature that it refuses, and the world's villains forge none."""
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


def _is_sealed(block: bytes, proposer: bytes, seal: bytes) -> bool:
    return len(seal) == 64 and _signature_is_valid(proposer, seal, b"p2pl.se1" + block)


def seats_hash(seats: tuple[Any, ...]) -> bytes:
    return digest(b"p2pl.vs1", pack([[key, weight] for key, weight, _ in seats]))


def replay(evidence: Evidence) -> History:
    """Read the final chain (the first claim at each height; agreement is another checker's) and execute it."""
    history = History(Books(evidence.genesis))
    books, faults = history.books, history.faults
    genesis_time_ms, is_simplex = books.genesis_time_ms, books.engine == "simplex"
    genesis_hash = digest(b"p2pl.ge1", evidence.genesis)
    seats = seats_hash(books.seats_of(0))
    start = [1, books.network, 0, 0, 0, genesis_hash, genesis_time_ms, bytes(32), list_root([])]
    parent = digest(b"p2pl.bl1", pack([*start, bytes(32), bytes(32), seats, 1, b""]))
    parent_time_ms, parent_view = genesis_time_ms, 0
    state_root, receipts_root = books.root(), list_root([])
    seen: set[bytes] = set()
    chain: dict[int, bytes] = {}
    for claim in evidence.finals:
        chain.setdefault(claim.height, claim.block)
    for height in range(1, max(chain, default=0) + 1):
        if height not in chain or chain[height] not in evidence.blocks:
            faults.append(f"the final block of height {height} was stored by nobody")
            break
        header, digests, seal = unpack(evidence.blocks[chain[height]])
        (_, network, epoch, view, own_height, own_parent, time_ms, proposer, batches_root, *roots) = header
        own_epoch = books.epoch_of(height)
        seated = books.seats_of(own_epoch)
        leader = seated[view % len(seated)][0] if is_simplex else proposer
        slot = height if books.engine == "pow" else (time_ms - genesis_time_ms) // books.parameters[16]
        before = (books.network, own_epoch, height, parent, seats_hash(seated), 1)
        for fault, is_wrong in (
            ("has another id than its header", digest(b"p2pl.bl1", pack(header)) != chain[height]),
            ("does not follow its parent", (network, epoch, own_height, own_parent, *roots[2:4]) != before),
            ("is not younger than its parent", time_ms <= parent_time_ms or view <= parent_view),
            ("is not by the leader of its view", proposer != leader or (is_simplex and roots[4] != b"")),
            ("is not in the slot of its time", not is_simplex and view != slot),
            ("is not sealed by its producer", not (is_simplex or _is_sealed(chain[height], proposer, seal))),
            ("commits to other batches", batches_root != list_root(list(digests))),
            ("repeats a batch", bool(seen & set(digests)) or len(set(digests)) != len(digests)),
            ("names another state root than these books", roots[0] != state_root),
            ("names another receipts root than these books", roots[1] != receipts_root),
        ):
            if is_wrong:
                faults.append(f"the final block of height {height} {fault}")
        intruder = books.election.fault(header, books.view())
        if intruder:
            faults.append(f"the final block of height {height} {intruder}")
            return history
        makers = {key for number, found in books.seats.items() if number <= own_epoch + 1 for key, _, _ in found}
        seen |= set(digests)
        transactions: list[tuple[Any, Any]] = []
        for name in digests:
            if name not in evidence.batches:
                faults.append(f"batch {name.hex()[:16]} of final height {height} was stored by nobody")
                return history
            batch, signature = unpack(evidence.batches[name])
            own = digest(b"p2pl.ba1", pack(batch))
            if own != name or batch[1] != books.network or not (books.profile == "public" or batch[2] in makers):
                faults.append(f"batch {name.hex()[:16]} of final height {height} is not what its name says")
            if not _signature_is_valid(batch[2], signature, b"p2pl.bs1" + own):
                faults.append(f"batch {name.hex()[:16]} of final height {height} has a forged signature")
            for body, signatures in batch[5]:
                message = b"p2pl.ts1" + identifier_of(body)
                if not all(_signature_is_valid(key, mark, message) for key, mark in signatures):
                    faults.append(f"a transaction of final height {height} has a forged signature")
                transactions.append((body, signatures))
        receipts = books.execute_block(header, transactions)
        state_root = books.root()
        receipts_root = list_root([pack([1, *receipt]) for receipt in receipts])
        history.pages[height] = Page(height, chain[height], tuple(receipts), state_root)
        parent, parent_time_ms, parent_view = chain[height], time_ms, view
    return history
