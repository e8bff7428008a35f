"""The scripts of which the vectors in ``vectors/`` are the records: each tells one engine what happens.

A function is one vector: its name is the file's, its docstring what the vector is about. Validators are called by their
index in the order of keys; the leader of view v is validator v mod n. The engine is validator 0 unless a script says
otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from p2pledger.consensus.engine import (
    BlockArrived,
    BlockRef,
    Built,
    CertificateArrived,
    CertificateWanted,
    Checked,
    FinalReached,
    Input,
    Proposal,
    ProposalArrived,
    TimerFired,
    VoteArrived,
    WorkChanged,
)
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.codec import Value, decode, encode
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.consensus.vector_format import SCHEMA, Json, Player, input_json
from tests.consensus.world import NETWORK, genesis_of, keypairs_of, make_block

NOTARISE, NULLIFY, FINALISE = VoteKind.NOTARISE, VoteKind.NULLIFY, VoteKind.FINALISE
TIMEOUT_MS: Final = 1_000
CAP_MS: Final = 16_000


class Recorder:
    """Plays a script on an engine and writes down each step with what came of it."""

    def __init__(
        self,
        *,
        signer: int | None = 0,
        weights: tuple[int, ...] = (1, 1, 1, 1),
        may_vote: bool = True,
        last_height: int | None = None,
    ) -> None:
        self.keypairs = keypairs_of(len(weights))
        self.validators = self._set(0, weights)
        genesis = genesis_of(self.validators)
        self.root = BlockRef.of(genesis.header)
        self.others = [index for index in range(len(weights)) if index != signer]
        self.head: Json = {
            "network_id": NETWORK.hex(),
            "epoch": 0,
            "validators": self._members(weights),
            "quorum": self.validators.quorum,
            "genesis": genesis.encode().hex(),
            "engine": {
                "seed": None if signer is None else self.keypairs[signer].seed.hex(),
                "may_vote": may_vote,
                "last_height": last_height,
                "view_timeout_ms": TIMEOUT_MS,
                "view_timeout_cap_ms": CAP_MS,
            },
        }
        self.player = Player(self.head)
        self.now_ms = 0
        self.timer_ms: int | None = None
        self.steps: list[Json] = []
        self._record("the engine starts", {"type": "start"})

    def _set(self, epoch: int, weights: tuple[int, ...]) -> Validators:
        members = [Validator(pair.public_key, weight) for pair, weight in zip(self.keypairs, weights, strict=True)]
        return Validators.of(epoch, members)

    def _members(self, weights: tuple[int, ...]) -> list[Json]:
        return [
            {"seed": pair.seed.hex(), "key": pair.public_key.hex(), "weight": weight}
            for pair, weight in zip(self.keypairs, weights, strict=True)
        ]

    def _record(self, note: str, values: Json) -> Json:
        step = {"at_ms": self.now_ms, "note": note, "input": values}
        result = self.player.play(step)
        self.steps.append({**step, **result})
        for effect in result.get("effects", ()):
            if effect["type"] == "set_timer":
                self.timer_ms = effect["at_ms"]
        return result

    def vector(self, name: str, about: str) -> Json:
        return {"schema": SCHEMA, "name": name, "about": about, **self.head, "steps": self.steps}

    # --- what a script says -----------------------------------------------------------------------------------------

    def tell(self, note: str, event: Input) -> list[str]:
        """The types of the effects."""
        return [effect["type"] for effect in self._record(note, input_json(event))["effects"]]

    def raw(self, note: str, **values: Any) -> None:
        """A message as bytes that no decoder accepts."""
        result = self._record(note, values)
        assert "refused" in result, f"these bytes were accepted: {note}"

    def restart(self, note: str) -> None:
        self.timer_ms = None
        self._record(note, {"type": "restart"})

    def become(self, members: tuple[int, ...], weights: tuple[int, ...]) -> None:
        """From here on the script speaks for the next epoch, of which the engine has not heard yet.

        ``members`` are indices among the validators of this epoch.
        """
        self.keypairs = [self.keypairs[index] for index in members]
        self.weights = weights
        self.validators = self._set(self.validators.epoch + 1, weights)
        own = self.head["engine"]["seed"]
        self.others = [index for index, pair in enumerate(self.keypairs) if pair.seed.hex() != own]

    def next_epoch(self, note: str, last_height: int | None) -> None:
        """The node knows the validators that the script speaks for since ``become``."""
        members = self._members(self.weights)
        self._record(note, {"type": "next_epoch", "validators": members, "last_height": last_height})

    def wait(self, note: str) -> None:
        """Until the timer fires."""
        assert self.timer_ms is not None
        self.now_ms, self.timer_ms = max(self.now_ms, self.timer_ms), None
        self.tell(note, TimerFired())

    def wait_for_vote(self, note: str) -> None:
        """Until a timer makes the engine sign something."""
        for _ in range(20):
            self.wait("time passes")
            records = [each for e in self.steps[-1]["effects"] if e["type"] == "persist" for each in e["records"]]
            if any(record["type"] == "vote" for record in records):
                self.steps[-1]["note"] = note
                return
        raise AssertionError("the engine does not vote")

    def work(self) -> None:
        self.tell("the node has work", WorkChanged(True))

    def block(self, view: int, parent: Block | BlockRef | None = None, **changes: object) -> Block:
        below = BlockRef.of(parent.header) if isinstance(parent, Block) else parent or self.root
        return make_block(self.validators, view, below, **changes)  # type: ignore[arg-type]

    def propose(self, note: str, block: Block, *, signer: int | None = None) -> None:
        leader = self.validators.leader(block.header.view) if signer is None else signer
        vote = self.signed(leader, NOTARISE, block.header.view, block.id)
        self.tell(note, ProposalArrived(self.keypairs[leader].public_key, Proposal(block, vote)))

    def check(self, block: Block, *, ok: bool = True) -> None:
        note = f"the node has checked it: {'right' if ok else 'wrong'}"
        self.tell(note, Checked(block.header.view, block.id, ok))

    def accept(self, note: str, block: Block) -> None:
        """A proposal that the node finds right."""
        self.propose(note, block)
        self.check(block)

    def signed(self, signer: int, kind: VoteKind, view: int, block: bytes = ZERO_HASH) -> Vote:
        return Vote.make(NETWORK, self.validators.epoch, view, kind, block, signer, self.keypairs[signer])

    def vote(self, signer: int, kind: VoteKind, view: int, block: bytes = ZERO_HASH, note: str = "") -> None:
        vote = self.signed(signer, kind, view, block)
        said = note or f"validator {signer} votes to {kind.name.lower()} view {view}"
        self.tell(said, VoteArrived(self.keypairs[signer].public_key, vote))

    def certificate(
        self, kind: VoteKind, view: int, block: bytes = ZERO_HASH, signers: tuple[int, ...] | None = None
    ) -> Certificate:
        who = self.others if signers is None else signers
        return Certificate.of({signer: self.signed(signer, kind, view, block) for signer in who})

    def certify(
        self,
        note: str,
        kind: VoteKind,
        view: int,
        block: bytes = ZERO_HASH,
        signers: tuple[int, ...] | None = None,
    ) -> None:
        sender = self.keypairs[self.others[0]].public_key
        self.tell(note, CertificateArrived(sender, self.certificate(kind, view, block, signers)))


# --- the good case --------------------------------------------------------------------------------------------------


def happy_path() -> Recorder:
    """Four validators, one view: proposal, notarise votes, finalise votes; final after three message delays."""
    it = Recorder()
    it.work()
    first = it.block(1)
    it.accept("the leader of view 1 proposes", first)
    it.vote(2, NOTARISE, 1, first.id, "with the leader's and its own this is a quorum: notarised")
    it.vote(3, NOTARISE, 1, first.id, "more than a quorum: nothing happens")
    it.vote(1, FINALISE, 1, first.id)
    it.vote(3, FINALISE, 1, first.id, "a quorum of finalise votes: final")
    it.wait("the certificate is passed on, once")
    return it


def happy_path_leader() -> Recorder:
    """The same view from its leader's side: asked to build as soon as there is work, one vote for its own block."""
    it = Recorder(signer=1)
    it.work()
    first = it.block(1, digests=(bytes([7]) * 32,))
    it.tell("the node has built a block", Built(1, first))
    it.tell("the node builds another one: too late", Built(1, it.block(1, time_ms=99)))
    it.vote(0, NOTARISE, 1, first.id)
    it.vote(2, NOTARISE, 1, first.id, "notarised")
    it.vote(0, FINALISE, 1, first.id)
    it.vote(3, FINALISE, 1, first.id, "final")
    return it


def single_validator() -> Recorder:
    """A network of one: its own vote is the quorum, and each block is final in one step."""
    it = Recorder(weights=(1,))
    it.work()
    first = it.block(1)
    it.tell("the node has built a block", Built(1, first))
    it.tell("and another, in the next view", Built(2, it.block(2, first)))
    it.tell("there is no more work", WorkChanged(False))
    return it


def weights() -> Recorder:
    """Weights 5, 1, 1, 1: of eight, six are a quorum. Three light validators are none; the heavy one with one is."""
    it = Recorder(weights=(5, 1, 1, 1), signer=3)
    first = it.block(1)
    it.accept("the leader of view 1 proposes", first)
    it.vote(2, NOTARISE, 1, first.id, "three validators, weight 3: no quorum")
    it.certify("nor does a certificate of the three count", NOTARISE, 1, first.id, (1, 2, 3))
    it.vote(0, NOTARISE, 1, first.id, "weight 8: notarised")
    it.vote(0, FINALISE, 1, first.id, "the heavy one and the engine's own, weight 6: final")
    return it


# --- leaders that fail ----------------------------------------------------------------------------------------------


def silent_leader() -> Recorder:
    """A leader that says nothing: its view is nullified after a timeout; the next time after a tenth of one."""
    it = Recorder()
    it.work()
    it.wait_for_vote("the timeout ends: a vote to nullify")
    it.vote(2, NULLIFY, 1)
    it.vote(3, NULLIFY, 1, note="a quorum: view 1 is nullified, view 2 begins")
    second = it.block(2)
    it.accept("the leader of view 2 proposes on the genesis, for view 1 is nullified", second)
    it.vote(3, NOTARISE, 2, second.id)
    third = it.block(3, second)
    it.accept("and that of view 3", third)
    it.vote(2, NOTARISE, 3, third.id)
    fourth = it.block(4, third)
    it.tell("the engine leads view 4 itself", Built(4, fourth))
    it.vote(2, NOTARISE, 4, fourth.id)
    it.vote(3, NOTARISE, 4, fourth.id)
    it.wait_for_vote("view 5 is led by the silent one again: it is given a tenth of the timeout")
    return it


def nullified_leader() -> Recorder:
    """The leader's block comes too late: after a quorum for nullify it gets no vote any more."""
    it = Recorder()
    for signer in (1, 2, 3):
        it.vote(signer, NULLIFY, 1)
    it.propose("the proposal of view 1 comes when view 1 is over", it.block(1))
    it.propose("the next leader builds on the genesis", it.block(2))
    return it


def equivocating_leader() -> Recorder:
    """A leader with two blocks for one view: the first gets the vote, both votes together are evidence."""
    it = Recorder()
    first, other = it.block(1), it.block(1, time_ms=9)
    it.propose("the leader proposes", first)
    it.propose("the leader proposes another block: evidence", other)
    it.propose("and a third: nobody cares any more", it.block(1, time_ms=10))
    it.tell("the node finds the second one right, which nobody asked", Checked(1, other.id, True))
    it.check(first)
    return it


def other_block_notarised() -> Recorder:
    """The equivocating leader's other block is notarised. Whoever voted for the first still finalises the other."""
    it = Recorder()
    first, other = it.block(1), it.block(1, time_ms=9)
    it.accept("the leader shows the engine one block", first)
    it.certify("the others were shown another, and notarised it", NOTARISE, 1, other.id)
    it.tell("the notarised block is fetched", BlockArrived(other))
    it.certify("it becomes final", FINALISE, 1, other.id)
    return it


def block_refused_by_the_node() -> Recorder:
    """A proposal that the node finds wrong gets no vote, and its view is left after a tenth of the timeout."""
    it = Recorder()
    it.work()
    first = it.block(1)
    it.propose("the leader proposes", first)
    it.check(first, ok=False)
    it.wait_for_vote("a vote to nullify, early")
    return it


# --- late and lost --------------------------------------------------------------------------------------------------


def late_notarisation() -> Recorder:
    """A notarisation after the vote to nullify leads into the next view, and gets no finalise vote."""
    it = Recorder()
    it.work()
    first = it.block(1)
    it.accept("the leader proposes", first)
    it.wait_for_vote("the timeout ends: a vote to nullify")
    it.vote(2, NOTARISE, 1, first.id, "notarised after all: view 2 begins; no finalise vote")
    it.vote(1, FINALISE, 1, first.id)
    it.vote(2, FINALISE, 1, first.id)
    it.vote(3, FINALISE, 1, first.id, "the others make it final without this validator")
    return it


def notarised_and_nullified() -> Recorder:
    """A view may be both. The next leader's block may then stand on the view's block, or on the one below."""
    it = Recorder()
    first = it.block(1)
    it.accept("the leader of view 1 proposes", first)
    it.certify("view 1 is nullified", NULLIFY, 1)
    it.certify("and its block is notarised: no finalise vote, it would be in vain", NOTARISE, 1, first.id)
    it.accept("the leader of view 2 builds on the genesis", it.block(2))
    it.certify("view 2 is nullified", NULLIFY, 2)
    it.accept("the leader of view 3 builds on the block of view 1", it.block(3, first))
    return it


def gap_needs_nullifications() -> Recorder:
    """A block that skips a view is voted for only once that view is known to be nullified; what is missing is asked."""
    it = Recorder()
    first = it.block(1)
    it.propose("the leader of view 1 proposes", first)
    it.certify("its block is notarised", NOTARISE, 1, first.id)
    it.certify("view 2 is nullified", NULLIFY, 2)
    it.propose("the leader of view 3 builds on the genesis: view 1 would have to be nullified", it.block(3))
    it.certify("it is", NULLIFY, 1)
    return it


def certificate_catch_up() -> Recorder:
    """A certificate of any later view leads behind that view at once; holes below are asked for when they matter."""
    it = Recorder(signer=0)
    it.work()
    it.certify("view 9 is nullified: the engine goes from view 1 to view 10", NULLIFY, 9)
    it.certify("view 10 is nullified", NULLIFY, 10)
    it.certify("view 11 is nullified: the engine leads view 12, and cannot build across the holes", NULLIFY, 11)
    fifth = it.block(5)
    it.certify("a finalisation of view 5 makes the views below needless", FINALISE, 5, fifth.id)
    it.tell("the final block is fetched", BlockArrived(fifth))
    for view in (6, 7, 8):
        it.certify(f"view {view} is nullified", NULLIFY, view)
    return it


def block_fetched_by_certificate() -> Recorder:
    """A certificate names an unknown block: its finalise vote does not wait for the bytes, which are fetched."""
    it = Recorder()
    first = it.block(1)
    it.tell("a block that nobody asked for is dropped", BlockArrived(first))
    it.certify("view 1 is notarised; its block is not here", NOTARISE, 1, first.id)
    it.tell("the block arrives", BlockArrived(first))
    it.accept("and can be built upon", it.block(2, first))
    return it


def finality_by_descendant() -> Recorder:
    """A finalisation of view 3 makes its ancestors final; they are handed over parents first, when all are here."""
    it = Recorder()
    first = it.block(1)
    second = it.block(2, first)
    third = it.block(3, second)
    it.certify("view 3 is final; none of its blocks is here", FINALISE, 3, third.id)
    it.tell("its block arrives, and names its parent", BlockArrived(third))
    it.tell("so does that", BlockArrived(second))
    it.tell("the chain is complete", BlockArrived(first))
    it.certify("what lies below is superseded", NULLIFY, 1)
    return it


def wanted_certificates() -> Recorder:
    """A peer asks for certificates: the finalisation first, then by view, and always the newest."""
    it = Recorder()
    first = it.block(1)
    it.propose("the leader of view 1 proposes", first)
    it.certify("view 1 is final", FINALISE, 1, first.id)
    for view in range(2, 6):
        it.certify(f"view {view} is nullified", NULLIFY, view)
    asker = it.keypairs[3].public_key
    it.tell("a peer asks for views 1 to 3", CertificateWanted(asker, 1, 3))
    it.tell("for views 4 to 900", CertificateWanted(asker, 4, 900))
    it.tell("for nothing that exists", CertificateWanted(asker, 50, 60))
    return it


def helping_the_late() -> Recorder:
    """Who votes in a view that is over is sent what leads out of it, at most once in half a timeout."""
    it = Recorder()
    first = it.block(1)
    it.propose("the leader of view 1 proposes", first)
    it.certify("view 1 is final", FINALISE, 1, first.id)
    it.vote(3, NOTARISE, 1, first.id, "a vote that has just crossed the certificate")
    it.now_ms += TIMEOUT_MS
    it.vote(3, NOTARISE, 1, first.id, "the same later: its sender is helped")
    it.vote(3, NOTARISE, 1, first.id, "and not twice")
    return it


def resending() -> Recorder:
    """Votes that nobody answers are said again, with a growing pause, together with the proposal that they are for."""
    it = Recorder()
    first = it.block(1)
    it.accept("the leader proposes", first)
    for _ in range(5):
        it.wait("nobody answers")
    return it


# --- restart --------------------------------------------------------------------------------------------------------


def restart_with_votes() -> Recorder:
    """An engine that starts again says its votes again and contradicts none of them."""
    it = Recorder()
    it.work()
    first = it.block(1)
    it.accept("the leader proposes", first)
    it.restart("a crash; the disk remembers one notarise vote")
    it.work()
    it.propose("the leader shows another block: no second vote", it.block(1, time_ms=9))
    it.wait_for_vote("the timeout ends: a vote to nullify is no contradiction")
    it.restart("another crash")
    it.certify("view 1 is notarised: no finalise vote after the one to nullify", NOTARISE, 1, first.id)
    return it


def restart_of_a_leader() -> Recorder:
    """A leader that starts again repeats its proposal and makes no other one."""
    it = Recorder(signer=1)
    it.work()
    it.tell("the node has built a block", Built(1, it.block(1)))
    it.restart("a crash")
    it.work()
    return it


def restart_with_certificates() -> Recorder:
    """Certificates and blocks on the disk lead back to where the engine was, and are handed over again."""
    it = Recorder()
    first = it.block(1)
    it.accept("the leader of view 1 proposes", first)
    it.vote(2, NOTARISE, 1, first.id, "notarised")
    it.restart("a crash: the block is handed over again, the finalise vote said again, not signed again")
    second = it.block(2, first)
    it.accept("the leader of view 2 proposes", second)
    it.certify("view 2 is final", FINALISE, 2, second.id)
    it.restart("a crash after that: nothing is left to do")
    return it


# --- epochs ---------------------------------------------------------------------------------------------------------


def epoch_end() -> Recorder:
    """Height 1 ends epoch 0. The engine signs nothing more, until it is told the validators of epoch 1."""
    it = Recorder(last_height=1)
    it.work()
    last = it.block(1)
    it.accept("the leader of view 1 proposes the last block of the epoch", last)
    it.vote(2, NOTARISE, 1, last.id, "notarised")
    it.certify("final: the epoch has ended", FINALISE, 1, last.id)
    it.vote(2, NULLIFY, 2, note="a vote of the old epoch, in a view after its end")
    it.propose("a proposal of the old epoch", it.block(2, last))
    it.now_ms += TIMEOUT_MS
    it.vote(3, NULLIFY, 1, note="somebody is still in view 1: what ended the epoch is sent")
    it.become((0, 2, 3), (1, 1, 1))
    it.next_epoch("the validators of epoch 1 are three of the four; its first view is 2", 9)
    second = it.block(2, last)
    it.accept("the leader of view 2, by the new order, proposes", second)
    it.vote(1, NOTARISE, 2, second.id, "of three all are needed: notarised")
    return it


def epoch_closing_blocks() -> Recorder:
    """The last block of an epoch is notarised, but not final: an empty block above it makes it so, and vanishes."""
    it = Recorder(signer=2, last_height=1)
    it.work()
    last = it.block(1)
    it.accept("the leader of view 1 proposes the last block of the epoch", last)
    it.vote(3, NOTARISE, 1, last.id, "notarised: view 2 begins, and the engine leads it")
    it.wait("the certificate is passed on")
    it.wait("the finalise votes have had their time: a closing block is wanted")
    closing = it.block(2, last)
    it.tell("the node has built it, empty", Built(2, closing))
    it.vote(0, NOTARISE, 2, closing.id)
    it.vote(3, NOTARISE, 2, closing.id, "notarised")
    it.vote(0, FINALISE, 2, closing.id)
    it.vote(3, FINALISE, 2, closing.id, "final, and by it the last block of the epoch")
    it.become((0, 1, 2, 3), (1, 1, 1, 1))
    it.next_epoch("the first view of the next epoch is 2, on the last block, not on the closing one", None)
    return it


def epoch_early_messages() -> Recorder:
    """Messages of the next epoch wait until its validators are known."""
    it = Recorder(last_height=1)
    last = it.block(1)
    end = it.certificate(FINALISE, 1, last.id)
    it.propose("the leader of view 1 proposes the last block of the epoch", last)
    it.become((0, 1, 2, 3), (1, 1, 1, 1))
    second = it.block(2, last)
    it.propose("the leader of view 2 of the next epoch proposes: too early", second)
    it.vote(3, NOTARISE, 2, second.id, "and somebody has voted for it")
    it.tell("the last block becomes final here as well", CertificateArrived(it.keypairs[1].public_key, end))
    it.next_epoch("the node knows the validators of the next epoch: what came early counts", None)
    it.check(second)
    return it


def epoch_restart() -> Recorder:
    """A crash in the next epoch: votes of that epoch are said again, those of the one before are over."""
    it = Recorder(last_height=1)
    last = it.block(1)
    it.accept("the leader of view 1 proposes the last block of the epoch", last)
    it.certify("final: the epoch has ended", FINALISE, 1, last.id)
    it.become((0, 1, 2, 3), (2, 1, 1, 1))
    it.next_epoch("the next epoch begins", None)
    it.accept("the leader of view 2 proposes", it.block(2, last))
    it.restart("a crash")
    it.propose("the leader shows another block: no second vote", it.block(2, last, time_ms=77))
    return it


# --- observers and other ways ---------------------------------------------------------------------------------------


def observer() -> Recorder:
    """An engine without a validator's key follows and signs nothing."""
    it = Recorder(signer=None)
    it.work()
    first = it.block(1)
    it.propose("the leader proposes", first)
    it.certify("notarised", NOTARISE, 1, first.id)
    it.certify("final", FINALISE, 1, first.id)
    return it


def may_not_vote() -> Recorder:
    """A validator whose votes may have been lost runs as an observer: no vote, no proposal."""
    it = Recorder(signer=1, may_vote=False)
    it.work()
    it.certify("view 1, which it would lead, is nullified", NULLIFY, 1)
    return it


def final_by_another_way() -> Recorder:
    """The node has caught up with final blocks by itself: what lies below is neither fetched nor kept."""
    it = Recorder()
    first = it.block(1)
    second = it.block(2, first)
    it.certify("view 2 is notarised, its blocks are missing", NOTARISE, 2, second.id)
    it.tell("the node has got the block of view 2 as final", FinalReached(BlockRef.of(second.header)))
    it.accept("the next leader builds on it", it.block(3, second))
    return it


def empty_block_for_finality() -> Recorder:
    """Without work, a block is built only where one above is still needed for finality, after a grace."""
    it = Recorder(signer=2)
    first = it.block(1)
    it.accept("the leader of view 1 proposes", first)
    it.vote(3, NOTARISE, 1, first.id, "notarised; the engine leads view 2 and waits for the finalise votes")
    it.wait("the certificate is passed on")
    it.wait("a quarter of the timeout later: the node must build, even an empty block")
    it.tell("it has", Built(2, it.block(2, first)))
    return it


# --- what no honest node sends --------------------------------------------------------------------------------------


def contradicting_certificates() -> Recorder:
    """Two certificates that cannot both exist: the engine says so, and does not follow the second."""
    it = Recorder()
    first, other = it.block(1), it.block(1, time_ms=9)
    it.propose("the leader proposes", first)
    it.certify("its block is final", FINALISE, 1, first.id)
    it.certify("a certificate says that view 1 is nullified", NULLIFY, 1)
    it.certify("one that another block of it is notarised", NOTARISE, 1, other.id)
    it.certify("one that another block of it is final", FINALISE, 1, other.id)
    return it


def chain_without_the_final_block() -> Recorder:
    """A notarised block whose chain leaves out the final one is a contradiction, found when its block is here."""
    it = Recorder()
    first, fork = it.block(1), it.block(2)
    it.propose("the leader of view 1 proposes", first)
    it.certify("its block is final", FINALISE, 1, first.id)
    it.certify("a block of view 2 is notarised", NOTARISE, 2, fork.id)
    it.tell("it stands beside the final one", BlockArrived(fork))
    return it


def contradicting_votes() -> Recorder:
    """One signer that nullifies and finalises a view, and one that finalises two blocks: evidence, once for each."""
    it = Recorder()
    first, other = it.block(1), it.block(1, time_ms=9)
    it.vote(2, NULLIFY, 1)
    it.vote(2, FINALISE, 1, first.id, "validator 2 finalises the view that it nullified: evidence")
    it.vote(2, FINALISE, 1, other.id, "and contradicts itself again: said once")
    it.vote(3, FINALISE, 1, first.id)
    it.vote(3, FINALISE, 1, other.id, "validator 3 finalises two blocks: evidence")
    return it


def refused_proposals() -> Recorder:
    """Proposals that no honest node sends: refused with a reason, nothing stored, no vote."""
    it = Recorder()
    first, second = it.block(1), it.block(2)
    peer = it.keypairs[3].public_key
    leader = it.signed(1, NOTARISE, 1, first.id)
    wrong = [
        ("signed by another than the leader", first, it.signed(2, NOTARISE, 1, first.id)),
        ("the vote names another block", first, it.signed(1, NOTARISE, 1, second.id)),
        ("the vote is of another kind", first, it.signed(1, FINALISE, 1, first.id)),
        ("the vote is of another view than the block", second, it.signed(1, NOTARISE, 1, second.id)),
        ("the signature is wrong", first, replace(leader, signature=bytes(64))),
        ("the signer is unknown", first, replace(leader, signer=9)),
    ]
    for note, block, vote in wrong:
        it.tell(note, ProposalArrived(peer, Proposal(block, vote)))
    it.tell("for a view far ahead: dropped", ProposalArrived(peer, _proposal(it, it.block(401))))
    it.tell("of another epoch: dropped", ProposalArrived(peer, _proposal(it, it.block(1, epoch=1))))
    it.accept("the right one still gets its vote", first)
    return it


def refused_headers() -> Recorder:
    """Headers that are wrong for their view: the leader, who signed it, is named, and its view gets no vote."""
    it = Recorder()
    changes: list[tuple[str, dict[str, object]]] = [
        ("another network", {"network_id": b"elsewher"}),
        ("other validators", {"validators_hash": bytes(32)}),
        ("another proposer", {"proposer": it.keypairs[2].public_key}),
        ("a height that does not follow the parent's", {"height": 2}),
        ("a time that does not follow the parent's", {"time_ms": it.root.time_ms}),
    ]
    for view, (note, fields) in zip((1, 2, 3, 5, 6), changes, strict=True):
        it.propose(note, it.block(view, **fields))
        it.certify(f"view {view} is nullified", NULLIFY, view)
        if view == 3:
            it.certify("and so is view 4, which the engine leads itself", NULLIFY, 4)
    return it


def refused_votes_and_certificates() -> Recorder:
    """Votes and certificates that no honest node sends: refused with a reason, or found out when they would count."""
    it = Recorder()
    peer = it.keypairs[3].public_key
    first = it.block(1)
    forged = tuple((signer, bytes(64)) for signer in (1, 2, 3))
    good = it.certificate(NULLIFY, 1)
    it.tell("an unknown signer", VoteArrived(peer, Vote(0, 1, NULLIFY, ZERO_HASH, 4, bytes(64))))
    it.tell("too few signers", CertificateArrived(peer, it.certificate(NULLIFY, 1, signers=(1, 2))))
    it.tell("forged signatures", CertificateArrived(peer, replace(good, signatures=forged)))
    it.tell("signatures of another view", CertificateArrived(peer, replace(good, view=2)))
    it.tell(
        "a signer unknown", CertificateArrived(peer, replace(good, signatures=(*good.signatures[:2], (9, bytes(64)))))
    )
    it.tell("of another epoch: dropped", CertificateArrived(peer, replace(good, epoch=1)))
    it.tell("a vote of another epoch: dropped", VoteArrived(peer, replace(it.signed(1, NULLIFY, 1), epoch=1)))
    it.vote(1, NULLIFY, 500, note="a vote far ahead: dropped")
    it.tell("a forged vote: not checked yet", VoteArrived(peer, Vote(0, 1, NULLIFY, ZERO_HASH, 1, bytes(64))))
    it.vote(1, NULLIFY, 1, note="the true one in its place: now the forger is named")
    it.tell("a forged vote again", VoteArrived(peer, Vote(0, 1, NOTARISE, first.id, 3, bytes(64))))
    it.vote(2, NOTARISE, 1, first.id)
    it.accept("with the leader's and its own a quorum, if all were good", first)
    return it


def _proposal(it: Recorder, block: Block) -> Proposal:
    leader = it.validators.leader(block.header.view)
    vote = Vote.make(NETWORK, block.header.epoch, block.header.view, NOTARISE, block.id, leader, it.keypairs[leader])
    return Proposal(block, vote)


def _items(data: bytes) -> list[Value]:
    """What stands in an encoded array."""
    value = decode(data, limit_bytes=70_000, what="sample")
    assert isinstance(value, list | tuple)
    return list(value)


def refused_bytes() -> Recorder:
    """Bytes that are not the canonical encoding of a message: refused by the decoder, the engine never sees them."""
    it = Recorder()
    sender = it.keypairs[1].public_key.hex()
    first = it.block(1, digests=(bytes([7]) * 32, bytes([8]) * 32))
    vote = it.signed(1, NOTARISE, 1, first.id)
    certificate = it.certificate(NULLIFY, 1)

    def changed(data: bytes, *path: int, to: Value) -> str:
        """The encoding of the same array with one item replaced."""

        def put(value: Value, way: tuple[int, ...]) -> Value:
            if not way:
                return to
            assert isinstance(value, list | tuple)
            items = list(value)
            items[way[0]] = put(items[way[0]], way[1:])
            return tuple(items)

        return encode(put(_items(data), path)).hex()

    votes = [
        ("a vote that ends too soon", vote.encode()[:-1].hex()),
        ("a vote with a byte behind it", vote.encode().hex() + "00"),
        ("a vote whose version is unknown", changed(vote.encode(), 0, to=2)),
        ("a vote of an unknown kind", changed(vote.encode(), 3, to=4)),
        ("a vote to notarise no block", changed(vote.encode(), 4, to=ZERO_HASH)),
        ("a vote to nullify a block", changed(vote.encode(), 3, to=2)),
        ("a vote with a short signature", changed(vote.encode(), 6, to=bytes(63))),
        ("a vote with an integer in a longer form than needed", "9701cc00" + vote.encode()[3:].hex()),
        ("a vote with a field too many", encode((*_items(vote.encode()), 1)).hex()),
        ("no vote at all", ""),
    ]
    for note, data in votes:
        it.raw(note, type="vote", sender=sender, vote=data)
    signatures = list(certificate.signatures)
    certificates = [
        ("a certificate without signers", changed(certificate.encode(), 5, to=())),
        ("a signer twice", changed(certificate.encode(), 5, to=(signatures[0], signatures[0], signatures[1]))),
        ("signers out of order", changed(certificate.encode(), 5, to=tuple(reversed(signatures)))),
        ("a nullification of a block", changed(certificate.encode(), 4, to=first.id)),
        ("a certificate whose version is unknown", changed(certificate.encode(), 0, to=0)),
    ]
    for note, data in certificates:
        it.raw(note, type="certificate", sender=sender, certificate=data)
    digests = list(first.digests)
    blocks = [
        ("a block with a digest twice", changed(first.encode(), 1, to=(digests[0], digests[0]))),
        ("a block whose root does not commit to its digests", changed(first.encode(), 1, to=tuple(reversed(digests)))),
        ("a header whose version is unknown", changed(first.encode(), 0, 0, to=2)),
        ("a protocol version that is unknown", changed(first.encode(), 0, 12, to=2)),
        ("a parent of 31 bytes", changed(first.encode(), 0, 5, to=bytes(31))),
    ]
    for note, data in blocks:
        it.raw(note, type="block", block=data)
    it.raw("a proposal with a bad block", type="proposal", sender=sender, block=blocks[0][1], vote=vote.encode().hex())
    it.propose("after all that the engine is as it was", first)
    return it


SCRIPTS: Final[tuple[Callable[[], Recorder], ...]] = (
    happy_path,
    happy_path_leader,
    single_validator,
    weights,
    silent_leader,
    nullified_leader,
    equivocating_leader,
    other_block_notarised,
    block_refused_by_the_node,
    late_notarisation,
    notarised_and_nullified,
    gap_needs_nullifications,
    certificate_catch_up,
    block_fetched_by_certificate,
    finality_by_descendant,
    wanted_certificates,
    helping_the_late,
    resending,
    restart_with_votes,
    restart_of_a_leader,
    restart_with_certificates,
    epoch_end,
    epoch_closing_blocks,
    epoch_early_messages,
    epoch_restart,
    observer,
    may_not_vote,
    final_by_another_way,
    empty_block_for_finality,
    contradicting_certificates,
    chain_without_the_final_block,
    contradicting_votes,
    refused_proposals,
    refused_headers,
    refused_votes_and_certificates,
    refused_bytes,
)


def name_of(script: Callable[[], Recorder]) -> str:
    return script.__name__.replace("_", "-")


def text_of(script: Callable[[], Recorder]) -> str:
    """The vector that a script makes, as it stands in its file."""
    assert script.__doc__ is not None
    vector = script().vector(name_of(script), script.__doc__)
    return json.dumps(vector, indent=1) + "\n"
