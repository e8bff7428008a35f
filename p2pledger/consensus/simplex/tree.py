"""The blocks above the final one: which are known, which were handed over, and which are missing.

Blocks become known to the node in the order of the chain: *linked* ones have been handed over as notarised; a
certified block with a missing ancestor waits until the ancestor has been fetched.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from p2pledger.consensus.engine import BlockRef
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.records import BlockRecord
from p2pledger.primitives.votes import Certificate

__all__ = ["Link", "Tree"]


@dataclass(frozen=True, slots=True)
class Link:
    """The way from a certified block down to what was linked before."""

    path: tuple[Block, ...] = ()
    """Newly linked blocks, parents first."""
    complete: bool = True
    leaves_out_final: bool = False
    """The chain does not contain the final block: more than f validators are faulty. Said once for each block."""


class Tree:
    """``final`` is the last block that was handed over as final, ``final_proof`` its certificate if it is known."""

    __slots__ = ("_blocks", "_deepest", "_foreign", "_stored", "final", "final_proof", "linked", "missing")

    def __init__(self, final: BlockRef, blocks: Iterable[Block]) -> None:
        self.final = final
        self.final_proof: Certificate | None = None
        self.linked: dict[bytes, BlockRef] = {final.id: final}
        self.missing: dict[bytes, Certificate] = {}
        """Blocks that a certificate made necessary, with that certificate."""
        self._blocks: dict[bytes, Block] = {}
        self._stored: set[bytes] = set()
        self._deepest: dict[bytes, bytes] = {}
        self._foreign: set[bytes] = set()
        for block in blocks:
            self._stored.add(block.id)
            if block.header.view > final.view:
                self._blocks[block.id] = block

    def add(self, block: Block) -> None:
        self._blocks[block.id] = block

    def get(self, name: bytes) -> Block | None:
        return self._blocks.get(name)

    def record_of(self, block: Block) -> tuple[BlockRecord, ...]:
        """The record that keeps it, unless it is on the disk already."""
        if block.id in self._stored:
            return ()
        self._stored.add(block.id)
        header = block.header
        return (BlockRecord(block.id, header.height, header.view, header.parent, block.encode()),)

    def connect(self, certificate: Certificate) -> Link:
        """Links a certified block with those of its ancestors that are not linked yet, if all are here.

        ``_deepest`` remembers how far down the way is known, so that fetching a long chain block by block costs one
        step for each block.
        """
        if certificate.block in self._foreign:
            return Link(complete=False)
        name = self._deepest.get(certificate.block, certificate.block)
        while name not in self.linked:
            block = self._blocks.get(name)
            if block is None:
                self._deepest[certificate.block] = name
                self.missing.setdefault(name, certificate)
                return Link(complete=False)
            if block.header.height <= self.final.height:
                self._foreign.add(certificate.block)
                return Link(complete=False, leaves_out_final=True)
            name = block.header.parent
        self._deepest.pop(certificate.block, None)
        path = self.path(certificate.block, self.linked)
        for block in path:
            self.linked[block.id] = BlockRef.of(block.header)
        return Link(path)

    def path(self, name: bytes, stop: Container[bytes]) -> tuple[Block, ...]:
        """The known blocks from above the first ancestor in ``stop`` up to this one."""
        path: list[Block] = []
        while name not in stop:
            path.append(self._blocks[name])
            name = path[-1].header.parent
        return tuple(reversed(path))

    def advance(self, final: BlockRef, proof: Certificate | None) -> None:
        """What lies at or below the final block and is not the final block itself is of no use any more."""
        self.final, self.final_proof = final, proof
        self.linked = {name: ref for name, ref in self.linked.items() if ref.view > final.view}
        self.linked[final.id] = final
        self._blocks = {name: block for name, block in self._blocks.items() if block.header.view > final.view}
        self._stored.intersection_update(self._blocks)
        self._deepest.clear()
