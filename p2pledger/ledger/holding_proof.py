"""A proof of one holding, checked offline from the genesis alone (simplex; docs/protocol.md, section 8.3).

A seller who shows such a file to a counterparty needs no node to be asked and nobody to be believed:

    holding proof = [1, bytes(finality proof), account, asset, [bytes(row proof), ...]]

The finality proof (``finality.py``) shows that a header is final; the header carries the root of the state after its
parent; and under that root stand, each by a proof of its presence or absence, these rows in this order:

    row            says
    ASSETS         that the asset exists, and whether an order of authority or a stop lies on it
    HOLDINGS       what the account holds: free, and encumbered
    ACCOUNTS       that the account exists, and whether an order lies on it, or others stand behind it (omnibus)
    OWNERS         whose account it is, if it is not a party's own
    ACCOUNTS       of that owner: whether an order lies on him (the account's own row again where it is its own)
    INSTRUMENTS    whether the asset was described, and whether it is a native holding or a mirror of another register

What it shows was true after one block. It is no promise that the units are still there: whoever needs that has them
locked, or settles by delivery versus payment.

*Unencumbered* is said of an amount only if the free part of the holding covers it, and neither the asset nor the
account nor its owner is under an order: an order stands in a flag of the very rows that are proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from p2pledger.ledger import proofs
from p2pledger.ledger.finality import MAX_FINALITY_BYTES, Finality, check_finality
from p2pledger.ledger.market.instruments import InstrumentRow
from p2pledger.ledger.market.parties import Owner
from p2pledger.ledger.tables import Account, AccountFlag, Asset, AssetFlag, Holding, Table, holding_key
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.names import asset_text

__all__ = [
    "MAX_HOLDING_PROOF_BYTES",
    "HoldingProof",
    "ProvedHolding",
    "check_holding",
    "owner_in",
    "proved_owner",
    "rows_to_prove",
]

MAX_HOLDING_PROOF_BYTES: Final = MAX_FINALITY_BYTES + 8 * 1024 * 1024
_ROWS: Final = 6
_OWNERS: Final = 3
"""Which of the rows says whose account it is."""


@dataclass(frozen=True, slots=True)
class HoldingProof:
    """The file, as bytes inside bytes; ``check_holding`` judges it."""

    finality: bytes
    account: bytes
    asset: bytes
    rows: tuple[bytes, ...]

    def encode(self) -> bytes:
        return encode((1, self.finality, self.account, self.asset, self.rows))

    @classmethod
    def decode(cls, data: bytes) -> HoldingProof:
        """PeerFault ``malformed``, ``too_large`` or ``unknown_version``."""
        values = decode(data, limit_bytes=MAX_HOLDING_PROOF_BYTES, what="holding proof")
        fields = Fields(values, what="holding proof", count=5, version=1)
        finality = fields.binary("finality", most=MAX_FINALITY_BYTES)
        account, asset = fields.binary("account", 32), fields.binary("asset", 16)
        rows = fields.binaries("rows", most=_ROWS)
        if len(rows) != _ROWS:
            raise PeerFault(f"a holding proof carries {_ROWS} rows, not {len(rows)}", code="malformed")
        return cls(finality, account, asset, rows)


@dataclass(frozen=True, slots=True)
class ProvedHolding:
    """What a file shows: after the block of ``height`` the account held so much, and what lay on it."""

    finality: Finality
    height: int
    account: bytes
    owner: bytes
    asset: bytes
    decimals: int
    name: str
    """Of the asset."""
    free: int
    encumbered: int
    nature: str
    """native or mirror; empty where the asset was never described."""
    obstacles: tuple[str, ...]
    """Why nothing of it is unencumbered, whatever the free part is; empty is how it should be."""

    def is_unencumbered(self, amount: int) -> bool:
        """Whether this amount is free of everything: of locks and reservations, and of orders of authority."""
        return not self.obstacles and 0 < amount <= self.free

    def why_not(self, amount: int) -> str:
        """A sentence for an amount that is not unencumbered; empty for one that is."""
        if self.obstacles:
            return "; ".join(self.obstacles)
        if self.is_unencumbered(amount):
            return ""
        return "an amount of zero proves nothing" if not amount else f"only {self.free} of {amount} units are free"


def rows_to_prove(account: bytes, owner: bytes, asset: bytes) -> tuple[tuple[int, bytes], ...]:
    """(table, key) of the rows of a file, in their order."""
    return (
        (Table.ASSETS, asset),
        (Table.HOLDINGS, holding_key(asset, account)),
        (Table.ACCOUNTS, account),
        (Table.OWNERS, account),
        (Table.ACCOUNTS, owner),
        (Table.INSTRUMENTS, asset),
    )


def owner_in(account: bytes, row: bytes | None) -> bytes:
    """Whose account it is by a row of OWNERS; without one it is its own."""
    return account if row is None else Owner.decode(row).owner


def proved_owner(root: bytes, account: bytes, rows: Sequence[bytes]) -> bytes:
    """Whose account it is by the proofs of a file. PeerFault ``bad_proof`` or ``wrong_row`` where they do not say."""
    return owner_in(account, _proved(root, rows[_OWNERS], (Table.OWNERS, account)))


def _proved(root: bytes, data: bytes, wanted: tuple[int, bytes]) -> bytes | None:
    """The row that a proof shows, which must be the one that is wanted."""
    table, key, row = proofs.verify(root, data)
    if (table, key) != wanted:
        raise PeerFault(f"a row of {Table(table).name} is proved in the place of another one", code="wrong_row")
    return row


def check_holding(data: bytes, genesis_hash: bytes | None = None) -> ProvedHolding:
    """What a file proves. ``genesis_hash`` is that of the network one knows; None takes the file's word for it.

    PeerFault with one of the codes of ``check_finality``, or ``bad_proof`` where a row does not stand under the root of
    the final header, ``wrong_row`` where it is another row than its place wants, ``unknown_holding`` where the asset or
    the account is proved not to exist.
    """
    proof = HoldingProof.decode(data)
    finality = check_finality(proof.finality, genesis_hash)
    root = finality.header.parent_state_root
    owner = proved_owner(root, proof.account, proof.rows)
    wanted = rows_to_prove(proof.account, owner, proof.asset)
    rows = [_proved(root, data, place) for data, place in zip(proof.rows, wanted, strict=True)]
    if rows[0] is None or rows[2] is None:
        what = f"asset {asset_text(proof.asset)}" if rows[0] is None else f"account {proof.account.hex()}"
        raise PeerFault(f"there is no {what}", code="unknown_holding")
    asset, account = Asset.decode(rows[0]), Account.decode(rows[2])
    holding = Holding() if rows[1] is None else Holding.decode(rows[1])
    nature = "" if rows[5] is None else InstrumentRow.decode(rows[5]).nature.name.lower()
    return ProvedHolding(
        finality,
        finality.header.height - 1,
        proof.account,
        owner,
        proof.asset,
        asset.decimals,
        asset.name,
        holding.free,
        holding.locked,
        nature,
        _obstacles(asset, account, None if rows[4] is None else Account.decode(rows[4]), nature),
    )


def _obstacles(asset: Asset, account: Account, owner: Account | None, nature: str) -> tuple[str, ...]:
    """Why nothing of the holding is unencumbered, in sentences."""
    found: Sequence[tuple[bool, str]] = (
        (bool(asset.flags & AssetFlag.ORDERED), "the asset is under an order of authority"),
        (bool(account.flags & AccountFlag.ORDERED), "the account is under an order of authority"),
        (owner is not None and bool(owner.flags & AccountFlag.ORDERED), "its owner is under an order of authority"),
        (bool(asset.flags & AssetFlag.INACTIVE), "the asset is not active"),
        (bool(asset.flags & AssetFlag.QUARANTINED), "the money's bank is in quarantine"),
        (bool(account.flags & AccountFlag.OMNIBUS), "the account holds for others: title is with its beneficiaries"),
        (nature == "mirror", "the holding mirrors another register and carries no title"),
    )
    return tuple(sentence for stands, sentence in found if stands)
