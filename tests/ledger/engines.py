"""Networks under every engine for the tests of the ledger: a chain of blocks, money, stakes, and whoever may produce.

The engines themselves are not here. A ``Chain`` makes headers as an engine would accept them: the producer of the slot,
a proof of the right form; under pos without looking for a slot that wins, which execution does not ask for.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from p2pledger import core
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.elections import pos
from p2pledger.ledger.elections.dpos import Schedule
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.receipts import Receipt
from p2pledger.ledger.transition import Outcome, execute_block, execute_block_in_python
from p2pledger.primitives.blocks import Header, sign_batch
from p2pledger.primitives.codec import encode
from p2pledger.primitives.genesis import Genesis, Money, Stake
from p2pledger.primitives.hashing import COMMITMENT_TAG, tagged_hash
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.transactions import Operation, Transaction
from p2pledger.primitives.validators import Validator
from tests.ledger.small_market import LIMITS, account, genesis, header, key

PRODUCERS = ("node-0", "node-1", "node-2", "node-3")
PUBLIC = Parameters(replay_window=100, least_fee=2, block_reward=1_000, halving_blocks=10)
FREE = Parameters(replay_window=100)


def keys_of(names: Sequence[str] = PRODUCERS) -> dict[bytes, Keypair]:
    return {key(name).public_key: key(name) for name in names}


def network(engine: str, profile: str = "public", **parameters: int) -> Genesis:
    """Four producers with equal seats, and unequal stakes of alice and bob behind their keys."""
    public = profile == "public"
    stakes = tuple(
        Stake(account("alice" if at % 2 else "bob"), 1_000 * (at + 1), key(name).public_key)
        for at, name in enumerate(PRODUCERS)
    )
    staked = engine in ("pos", "dpos")
    return replace(
        genesis(),
        engine=engine,
        profile=profile,
        parameters=replace(PUBLIC if public else FREE, **parameters),
        validators=tuple(Validator(key(name).public_key, 1, name) for name in PRODUCERS),
        money=tuple(Money(account(name), 100_000) for name in ("alice", "bob", "csdc", "issuer")) if public else (),
        stakes=stakes if staked else (),
    ).check()


def secret(name: bytes, slot: int) -> bytes:
    """What a delegate commits to in a slot."""
    return hashlib.sha256(b"secret" + name + slot.to_bytes(8, "big")).digest()


@dataclass
class Chain:
    """The newest state of a network, and how to go on from it. Every block is executed twice, in bulk and in Python."""

    genesis: Genesis
    height: int = 0
    slot: int = 0
    salt: int = 0
    version: core.Version = field(init=False)
    spec: Chainspec = field(init=False)
    last: Header = field(init=False)
    committed: dict[tuple[int, bytes], int] = field(default_factory=dict)
    """(round, key) -> the slot in which a delegate first committed in the round"""

    def __post_init__(self) -> None:
        self.version, self.spec = genesis_state(self.genesis), Chainspec.of(self.genesis)
        self.last = self.genesis.block.header

    def signed(self, operations: Operation | Sequence[Operation], *signers: str, **fields: Any) -> bytes:
        """A signed transaction; the first signer pays what it costs."""
        self.salt += 1
        listed = (operations,) if isinstance(operations, Operation) else tuple(operations)
        salt, valid_until = self.salt.to_bytes(16, "big"), fields.get("valid_until", self.height + 50)
        payer, most = fields.get("payer", account(signers[0])), fields.get("max_fee", 10_000)
        body = Transaction(self.spec.network_id, valid_until, salt, payer, listed, most)
        return body.sign([key(name) for name in signers])

    def header(self, slot: int | None = None, producer: bytes | None = None, **changes: Any) -> Header:
        """The next header, in the next slot unless another is named."""
        slot = self.slot + 1 if slot is None else slot
        parameters, engine = self.spec.parameters, self.spec.engine
        names = sorted(keys_of())
        proof = b""
        if engine == "dpos":
            schedule = Schedule.read(self.version, parameters)
            producer = schedule.producer(slot) if producer is None else producer
            proof = self.dpos_proof(schedule, producer, slot)
        elif engine == "pos":
            producer = names[slot % 4] if producer is None else producer
            found = pos.stakes_of(self.version, producer)
            proof = found[slot % len(found)][0] if found else bytes(32)
        elif engine == "pow":
            slot, proof = self.height + 1, bytes(8)
        elif engine == "poa":
            proof = encode((self.height + 1,))
        fields: dict[str, Any] = {
            "network_id": self.spec.network_id,
            "epoch": self.spec.epoch_of(self.height + 1) if engine == "simplex" else 0,
            "view": slot,
            "parent": self.last.id,
            "proposer": names[slot % 4] if producer is None else producer,
            "proof": proof,
        }
        time_ms = changes.pop("time_ms", self.spec.genesis_time_ms + slot * parameters.slot_ms)
        return header(self.height + 1, time_ms, **{**fields, **changes})

    def dpos_proof(self, schedule: Schedule, producer: bytes, slot: int) -> bytes:
        due, round_number = schedule.reveal_due(producer, slot), slot // self.spec.parameters.delegates
        reveal = b"" if due is None else secret(producer, self.committed[round_number - 2, producer])
        commitment = tagged_hash(COMMITMENT_TAG, secret(producer, slot))
        return encode((self.height + 1, commitment, reveal))

    def block(self, *transactions: bytes, at: Header | None = None) -> list[Receipt]:
        return list(self.outcome(transactions, self.header() if at is None else at).receipts())

    def outcome(self, transactions: Sequence[bytes], at: Header) -> Outcome:
        maker = key("csdc")
        columns = []
        if transactions:
            plain = core.encode_batch(self.spec.network_id, maker.public_key, 0, 0, transactions)
            columns = [core.scan_batch(sign_batch(plain, maker), self.spec.network_id, LIMITS)]
        result = execute_block(self.version, columns, header=at, spec=self.spec)
        witness = execute_block_in_python(self.version, columns, header=at, spec=self.spec)
        assert (result.codes, result.roots) == (witness.codes, witness.roots)
        self.version, self.height, self.slot, self.last = result.version, at.height, at.view, at
        if self.spec.engine == "dpos":
            self.committed.setdefault((at.view // self.spec.parameters.delegates, at.proposer), at.view)
        return result

    def titles(self, *transactions: bytes) -> list[str]:
        return [receipt.reason.title for receipt in self.block(*transactions)]

    def run(self, blocks: int, dice: random.Random | None = None) -> None:
        """Empty blocks, in every slot, or with gaps that chance chooses."""
        for _ in range(blocks):
            self.block(at=self.header(self.slot + (1 if dice is None else dice.choice((1, 1, 1, 2, 3, 9)))))
