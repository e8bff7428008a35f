"""What every consensus engine looks like from outside: inputs in, effects out, nothing else.

An engine never reads a clock, never touches a disk or a socket, and never sees a transaction or an account. It is told
the time and what happened; it answers with effects **in the order in which they must be obeyed**: a vote is persisted
before it is sent. The node (``p2pledger.node``) carries the effects that concern the ledger (``Check``, ``Build``,
``Notarised``, ``Finalised``); the shell carries the rest (``Persist``, ``Broadcast``, ``Send``).

The node's side of the bargain:

* ``Check(block)`` asks whether a proposed block may be voted for: every referenced batch held, checked and durable,
  the parent executed, roots and time right. The node answers with ``Checked(view, id, ok)`` once it knows; a block
  whose batches are still on their way simply has no answer yet.
* ``Build(view, parent, needed)`` asks the leader's node for a block on ``parent``. It answers with ``Built(block)``, at
  once or later (the parent may still be executing). A leader without work is never asked. ``Built(None)`` says that
  there was nothing to do after all; it is no answer where a block is *needed*, even an empty one, to get the parent
  final.
* The engine persists its own votes, certificates, and the blocks that it voted for or hands over; ``FinalRecord`` and
  everything about batches is the node's to write.
* ``Notarised(id)`` tells the node to execute; ``Finalised(ref)`` that the block and its ancestors are final.
* The node says ``WorkChanged(True)`` while it knows of unfinished work that the engine cannot see (a held batch that is
  not yet in the notarised chain, the trailing empty block); the engine adds what it knows itself (a notarised block
  that is not yet final). Without work no timer runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.evidence import EvidenceKind
from p2pledger.primitives.records import Record
from p2pledger.primitives.votes import Certificate, Vote

__all__ = [
    "Accepted",
    "Announce",
    "BlockArrived",
    "BlockRef",
    "BranchArrived",
    "Broadcast",
    "Build",
    "Built",
    "CertificateArrived",
    "CertificateWanted",
    "Check",
    "Checked",
    "Contradiction",
    "Effect",
    "Engine",
    "EpochEnded",
    "Evidence",
    "Executed",
    "FinalReached",
    "Finalised",
    "HeadMoved",
    "Input",
    "LetGo",
    "Notarised",
    "Offence",
    "Persist",
    "Proposal",
    "ProposalArrived",
    "Send",
    "SetTimer",
    "TimerFired",
    "VoteArrived",
    "WantBlock",
    "WantBranch",
    "WantCertificates",
    "Work",
    "WorkChanged",
    "WorkDone",
]


@dataclass(frozen=True, slots=True)
class BlockRef:
    """What an engine knows of a block. ``view`` is a slot in the chain family; ``weight`` its fork-choice weight."""

    id: bytes
    parent: bytes
    height: int
    view: int
    time_ms: int
    proposer: bytes
    proof: bytes = b""
    weight: int = 0

    @classmethod
    def of(cls, header: Header) -> BlockRef:
        return cls(header.id, header.parent, header.height, header.view, header.time_ms, header.proposer)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A block and its leader's notarise vote, which is the leader's signature under it."""

    block: Block
    vote: Vote


# --- inputs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Input:
    """Base of what an engine is told."""


@dataclass(frozen=True, slots=True)
class ProposalArrived(Input):
    """A proposal from a peer (``sender`` is the peer's node key, not necessarily the leader's)."""

    sender: bytes
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class VoteArrived(Input):
    sender: bytes
    vote: Vote


@dataclass(frozen=True, slots=True)
class CertificateArrived(Input):
    sender: bytes
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class CertificateWanted(Input):
    """A peer asks for the certificates of views in ``from_view .. to_view`` (inclusive) that it misses."""

    sender: bytes
    from_view: int
    to_view: int


@dataclass(frozen=True, slots=True)
class BlockArrived(Input):
    """A block without votes.

    Under simplex it was fetched because a certificate names it. In the chain family blocks come no other way:
    announced or fetched, from ``sender`` (a node key; empty where the node had it itself).
    """

    block: Block
    sender: bytes = b""


@dataclass(frozen=True, slots=True)
class BranchArrived(Input):
    """Blocks from one peer, in any order, as an answer to ``WantBranch``. Their seals are checked all at once."""

    blocks: tuple[Block, ...]
    sender: bytes = b""


@dataclass(frozen=True, slots=True)
class Checked(Input):
    """The node's verdict on a proposed block."""

    view: int
    block: bytes
    ok: bool


@dataclass(frozen=True, slots=True)
class Built(Input):
    """The leader's own new block for its view, or None if there was nothing to do after all."""

    view: int
    block: Block | None


@dataclass(frozen=True, slots=True)
class Executed(Input):
    """The node has executed this block: who may build on it can now be asked. (Chain family.)"""

    block: bytes


@dataclass(frozen=True, slots=True)
class WorkDone(Input):
    """What a slice of search (``Work``) has found: a nonce, or None. (Proof of work.)"""

    view: int
    nonce: int | None


@dataclass(frozen=True, slots=True)
class FinalReached(Input):
    """The node has got to this final block, perhaps by another way than the engine: what lies below is not needed."""

    block: BlockRef


@dataclass(frozen=True, slots=True)
class WorkChanged(Input):
    has_work: bool


@dataclass(frozen=True, slots=True)
class TimerFired(Input):
    """The time of the last ``SetTimer`` has come (or passed; firing early or twice does no harm)."""


# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    """Base of what an engine asks for."""


@dataclass(frozen=True, slots=True)
class Persist(Effect):
    """Records to keep, in order; an own vote, with all before it, durable before any later effect leaves the node."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Broadcast(Effect):
    """To all other validators. Idempotent: a receiver that knows it already ignores it."""

    message: Proposal | Vote | Certificate


@dataclass(frozen=True, slots=True)
class Send(Effect):
    """To one peer, by node key."""

    to: bytes
    message: Proposal | Vote | Certificate


@dataclass(frozen=True, slots=True)
class WantCertificates(Effect):
    """Ask peers (all, or those that seem ahead) for the certificates of these views."""

    from_view: int
    to_view: int


@dataclass(frozen=True, slots=True)
class WantBlock(Effect):
    """A certificate names a block whose bytes are missing: fetch it, from the signers in turn (node keys)."""

    block: bytes
    signers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SetTimer(Effect):
    """Call back with ``TimerFired`` at ``at_ms``; None cancels. Only the newest one counts."""

    at_ms: int | None


@dataclass(frozen=True, slots=True)
class Check(Effect):
    block: Block


@dataclass(frozen=True, slots=True)
class Build(Effect):
    """``proof`` goes into the header as it is. A new ``Build`` replaces one that was not answered.

    ``closing``: the parent ends an epoch and is not final yet; the block must be empty (simplex). ``time_ms`` is the
    block's time where the engine decides it (0: the node's clock, after the parent's time).
    """

    view: int
    parent: BlockRef
    needed: bool = False
    proof: bytes = b""
    closing: bool = False
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Notarised(Effect):
    """The block may be executed. Order: parents first.

    The certificate is its own or that of a descendant, which proves as much: a block is only ever voted for on a
    notarised parent.
    """

    block: BlockRef
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Finalised(Effect):
    """This block, and so all its ancestors, are final. Heights only grow.

    ``certificate`` is None in the chain family, where the blocks above are the proof. For the last block of an epoch it
    may name a closing block above it (``EpochEnded``).
    """

    block: BlockRef
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class EpochEnded(Effect):
    """This block, final by an earlier effect or known to be, is the last of its epoch. (Simplex.)

    The engine votes no more. The node makes the next one (``Simplex.succeed``) as soon as it knows its validators, and
    starts it; until then this one keeps early messages, and afterwards it may be dropped. ``closing`` are the blocks
    above it that made it final, oldest first, the last one named by the finalisation: usually none. They are no part
    of the chain, whatever was executed of them is dropped; peers may want them to check the finalisation.
    """

    block: BlockRef
    closing: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Announce(Effect):
    """To all peers: a block of one's own, or one that has become the head. (Chain family.)"""

    block: Block


@dataclass(frozen=True, slots=True)
class Accepted(Effect):
    """Producer, proof and content of this block are right: it may be executed. Parents first. (Chain family.)"""

    block: BlockRef


@dataclass(frozen=True, slots=True)
class LetGo(Effect):
    """These blocks, none of them final, are not held any more, and nobody waits for a word about them.

    What hangs on them may go. They may come again, and are judged anew then. (Chain family.)
    """

    blocks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HeadMoved(Effect):
    """The chain to follow ends in ``head``. ``ancestor`` is the last block that it shares with the one before.

    ``reason`` says in words why, with the weight of the rival where there is one. (Chain family.)
    """

    head: BlockRef
    ancestor: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class WantBranch(Effect):
    """The ancestors of a block are not known: fetch them from ``sender`` (a node key), from ``block`` downwards."""

    block: bytes
    sender: bytes


@dataclass(frozen=True, slots=True)
class Work(Effect):
    """A slice of search: nonces ``start .. start + count - 1`` behind ``prefix``, against ``target``.

    A new one replaces one that was not answered. (Proof of work.)
    """

    view: int
    prefix: bytes
    start: int
    count: int
    target: int


@dataclass(frozen=True, slots=True)
class Evidence(Effect):
    """Two signed statements of one key that contradict each other, in the form of ``primitives/evidence.py``.

    The node makes a report of it for the ledger. ``kind``, ``first`` and ``second`` are those of the evidence there.
    """

    kind: EvidenceKind
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class Contradiction(Effect):
    """Two valid certificates that cannot both exist while at most f validators are faulty. The node must stop.

    ``first`` is None where the last final block is known without its certificate. In the chain family ``first`` is the
    last final block, and ``second`` the last block of a chain that leaves it out and that should have won.
    """

    first: Certificate | BlockRef | None
    second: Certificate | BlockRef


@dataclass(frozen=True, slots=True)
class Offence(Effect):
    """A peer sent something that no honest node sends; ``reason`` is a stable code."""

    sender: bytes
    reason: str


class Engine(Protocol):
    """A consensus engine. ``now_ms`` never decreases."""

    def start(self, now_ms: int) -> Sequence[Effect]:
        """Once, after construction (from genesis or from what the disk remembers)."""
        ...

    def step(self, event: Input, now_ms: int) -> Sequence[Effect]:
        """One input, at one time."""
        ...
