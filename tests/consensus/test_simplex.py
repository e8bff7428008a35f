"""The rules of one validator, one by one: engine 0 of four, told by hand what happens. Leader of view v is v mod 4."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import pytest

from p2pledger.consensus.engine import (
    BlockArrived,
    BlockRef,
    Broadcast,
    Build,
    Built,
    CertificateArrived,
    CertificateWanted,
    Check,
    Checked,
    Contradiction,
    Effect,
    Evidence,
    Finalised,
    Input,
    Notarised,
    Offence,
    Persist,
    Proposal,
    ProposalArrived,
    Send,
    SetTimer,
    TimerFired,
    VoteArrived,
    WantBlock,
    WantCertificates,
    WorkChanged,
)
from p2pledger.consensus.simplex import Recovered, Simplex
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import BlockRecord, CertificateRecord, VoteRecord
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.consensus.world import (
    CAP_MS,
    NETWORK,
    TIMEOUT_MS,
    genesis_of,
    keypairs_of,
    make_block,
    make_certificate,
    make_vote,
    validators_of,
)

KEYPAIRS = keypairs_of(4)
VALIDATORS = validators_of(KEYPAIRS)
GENESIS = genesis_of(VALIDATORS)
ROOT = BlockRef.of(GENESIS.header)
NOTARISE, NULLIFY, FINALISE = VoteKind.NOTARISE, VoteKind.NULLIFY, VoteKind.FINALISE

E = TypeVar("E", bound=Effect)


class Desk:
    """One engine and what it said last."""

    def __init__(
        self,
        signer: int = 0,
        *,
        recovered: Recovered | None = None,
        keypair: Keypair | None = None,
        may_vote: bool = True,
        observer: bool = False,
    ) -> None:
        self.engine = Simplex(
            network_id=NETWORK,
            validators=VALIDATORS,
            keypair=None if observer else keypair or KEYPAIRS[signer],
            recovered=recovered or Recovered.at_genesis(GENESIS),
            view_timeout_ms=TIMEOUT_MS,
            view_timeout_cap_ms=CAP_MS,
            may_vote=may_vote,
        )
        self.now_ms = 0
        self.timer_ms: int | None = None
        self.effects: tuple[Effect, ...] = ()
        self._take(self.engine.start(0))

    def _take(self, effects: object) -> tuple[Effect, ...]:
        self.effects = tuple(effects)  # type: ignore[arg-type]
        for timer in self.all(SetTimer):
            self.timer_ms = timer.at_ms
        assert sum(isinstance(effect, Persist) for effect in self.effects) <= 1
        if self.all(Persist):
            assert isinstance(self.effects[0], Persist), "records are durable before anything is said"
        return self.effects

    def tell(self, event: Input) -> tuple[Effect, ...]:
        return self._take(self.engine.step(event, self.now_ms))

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def said(self) -> list[Proposal | Vote | Certificate]:
        return [effect.message for effect in self.all(Broadcast)]

    def voted(self) -> list[tuple[VoteKind, int]]:
        """Kinds and views of the own votes among what was said; each must be on the disk."""
        votes = [message for message in self.said() if isinstance(message, Vote)]
        votes += [message.vote for message in self.said() if isinstance(message, Proposal)]
        recorded = [record.data for persist in self.all(Persist) for record in persist.records]
        for vote in votes:
            assert vote.encode() in recorded, "a vote was sent that is not on the disk"
        return [(vote.kind, vote.view) for vote in votes]

    def vote(self, signer: int, kind: VoteKind, view: int, block: bytes = ZERO_HASH) -> tuple[Effect, ...]:
        return self.tell(VoteArrived(KEYPAIRS[signer].public_key, make_vote(KEYPAIRS, signer, kind, view, block)))

    def certify(self, kind: VoteKind, view: int, block: bytes = ZERO_HASH) -> Certificate:
        certificate = make_certificate(KEYPAIRS, (1, 2, 3), kind, view, block)
        self.tell(CertificateArrived(KEYPAIRS[1].public_key, certificate))
        return certificate

    def propose(self, block: Block) -> tuple[Effect, ...]:
        return self.tell(proposal_of(block))

    def work(self) -> tuple[Effect, ...]:
        return self.tell(WorkChanged(True))

    def wait(self) -> tuple[Effect, ...]:
        """Until the timer fires."""
        assert self.timer_ms is not None
        self.now_ms, self.timer_ms = max(self.now_ms, self.timer_ms), None
        return self.tell(TimerFired())

    def share(self) -> None:
        """Until certificates that nothing newer made needless are passed on."""
        assert self.timer_ms == self.now_ms + TIMEOUT_MS // 20
        self.wait()

    def wait_until(self, at_ms: int) -> list[tuple[int, VoteKind, int]]:
        """Fires all timers up to ``at_ms``; (time, kind, view) of votes that were new."""
        found = []
        while self.timer_ms is not None and self.timer_ms <= at_ms:
            self.wait()
            recorded = [record for persist in self.all(Persist) for record in persist.records]
            found += [
                (self.now_ms, VoteKind(record.kind), record.view)
                for record in recorded
                if isinstance(record, VoteRecord)
            ]
        self.now_ms = max(self.now_ms, at_ms)
        return found


def proposal_of(block: Block, signer: int | None = None) -> ProposalArrived:
    leader = VALIDATORS.leader(block.header.view) if signer is None else signer
    vote = make_vote(KEYPAIRS, leader, NOTARISE, block.header.view, block.id)
    return ProposalArrived(KEYPAIRS[leader].public_key, Proposal(block, vote))


FIRST = make_block(VALIDATORS, 1, ROOT)
FIRST_REF = BlockRef.of(FIRST.header)
SECOND = make_block(VALIDATORS, 2, FIRST_REF)
SECOND_REF = BlockRef.of(SECOND.header)
THIRD = make_block(VALIDATORS, 3, SECOND_REF)


# --- idle -----------------------------------------------------------------------------------------------------------


def test_an_engine_without_work_says_nothing_and_sets_no_timer() -> None:
    desk = Desk()
    assert desk.effects == ()
    assert not desk.engine.has_work
    assert desk.tell(WorkChanged(False)) == ()
    assert desk.tell(TimerFired()) == ()


def test_work_starts_the_timer_from_the_time_at_which_it_came() -> None:
    desk = Desk()
    desk.now_ms = 3_600_000
    desk.work()
    assert desk.timer_ms == 3_600_000 + TIMEOUT_MS // 2, "first a resend"
    assert desk.wait_until(3_600_000 + TIMEOUT_MS - 1) == []
    assert desk.wait_until(3_600_000 + TIMEOUT_MS) == [(3_600_000 + TIMEOUT_MS, NULLIFY, 1)]


def test_work_that_vanishes_stops_the_timer() -> None:
    desk = Desk()
    desk.work()
    assert desk.tell(WorkChanged(False)) == (SetTimer(None),)


def test_more_than_f_others_who_want_to_leave_wake_an_idle_engine_and_one_does_not() -> None:
    desk = Desk()
    assert desk.vote(1, NULLIFY, 1) == ()
    desk.vote(2, NULLIFY, 1)
    assert desk.timer_ms is not None
    assert desk.wait_until(TIMEOUT_MS) == [(TIMEOUT_MS, NULLIFY, 1)]


# --- P1, leader proposal --------------------------------------------------------------------------------------------


def test_an_idle_leader_is_asked_to_build_as_soon_as_there_is_work() -> None:
    desk = Desk(signer=1)
    assert Build(1, ROOT) in desk.work()
    assert desk.all(Build) == [Build(1, ROOT)]
    assert desk.tell(WorkChanged(True)) == (), "asked once"


def test_who_does_not_lead_is_not_asked() -> None:
    desk = Desk(signer=0)
    desk.work()
    assert desk.all(Build) == []


def test_a_proposal_is_on_the_disk_with_its_vote_before_it_is_sent() -> None:
    desk = Desk(signer=1)
    desk.work()
    desk.tell(Built(1, FIRST))
    persist = desk.effects[0]
    assert isinstance(persist, Persist)
    assert [type(record) for record in persist.records] == [BlockRecord, VoteRecord]
    assert desk.said() == [Proposal(FIRST, make_vote(KEYPAIRS, 1, NOTARISE, 1, FIRST.id))]


def test_a_leader_proposes_once() -> None:
    desk = Desk(signer=1)
    desk.work()
    desk.tell(Built(1, FIRST))
    other = make_block(VALIDATORS, 1, ROOT, time_ms=9)
    assert desk.tell(Built(1, other)) == ()
    assert desk.engine.counters["stale_build"] == 1


def test_a_block_built_too_late_is_not_proposed() -> None:
    desk = Desk(signer=1)
    desk.work()
    desk.certify(NULLIFY, 1)
    assert desk.tell(Built(1, FIRST)) == ()


def test_a_leader_who_had_nothing_to_build_is_asked_again_when_work_comes() -> None:
    desk = Desk(signer=1)
    desk.work()
    assert desk.tell(Built(1, None)) == ()
    desk.work()
    assert desk.all(Build) == [Build(1, ROOT)]
    desk.tell(Built(1, None))
    desk.wait()
    assert desk.all(Build) == [Build(1, ROOT)], "or after a while"


def test_a_leader_takes_the_highest_notarised_parent_above_which_all_is_nullified() -> None:
    desk = Desk(signer=0)
    desk.propose(FIRST)
    desk.certify(NOTARISE, 1, FIRST.id)
    desk.certify(NULLIFY, 2)
    desk.work()
    desk.certify(NULLIFY, 3)
    assert desk.all(Build) == [Build(4, FIRST_REF, needed=True)]


def test_a_leader_with_a_hole_in_its_certificates_asks_for_them_before_it_builds() -> None:
    desk = Desk(signer=0)
    desk.work()
    desk.certify(NULLIFY, 3)
    assert desk.all(Build) == []
    assert desk.all(WantCertificates) == [WantCertificates(1, 2)]
    desk.certify(NULLIFY, 1)
    assert desk.all(Build) == []
    desk.certify(NULLIFY, 2)
    assert desk.all(Build) == [Build(4, ROOT)]


def test_without_work_a_block_is_built_for_finality_only_after_a_grace() -> None:
    desk = Desk(signer=2)
    desk.propose(FIRST)
    desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.engine.view == 2
    assert desk.all(Build) == [], "the finalise votes for view 1 may be on their way"
    desk.share()
    assert desk.timer_ms == TIMEOUT_MS // 4
    desk.wait()
    assert desk.all(Build) == [Build(2, FIRST_REF, needed=True)]


# --- P2, dummy blocks: nullify --------------------------------------------------------------------------------------


def test_after_a_nullify_vote_there_is_never_a_finalise_vote() -> None:
    desk = Desk()
    desk.work()
    assert desk.wait_until(TIMEOUT_MS) == [(TIMEOUT_MS, NULLIFY, 1)]
    desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.engine.view == 2, "the notarisation still leads on"
    assert desk.voted() == []


def test_after_a_finalise_vote_there_is_never_a_nullify_vote() -> None:
    finalise = make_vote(KEYPAIRS, 0, FINALISE, 1, FIRST.id)
    desk = Desk(recovered=Recovered(ROOT, votes=(finalise,)))
    assert desk.engine.view == 1
    desk.work()
    assert desk.wait_until(20 * TIMEOUT_MS) == []
    assert finalise in desk.said(), "it is said again instead"


def test_who_has_notarised_may_still_nullify() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.tell(Checked(1, FIRST.id, True))
    assert desk.voted() == [(NOTARISE, 1)]
    assert desk.wait_until(TIMEOUT_MS) == [(TIMEOUT_MS, NULLIFY, 1)]


def test_a_quorum_of_nullify_votes_leads_on_without_any_payload() -> None:
    desk = Desk()
    for signer in (1, 2, 3):
        desk.vote(signer, NULLIFY, 1)
    assert desk.engine.view == 2
    assert desk.said() == [make_certificate(KEYPAIRS, (1, 2, 3), NULLIFY, 1)]
    (persist,) = desk.all(Persist)
    assert [type(record) for record in persist.records] == [CertificateRecord]


def test_timeouts_double_with_nullified_views_up_to_the_cap_and_return_to_base_after_a_final_one() -> None:
    desk = Desk()
    desk.work()
    waits = []
    for view in range(1, 9):
        for key in KEYPAIRS[1:]:
            # Any message shows that its sender lives.
            desk.tell(CertificateWanted(key.public_key, 0, 0))
        began_ms = desk.now_ms
        votes = desk.wait_until(began_ms + CAP_MS)
        assert [(kind, seen) for _, kind, seen in votes] == [(NULLIFY, view)]
        waits.append(votes[0][0] - began_ms)
        desk.certify(NULLIFY, view)
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 16_000, 16_000, 16_000]
    block = make_block(VALIDATORS, 9, ROOT)
    desk.propose(block)
    desk.certify(FINALISE, 9, block.id)
    began_ms = desk.now_ms
    desk.tell(CertificateWanted(KEYPAIRS[2].public_key, 0, 0))
    assert desk.wait_until(began_ms + CAP_MS)[0] == (began_ms + TIMEOUT_MS, NULLIFY, 10)


@pytest.mark.parametrize(("heard", "wait_ms"), [(False, TIMEOUT_MS // 10), (True, TIMEOUT_MS)])
def test_a_leader_that_was_silent_in_its_last_view_gets_little_time_until_it_is_heard(
    heard: bool, wait_ms: int
) -> None:
    desk = Desk(signer=1)
    desk.work()
    parent = ROOT
    for view in range(1, 4):
        block = make_block(VALIDATORS, view, parent)
        parent = BlockRef.of(block.header)
        if view == 3:
            # Seat 3, dead, leads view 3. All certificates here are brought by others.
            bring(desk, make_certificate(KEYPAIRS, (0, 1, 2), NULLIFY, 3))
        else:
            desk.propose(block)
            bring(desk, make_certificate(KEYPAIRS, (0, 1, 2), FINALISE, view, block.id))
    for view in range(4, 7):
        bring(desk, make_certificate(KEYPAIRS, (0, 1, 2), NULLIFY, view))
    assert desk.engine.view == 7
    if heard:
        desk.vote(3, NULLIFY, 7)
    began_ms = desk.now_ms
    streak = 1 << 4
    assert desk.wait_until(began_ms + CAP_MS)[0][0] == began_ms + wait_ms * streak


def bring(desk: Desk, certificate: Certificate) -> None:
    desk.tell(CertificateArrived(KEYPAIRS[0].public_key, certificate))


# --- P3, notarising -------------------------------------------------------------------------------------------------


def test_a_proposal_is_voted_for_once_its_content_is_checked_and_durable() -> None:
    desk = Desk()
    desk.propose(FIRST)
    assert desk.all(Check) == [Check(FIRST)]
    assert desk.voted() == []
    desk.tell(Checked(1, FIRST.id, True))
    assert desk.voted() == [(NOTARISE, 1)]
    (persist,) = desk.all(Persist)
    assert [type(record) for record in persist.records] == [BlockRecord, VoteRecord]
    assert desk.tell(Checked(1, FIRST.id, True)) == (), "one vote"


def test_content_that_is_wrong_is_not_voted_for_and_the_view_is_left_soon() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.tell(Checked(1, FIRST.id, False))
    assert desk.voted() == []
    assert desk.wait_until(TIMEOUT_MS // 10) == [(TIMEOUT_MS // 10, NULLIFY, 1)]


def test_a_verdict_that_comes_after_the_view_is_no_vote() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.certify(NULLIFY, 1)
    desk.tell(Checked(1, FIRST.id, True))
    assert desk.voted() == []


def test_a_second_block_of_a_leader_is_evidence_and_gets_no_vote() -> None:
    desk = Desk()
    other = make_block(VALIDATORS, 1, ROOT, time_ms=9)
    desk.propose(FIRST)
    desk.propose(other)
    assert len(desk.all(Evidence)) == 1
    assert desk.all(Check) == []
    desk.tell(Checked(1, other.id, True))
    assert desk.voted() == []
    desk.tell(Checked(1, FIRST.id, True))
    assert desk.voted() == [(NOTARISE, 1)]
    assert desk.propose(make_block(VALIDATORS, 1, ROOT, time_ms=10)) == (), "it costs nothing any more"


@pytest.mark.parametrize(
    "changes",
    [
        {"network_id": b"elsewhere"[:8]},
        {"validators_hash": bytes(32)},
        {"proposer": KEYPAIRS[2].public_key},
        {"protocol_version": 2},
        {"height": 2},
        {"height": 0},
        {"time_ms": ROOT.time_ms},
    ],
)
def test_a_header_that_is_wrong_gets_no_vote_and_its_leader_is_named(changes: dict[str, object]) -> None:
    desk = Desk()
    desk.propose(make_block(VALIDATORS, 1, ROOT, **changes))
    assert desk.all(Check) == []
    assert desk.all(Offence) == [Offence(KEYPAIRS[1].public_key, "bad_header")]


def test_a_block_on_an_old_parent_needs_the_nullifications_of_the_gap() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.certify(NOTARISE, 1, FIRST.id)
    desk.certify(NULLIFY, 2)
    overtaking = make_block(VALIDATORS, 3, ROOT)
    desk.propose(overtaking)
    assert desk.all(Check) == []
    assert desk.all(WantCertificates) == [WantCertificates(1, 1)], "view 1 would have to be nullified"
    desk.certify(NULLIFY, 1)
    assert desk.all(Check) == [Check(overtaking)]


def test_a_block_whose_parent_is_not_notarised_gets_no_vote() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.certify(NULLIFY, 1)
    desk.propose(SECOND)
    assert desk.all(Check) == []
    assert desk.all(WantCertificates) == [WantCertificates(1, 1)], "perhaps view 1 is notarised as well"
    desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.all(Check) == [Check(SECOND)]


def test_what_is_missing_is_asked_for_again_with_each_resend_and_not_more_often() -> None:
    desk = Desk()
    desk.certify(NULLIFY, 2)
    desk.propose(make_block(VALIDATORS, 3, ROOT))
    assert desk.all(WantCertificates) == [WantCertificates(1, 1)]
    desk.vote(2, NULLIFY, 3)
    assert desk.all(WantCertificates) == []
    desk.wait()
    assert desk.all(WantCertificates) == [WantCertificates(1, 1)]


def test_a_proposal_for_a_later_view_waits_for_its_view() -> None:
    desk = Desk()
    assert desk.propose(SECOND) == ()
    desk.propose(FIRST)
    desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.all(Check) == [Check(SECOND)]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (proposal_of(FIRST, signer=2), "not_leader"),
        (ProposalArrived(b"p" * 32, Proposal(FIRST, make_vote(KEYPAIRS, 1, NOTARISE, 1, SECOND.id))), "bad_proposal"),
        (ProposalArrived(b"p" * 32, Proposal(FIRST, make_vote(KEYPAIRS, 1, FINALISE, 1, FIRST.id))), "bad_proposal"),
        (ProposalArrived(b"p" * 32, Proposal(SECOND, make_vote(KEYPAIRS, 1, NOTARISE, 1, SECOND.id))), "bad_proposal"),
        (ProposalArrived(b"p" * 32, Proposal(FIRST, Vote(0, 1, NOTARISE, FIRST.id, 1, bytes(64)))), "bad_signature"),
        (VoteArrived(b"p" * 32, Vote(0, 1, NULLIFY, ZERO_HASH, 4, bytes(64))), "unknown_signer"),
        (
            CertificateArrived(b"p" * 32, make_certificate(KEYPAIRS, (0, 1), NULLIFY, 1)),
            "too_few_signers",
        ),
        (
            CertificateArrived(
                b"p" * 32, Certificate(0, 1, NULLIFY, ZERO_HASH, tuple((i, bytes(64)) for i in range(3)))
            ),
            "bad_signature",
        ),
    ],
)
def test_what_no_honest_peer_sends_is_refused_by_name(event: Input, reason: str) -> None:
    desk = Desk()
    desk.tell(event)
    assert [offence.reason for offence in desk.all(Offence)] == [reason]
    assert desk.engine.view == 1
    assert desk.voted() == []


def test_another_epoch_is_ignored_by_name() -> None:
    desk = Desk()
    vote = make_vote(KEYPAIRS, 1, NULLIFY, 1)
    foreign = Vote(1, 1, NULLIFY, ZERO_HASH, 1, vote.signature)
    certificate = make_certificate(KEYPAIRS, (1, 2, 3), NULLIFY, 1)
    block = make_block(VALIDATORS, 1, ROOT, epoch=1)
    assert desk.tell(VoteArrived(b"p" * 32, foreign)) == ()
    assert desk.tell(CertificateArrived(b"p" * 32, Certificate(1, 1, NULLIFY, ZERO_HASH, certificate.signatures))) == ()
    assert desk.propose(block) == ()
    assert desk.engine.counters["other_epoch"] == 3


# --- P4, next view and finalise votes -------------------------------------------------------------------------------


def test_a_notarisation_is_kept_passed_on_leads_on_and_gets_a_finalise_vote() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.tell(Checked(1, FIRST.id, True))
    desk.vote(2, NOTARISE, 1, FIRST.id)
    certificate = make_certificate(KEYPAIRS, (0, 1, 2), NOTARISE, 1, FIRST.id)
    assert desk.engine.view == 2
    assert desk.said() == [make_vote(KEYPAIRS, 0, FINALISE, 1, FIRST.id)]
    assert desk.all(Notarised) == [Notarised(FIRST_REF, certificate)]
    assert desk.voted() == [(FINALISE, 1)]
    desk.share()
    assert desk.said() == [certificate]


def test_a_certificate_that_something_newer_made_needless_is_not_passed_on() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.tell(Checked(1, FIRST.id, True))
    desk.certify(NOTARISE, 1, FIRST.id)
    desk.certify(NOTARISE, 2, SECOND.id)
    newest = desk.certify(NOTARISE, 3, THIRD.id)
    desk.share()
    assert desk.said() == [newest]


def test_no_timer_runs_for_a_certificate_that_something_newer_made_needless() -> None:
    desk = Desk()
    desk.work()
    desk.propose(FIRST)
    desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.timer_ms == TIMEOUT_MS // 20
    desk.now_ms = 30
    newer = desk.certify(NOTARISE, 2, SECOND.id)
    assert desk.timer_ms == 30 + TIMEOUT_MS // 20
    desk.now_ms = 60
    desk.certify(NULLIFY, 2)
    assert desk.timer_ms == 30 + TIMEOUT_MS // 20, "a nullification does not make the notarisation of its view needless"
    desk.wait()
    assert desk.said() == [newer]


def test_no_timer_runs_to_pass_on_a_late_certificate_of_a_view_that_is_over() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.certify(NULLIFY, 1)
    desk.certify(NULLIFY, 2)
    desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.engine.view == 3
    assert desk.timer_ms == TIMEOUT_MS // 2, "that of the resend: a notarised block is not final yet"


def test_neither_the_next_view_nor_the_finalise_vote_waits_for_the_block() -> None:
    desk = Desk()
    certificate = desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.engine.view == 2
    assert desk.voted() == [(FINALISE, 1)]
    assert desk.all(Notarised) == []
    keys = tuple(KEYPAIRS[signer].public_key for signer in (1, 2, 3))
    assert desk.all(WantBlock) == [WantBlock(FIRST.id, keys)]
    desk.tell(BlockArrived(FIRST))
    assert desk.all(Notarised) == [Notarised(FIRST_REF, certificate)]


def test_a_view_that_is_nullified_anyway_gets_no_finalise_vote() -> None:
    desk = Desk()
    desk.certify(NULLIFY, 1)
    desk.certify(NOTARISE, 1, FIRST.id)
    assert desk.voted() == []


def test_a_certificate_for_a_view_far_ahead_leads_there_at_once() -> None:
    desk = Desk()
    desk.certify(NOTARISE, 1_000, FIRST.id)
    assert desk.engine.view == 1_001
    desk.certify(NULLIFY, 1_001)
    assert desk.engine.view == 1_002


# --- P5, final ------------------------------------------------------------------------------------------------------


def test_a_quorum_of_finalise_votes_makes_a_block_final() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.tell(Checked(1, FIRST.id, True))
    desk.certify(NOTARISE, 1, FIRST.id)
    desk.vote(1, FINALISE, 1, FIRST.id)
    desk.vote(2, FINALISE, 1, FIRST.id)
    certificate = make_certificate(KEYPAIRS, (0, 1, 2), FINALISE, 1, FIRST.id)
    assert desk.all(Finalised) == [Finalised(FIRST_REF, certificate)]
    assert desk.engine.final == FIRST_REF
    desk.share()
    assert desk.said() == [certificate]
    assert desk.timer_ms is None, "and then rests"
    assert desk.engine.newest_certificates() == (certificate,)


def test_a_final_block_with_unknown_ancestors_is_handed_over_when_the_chain_is_complete() -> None:
    desk = Desk()
    certificate = desk.certify(FINALISE, 3, THIRD.id)
    assert desk.engine.view == 4
    for block, below in ((THIRD, SECOND), (SECOND, FIRST)):
        assert [want.block for want in desk.all(WantBlock)] == [block.id]
        desk.tell(BlockArrived(block))
        assert desk.all(Finalised) == []
        assert [want.block for want in desk.all(WantBlock)] == [below.id]
    desk.tell(BlockArrived(FIRST))
    assert [effect.block for effect in desk.all(Notarised)] == [FIRST_REF, SECOND_REF, BlockRef.of(THIRD.header)]
    assert desk.all(Finalised) == [Finalised(BlockRef.of(THIRD.header), certificate)]
    desk.share()
    assert desk.timer_ms is None


def test_a_missing_block_is_asked_for_again() -> None:
    desk = Desk()
    desk.certify(FINALISE, 1, FIRST.id)
    desk.share()
    desk.wait()
    assert [want.block for want in desk.all(WantBlock)] == [FIRST.id]
    assert desk.voted() == [], "an incomplete chain is no reason to leave the view"


def test_a_block_nobody_asked_for_is_dropped() -> None:
    desk = Desk()
    assert desk.tell(BlockArrived(FIRST)) == ()
    assert desk.engine.counters["unasked_block"] == 1


def test_a_finalisation_supersedes_everything_before_it() -> None:
    desk = Desk()
    desk.certify(NULLIFY, 1)
    block = make_block(VALIDATORS, 2, ROOT)
    desk.propose(block)
    final = desk.certify(FINALISE, 2, block.id)
    desk.tell(CertificateWanted(KEYPAIRS[3].public_key, 1, 5))
    assert desk.effects == (Send(KEYPAIRS[3].public_key, final),)
    desk.certify(NULLIFY, 1)
    assert desk.effects == ()
    assert desk.engine.counters["superseded_certificate"] == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((NOTARISE, FIRST.id), (NOTARISE, SECOND.id)),
        ((FINALISE, FIRST.id), (FINALISE, SECOND.id)),
        ((FINALISE, FIRST.id), (NOTARISE, SECOND.id)),
        ((FINALISE, FIRST.id), (NULLIFY, ZERO_HASH)),
        ((NULLIFY, ZERO_HASH), (FINALISE, FIRST.id)),
        ((NOTARISE, SECOND.id), (FINALISE, FIRST.id)),
    ],
)
def test_certificates_that_cannot_both_exist_are_reported(
    first: tuple[VoteKind, bytes], second: tuple[VoteKind, bytes]
) -> None:
    desk = Desk()
    held = desk.certify(first[0], 1, first[1])
    other = desk.certify(second[0], 1, second[1])
    assert desk.all(Contradiction) == [Contradiction(held, other)]
    assert desk.all(Finalised) == []


def test_a_certified_chain_that_leaves_out_the_final_block_is_reported_once() -> None:
    desk = Desk()
    desk.propose(FIRST)
    held = desk.certify(FINALISE, 1, FIRST.id)
    fork = make_block(VALIDATORS, 2, ROOT)
    other = desk.certify(NOTARISE, 2, fork.id)
    desk.tell(BlockArrived(fork))
    assert desk.all(Contradiction) == [Contradiction(held, other)]
    desk.vote(3, NULLIFY, 3)
    assert desk.all(Contradiction) == []


# --- resending, helping, bounds -------------------------------------------------------------------------------------


def test_votes_are_said_again_less_and_less_often() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.tell(Checked(1, FIRST.id, True))
    times = []
    while desk.now_ms < 40_000:
        desk.wait()
        if make_vote(KEYPAIRS, 0, NOTARISE, 1, FIRST.id) in desk.said():
            times.append(desk.now_ms)
            assert any(isinstance(message, Proposal) for message in desk.said()), "the proposal goes with it"
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == TIMEOUT_MS // 2
    assert gaps[:3] == [1_000, 2_000, 4_000]
    assert set(gaps[3:]) == {CAP_MS // 4}


def test_a_peer_that_is_stuck_in_a_past_view_is_helped_at_a_bounded_rate() -> None:
    desk = Desk()
    desk.propose(FIRST)
    certificate = desk.certify(FINALISE, 1, FIRST.id)
    desk.vote(3, NOTARISE, 1, FIRST.id)
    assert desk.all(Send) == [], "this vote has just crossed the certificate"
    desk.now_ms += TIMEOUT_MS
    desk.vote(3, NOTARISE, 1, FIRST.id)
    assert desk.all(Send) == [Send(KEYPAIRS[3].public_key, certificate)]
    desk.vote(3, NOTARISE, 1, FIRST.id)
    assert desk.all(Send) == []
    desk.now_ms += TIMEOUT_MS
    desk.tell(CertificateArrived(KEYPAIRS[3].public_key, make_certificate(KEYPAIRS, (0, 1, 2), NOTARISE, 1, FIRST.id)))
    assert desk.all(Send) == [Send(KEYPAIRS[3].public_key, certificate)]


def test_an_answer_is_bounded_and_ends_with_the_newest() -> None:
    desk = Desk()
    for view in range(1, 101):
        desk.certify(NULLIFY, view)
    desk.tell(CertificateWanted(KEYPAIRS[2].public_key, 1, 2**64 - 1))
    views = [send.message.view for send in desk.all(Send) if isinstance(send.message, Certificate)]
    assert views == [*range(1, 65), 100]


def test_votes_far_ahead_and_far_behind_are_dropped_and_counted() -> None:
    desk = Desk()
    assert desk.vote(1, NULLIFY, 1 + 2 * 4 + 64 + 1) == ()
    assert desk.propose(make_block(VALIDATORS, 401, ROOT)) == ()
    assert desk.engine.counters["far_view"] == 2
    desk.certify(NULLIFY, 500)
    assert desk.vote(1, NULLIFY, 400) == ()
    assert desk.engine.counters["past_view"] == 1


def test_late_votes_can_still_make_a_certificate() -> None:
    desk = Desk()
    desk.propose(FIRST)
    desk.certify(NULLIFY, 1)
    for signer in (2, 3):
        desk.vote(signer, NOTARISE, 1, FIRST.id)
    assert [effect.block for effect in desk.all(Notarised)] == [FIRST_REF]


# --- observers and restart ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "desk_options", [{"observer": True}, {"may_vote": False}, {"keypair": Keypair.from_seed(b"s" * 32)}]
)
def test_an_observer_follows_and_says_nothing_of_its_own(desk_options: dict[str, object]) -> None:
    desk = Desk(**desk_options)  # type: ignore[arg-type]
    assert not desk.engine.votes
    desk.work()
    desk.propose(FIRST)
    desk.certify(NOTARISE, 1, FIRST.id)
    assert [effect.block for effect in desk.all(Notarised)] == [FIRST_REF]
    assert desk.voted() == []
    desk.certify(FINALISE, 1, FIRST.id)
    assert [effect.block for effect in desk.all(Finalised)] == [FIRST_REF]
    desk.share()
    desk.wait()
    assert desk.all(WantCertificates) == [WantCertificates(2, 2)], "it cannot vote, but it can ask"


def test_a_restarted_leader_says_its_proposal_again_and_makes_no_other() -> None:
    first = Desk(signer=1)
    first.work()
    first.tell(Built(1, FIRST))
    records = [record for persist in first.all(Persist) for record in persist.records]
    desk = Desk(signer=1, recovered=Recovered.of(ROOT, records))
    assert desk.said() == first.said()
    desk.work()
    assert desk.all(Build) == []


def test_a_restarted_engine_hands_over_again_what_is_not_final() -> None:
    notarisation = make_certificate(KEYPAIRS, (1, 2, 3), NOTARISE, 1, FIRST.id)
    desk = Desk(recovered=Recovered(ROOT, certificates=(notarisation,), blocks=(FIRST,)))
    assert desk.engine.view == 2
    assert desk.all(Notarised) == [Notarised(FIRST_REF, notarisation)]
    assert desk.voted() == [(FINALISE, 1)], "the crash came before this vote"


def test_a_restarted_engine_finishes_what_was_certified_as_final() -> None:
    finalisation = make_certificate(KEYPAIRS, (1, 2, 3), FINALISE, 2, SECOND.id)
    desk = Desk(recovered=Recovered(ROOT, certificates=(finalisation,), blocks=(FIRST, SECOND)))
    assert desk.engine.view == 3
    assert [effect.block for effect in desk.all(Notarised)] == [FIRST_REF, SECOND_REF]
    assert desk.all(Finalised) == [Finalised(SECOND_REF, finalisation)]


def test_votes_of_another_key_are_not_taken_for_own_ones() -> None:
    foreign = make_vote(KEYPAIRS, 2, NULLIFY, 7)
    desk = Desk(recovered=Recovered(ROOT, votes=(foreign,)))
    assert desk.engine.view == 1
