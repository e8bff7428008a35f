"""The chain family: a tree of sealed blocks, of which the heaviest chain is followed. Messages in, effects out.

One engine for work, stake, delegates and authorities; who may write a block, and what it weighs, a *rule* says
(``pow.py``, ``pos.py``, ``dpos.py``, ``poa.py``). The engine knows references and what the node answers about who may
build on an executed block (``standing.py``); it never sees accounts.

The way of a block from a peer, each step only if the one before went well:

    form        constants, slot and time, the form of the proof; then the seal (of a fetched branch all in one go)
    place       its parent is in the tree and executed; until then it waits among the orphans, which are bounded
    judgement   the rule: proposer, order, proof; now it stands in the tree and has a weight
    content     the node: batches held and checked, roots right (``Check`` and ``Checked``)
    execution   ``Accepted``; the node executes it and says ``Executed``; now others may stand on it, and it may win

**Fork choice** is among executed blocks: the greatest total weight from the last final block on; of equal ones the one
that was there first. Where blocks confirm ranges (``confirmation.py``) a higher justified block comes before weight.
Whoever is heavier by one block takes over, however deep the fork: ``HeadMoved`` names the last common block.

**Finality.** By depth: the block ``finality_depth`` below the head. By confirmation: what the head's chain has made
final. The tree begins at the last final block. What leaves it out is never followed: this, and not the weight, is what
a long-range attacker runs against. But if such a chain shows, by its headers alone, that it should have won (more work
than ours, a quorum's confirmations for another block), then the assumption of this engine is broken, and so is
finality: ``Contradiction``, and the node stops instead of choosing silently.

**Own blocks.** One sealed block in a slot, and no height confirmed twice, across crashes too: a promise is on the disk
before the block leaves (``promise.py``). Proof of work promises nothing; there a second block costs what the first did.

What is held: the tree above the last final block, the side branches of which are bounded in number; orphans, bounded in
bytes and per sender; identifiers of the last final blocks; a few thousand identifiers of refused blocks.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final

from p2pledger import core
from p2pledger.consensus.confirmation import Tally
from p2pledger.consensus.engine import (
    Accepted,
    Announce,
    BlockArrived,
    BlockRef,
    BranchArrived,
    Build,
    Built,
    Check,
    Checked,
    Contradiction,
    Effect,
    Engine,
    Evidence,
    Executed,
    Finalised,
    FinalReached,
    HeadMoved,
    Input,
    LetGo,
    Offence,
    Persist,
    SetTimer,
    TimerFired,
    WantBranch,
    Work,
    WorkChanged,
    WorkDone,
)
from p2pledger.consensus.orphans import Orphan, Orphans
from p2pledger.consensus.pow import NONCE_BYTES, search_prefix
from p2pledger.consensus.promise import SEAL, Promise
from p2pledger.consensus.rule import Clock, Members, Past, Rule, Turn
from p2pledger.consensus.standing import Ask, PowStanding, Standing
from p2pledger.primitives.blocks import PROTOCOL_VERSION, Block, Header
from p2pledger.primitives.evidence import EvidenceKind, sealed_header
from p2pledger.primitives.hashing import SEAL_TAG
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import BlockRecord, Record, VoteRecord

__all__ = ["ChainEngine", "Recovered"]

_ORPHAN_BYTES: Final = 16_777_216
_SENDER_BYTES: Final = 4_194_304
_SIDE_BLOCKS: Final = 1_024
"""Blocks in the tree that are not on the head's chain; twice as many if others wait for them."""
_ALIKE: Final = 2
"""Blocks of one key in one slot that are taken unasked: two are evidence already."""
_MOST_ALIKE: Final = 16
"""Blocks of one key in one slot that are held at all, beside those on which others stand."""
_PAST: Final = 8_192
"""Final blocks that are remembered, to know a chain that leaves some of them out."""
_REFUSED: Final = 4_096
_ASK_AGAIN_LEAST_MS: Final = 1_000
_MOST_DOUBLINGS: Final = 7
_MOST_ASKED: Final = 10
"""So often an ancestor is asked for, over some minutes, before those who need it are dropped."""
_ASKED_AT_ONCE: Final = 16
"""Ancestors that one peer is asked for at once."""
_LOOK_MS: Final = 1_000
"""So long all orphans may wait to be looked at, if there are many and few of them are new."""
_FEW: Final = 64
_FEW_NEW: Final = 16
"""Many orphans: more than ``_FEW``. Few new ones: less than one in ``_FEW_NEW``."""
_WEIGHED_AT_ONCE: Final = 16
"""Chains below the last final block that are weighed in one look."""
_SLICE: Final = 65_536
"""Nonces in one slice of search."""
_RENEW_MS: Final = 1_000
"""A template for a search is renewed after this time."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an engine starts from: the last final block, and what the disk remembers beyond it.

    ``promises`` are this producer's own and must be complete: one that may have lost some must start with
    ``may_produce=False``. ``blocks`` stand above the final one, in any order. ``past`` are final blocks below it,
    rising, as far as they are at hand.
    """

    final: BlockRef
    promises: tuple[Promise, ...] = ()
    blocks: tuple[Block, ...] = ()
    past: tuple[BlockRef, ...] = ()

    @classmethod
    def at_genesis(cls, genesis: Block) -> Recovered:
        """A network's first start."""
        return cls(BlockRef.of(genesis.header))

    @classmethod
    def of(cls, final: BlockRef, records: Iterable[Record]) -> Recovered:
        """From the records of earlier ``Persist`` effects, in any order; records of other kinds are passed over."""
        promises: list[Promise] = []
        blocks: dict[bytes, Block] = {}
        for record in records:
            if isinstance(record, VoteRecord) and record.kind == SEAL:
                promises.append(Promise.decode(record.data))
            elif isinstance(record, BlockRecord) and record.height > final.height:
                blocks.setdefault(record.id, Block.decode(record.data))
        return cls(final, tuple(promises), tuple(blocks.values()))


@dataclass(slots=True, eq=False)
class _Node:
    """A block in the tree: judged, and with its whole chain from the last final block on below it."""

    ref: BlockRef
    """``weight`` is that of the whole chain."""
    block: Block | None
    """None for the root after a start."""
    parent: _Node | None
    sender: bytes
    order: int
    """Rank of its coming: the earlier of two equals stays."""
    tally: Tally
    loaded_height: int
    """The height of the highest block on its chain that orders anything; -1 if none above the root does."""
    accepted: bool = False
    executed: bool = False
    note: object = None
    children: list[_Node] = field(default_factory=list)

    def ancestor_at(self, height: int) -> _Node | None:
        """The block of its chain at a height; None below the tree."""
        node: _Node | None = self
        while node is not None and node.ref.height > height:
            node = node.parent
        return node


@dataclass(slots=True)
class _Search:
    """Proof of work: a block without its nonce, and how far the search has got."""

    block: Block
    prefix: bytes
    target: int
    begun_ms: int
    next_nonce: int = 0


class ChainEngine(Engine):
    """An engine of the chain family. ``ask`` gives the standing after an executed block, None for any other.

    ``keypair`` None, or ``may_produce=False``, makes an observer: it follows and seals nothing. ``max_drift_ms`` is how
    far ahead of the own clock a block's time may be. ``validators_hash``, where it is given, stands in every header.
    ``finality_depth`` concerns rules without ranges.
    """

    def __init__(
        self,
        *,
        rule: Rule,
        network_id: bytes,
        genesis_time_ms: int,
        slot_ms: int,
        keypair: Keypair | None,
        recovered: Recovered,
        ask: Ask,
        finality_depth: int,
        max_drift_ms: int,
        may_produce: bool = True,
        validators_hash: bytes | None = None,
    ) -> None:
        self._rule = rule
        self._network_id = network_id
        self._clock = Clock(genesis_time_ms, slot_ms)
        self._keypair = keypair if may_produce else None
        self._ask = ask
        self._finality_depth = finality_depth
        self._max_drift_ms = max_drift_ms
        self._validators_hash = validators_hash
        self._ask_again_ms = max(_ASK_AGAIN_LEAST_MS, slot_ms)
        self._news_ms = 2 * max(slot_ms, max_drift_ms)

        self._now_ms = 0
        self._out: list[Effect] = []
        self._timer_at_ms: int | None = None
        self.counters: Counter[str] = Counter()
        """What was ignored, by reason."""

        final = recovered.final
        self._start = final
        """Weights are counted from here on."""
        self._order = 0
        self._root = _Node(final, None, None, b"", 0, Tally.at(final.height), -1, accepted=True)
        self._head = self._root
        self._tree: dict[bytes, _Node] = {final.id: self._root}
        self._past: OrderedDict[bytes, Past] = OrderedDict((ref.id, Past(ref, None)) for ref in recovered.past)
        self._past[final.id] = Past(final, None)
        self._sealed_by: dict[tuple[bytes, int], list[_Node]] = {}
        """Blocks of the tree by key and slot."""
        self._ranges_of: dict[bytes, list[tuple[int, int, _Node]]] = {}
        """Blocks of the tree by key, with the heights that they confirm, while they confirm any."""
        self._accused: set[bytes] = set()
        self._orphans = Orphans(_ORPHAN_BYTES, _SENDER_BYTES)
        """Blocks without a place in the tree yet, whose seals are good."""
        self._early: set[bytes] = set()
        """Orphans for whose slot it is too early."""
        self._refused: OrderedDict[bytes, str] = OrderedDict()
        self._wanted_ms: dict[bytes, int] = {}
        """Missing ancestors, and when they will be asked for again."""
        self._wanted_times: dict[bytes, int] = {}
        """How often they have been asked for: nobody may have them, so each pause is twice the one before."""
        self._look_for_missing = False
        self._look_for_rivals = False
        self._strays = 0
        """Orphans that came since all of them were looked at, which was at ``_looked_ms``."""
        self._looked_ms = 0
        self._weighed: dict[bytes, bytes] = {}
        """Rival chains that were found lighter: the lowest block of each, and the highest."""
        self._contradicted = False

        self._promise = Promise.sum(recovered.promises)
        self._stored: set[bytes] = {block.id for block in recovered.blocks}
        self._recovered_blocks = recovered.blocks
        self._node_has_work = False
        self._build: Build | None = None
        """Asked for and not answered."""
        self._turn: Turn | None = None
        self._turn_found: tuple[bytes, int] | None = None
        """For which head and from which slot on ``_turn`` was looked for."""
        self._declined: tuple[bytes, int] | None = None
        self._search: _Search | None = None
        self._renew = False

    # --- what the node may look at ----------------------------------------------------------------------------------

    @property
    def head(self) -> BlockRef:
        """The last block of the chain that is followed; ``weight`` is that chain's, from where this engine started."""
        return self._head.ref

    @property
    def final(self) -> BlockRef:
        """The last final block."""
        return self._root.ref

    @property
    def view(self) -> int:
        """The current slot; where there are no slots, the height that is worked on."""
        return max(0, self._clock.slot(self._now_ms)) if self._rule.slotted else self._head.ref.height + 1

    @property
    def produces(self) -> bool:
        """Whether this engine seals blocks when it may (False: it observes)."""
        return self._keypair is not None

    @property
    def has_work(self) -> bool:
        """Whether anything is unfinished: always, where the rule never rests."""
        head = self._head
        # The block after one that orders something carries its roots, so that is what must get final.
        unfinished = head.loaded_height >= max(0, self._root.ref.height)
        return not self._rule.rests or self._node_has_work or unfinished

    @property
    def size(self) -> int:
        """Blocks that are held, in the tree and outside it."""
        return len(self._tree) + len(self._orphans)

    def knows(self, name: bytes) -> bool:
        """Whether this block is held, final as far as is remembered, or refused: it needs not be shown again."""
        return name in self._tree or name in self._orphans or name in self._past or name in self._refused

    def newest_blocks(self) -> tuple[Block, ...]:
        """What tells a peer that connects where this engine is."""
        return () if self._head.block is None else (self._head.block,)

    # --- the two doors ----------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> Sequence[Effect]:
        """Judges again what the disk remembers, and goes on from there."""
        self._now_ms = now_ms
        self._execute_root()
        blocks, self._recovered_blocks = self._recovered_blocks, ()
        self._on_blocks(blocks, b"")
        return self._finish()

    def step(self, event: Input, now_ms: int) -> Sequence[Effect]:
        """One input, at one time. Effects must be obeyed in order."""
        self._now_ms = max(now_ms, self._now_ms)
        if isinstance(event, BlockArrived):
            self._on_blocks((event.block,), event.sender)
        elif isinstance(event, BranchArrived):
            self._on_blocks(event.blocks, event.sender)
        elif isinstance(event, Checked):
            self._on_checked(event)
        elif isinstance(event, Executed):
            self._on_executed(event.block)
        elif isinstance(event, Built):
            self._on_built(event)
        elif isinstance(event, WorkDone):
            self._on_work_done(event)
        elif isinstance(event, WorkChanged):
            self._node_has_work = event.has_work
            self._declined = None
            self._renew = True
        elif isinstance(event, FinalReached):
            self._on_final_reached(event.block)
        elif isinstance(event, TimerFired):
            self._timer_at_ms = None
        else:
            raise TypeError(f"no such input: {event!r}")
        return self._finish()

    def _finish(self) -> tuple[Effect, ...]:
        self._admit_early()
        may_look = self._may_look()
        self._seek_ancestors(may_look)
        if may_look:
            self._judge_rivals()
        wake_at_ms = self._produce()
        self._set_timer(wake_at_ms)
        effects, self._out = self._out, []
        return tuple(effects)

    # --- form and place ---------------------------------------------------------------------------------------------

    def _on_blocks(self, blocks: Sequence[Block], sender: bytes) -> None:
        """Form first, which is cheap; then all seals at once; then each to its place, parents first."""
        good: list[Block] = []
        for block in {block.id: block for block in blocks}.values():
            if self.knows(block.id):
                continue
            fault = self._form_fault(block)
            if fault is None and self._is_excess(block):
                self.counters["too_many_alike"] += 1
            elif fault is None:
                good.append(block)
            else:
                self._refuse(block.id, sender, fault)
        seals = core.verify_batch(
            b"".join(block.header.proposer for block in good),
            b"".join(block.seal for block in good),
            [SEAL_TAG + block.id for block in good],
        )
        queue: deque[Orphan] = deque()
        for block, is_valid in sorted(zip(good, seals, strict=True), key=lambda each: each[0].height):
            if is_valid:
                queue.append(Orphan(block, sender))
            else:
                # Not remembered as refused: the same block may come with its right seal.
                self._out.append(Offence(sender, "bad_seal"))
        self._admit(queue)

    def _is_excess(self, block: Block) -> bool:
        """Whether two others of this key and slot are held, and nobody waits for this one.

        A producer may seal any number of blocks for its slot. If others built on one of them it will be asked for.
        """
        if not self._rule.slotted or self._orphans.children(block.id) or block.id in self._wanted_ms:
            return False
        return len(self._sealed_by.get((block.header.proposer, block.header.view), ())) >= _ALIKE

    def _form_fault(self, block: Block) -> str | None:
        """What can be said without a parent."""
        header = block.header
        if header.protocol_version != PROTOCOL_VERSION:
            return "unknown_version"
        if header.network_id != self._network_id:
            return "wrong_network"
        if header.epoch != 0 or self._validators_hash not in (None, header.validators_hash):
            return "wrong_constants"
        if header.height == 0:
            return "wrong_height"
        if header.height <= next(iter(self._past.values())).ref.height:
            return "below_final"
        if header.time_ms > self._now_ms + self._max_drift_ms:
            return "from_the_future"
        slot = self._clock.slot(header.time_ms) if self._rule.slotted else header.height
        if header.view != slot:
            return "slot_mismatch"
        if len(block.seal) != 64:
            return "bad_seal"
        return self._rule.form(header)

    def _refuse(self, name: bytes, sender: bytes, reason: str) -> None:
        self.counters[reason] += 1
        # An honest peer that is behind speaks of old blocks.
        if sender and reason != "below_final":
            self._out.append(Offence(sender, reason))
        # A clock goes on, and a seal is not part of the name: these may be right another time.
        if reason not in ("from_the_future", "bad_seal", "below_final"):
            self._refused[name] = reason
            if len(self._refused) > _REFUSED:
                self._refused.popitem(last=False)

    def _admit(self, queue: deque[Orphan]) -> None:
        """Blocks of good form to their places: into the tree, or among the orphans until a parent is there."""
        planted: list[_Node] = []
        while queue:
            orphan = queue.popleft()
            block, sender = orphan.block, orphan.sender
            if self.knows(block.id):
                continue
            if block.header.parent in self._refused:
                self._refuse(block.id, sender, "wrong_parent")
                queue.extend(self._take_children(block.id))
                continue
            parent = self._tree.get(block.header.parent)
            is_early = self._rule.slotted and block.header.time_ms > self._now_ms
            standing = self._ask(parent.ref.id) if parent is not None and parent.executed and not is_early else None
            if parent is None or standing is None:
                if is_early:
                    self._early.add(block.id)
                self._look_for_missing |= parent is None
                self._look_for_rivals |= parent is None
                self._strays += parent is None
                self.counters["orphan_dropped"] += self._orphans.add(block, sender)
                continue
            verdict = self._follow_fault(block.header, parent.ref) or self._rule.judge(
                block.header, parent.ref, standing
            )
            if isinstance(verdict, str):
                self._refuse(block.id, sender, verdict)
                queue.extend(self._take_children(block.id))
                continue
            node = self._plant(block, parent, verdict, standing, sender)
            self._out.append(Check(block))
            self._look_for_evidence(node)
            planted.append(node)
        for node in planted:  # Now it can be seen who waits for whom.
            self._prune_alike(node)
            self._prune_side_branches(node)

    def _take_children(self, name: bytes) -> list[Orphan]:
        children = [self._orphans.pop(orphan.block.id) for orphan in self._orphans.children(name)]
        self._early.difference_update(orphan.block.id for orphan in children)
        return children

    def _follow_fault(self, header: Header, parent: BlockRef) -> str | None:
        if header.height != parent.height + 1:
            return "wrong_height"
        if header.time_ms <= parent.time_ms:
            return "time_not_after_parent"
        return None if header.view > parent.view else "slot_not_after_parent"

    def _plant(self, block: Block, parent: _Node, weight: int, standing: Standing, sender: bytes) -> _Node:
        header = block.header
        ref = BlockRef(
            header.id,
            header.parent,
            header.height,
            header.view,
            header.time_ms,
            header.proposer,
            header.proof,
            parent.ref.weight + weight,
        )
        tally = parent.tally
        first = header.height + 1
        if self._rule.ranged:
            first = self._rule.confirm_from(header)
            tally = tally.extended(header.height, header.proposer, first, self._rule.members(standing))
        self._order += 1
        loaded_height = header.height if block.digests else parent.loaded_height
        node = _Node(ref, block, parent, sender, self._order, tally, loaded_height)
        parent.children.append(node)
        self._tree[ref.id] = node
        self._wanted_ms.pop(ref.id, None)
        self._sealed_by.setdefault((ref.proposer, ref.view), []).append(node)
        if first <= ref.height:
            self._ranges_of.setdefault(ref.proposer, []).append((first, ref.height, node))
        if self._rule.slotted and self._keypair is not None and ref.proposer == self._keypair.public_key:
            # Whatever this key has sealed binds it, also if the disk has lost it or another machine did it.
            self._promise = self._promised(node)
        # Those that came before it have waited for it; they need its execution too, so there they stay.
        self._look_for_missing |= bool(self._orphans.children(ref.id))
        return node

    def _look_for_evidence(self, node: _Node) -> None:
        """Two blocks of a key in one slot, or two that confirm the same height: one pair for each key is enough."""
        key = node.ref.proposer
        if not self._rule.ranged or key in self._accused or node.block is None:
            return
        rivals = [other for other in self._sealed_by[key, node.ref.view] if other is not node]
        mine = self._rule.confirm_from(node.block.header)
        if mine <= node.ref.height:
            rivals += [
                other
                for first, last, other in self._ranges_of[key]
                if other is not node and first <= node.ref.height and mine <= last
            ]
        for rival in rivals:
            if rival.block is not None:
                self._accused.add(key)
                first_statement, second_statement = sorted((sealed_header(rival.block), sealed_header(node.block)))
                self._out.append(Evidence(EvidenceKind.SEALS, first_statement, second_statement))
                return

    def _prune_alike(self, newest: _Node) -> None:
        """Too many blocks of one key for one slot, each with somebody waiting for it, which costs nothing to arrange.

        Whoever has shown most of them loses its oldest: so a flood does not wash away the one that others build on.
        """
        alike = self._sealed_by.get((newest.ref.proposer, newest.ref.view), []) if self._rule.slotted else []
        idle = [node for node in alike if not node.children and node is not self._head]
        if len(idle) > _MOST_ALIKE:
            shown = Counter(node.sender for node in idle)
            most = max(shown, key=lambda sender: (shown[sender], sender))
            self.counters["too_many_alike"] += 1
            self._fell(next(node for node in idle if node.sender == most))

    def _prune_side_branches(self, newest: _Node) -> None:
        """Too many blocks beside the head's chain: the weakest leaf goes. It can be had again if it ever wins.

        A leaf that would win, or with children among the orphans, may be the tip of a long branch that is coming in,
        so it is spared. A child is easily made up, though: beyond twice the bound the shortest branch goes, of equally
        short ones the oldest, but never the last one that is left.
        """
        excess = len(self._tree) - (self._head.ref.height - self._root.ref.height + 1) - _SIDE_BLOCKS
        if excess <= 0 or newest.ref.id not in self._tree:
            return
        on_chain = {node.ref.id for node in self._chain(self._head)}
        leaves = [node for name, node in self._tree.items() if not node.children and name not in on_chain]
        head = self._rank(self._head)
        idle = [node for node in leaves if self._rank(node) <= head and not self._orphans.children(node.ref.id)]
        if idle:
            self.counters["side_branch_dropped"] += 1
            self._fell(min(idle, key=lambda node: (*self._rank(node), node is not newest, -node.order)))
        elif excess > _SIDE_BLOCKS and len(leaves) > 1:
            self.counters["side_branch_dropped"] += 1
            self._fell(min(leaves, key=lambda node: (self._own_length(node, on_chain), node.order)))

    def _own_length(self, leaf: _Node, on_chain: Set[bytes]) -> int:
        """How many blocks of its chain carry this leaf and no other."""
        length, node = 1, leaf.parent
        while node is not None and len(node.children) == 1 and node.ref.id not in on_chain:
            length, node = length + 1, node.parent
        return length

    # --- content and execution --------------------------------------------------------------------------------------

    def _on_checked(self, checked: Checked) -> None:
        node = self._tree.get(checked.block)
        if node is None or node.accepted:
            self.counters["stale_check"] += 1
        elif checked.ok:
            self._accept(node)
        else:
            self._fell(node)
            self._refuse(node.ref.id, node.sender, "bad_content")
            self._admit(deque(self._take_children(node.ref.id)))

    def _accept(self, node: _Node) -> None:
        node.accepted = True
        assert node.block is not None
        if node.ref.id not in self._stored:
            self._out.append(Persist(self._records_of(node.block)))
        self._out.append(Accepted(node.ref))

    def _records_of(self, block: Block) -> tuple[Record, ...]:
        self._stored.add(block.id)
        header = block.header
        return (BlockRecord(block.id, header.height, header.view, header.parent, block.encode()),)

    def _on_executed(self, name: bytes) -> None:
        if name == self._root.ref.id:
            self._execute_root()
            return
        node = self._tree.get(name)
        standing = self._ask(name)
        if node is None or node.executed or node.parent is None or standing is None:
            self.counters["stale_execution"] += 1
            return
        node.executed = True
        node.note = self._note(node, standing)
        self._choose(node)
        self._finalise()
        self._admit(deque(self._take_children(name)))

    def _execute_root(self) -> None:
        standing = self._ask(self._root.ref.id)
        if standing is not None and not self._root.executed:
            self._root.executed = True
            self._root.note = self._note(self._root, standing)
            self._past[self._root.ref.id] = Past(self._root.ref, self._root.note)
            self._admit(deque(self._take_children(self._root.ref.id)))

    def _note(self, node: _Node, standing: Standing) -> object:
        before = None if node.parent is None else self._ask(node.parent.ref.id)
        return self._rule.note(None if node.block is None else node.block.header, standing, before)

    # --- fork choice ------------------------------------------------------------------------------------------------

    def _rank(self, node: _Node) -> tuple[int, int]:
        """What is compared, greater is better; the justified height is the same for all where there is none."""
        return node.tally.justified if self._rule.ranged else 0, node.ref.weight

    def _choose(self, node: _Node) -> None:
        """A block was executed: it becomes the head if its chain is better than the one that is followed."""
        if self._rank(node) > self._rank(self._head):
            self._move_head(node, "")

    def _move_head(self, node: _Node, why: str) -> None:
        old = self._head
        ancestor = self._common(old, node)
        if not why:
            if ancestor is old:
                why = f"extends the chain to weight {node.ref.weight}"
            elif node.tally.justified > old.tally.justified:
                why = f"a chain justified up to height {node.tally.justified}, against {old.tally.justified}"
            else:
                why = f"a chain of weight {node.ref.weight}, against {old.ref.weight}"
        self._head = node
        self._out.append(HeadMoved(node.ref, ancestor.ref.id, why))
        if node.sender and node.block is not None and self._now_ms - node.ref.time_ms <= self._news_ms:
            self._out.append(Announce(node.block))

    def _common(self, one: _Node, other: _Node) -> _Node:
        while one is not other:
            if one.ref.height >= other.ref.height:
                assert one.parent is not None, "two chains of one tree without a common block"
                one = one.parent
            else:
                assert other.parent is not None, "two chains of one tree without a common block"
                other = other.parent
        return one

    def _chain(self, node: _Node) -> Iterator[_Node]:
        """A block and its ancestors, down to the last final one."""
        current: _Node | None = node
        while current is not None:
            yield current
            current = current.parent

    # --- finality ---------------------------------------------------------------------------------------------------

    def _finalise(self) -> None:
        height = self._head.tally.final if self._rule.ranged else self._head.ref.height - self._finality_depth
        if height > self._root.ref.height:
            node = self._head.ancestor_at(height)
            assert node is not None, "a final block outside the tree"
            self._out.append(Finalised(node.ref, None))
            self._take_root(node)

    def _take_root(self, root: _Node) -> None:
        """The tree begins at a new final block; all that does not stand on it goes."""
        for node in reversed([each for each in self._chain(root) if each is not self._root]):
            self._past[node.ref.id] = Past(node.ref, node.note)
        while len(self._past) > _PAST:
            self._past.popitem(last=False)
        kept: dict[bytes, _Node] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            kept[node.ref.id] = node
            waiting.extend(node.children)
        gone = [node for name, node in self._tree.items() if name not in kept]
        # A block that held the place of a lost one has no ancestors any more.
        root.parent = None
        self._root = root
        self._tree = kept
        self._forget([*gone, root])
        self._stored.intersection_update(kept)
        self.counters["lost_to_final"] += sum(node.ref.height > root.ref.height for node in gone)
        self._orphans.drop_up_to(next(iter(self._past.values())).ref.height)
        self._early = {name for name in self._early if name in self._orphans}
        self._wanted_ms = {name: at_ms for name, at_ms in self._wanted_ms.items() if self._orphans.children(name)}
        self._look_for_rivals = True

    def _fell(self, node: _Node) -> None:
        """Takes a leaf, or a branch, out of the tree."""
        assert node.parent is not None
        node.parent.children.remove(node)
        gone = []
        waiting = [node]
        while waiting:
            gone.append(waiting.pop())
            waiting.extend(gone[-1].children)
        for each in gone:
            del self._tree[each.ref.id]
            self._stored.discard(each.ref.id)
        self._forget(gone)
        self._out.append(LetGo(tuple(each.ref.id for each in gone)))

    def _forget(self, nodes: Iterable[_Node]) -> None:
        """Out of the lists by key."""
        for node in nodes:
            slot = (node.ref.proposer, node.ref.view)
            alike = [other for other in self._sealed_by.pop(slot, []) if other is not node]
            if alike:
                self._sealed_by[slot] = alike
            ranges = [each for each in self._ranges_of.pop(node.ref.proposer, []) if each[2] is not node]
            if ranges:
                self._ranges_of[node.ref.proposer] = ranges

    def _on_final_reached(self, ref: BlockRef) -> None:
        """A node that catches up gets final blocks in pieces. What leaves them out is dropped."""
        if ref.height <= self._root.ref.height:
            return
        node = self._tree.get(ref.id)
        if node is None:
            self._order += 1
            weight = ref.weight or self._head.ref.weight
            ref = replace(ref, weight=weight)
            node = _Node(ref, None, None, b"", self._order, Tally.at(ref.height), -1, accepted=True)
            old, self._root, self._start = self._root, node, ref
            self._past.setdefault(old.ref.id, Past(old.ref, old.note))
        if self._head.ancestor_at(ref.height) is not node:
            self._head = node
        self._take_root(node)
        self._execute_root()
        best = max(
            (each for each in self._tree.values() if each.executed), key=lambda each: (*self._rank(each), -each.order),
            default=node,
        )  # fmt: skip
        if self._rank(best) > self._rank(self._head):
            self._move_head(best, "")
        self._look_for_missing = True

    # --- ancestors and rivals ---------------------------------------------------------------------------------------

    def _may_look(self) -> bool:
        """Whether to go through all orphans now: their number times as often as they are looked at must not explode."""
        if not (self._look_for_missing or self._look_for_rivals):
            return False
        are_many = len(self._orphans) > max(_FEW, self._strays * _FEW_NEW)
        if are_many and self._now_ms < self._looked_ms + _LOOK_MS:
            return False
        self._strays, self._looked_ms = 0, self._now_ms
        return True

    def _seek_ancestors(self, may_look: bool) -> None:
        """Asks for the parents that nobody here has, each from somebody whose block needs it; again after a while."""
        if may_look and self._look_for_missing:
            self._look_for_missing = False
            parents = self._orphans.parents()
            held = {name: at_ms for name in parents if (at_ms := self._wanted_ms.get(name)) is not None}
            self._wanted_ms = {name: at_ms for name, at_ms in held.items() if not self.knows(name)}
            self._wanted_times = {name: self._wanted_times[name] for name in self._wanted_ms}
            due = [name for name in parents if self._now_ms >= self._wanted_ms.get(name, 0)]
        else:
            due = [name for name, at_ms in self._wanted_ms.items() if self._now_ms >= at_ms]
        asked_of: Counter[bytes] = Counter()
        for name in sorted(due, key=lambda name: self._wanted_times.get(name, 0)):  # What was never asked for first.
            senders = [orphan.sender for orphan in self._orphans.children(name) if orphan.sender]
            times = self._wanted_times.get(name, 0)
            if self.knows(name) or not senders:
                self._wanted_ms.pop(name, None)
                self._wanted_times.pop(name, None)
                continue
            if times == _MOST_ASKED:
                self._drop_orphans_on(name)
                continue
            # Another one each time: the first may not have it any more.
            sender = senders[times % len(senders)]
            if asked_of[sender] < _ASKED_AT_ONCE:
                asked_of[sender] += 1
                self._wanted_ms[name] = self._now_ms + (self._ask_again_ms << min(times, _MOST_DOUBLINGS))
                self._wanted_times[name] = times + 1
                self._out.append(WantBranch(name, sender))
            elif name in self._wanted_ms:
                self._wanted_ms[name] = self._now_ms + _LOOK_MS
            else:
                self._look_for_missing = True  # It has its turn with the next look.

    def _drop_orphans_on(self, parent: bytes) -> None:
        """Nobody has their ancestor. If it is there after all, they will be shown again."""
        waiting = self._orphans.children(parent)
        while waiting:
            orphan = waiting.pop()
            waiting += self._orphans.children(orphan.block.id)
            self._orphans.pop(orphan.block.id)
            self.counters["orphan_dropped"] += 1
        del self._wanted_ms[parent], self._wanted_times[parent]

    def _judge_rivals(self) -> None:
        """Orphans that stand on a final block below the last one: a chain that we shall not follow. Should we have?

        A chain that was found lighter stays so until it grows, for ours only gets heavier. The highest come first.
        """
        if not self._look_for_rivals or self._contradicted:
            return
        self._look_for_rivals = False
        lighter: dict[bytes, bytes] = {}
        rivals: list[tuple[list[Block], Past]] = []
        for parent in self._orphans.parents():
            fork = self._past.get(parent)
            if fork is None or parent == self._root.ref.id:
                continue
            # What was noted before a restart is lost; what holds at the last final block is then near enough.
            note = fork.note if fork.note is not None else self._root.note
            if note is None:
                continue
            for base in self._orphans.children(parent):
                branch = self._longest(base)
                if self._weighed.get(base.block.id) == branch[-1].id:
                    lighter[base.block.id] = branch[-1].id
                else:
                    rivals.append((branch, Past(fork.ref, note)))
        rivals.sort(key=lambda rival: -rival[0][-1].height)
        for branch, fork in rivals[:_WEIGHED_AT_ONCE]:
            should_have_won = self._should_have_won(branch, fork)
            if should_have_won:
                self._contradicted = True
                self._out.append(Contradiction(self._root.ref, BlockRef.of(branch[-1].header)))
                return
            if should_have_won is False:
                lighter[branch[0].id] = branch[-1].id
                self.counters["lighter_rival"] += 1
        self._weighed = lighter
        self._look_for_rivals = len(rivals) > _WEIGHED_AT_ONCE

    def _longest(self, base: Orphan) -> list[Block]:
        """The path upwards among the orphans that gets highest, with form that fits all the way."""
        best: list[Block] = []
        waiting = [(base.block, 1)]
        path: list[Block] = []
        while waiting:
            block, length = waiting.pop()
            del path[length - 1 :]
            if path and self._follow_fault(block.header, BlockRef.of(path[-1].header)) is not None:
                continue
            path.append(block)
            if len(path) > len(best):
                best = list(path)
            waiting.extend((child.block, length + 1) for child in self._orphans.children(block.id))
        return best

    def _should_have_won(self, branch: Sequence[Block], fork: Past) -> bool | None:
        """None where that cannot be told yet."""
        headers = [block.header for block in branch]
        if self._rule.ranged:
            # Less than a third of dishonest weight cannot justify anything at or above the height of our final block.
            assert isinstance(fork.note, Members)
            tally = Tally.at(fork.ref.height)
            for header in headers:
                tally = tally.extended(header.height, header.proposer, self._rule.confirm_from(header), fork.note)
            return tally.justified >= self._root.ref.height
        own_weight = self._head.ref.weight - max(fork.ref.weight, self._start.weight)
        # Weights below the start of this engine are not known, nor is, after a restart or while the node catches up,
        # what made our final block final: as many blocks as finality is deep, which weigh about the same.
        unknown = max(0, self._start.height - fork.ref.height)
        unknown += max(0, self._root.ref.height + self._finality_depth - self._head.ref.height)
        if unknown:
            usual_weight = self._rule.usual_weight(fork.note)
            if usual_weight is None:
                return None
            own_weight += unknown * usual_weight
        own = [node for node in self._chain(self._head) if node is not self._root]
        past = [fork, *(each for each in self._past.values() if each.ref.height > fork.ref.height)]
        past += [Past(node.ref, node.note) for node in reversed(own)]
        standing = self._ask(self._head.ref.id)
        return standing is not None and self._rule.rival_weight(headers, past, standing) > own_weight

    # --- own blocks -------------------------------------------------------------------------------------------------

    def _produce(self) -> int | None:
        """Asks for a block if it is this key's turn. Returns when to look again, None if something else will happen."""
        head, keypair = self._head, self._keypair
        standing = self._ask(head.ref.id) if keypair is not None and head.executed else None
        if keypair is None or standing is None or self._contradicted:
            return None
        if not self.has_work:
            self._build = None
            return None
        if not self._rule.slotted:
            self._renew_search(standing, keypair)
            return None
        first = max(0, self._clock.slot(self._now_ms), head.ref.view + 1, self._promise.slot + 1)
        if self._turn_found != (head.ref.id, first):
            self._turn_found = (head.ref.id, first)
            self._turn = self._rule.turn(standing, head.ref, keypair.public_key, first, self._now_ms)
        turn = self._turn
        if turn is None:
            return self._clock.start_ms(first + 1)
        if self._now_ms < turn.at_ms:
            return turn.at_ms
        asked = self._build
        if (asked is None or (asked.parent.id, asked.view) != (head.ref.id, turn.slot)) and (
            self._declined != (head.ref.id, turn.slot)
        ):
            confirm_from = self._confirm_from(head, turn, standing)
            proof = self._rule.prove(standing, turn, head.ref, confirm_from, keypair)
            time_ms = max(self._now_ms, turn.at_ms, head.ref.time_ms + 1)
            self._build = Build(turn.slot, head.ref, needed=True, proof=proof, time_ms=time_ms)
            self._out.append(self._build)
        return self._clock.start_ms(turn.slot + 1)

    def _confirm_from(self, parent: _Node, turn: Turn, standing: Standing) -> int:
        """The two promises of ``confirmation.py``: nothing is confirmed twice, and the lock is not left."""
        assert self._keypair is not None
        height = parent.ref.height + 1
        if not self._rule.confirms(turn, standing, self._keypair.public_key) or self._is_locked_out(parent):
            return height + 1
        return min(height + 1, self._first_unconfirmed())

    def _first_unconfirmed(self) -> int:
        return max(self._promise.confirmed_to, self._root.ref.height) + 1

    def _is_locked_out(self, parent: _Node) -> bool:
        """Whether a chain leaves out the block on which this producer is locked, and is not justified above it."""
        promise = self._promise
        if promise.lock_height <= self._root.ref.height or parent.tally.justified > promise.lock_height:
            return False
        locked = parent.ancestor_at(promise.lock_height)
        return locked is None or locked.ref.id != promise.lock

    def _on_built(self, built: Built) -> None:
        asked = self._build
        if asked is None or built.view != asked.view:
            self.counters["stale_build"] += 1
            return
        if built.block is None:
            self._build, self._declined = None, (asked.parent.id, asked.view)
            return
        header = built.block.header
        if header.parent != asked.parent.id or header.proof != asked.proof or self._head.ref.id != header.parent:
            self.counters["stale_build"] += 1
            return
        self._build = None
        if not self._rule.slotted:
            self._begin_search(built.block)
        elif self._clock.slot(self._now_ms) > header.view + 1 or header.view <= self._promise.slot:
            # Too late: or this key has sealed one for this slot meanwhile, somewhere else.
            self.counters["late_build"] += 1
        else:
            self._seal(built.block)

    def _seal(self, block: Block) -> None:
        """Signs an own block, binds itself on disk, and lets it go."""
        parent, keypair, header = self._tree[block.header.parent], self._keypair, block.header
        assert keypair is not None
        assert header.proposer == keypair.public_key, "the node built a block of somebody else"
        standing = self._ask(parent.ref.id)
        assert standing is not None
        fault = self._form_fault(replace(block, seal=bytes(64))) or self._follow_fault(header, parent.ref)
        verdict = fault or self._rule.judge(header, parent.ref, standing)
        if isinstance(verdict, str):
            self.counters[f"own_{verdict}"] += 1
            self._declined = (parent.ref.id, header.view)
            return
        if block.id in self._tree:
            return
        assert not self._rule.slotted or header.view > self._promise.slot, "a second block in a slot"
        sealed = block.sealed(keypair)
        node = self._plant(sealed, parent, verdict, standing, b"")
        node.accepted = True
        records = self._records_of(sealed)
        if self._rule.slotted:
            data = self._promise.encode()
            records = (*records, VoteRecord(header.epoch, header.view, SEAL, sealed.id, data))
        self._out.append(Persist(records))
        self._out.append(Announce(sealed))
        self._out.append(Accepted(node.ref))

    def _promised(self, node: _Node) -> Promise:
        """What sealing this block binds to, with all that was promised before."""
        assert node.block is not None
        promise = self._promise
        if node.ref.view > promise.slot:
            promise = replace(promise, slot=node.ref.view, block=node.ref.id)
        if self._rule.confirm_from(node.block.header) <= node.ref.height:
            promise = replace(promise, confirmed_to=max(promise.confirmed_to, node.ref.height))
            justified = node.tally.justified
            if justified > max(promise.lock_height, self._root.ref.height):
                locked = node.ancestor_at(justified)
                assert locked is not None
                promise = replace(promise, lock_height=justified, lock=locked.ref.id)
        return promise

    # --- search for work --------------------------------------------------------------------------------------------

    def _renew_search(self, standing: Standing, keypair: Keypair) -> None:
        """Asks for a new template when the head has moved, when there is other work, and once a second."""
        head, search = self._head.ref, self._search
        if search is not None and search.block.header.parent != head.id:
            self._search = search = None
        if self._declined == (head.id, head.height + 1):
            return
        if self._build is not None and self._build.parent.id == head.id:
            return
        if search is None or self._renew or self._now_ms >= search.begun_ms + _RENEW_MS:
            turn = self._rule.turn(standing, head, keypair.public_key, head.height + 1, self._now_ms)
            assert turn is not None
            proof = self._rule.prove(standing, turn, head, head.height + 2, keypair)
            time_ms = max(self._now_ms, head.time_ms + 1)
            self._renew = False
            self._build = Build(turn.slot, head, needed=True, proof=proof, time_ms=time_ms)
            self._out.append(self._build)

    def _begin_search(self, block: Block) -> None:
        standing = self._ask(block.header.parent)
        assert isinstance(standing, PowStanding)
        self._search = _Search(block, search_prefix(block.header), standing.target, self._now_ms)
        self._continue_search()

    def _continue_search(self) -> None:
        search = self._search
        assert search is not None
        view = search.block.header.view
        self._out.append(Work(view, search.prefix, search.next_nonce, _SLICE, search.target))
        search.next_nonce += _SLICE

    def _on_work_done(self, done: WorkDone) -> None:
        search = self._search
        if search is None or done.view != search.block.header.view or search.block.header.parent != self._head.ref.id:
            self.counters["stale_work"] += 1
            return
        if done.nonce is None:
            self._continue_search()
            return
        header = replace(search.block.header, proof=done.nonce.to_bytes(NONCE_BYTES, "big"))
        standing = self._ask(header.parent)
        assert standing is not None
        if isinstance(self._rule.judge(header, self._head.ref, standing), str):
            # Found for a template that was replaced meanwhile.
            self.counters["stale_work"] += 1
            return
        self._search = None
        self._seal(Block(header, search.block.digests))

    # --- clocks -----------------------------------------------------------------------------------------------------

    def _admit_early(self) -> None:
        """Blocks whose slot has come."""
        due = [name for name in self._early if name not in self._orphans or self._is_due(name)]
        self._early.difference_update(due)
        self._admit(deque(self._orphans.pop(name) for name in sorted(due) if name in self._orphans))

    def _is_due(self, name: bytes) -> bool:
        orphan = self._orphans.get(name)
        return orphan is not None and orphan.block.header.time_ms <= self._now_ms

    def _set_timer(self, wake_at_ms: int | None) -> None:
        """One timer for the nearest time: an own turn, a block that came early, asking again."""
        times = [] if wake_at_ms is None else [wake_at_ms]
        times += [orphan.block.header.time_ms for name in self._early if (orphan := self._orphans.get(name))]
        times += self._wanted_ms.values()
        if self._look_for_missing or self._look_for_rivals:
            times.append(self._looked_ms + _LOOK_MS)
        at_ms = min(times, default=None)
        if at_ms != self._timer_at_ms:
            self._timer_at_ms = at_ms
            self._out.append(SetTimer(at_ms))
