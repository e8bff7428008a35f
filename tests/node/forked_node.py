"""One node whose engine is a script: the test makes the blocks and says which chain to follow. The ledger is real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from p2pledger import core
from p2pledger.consensus import engine as consensus
from p2pledger.ledger.queries import check_conservation
from p2pledger.ledger.tables import Holding, Table, holding_key
from p2pledger.node.effects import Admitted, Compute, Effect, Halt, Log, Persist, Settle, Tell
from p2pledger.node.node import Node, NodeEffect
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.records import BlockRecord
from p2pledger.primitives.transactions import Define, Issue, Operation, SetFinality, Transaction, Transfer
from tests.network.small_network import ACCOUNTS, CLIENT_KEY, NODE_KEYS, SHARE, START_MS, MemoryDisk, chain_genesis

__all__ = ["CLIENT", "ForkedNode"]

CLIENT = 5


class ScriptedEngine:
    """Says what it is told to say, and listens to nothing."""

    def __init__(self, final: consensus.BlockRef) -> None:
        self.final = self.head = final
        self.view = 0

    def start(self, now_ms: int) -> Sequence[consensus.Effect]:
        return ()

    def step(self, event: consensus.Input, now_ms: int) -> Sequence[consensus.Effect]:
        return ()


class ForkedNode:
    """``told``: (transaction id, word, height) in order, to the one client, who follows."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        self.genesis = genesis or chain_genesis("poa", 1)
        self.disk = MemoryDisk()
        self.node = Node(self.genesis, NODE_KEYS[0], archive=self.disk)
        self.node._engine = ScriptedEngine(consensus.BlockRef.of(self.genesis.block.header))  # type: ignore[assignment]
        self.now_ms = START_MS
        self.told: list[tuple[bytes, str, int]] = []
        self.codes: dict[bytes, bytes] = {}
        self.admitted: list[int] = []
        self._slots = count(1)
        self._salts = count(1)
        self._do(self.node.start(self.now_ms))
        self.node.follow(CLIENT, wanted=True)

    # --- the node's surroundings ----------------------------------------------------------------------------------

    def _do(self, effects: list[NodeEffect]) -> None:
        self._obey(effects)
        self._obey(self.node.settle(self.now_ms))

    def _obey(self, effects: list[NodeEffect]) -> None:
        for effect in effects:
            assert not isinstance(effect, Halt), effect
            match effect:
                case Persist(records):
                    self.disk.write(records)
                case Compute(job=job, run=run):
                    self._do(self.node.computed(job, run(), self.now_ms))
                case Admitted(codes=codes):
                    self.admitted += codes
                case Settle(client, height, _, ids, codes):
                    assert client == CLIENT
                    self._hear("settled", height, ids, codes)
                case Tell(client, status, height, _, ids, codes):
                    assert client == CLIENT
                    self._hear(status.name.lower(), height, ids, codes)
                case Effect() | consensus.Effect():
                    assert not isinstance(effect, Log) or effect.event == "reorganisation", effect

    def _hear(self, word: str, height: int, ids: bytes, codes: bytes) -> None:
        for at in range(len(ids) // 32):
            identifier = ids[32 * at : 32 * at + 32]
            self.told.append((identifier, word, height))
            self.codes[identifier] = codes[4 * at : 4 * at + 4]

    def story(self, identifier: bytes) -> list[tuple[str, int]]:
        return [(word, height) for name, word, height in self.told if name == identifier]

    def _say(self, *effects: consensus.Effect) -> None:
        self.node._engine_did(effects)
        self._do(self.node.tick(self.now_ms))

    # --- what a test does -----------------------------------------------------------------------------------------

    @property
    def root(self) -> bytes:
        return self.node.final_block.id

    def submit(self, *operations: Operation, valid_for: int = 1_000) -> bytes:
        """A transaction of A, in a batch of its own; its identifier."""
        body = Transaction(
            self.genesis.network_id,
            self.node.final_height + valid_for,
            next(self._salts).to_bytes(16, "big"),
            ACCOUNTS["A"],
            operations,
        )
        self._do(self.node.submit(CLIENT, 1, (body.sign([CLIENT_KEY]),), self.now_ms))
        self.now_ms += self.genesis.parameters.batch_delay_ms
        self._do(self.node.tick(self.now_ms))
        assert self.admitted[-1] == 0
        return body.id

    def trade(self, amount: int = 1, *, valid_for: int = 1_000) -> bytes:
        return self.submit(Transfer(ACCOUNTS["A"], ACCOUNTS["B"], SHARE, amount), valid_for=valid_for)

    def extend(self, parent: bytes, *, most_batches: int = 100, skip: int = 0) -> bytes:
        """An executed block on a known one, with the batches that its ancestry does not order, oldest first."""
        entry = self.node.chain.get(parent)
        assert entry is not None
        assert entry.outcome is not None
        ordered = self.node.chain.ordered(entry)
        digests = [digest for digest in self.node.pool.open if digest not in ordered][skip : skip + most_batches]
        state_root, receipts_root = entry.outcome.roots
        header = Header(
            network_id=self.genesis.network_id,
            epoch=0,
            view=next(self._slots),
            height=entry.block.height + 1,
            parent=parent,
            time_ms=entry.block.header.time_ms + 1,
            proposer=NODE_KEYS[0].public_key,
            batches_root=core.merkle_root(digests),
            parent_state_root=state_root,
            parent_receipts_root=receipts_root,
            validators_hash=self.genesis.validator_set.hash,
        )
        block = Block(header, tuple(digests))
        self.node.chain.add(block)
        self._do(self.node.tick(self.now_ms))
        self._persist(block)
        self._say(consensus.Accepted(consensus.BlockRef.of(header)))
        return block.id

    def _persist(self, block: Block) -> None:
        header = block.header
        self.disk.write([BlockRecord(block.id, header.height, header.view, header.parent, block.encode())])

    def ref(self, block_id: bytes) -> consensus.BlockRef:
        entry = self.node.chain.get(block_id)
        assert entry is not None
        return consensus.BlockRef.of(entry.block.header)

    def follow(self, block_id: bytes) -> None:
        ref = self.ref(block_id)
        self._say(consensus.HeadMoved(replace(ref, weight=ref.height), ref.parent, f"height {ref.height}"))

    def finalise(self, block_id: bytes) -> None:
        ref = self.ref(block_id)
        self.node._engine.final = ref  # type: ignore[misc]
        self._say(consensus.Finalised(ref, None))

    def open_books(self) -> bytes:
        """A share exists and A holds 1,000 of it, all final; the final block."""
        self.submit(Define(SHARE, 0, 0, ACCOUNTS["CSDC"], "Deutsche Bank"))
        block = self.extend(self.root)
        self.submit(Issue(SHARE, ACCOUNTS["A"], 1_000))
        block = self.extend(block)
        self.follow(block)
        self.finalise(block)
        self.told.clear()
        return block

    def policy(self, confirmations: int) -> bytes:
        """Set the finality policy of the share, final at once."""
        self.submit(SetFinality(SHARE, confirmations))
        block = self.extend(self.root)
        self.follow(block)
        self.finalise(block)
        self.told.clear()
        return block

    def held(self, name: str, *, at: bytes | None = None) -> int:
        """Shares of a member after a block: the final one unless another is named. Supply must add up there."""
        entry = self.node.chain.root if at is None else self.node.chain.get(at)
        assert entry is not None
        assert entry.outcome is not None
        version = entry.outcome.version
        assert check_conservation(version) == []
        row = version.get(Table.HOLDINGS, holding_key(SHARE, ACCOUNTS[name]))
        return 0 if row is None else Holding.decode(row).free
