"""What an engine starts from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2pledger.consensus.engine import BlockRef
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.records import BlockRecord, CertificateRecord, Record, VoteRecord
from p2pledger.primitives.votes import Certificate, Vote

__all__ = ["Recovered"]

_VOTE_KINDS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an engine starts from: the last final block, and what the disk remembers beyond it.

    ``votes`` are this validator's own. They must be complete for all views above the final block's, of this epoch and
    of later ones: a validator that may have lost some must start with ``may_vote=False``.
    """

    final: BlockRef
    votes: tuple[Vote, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    blocks: tuple[Block, ...] = ()

    @classmethod
    def at_genesis(cls, genesis: Block) -> Recovered:
        """A network's first start."""
        return cls(BlockRef.of(genesis.header))

    @classmethod
    def of(cls, final: BlockRef, records: Iterable[Record]) -> Recovered:
        """From the records of earlier ``Persist`` effects, in any order; records of other kinds are passed over."""
        votes: list[Vote] = []
        certificates: list[Certificate] = []
        blocks: list[Block] = []
        for record in records:
            if isinstance(record, VoteRecord) and record.kind in _VOTE_KINDS:
                votes.append(Vote.decode(record.data))
            elif isinstance(record, CertificateRecord):
                certificates.append(Certificate.decode(record.data))
            elif isinstance(record, BlockRecord):
                blocks.append(Block.decode(record.data))
        return cls(final, tuple(votes), tuple(certificates), tuple(blocks))

    def after(self, final: BlockRef, epoch: int) -> Recovered:
        """What of it concerns epochs from ``epoch`` on: for the engine that starts from ``final``."""
        return Recovered(
            final,
            tuple(vote for vote in self.votes if vote.epoch >= epoch),
            tuple(certificate for certificate in self.certificates if certificate.epoch >= epoch),
            tuple(block for block in self.blocks if block.header.epoch >= epoch),
        )
