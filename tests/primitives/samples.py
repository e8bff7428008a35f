"""Real messages to start from, and two ways of spoiling them: byte by byte, and as values that are encoded again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import msgpack

from p2pledger import core
from p2pledger.primitives import messages
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.codec import Value, encode
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import account_named, asset_id
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import (
    Define,
    Issue,
    Lock,
    Open,
    Operation,
    Pay,
    Redeem,
    Release,
    Report,
    SetFinality,
    SetPolicy,
    SetValidators,
    Stake,
    Transaction,
    Transfer,
    Unstake,
)
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

NETWORK = b"network8"
KEYS = tuple(Keypair.from_seed(bytes([number + 1]) * 32) for number in range(7))
ALICE, BOB = account_named("alice"), account_named("bob")
BOND, CASH = asset_id("DE0005140008@CSDC"), asset_id("CNY@ICBC")
VALIDATORS = Validators.of(0, [Validator(keypair.public_key, 1, f"node-{n}") for n, keypair in enumerate(KEYS[:4])])
SIGNERS = sorted(KEYS[:4], key=lambda keypair: keypair.public_key)
"""The keys of VALIDATORS in the order of their signer numbers."""

POLICY = Policy.of(*(keypair.public_key for keypair in KEYS[:3]), threshold=2)
OPERATIONS: tuple[Operation, ...] = (
    Transfer(ALICE, BOB, BOND, 200),
    Lock(ALICE, BOND, 3, BOB),
    Release(ALICE, BOND, 70_000, BOB),
    Issue(BOND, BOB, 2**64 - 1),
    Redeem(CASH, BOB, 2**32),
    Define(CASH, 1, 2, ALICE, "Renminbi 人民币"),
    Open(ALICE, b"salt" * 4, POLICY),
    SetPolicy(BOB, Policy.of(KEYS[4].public_key, version=2)),
    Pay(ALICE, BOB, 300),
    Stake(BOB, 2**40, b"salt" * 4, KEYS[2].public_key),
    Unstake(BOB, b"s" * 32),
    SetFinality(BOND, 6),
    SetValidators.approved(NETWORK, 2, VALIDATORS.members[:2], KEYS[:3]),
    Report(b"first", b"second" * 40),
)


def transaction(*operations: Operation, salt: int = 0) -> Transaction:
    return Transaction(NETWORK, 900, salt.to_bytes(16, "big"), ALICE, operations or OPERATIONS, 5)


def signed_transactions() -> list[bytes]:
    """One for each operation, and one of them all."""
    return [transaction(operation).sign(KEYS[:2]) for operation in OPERATIONS] + [transaction().sign(KEYS[:5])]


def header(height: int = 3) -> Header:
    return Header(NETWORK, 0, 7, height, b"p" * 32, 1_500_000_000_123, KEYS[0].public_key, b"b" * 32, b"s" * 32,
                  b"r" * 32, VALIDATORS.hash)  # fmt: skip


def full_block() -> Block:
    """A block whose root commits to its digests."""
    digests = tuple(bytes([number]) * 32 for number in range(5))
    return Block(replace(header(), batches_root=core.merkle_root(digests)), digests)


def vote(signer: int = 0, kind: VoteKind = VoteKind.NOTARISE, block: bytes = b"B" * 32, view: int = 300) -> Vote:
    block = ZERO_HASH if kind is VoteKind.NULLIFY else block
    return Vote.make(NETWORK, 0, view, kind, block, signer, SIGNERS[signer])


def certificate(kind: VoteKind = VoteKind.FINALISE, signers: tuple[int, ...] = (0, 1, 3)) -> Certificate:
    return Certificate.of({signer: vote(signer, kind) for signer in signers})


def genesis() -> Genesis:
    return Genesis(
        name="sample",
        time_ms=1_500_000_000_000,
        validators=VALIDATORS.members,
        members=(
            Member("csdc", Policy.of(KEYS[0].public_key), ("depository", "operator")),
            Member("alice", POLICY),
        ),
        registers=(Register("CSDC", "csdc", "the register"),),
    )


def sample_messages() -> list[messages.Message]:
    """One of every type."""
    block, digests = Block(header(), ()).encode(), (b"1" * 32, b"2" * 32)
    return [
        messages.BatchMessage(b"a batch"),
        messages.WantBatches(digests),
        messages.ProposalMessage(block, vote().encode()),
        messages.VoteMessage(vote().encode()),
        messages.CertificateMessage(certificate().encode()),
        messages.WantCertificates(3, 900),
        messages.WantBlocks(digests),
        messages.BlockMessage(block),
        messages.Status(70_000, b"f" * 32, 2**40, 70_009, b"h" * 32),
        messages.WantChain(5, 64),
        messages.Chain((block, block), certificate().encode()),
        messages.MissingBatches(digests),
        messages.WantBranch(b"h" * 32, 64),
        messages.Branch((block, block)),
        messages.Payload(0, b"a payload"),
        messages.PayloadHead(1, 100_000, b"p" * 64),
        messages.Piece(b"i" * 32, 1, b"a piece"),
        messages.HavePayloads(digests),
        messages.WantPayload(b"i" * 32, 2),
        messages.MeshLink(True),
        messages.WantAddresses(4_000),
        messages.Addresses((b"\x7f\x00\x00\x01\x0f\xa0", bytes(16) + b"\x0f\xa0")),
        messages.Submit(1, tuple(signed_transactions()[:2])),
        messages.Submitted(1, (0, 104, 103), 250),
        messages.Settled(8, 1_500_000_000_000, b"i" * 64, b"c" * 8, ((1, "order 0011aabb"),)),
        messages.Query(4, "holdings", (ALICE, BOND, None, True, "text", (1, 2))),
        messages.Answer(4, "", ((BOND, 5, 6),)),
        messages.Progress(messages.ProgressStatus.REVERTED, 8, 1_500_000_000_000, b"i" * 64, b"c" * 8),
        messages.Follow(True),
    ]


_TYPE_BYTES = (0x00, 0x7F, 0x80, 0x90, 0xA1, 0xC0, 0xC1, 0xC4, 0xC9, 0xCA, 0xCC, 0xCF, 0xD0, 0xDC, 0xDD, 0xFF)


def spoiled_bytes(data: bytes, dice: random.Random, count: int) -> Iterator[bytes]:
    """``count`` different strings near ``data``: flipped, cut, doubled, exchanged, with foreign type bytes in it."""
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            at = dice.randrange(len(mutant) + 1)
            match dice.randrange(6):
                case 0 if at < len(mutant):
                    mutant[at] ^= 1 << dice.randrange(8)
                case 1 if at < len(mutant):
                    mutant[at] = dice.choice(_TYPE_BYTES)
                case 2:
                    del mutant[at : at + dice.choice((1, 2, 40))]
                case 3:
                    mutant[at:at] = dice.randbytes(dice.choice((1, 2, 9)))
                case 4:
                    mutant[at:at] = mutant[at : at + dice.randrange(40)]
                case _:
                    del mutant[at:]
            if not mutant:
                break
        if bytes(mutant) != data:
            yield bytes(mutant)


_STRANGE: tuple[Value, ...] = (
    0, 1, 2, 127, 128, 255, 2**16, 2**32, 2**64 - 1, b"", b"x", bytes(31), bytes(32), bytes(33), b"y" * 16, "", "x",
    "é" * 33, None, True, False, (), (0,), ((),), (1, 2, 3), (b"k" * 32, 1),
)  # fmt: skip


def _spoil(value: Value, dice: random.Random) -> Value:
    if type(value) is tuple and value and dice.random() < 0.85:
        at = dice.randrange(len(value))
        match dice.randrange(12):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return (*value[:at], value[at], *value[at:])
            case 2:
                return (*value, dice.choice(_STRANGE))
            case 3:
                return value[::-1]
            case _:
                return (*value[:at], _spoil(value[at], dice), *value[at + 1 :])
    if type(value) is int and dice.random() < 0.5:
        return max(0, min(2**64 - 1, value + dice.choice((-1, 1))))
    if type(value) is bytes and value and dice.random() < 0.5:
        at = dice.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << dice.randrange(8)]) + value[at + 1 :]
    return dice.choice(_STRANGE)


def spoiled_values(data: bytes, dice: random.Random, count: int) -> Iterator[bytes]:
    """Canonical encodings of values near the one in ``data``: what the second line of defence must judge."""
    value = msgpack.unpackb(data, use_list=False)
    for _ in range(count):
        mutant = encode(_spoil(value, dice))
        if mutant != data:
            yield mutant
