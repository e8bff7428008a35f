"""Domain tags and the few hashes that are taken one at a time (docs/protocol.md, section 2)."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

__all__ = [
    "ACCOUNT_TAG",
    "BATCH_SIGN_TAG",
    "BATCH_TAG",
    "BLOCK_TAG",
    "COMMITMENT_TAG",
    "GENESIS_TAG",
    "HELLO_TAG",
    "KERNEL_TAG",
    "KEY_ACCOUNT_TAG",
    "LEGS_TAG",
    "LOOKALIKE_TAG",
    "MATCHING_TAG",
    "MODIFIER_TAG",
    "OBJECT_TAG",
    "PAYLOAD_HEAD_TAG",
    "PAYLOAD_TAG",
    "SEAL_TAG",
    "SEATS_TAG",
    "SEED_TAG",
    "STAKE_TAG",
    "TRANSACTION_SIGN_TAG",
    "TRANSACTION_TAG",
    "VALIDATORS_TAG",
    "VOTE_TAG",
    "ZERO_HASH",
    "tagged_hash",
]

TRANSACTION_TAG: Final = b"p2pl.tx1"
TRANSACTION_SIGN_TAG: Final = b"p2pl.ts1"
BATCH_TAG: Final = b"p2pl.ba1"
BATCH_SIGN_TAG: Final = b"p2pl.bs1"
BLOCK_TAG: Final = b"p2pl.bl1"
VOTE_TAG: Final = b"p2pl.vo1"
VALIDATORS_TAG: Final = b"p2pl.vs1"
ACCOUNT_TAG: Final = b"p2pl.ac1"
GENESIS_TAG: Final = b"p2pl.ge1"
HELLO_TAG: Final = b"p2pl.he1"
SEAL_TAG: Final = b"p2pl.se1"
KEY_ACCOUNT_TAG: Final = b"p2pl.ak1"
STAKE_TAG: Final = b"p2pl.sk1"
SEATS_TAG: Final = b"p2pl.sv1"
KERNEL_TAG: Final = b"p2pl.kn1"
MODIFIER_TAG: Final = b"p2pl.md1"
SEED_TAG: Final = b"p2pl.sd1"
COMMITMENT_TAG: Final = b"p2pl.cm1"
PAYLOAD_TAG: Final = b"p2pl.py1"
PAYLOAD_HEAD_TAG: Final = b"p2pl.ph1"
LEGS_TAG: Final = b"p2pl.lg1"
LOOKALIKE_TAG: Final = b"p2pl.lk1"
MATCHING_TAG: Final = b"p2pl.mt1"
OBJECT_TAG: Final = b"p2pl.ob1"

ZERO_HASH: Final = bytes(32)


def tagged_hash(tag: bytes, data: bytes) -> bytes:
    """SHA-256 of an 8-byte domain tag followed by ``data``."""
    return sha256(tag + data).digest()
