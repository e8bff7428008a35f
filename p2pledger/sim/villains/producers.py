"""Villains who write blocks: out of sight, twice, in others' names, from far back, or only when it suits them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import msgpack

from p2pledger import core
from p2pledger.consensus.pos import coin_age, kernel, kernel_wins, next_modifier
from p2pledger.consensus.standing import PosStanding
from p2pledger.ledger.elections.dpos import Schedule, shuffled
from p2pledger.ledger.tables import Table, engine_key
from p2pledger.network.effects import (
    Compute,
    Computed,
    Effect,
    Event,
    Persist,
    Received,
    Send,
    SetTimer,
    Started,
    TimerFired,
)
from p2pledger.network.peer import Peer
from p2pledger.node.standing import standing_of
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import SEED_TAG, tagged_hash
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import BlockMessage, Branch, Status, WantBlocks, WantBranch, decode_message
from p2pledger.sim.disk import Disk
from p2pledger.sim.villains.base import Villain
from p2pledger.sim.world import PeerLike

__all__ = ["BlockForger", "DoubleProducer", "Grinder", "LongRangeStaker", "SelfishMiner"]

_FORGOTTEN_BELOW: Final = 64
_REVEAL_EVERY: Final = 12
"""Heights between two attempts of the long-range staker."""
_SLOTS_AHEAD: Final = 12


def unpack(row: bytes | None) -> Any:
    """The plain values of a row that is known to be there."""
    assert row is not None
    return msgpack.unpackb(row, use_list=False)


class Producer(Villain):
    """What those who write blocks share: to know their own, and the blocks that they hear of."""

    def own_block(self, send: Send) -> Block | None:
        """The block in this message, if it is one and by this villain."""
        try:
            message = decode_message(send.payload)
            block = Block.decode(message.block) if isinstance(message, BlockMessage) else None
        except PeerFault:
            return None
        return block if block is not None and block.header.proposer == self.keypair.public_key else None

    @staticmethod
    def heard_block(heard: Received) -> Block | None:
        try:
            message = decode_message(heard.payload)
            return Block.decode(message.block) if isinstance(message, BlockMessage) else None
        except PeerFault:
            return None

    def show(self, block: Block) -> list[Effect]:
        return self.tell_all(BlockMessage(block.encode()))


class SelfishMiner(Producer):
    """Keeps its own blocks to itself, and shows them when that costs the others most (Eyal and Sirer, 2014).

    While it leads by two or more it shows one block for each of theirs; when its lead shrinks to one it shows all and
    wins what they did since; what is behind them is not worth showing.
    """

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._kept: dict[bytes, Block] = {}
        self._shown: set[bytes] = set()
        self._public = 0

    def answer(self, send: Send) -> Iterable[Effect]:
        block = self.own_block(send)
        if block is not None:
            if block.id in self._shown:
                return (send,)
            if block.height > self._public:
                self._kept[block.id] = block
                return ()
            return (send,)
        match decode_message(send.payload):
            case Branch(blocks) if any(Block.decode(data).id in self._kept for data in blocks):
                return ()
            case Status(_, _, _, _, head) if head in self._kept:
                return ()
            case _:
                return (send,)

    def add(self, heard: Received) -> Iterable[Effect]:
        block = self.heard_block(heard)
        if block is None or block.height <= self._public:
            return ()
        self._public = block.height
        highest = max((kept.height for kept in self._kept.values()), default=0)
        if highest < self._public:
            self._kept.clear()
            return ()
        limit = highest if highest - self._public <= 1 else self._public
        ready = sorted((kept for kept in self._kept.values() if kept.height <= limit), key=lambda kept: kept.height)
        effects: list[Effect] = []
        for kept in ready:
            del self._kept[kept.id]
            self._shown.add(kept.id)
            effects += self.show(kept)
        return effects


class DoubleProducer(Producer):
    """Seals two blocks in each of its slots and shows them to different halves: nothing is at stake for it."""

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._others: dict[bytes, Block] = {}

    def answer(self, send: Send) -> Iterable[Effect]:
        block = self.own_block(send)
        signer = self.seats.signer_of(self.sessions[send.session])
        if block is None or signer is None or signer % 2 == 0:
            return (send,)
        other = self._others.get(block.id)
        if other is None:
            header = replace(block.header, time_ms=block.header.time_ms + 1)
            other = self._others[block.id] = Block(header, block.digests).sealed(self.keypair)
        # Now and then somebody sees both: then it is convicted.
        both = (send,) if not self.chance.randrange(8) else ()
        return (*both, Send(send.session, BlockMessage(other.encode()).encode()))


class BlockForger(Producer):
    """Changes the blocks of others and shows them as theirs, as its own, in old slots and in slots to come."""

    def add(self, heard: Received) -> Iterable[Effect]:
        block = self.heard_block(heard)
        if block is None or self.chance.randrange(4):
            return ()
        header = block.header
        match self.chance.randrange(6):
            case 0:
                forged = Block(replace(header, time_ms=header.time_ms + 1), block.digests, block.seal)
            case 1:
                forged = Block(replace(header, proposer=self.keypair.public_key), block.digests).sealed(self.keypair)
            case 2:
                slot_ms = self.genesis.parameters.slot_ms
                late = replace(header, view=header.view + 1, time_ms=header.time_ms + slot_ms)
                forged = Block(replace(late, proposer=self.keypair.public_key), block.digests).sealed(self.keypair)
            case 3:
                mine = replace(header, proposer=self.keypair.public_key, proof=self.chance.randbytes(len(header.proof)))
                forged = Block(mine, block.digests).sealed(self.keypair)
            case 4:
                orphan = replace(header, parent=self.chance.randbytes(32), proposer=self.keypair.public_key)
                forged = Block(orphan, block.digests).sealed(self.keypair)
            case _:
                wrong = replace(header, parent_state_root=bytes(32), proposer=self.keypair.public_key)
                forged = Block(wrong, block.digests).sealed(self.keypair)
        return self.show(forged)


class LongRangeStaker(Producer):
    """Writes a second chain from the genesis on, alone, with its own old stake, and shows it when it is long.

    A peer that hears of nobody lives in its cellar; time and again its chain is shown to all, and whoever asks for its
    ancestors gets them.
    """

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._disk = Disk()
        self._shadow = Peer(genesis, keypair, name="shadow", archive=self._disk)
        self._due_ms: int | None = 0
        self._begun = False
        self._shown_at = 0

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
        effects = super().step(event, now_ms, more=more)
        if not self._begun:
            self._begun = True
            self._live(Started(), now_ms)
        elif self._due_ms is not None and now_ms >= self._due_ms:
            self._due_ms = None
            self._live(TimerFired(), now_ms)
        head = self._shadow.node.head.entry.block
        if head.height >= self._shown_at + _REVEAL_EVERY and self.sessions:
            self._shown_at = head.height
            effects += self.show(head)
        return effects

    def add(self, heard: Received) -> Iterable[Effect]:
        match decode_message(heard.payload):
            case WantBranch(block, limit):
                blocks: list[bytes] = []
                data = self._shadow.node.block(block)
                while data is not None and len(blocks) < limit:
                    blocks.append(data)
                    data = self._shadow.node.block(Block.decode(data).header.parent)
                return (Send(heard.session, Branch(tuple(blocks)).encode()),) if blocks else ()
            case WantBlocks(names):
                found = [data for name in names if (data := self._shadow.node.block(name)) is not None]
                return [Send(heard.session, BlockMessage(data).encode()) for data in found]
            case _:
                return ()

    def _live(self, event: Event, now_ms: int) -> None:
        """Everything that the peer in the cellar asks for is done at once; nobody hears what it says."""
        events = [event]
        while events:
            for effect in self._shadow.step(events.pop(0), now_ms):
                match effect:
                    case Persist(records):
                        self._disk.write(records)
                        self._disk.begin_sync()
                        self._disk.end_sync()
                    case Compute(job, run):
                        events.append(Computed(job, run()))
                    case SetTimer(at_ms):
                        self._due_ms = at_ms
                    case _:
                        pass


class Grinder(Producer):
    """Leaves a slot of its own empty when the chance that its block would make does not suit it.

    Under pos it counts the lots that its stakes would win some blocks later with the modifier that its block makes, and
    keeps a block back that makes fewer than the average. Under dpos it looks at the order of the next round with its
    secret and without it, and withholds it if it would come later. ``tried`` and ``kept`` say how often.
    """

    def __init__(self, inner: PeerLike, genesis: Genesis, keypair: Keypair, chance: random.Random) -> None:
        super().__init__(inner, genesis, keypair, chance)
        self._judged: dict[bytes, bool] = {}
        self.tried = self.kept = 0

    def answer(self, send: Send) -> Iterable[Effect]:
        block = self.own_block(send)
        if block is None:
            return (send,)
        if block.id not in self._judged:
            self.tried += 1
            self._judged[block.id] = self._suits(block)
            self.kept += not self._judged[block.id]
        return (send,) if self._judged[block.id] else ()

    def _suits(self, block: Block) -> bool:
        inner = self.inner
        assert isinstance(inner, Peer)
        parent = inner.node.chain.get(block.header.parent)
        if parent is None or parent.outcome is None:
            return True
        version = parent.outcome.version
        if self.genesis.engine == "pos":
            return self._wins_enough(block, version)
        return self.genesis.engine != "dpos" or self._comes_earlier(block, version)

    def _wins_enough(self, block: Block, version: core.Version) -> bool:
        header = block.header
        standing = standing_of(self.genesis, version, header.view)
        assert isinstance(standing, PosStanding)
        _, modifiers = unpack(version.get(Table.ENGINE, engine_key(2)))
        lot = kernel(standing.modifier, header.proof, header.view)
        modifier = next_modifier(modifiers[-1], lot)
        wins, expected = 0, 0.0
        for stake_id, stake in standing.stakes_of(self.keypair.public_key):
            age = coin_age(stake, header.height + self.genesis.parameters.modifier_depth, standing.coin_age_cap)
            expected += _SLOTS_AHEAD * min(1.0, standing.base_target * age / 2**256)
            for slot in range(header.view + _SLOTS_AHEAD, header.view + 2 * _SLOTS_AHEAD):
                wins += kernel_wins(kernel(modifier, stake_id, slot), standing.base_target, age)
        return wins >= expected

    def _comes_earlier(self, block: Block, version: core.Version) -> bool:
        _, _, secret = unpack(block.header.proof)
        if not secret:
            return True
        parameters = self.genesis.parameters
        schedule = Schedule.read(version, parameters)
        round_number = block.header.view // parameters.delegates
        known = dict(schedule.revealed) if round_number == schedule.round else {}
        seed = schedule.seed if round_number == schedule.round else schedule.next_seed
        key, keys = self.keypair.public_key, schedule.serving(block.header.view)

        def place(revealed: dict[bytes, bytes]) -> int:
            after = tagged_hash(SEED_TAG, seed + b"".join(revealed[owner] for owner in sorted(revealed)))
            return shuffled(keys, after, round_number + 1).index(key)

        return key not in keys or place({**known, key: secret}) <= place(known)
