"""Real engines on a random path of the model: whatever they vote, the model must allow.

The *path* is one run of the model, whose honest validators are real engines. At each step a vote that the model allows
is drawn, and the engine that would cast it is given what it needs for it, and nothing else: the certificates that lead
there, the block's ancestors, the proposal, or a timer. An engine is in more of a hurry than the model: on its way it
may cast other votes, and then perhaps not the one that was drawn. All of them must be allowed where the path stands,
and become part of the path. Now and then an engine is restarted from what a disk may have kept, or told of a final
block.
"""

from __future__ import annotations

import random
from collections import Counter

from p2pledger.consensus.engine import (
    BlockArrived,
    BlockRef,
    Broadcast,
    Build,
    Built,
    CertificateArrived,
    Check,
    Checked,
    Contradiction,
    Effect,
    Evidence,
    Finalised,
    Input,
    Offence,
    Persist,
    Proposal,
    ProposalArrived,
    SetTimer,
    TimerFired,
    WantBlock,
    WorkChanged,
)
from p2pledger.consensus.simplex import Recovered, Simplex
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.records import Record, VoteRecord
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from p2pledger.sim.model import Model, Step, block_name
from tests.consensus.world import (
    CAP_MS,
    NETWORK,
    TIMEOUT_MS,
    genesis_of,
    keypairs_of,
    make_block,
    make_vote,
    validators_of,
)

KEYPAIRS = keypairs_of(4)
VALIDATORS = validators_of(KEYPAIRS)
GENESIS = genesis_of(VALIDATORS)
KINDS = {"notarise": VoteKind.NOTARISE, "nullify": VoteKind.NULLIFY, "finalise": VoteKind.FINALISE}


class Replay:
    """Three engines, one faulty validator who votes for everything, and the state of the model that they are in."""

    def __init__(self, faulty: int, views: int, seed: int, *, forgetful: bool = False) -> None:
        self.model = Model(views=views, faulty=(faulty,), in_order=False)
        self.state = self.model.start
        self.random = random.Random(seed)
        self.forgetful = forgetful
        """Restarted engines have lost their votes, as no engine may."""
        self.counts: Counter[str] = Counter()
        self.engines: dict[int, Simplex] = {}
        self.disks: dict[int, list[Record]] = {node: [] for node in self.model.honest}
        self.finals: dict[int, BlockRef] = {node: BlockRef.of(GENESIS.header) for node in self.model.honest}
        self.now_ms = dict.fromkeys(self.model.honest, 0)
        self.timers: dict[int, int | None] = {}
        self.builds: dict[int, Build] = {}
        self.blocks: dict[bytes, Block] = {GENESIS.id: GENESIS}
        self.numbers: dict[bytes, int] = {GENESIS.id: 0}
        """The model's number of a block; it gets one with its first honest vote."""
        self.cast: dict[tuple[VoteKind, int, bytes], dict[int, Vote]] = {}
        for node in self.model.honest:
            self.boot(node)

    def boot(self, node: int) -> None:
        self.timers[node] = None
        self.builds.pop(node, None)
        self.engines[node] = Simplex(
            network_id=NETWORK,
            validators=VALIDATORS,
            keypair=KEYPAIRS[node],
            recovered=Recovered.of(self.finals[node], self.disks[node]),
            view_timeout_ms=TIMEOUT_MS,
            view_timeout_cap_ms=CAP_MS,
        )
        self.obey(node, self.engines[node].start(self.now_ms[node]))
        self.tell(node, WorkChanged(True))

    # --- one engine -------------------------------------------------------------------------------------------------

    def tell(self, node: int, event: Input) -> None:
        self.obey(node, self.engines[node].step(event, self.now_ms[node]))

    def obey(self, node: int, effects: object) -> None:
        answers: list[Input] = []
        for effect in tuple(effects):  # type: ignore[arg-type]
            assert isinstance(effect, Effect)
            match effect:
                case Persist(records):
                    self.disks[node].extend(records)
                    for record in records:
                        if isinstance(record, VoteRecord):
                            self.voted(node, Vote.decode(record.data))
                case Broadcast(Proposal(_, vote)) | Broadcast(Vote() as vote):
                    assert vote.signer != node or self.cast[vote.kind, vote.view, vote.block][node] == vote
                case SetTimer(at_ms):
                    self.timers[node] = at_ms
                case Check(block):
                    answers.append(Checked(block.header.view, block.id, True))
                case Build():
                    self.builds[node] = effect
                case WantBlock(name, _):
                    answers.append(BlockArrived(self.blocks[name]))
                case Finalised(block, _):
                    assert block.height > self.finals[node].height
                    self.finals[node] = block
                case Evidence():
                    assert Vote.decode(effect.first).signer in self.model.faulty, "an honest engine is accused"
                case Contradiction() | Offence():
                    raise AssertionError(f"node-{node}: {effect}")
                case _:
                    pass
        for answer in answers:
            self.tell(node, answer)

    def voted(self, node: int, vote: Vote) -> None:
        """The model must allow this vote, here and now."""
        kind = {number: name for name, number in KINDS.items()}[vote.kind]
        place = self.model.honest.index(node)
        number, parent = 0, None
        parents = self.model.outcome(self.state)[1]
        if vote.kind is not VoteKind.NULLIFY:
            block = self.blocks[vote.block]
            if vote.block not in self.numbers:
                number = 2 * vote.view - 1
                self.numbers[vote.block] = number + (self.model.parent_of(parents, number) is not None)
                parent = self.numbers[block.header.parent]
            number = self.numbers[vote.block]
        wanted = Step(place, kind, vote.view, (number + 1) % 2 if number else 0, parent)
        after = dict(self.model.moves(self.state)).get(wanted)
        assert after is not None, f"node-{node} may not {kind} {block_name(number)} in view {vote.view}"
        self.state = after
        self.cast.setdefault((vote.kind, vote.view, vote.block), {})[node] = vote
        self.counts[kind] += 1

    # --- what exists ------------------------------------------------------------------------------------------------

    def certificate(self, kind: VoteKind, view: int, block: bytes = ZERO_HASH) -> Certificate | None:
        """From the votes that engines cast and those of the faulty one, if they are a quorum."""
        votes = dict(self.cast.get((kind, view, block), {}))
        for node in self.model.faulty:
            votes[node] = make_vote(KEYPAIRS, node, kind, view, block)
        return Certificate.of(votes) if len(votes) >= VALIDATORS.quorum else None

    def notarisation(self, view: int) -> Certificate | None:
        found = [self.certificate(VoteKind.NOTARISE, view, name) for name in self.names_in(view)]
        return next((certificate for certificate in found if certificate is not None), None)

    def finalisation(self) -> Certificate | None:
        """The newest one."""
        for view in range(self.model.views, 0, -1):
            for name in self.names_in(view):
                certificate = self.certificate(VoteKind.FINALISE, view, name)
                if certificate is not None:
                    return certificate
        return None

    def names_in(self, view: int) -> list[bytes]:
        return [name for name, block in self.blocks.items() if block.header.view == view and name in self.numbers]

    # --- the path ---------------------------------------------------------------------------------------------------

    def walk(self, attempts: int) -> None:
        """Follows a random path for so many votes drawn, then sees that what is final there is final everywhere."""
        for _ in range(attempts):
            chance = self.random.random()
            node = self.random.choice(self.model.honest)
            if chance < 0.05:
                self.restart(node)
            elif chance < 0.08:
                self.hear_of_final(node)
            else:
                moves = self.model.moves(self.state)
                if not moves:
                    break
                step, after = self.random.choice(moves)
                node = self.model.honest[step.place]
                before = self.state
                self.attempt(node, step)
                same = self.state != before and self.state == after
                self.counts["as drawn" if same else "otherwise" if self.state != before else "nothing"] += 1
        for node in self.model.honest:
            self.hear_of_final(node)
        certified, parents = self.model.outcome(self.state)
        assert not self.model.broken(certified, parents)
        final = self.finalisation()
        if final is not None:
            self.counts["paths with a final block"] += 1
            for node in self.model.honest:
                assert self.engines[node].final.id == final.block, f"node-{node} is not where the model is"

    def restart(self, node: int) -> None:
        """From a disk that kept every vote and all before it; what was written after the last vote may be lost."""
        disk = self.disks[node]
        if self.forgetful:
            disk[:] = [record for record in disk if not isinstance(record, VoteRecord)]
        last = max((place for place, record in enumerate(disk) if isinstance(record, VoteRecord)), default=-1)
        del disk[self.random.randint(last + 1, len(disk)) :]
        self.counts["restarts"] += 1
        self.boot(node)

    def hear_of_final(self, node: int) -> None:
        final = self.finalisation()
        if final is not None:
            self.tell(node, CertificateArrived(KEYPAIRS[self.model.faulty[0]].public_key, final))

    def attempt(self, node: int, step: Step) -> None:
        """Gives an engine what it needs to cast this vote."""
        engine = self.engines[node]
        if step.kind == "finalise":
            self.hear(node, self.notarisation(step.view))
            return
        parent: int | None = 0
        if step.kind == "notarise":
            parent = step.parent
            if parent is None:
                number = 2 * step.view - 1 + step.block
                parent = self.model.parent_of(self.model.outcome(self.state)[1], number)
            assert parent is not None
            parent_view = (parent + 1) // 2
            for view in range(parent_view + 1, step.view):
                self.hear(node, self.certificate(VoteKind.NULLIFY, view))
            if parent:
                self.hear(node, self.notarisation(parent_view))
        if engine.view < step.view:
            ways = [self.certificate(VoteKind.NULLIFY, step.view - 1), self.notarisation(step.view - 1)]
            self.hear(node, self.random.choice([way for way in ways if way is not None]))
        if engine.view != step.view:
            return
        if step.kind == "nullify":
            self.let_time_pass(node, step.view)
        elif step.parent is not None and step.view % 4 == node:
            self.propose(node, step)
        else:
            self.hear_proposal(node, step, parent)

    def hear(self, node: int, certificate: Certificate | None) -> None:
        if certificate is not None:
            self.tell(node, CertificateArrived(KEYPAIRS[self.model.faulty[0]].public_key, certificate))

    def let_time_pass(self, node: int, view: int) -> None:
        """Until the engine has voted to nullify, or leaves it at that."""
        for _ in range(16):
            timer_ms = self.timers[node]
            if timer_ms is None or node in self.cast.get((VoteKind.NULLIFY, view, ZERO_HASH), {}):
                return
            self.now_ms[node], self.timers[node] = max(self.now_ms[node], timer_ms), None
            self.tell(node, TimerFired())

    def propose(self, node: int, step: Step) -> None:
        """The engine has asked for a block, on the parent that it thinks best."""
        build = self.builds.get(node)
        if build is not None and build.view == step.view:
            block = make_block(VALIDATORS, step.view, build.parent, time_ms=build.parent.time_ms + 1)
            self.blocks[block.id] = block
            del self.builds[node]
            self.tell(node, Built(step.view, block))

    def hear_proposal(self, node: int, step: Step, parent: int) -> None:
        leader = step.view % 4
        number = 2 * step.view - 1 + step.block
        by_number = {held: name for name, held in self.numbers.items()}
        if number not in by_number:
            below = BlockRef.of(self.blocks[by_number[parent]].header)
            block = make_block(VALIDATORS, step.view, below, time_ms=below.time_ms + 1 + step.block)
            self.blocks[block.id] = block
        else:
            block = self.blocks[by_number[number]]
        vote = make_vote(KEYPAIRS, leader, VoteKind.NOTARISE, step.view, block.id)
        self.tell(node, ProposalArrived(KEYPAIRS[leader].public_key, Proposal(block, vote)))
