"""The rules of Simplex for one validator in one epoch.

The theory, and what the marks [P1] to [P5] and [D] mean, stands at the top of the package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

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
    Engine,
    EpochEnded,
    Finalised,
    FinalReached,
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
from p2pledger.consensus.simplex.early import EarlyMessages
from p2pledger.consensus.simplex.pace import Pace
from p2pledger.consensus.simplex.recovered import Recovered
from p2pledger.consensus.simplex.rounds import Round, Rounds, Views
from p2pledger.consensus.simplex.tree import Tree
from p2pledger.consensus.tally import certificate_fault, valid_votes
from p2pledger.primitives.blocks import PROTOCOL_VERSION, Block, Header
from p2pledger.primitives.faults import NO_FAULTS, Faults
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import CertificateRecord, Record, VoteRecord
from p2pledger.primitives.validators import Validators, faulty_of
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

__all__ = ["Simplex"]

_RESENT_FINALISE_VOTES: Final = 4
_ANSWERED_CERTIFICATES: Final = 64
_ASKED_VIEWS: Final = 64


class Simplex(Engine):
    """A consensus engine for the validators of one epoch.

    ``keypair`` None, one that is not a validator's, or ``may_vote=False`` makes an observer: it follows certificates
    and blocks and signs nothing. ``recovered`` is where it starts from (``Recovered.at_genesis`` the first time).
    ``last_height`` is the height with which the epoch ends; None for one that never does. ``previous`` is the
    certificate that ended the epoch before, for peers that have not got so far (``succeed`` passes it on).
    ``quorum`` and ``faults`` exist for tests only: they replace the quorum of the validators, or break a rule, so that
    a simulator can show that its checkers notice what that leads to.
    """

    def __init__(
        self,
        *,
        network_id: bytes,
        validators: Validators,
        keypair: Keypair | None,
        recovered: Recovered,
        view_timeout_ms: int,
        view_timeout_cap_ms: int,
        last_height: int | None = None,
        previous: Certificate | None = None,
        may_vote: bool = True,
        quorum: int | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self._network_id = network_id
        self._validators = validators
        self._epoch = validators.epoch
        self._last_height = last_height
        self._keypair = keypair
        self._may_vote = may_vote
        signer = None if keypair is None or not may_vote else validators.signer_of(keypair.public_key)
        self._signer: int | None = signer
        self._own_key = b"" if keypair is None else keypair.public_key
        self._quorum_override = quorum
        self._faults = faults
        self._quorum = validators.quorum if quorum is None else quorum
        self._faulty = faulty_of(validators.total_weight)
        self._window = 2 * len(validators) + 64
        self._timeouts_ms = view_timeout_ms, view_timeout_cap_ms

        self._now_ms = 0
        self._out: list[Effect] = []
        self._records: list[Record] = []
        self.counters: Counter[str] = Counter()
        """What was ignored, by reason."""

        # The chain: what is final, what proves it, and what is above it.
        own_blocks = [block for block in recovered.blocks if block.header.epoch == self._epoch]
        self._tree = Tree(recovered.final, own_blocks)
        self._rounds = Rounds(network_id, validators, recovered.final.view)
        self._final_certificate: Certificate | None = None
        """The newest one; it runs ahead of the tree's final block while blocks are missing."""
        self._unlinked: dict[int, Certificate] = {}
        self._to_finalise: list[int] = []
        """Views notarised since the last look."""

        # The neighbouring epochs.
        self._ended = False
        self._closing: tuple[Block, ...] = ()
        self._previous = previous
        self._later = recovered.after(recovered.final, self._epoch + 1)
        self._early = EarlyMessages(2 * len(validators) + 64)
        self._waiting: list[Input] = []
        """Early messages of the engine before this one, until the start."""

        # The current view and its clocks.
        self._pace = Pace(view_timeout_ms, view_timeout_cap_ms)
        self._view = recovered.final.view + 1
        self._entered_ms = 0
        self._moved_ms = 0
        self._work_since_ms: int | None = None
        self._node_has_work = False
        self._unshared: list[tuple[int, Certificate]] = []
        """Certificates to pass on, and when, in the order of time."""
        self._resends = 0
        self._resend_at_ms: int | None = None
        self._timer_at_ms: int | None = None
        self._certificates_wanted: Views | None = None
        self._certificates_asked: tuple[int, int] | None = None
        """The view and the time at which certificates were last asked for."""
        self._blocks_asked: set[bytes] = set()
        self._helped_ms: dict[bytes, int] = {}

        self._recover(recovered)

    # --- what the node may look at ----------------------------------------------------------------------------------

    @property
    def view(self) -> int:
        """The current view."""
        return self._view

    @property
    def final(self) -> BlockRef:
        """The last block that was handed over as final."""
        return self._tree.final

    @property
    def leader(self) -> int:
        """The signer who leads the current view."""
        return self._validators.leader(self._view)

    @property
    def validators(self) -> Validators:
        """Those of the epoch."""
        return self._validators

    @property
    def votes(self) -> bool:
        """Whether this engine votes (False: it observes)."""
        return self._signer is not None

    @property
    def has_work(self) -> bool:
        """Whether timers run."""
        return self._work_since_ms is not None

    @property
    def has_ended(self) -> bool:
        """Whether the last block of the epoch is final: this engine votes no more, ``succeed`` makes the next one."""
        return self._ended

    def newest_certificates(self) -> tuple[Certificate, ...]:
        """What brings a late peer to where this engine is: good to send once to a peer that connects."""
        newest = self._previous if self._final_certificate is None else self._final_certificate
        found = [] if newest is None else [newest]
        if not self._ended:
            found.extend(self._rounds.certificates(self._view - 1))
        return tuple(found)

    def succeed(self, validators: Validators, last_height: int | None) -> Simplex:
        """The engine of the next epoch, not started yet. It knows what this one kept for it.

        That is own votes that the disk remembered, early messages, whether the node has work, and the certificate
        that ended this epoch.
        """
        assert self._ended, "the last block of the epoch is not final yet"
        assert validators.epoch == self._epoch + 1, "epochs follow each other"
        final = self._final_certificate
        successor = Simplex(
            network_id=self._network_id,
            validators=validators,
            keypair=self._keypair,
            recovered=self._later.after(self.final, validators.epoch),
            view_timeout_ms=self._timeouts_ms[0],
            view_timeout_cap_ms=self._timeouts_ms[1],
            last_height=last_height,
            previous=final if final is not None and final.view >= self.final.view else None,
            may_vote=self._may_vote,
            quorum=self._quorum_override,
            faults=self._faults,
        )
        successor._node_has_work = self._node_has_work
        successor._waiting = self._early.take()
        return successor

    # --- the two doors ----------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> Sequence[Effect]:
        """Hands over what is linked, asks for what is missing, and says again what was said before a restart."""
        self._now_ms = self._entered_ms = self._moved_ms = now_ms
        if self._has_work():
            self._resend()
        if self._previous is not None:
            # Those who were in the old epoch to the end have it themselves.
            self._unshared.append((now_ms + self._pace.share_ms, self._previous))
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self._take(event)
        return self._finish()

    def step(self, event: Input, now_ms: int) -> Sequence[Effect]:
        """One input, at one time. Effects must be obeyed in order; at most one of them is a Persist."""
        self._now_ms = max(now_ms, self._now_ms)
        self._take(event)
        return self._finish()

    def _take(self, event: Input) -> None:
        if isinstance(event, VoteArrived):
            if self._is_of_this_epoch(event, event.vote.epoch):
                self._on_vote(event.sender, event.vote)
        elif isinstance(event, ProposalArrived):
            if self._is_of_this_epoch(event, event.proposal.vote.epoch):
                self._on_proposal(event.sender, event.proposal)
        elif isinstance(event, CertificateArrived):
            if self._is_of_this_epoch(event, event.certificate.epoch):
                self._on_certificate(event.sender, event.certificate)
        elif isinstance(event, CertificateWanted):
            self._on_certificate_wanted(event)
        elif isinstance(event, WorkChanged):
            self._on_work(event.has_work)
        elif self._ended:
            self.counters["epoch_over"] += 1
        elif isinstance(event, BlockArrived):
            self._on_block(event.block)
        elif isinstance(event, Checked):
            self._on_checked(event)
        elif isinstance(event, Built):
            self._on_built(event)
        elif isinstance(event, FinalReached):
            self._on_final_reached(event.block)
        elif isinstance(event, TimerFired):
            self._on_timer()
        else:
            raise TypeError(f"no such input: {event!r}")

    def _finish(self) -> tuple[Effect, ...]:
        """Draws all conclusions, sets the timer, and puts the records of this step before everything else."""
        while not self._ended and (
            self._end() or self._link() or self._finalise() or self._propose() or self._notarise()
        ):
            pass
        if not self._ended:
            self._ask_for_what_is_missing()
        self._set_timer()
        effects, records = self._out, self._records
        self._out, self._records = [], []
        # One group of records, ahead of all messages of the step: earlier than needed does no harm, and it is one
        # write to the disk instead of several.
        return (Persist(tuple(records)), *effects) if records else tuple(effects)

    # --- restart ----------------------------------------------------------------------------------------------------

    def _recover(self, recovered: Recovered) -> None:
        """Own votes and certificates back into place; the view is the highest that they speak of."""
        final_view = recovered.final.view
        certificates = [certificate for certificate in recovered.certificates if certificate.epoch == self._epoch]
        for certificate in certificates:
            if certificate.kind is VoteKind.FINALISE:
                held = self._final_certificate
                if certificate.view >= final_view and (held is None or certificate.view > held.view):
                    self._final_certificate = certificate
                    final_view = certificate.view
                if certificate.block == recovered.final.id:
                    self._tree.final_proof = certificate
        self._rounds.supersede(final_view)
        for certificate in certificates:
            self._view = max(self._view, certificate.view + 1)
            if certificate.view > final_view and certificate.kind is not VoteKind.FINALISE:
                held_round = self._rounds.at(certificate.view)
                held_round.certificates[certificate.kind] = certificate
                held_round.tally.learn(certificate)
                if certificate.kind is VoteKind.NOTARISE:
                    self._unlinked[certificate.view] = certificate
                    self._to_finalise.append(certificate.view)
                    self._rounds.top_notarised = max(self._rounds.top_notarised, certificate.view)
        for vote in recovered.votes:
            if vote.epoch != self._epoch or vote.view <= final_view:
                continue
            if self._signer is not None and vote.signer != self._signer:
                continue
            # A vote is only cast in the current view, or, to finalise, below it.
            self._view = max(self._view, vote.view)
            held_round = self._rounds.at(vote.view)
            held_round.own[vote.kind] = vote
            if self._signer is not None:
                held_round.tally.add(self._own_key, vote, checked=True)
            block_voted_for = self._tree.get(vote.block)
            if vote.kind is VoteKind.NOTARISE and block_voted_for is not None:
                if block_voted_for.header.proposer == self._own_key:
                    held_round.proposal = Proposal(block_voted_for, vote)
        if self._previous is None and self._epoch > 0:
            before = [certificate for certificate in recovered.certificates if certificate.epoch == self._epoch - 1]
            final = [certificate for certificate in before if certificate.kind is VoteKind.FINALISE]
            self._previous = max(final, key=lambda certificate: certificate.view, default=None)

    # --- epochs -----------------------------------------------------------------------------------------------------

    def _is_of_this_epoch(self, event: VoteArrived | ProposalArrived | CertificateArrived, epoch: int) -> bool:
        """[D] Whether a message is to be judged here and now; else it is kept, or answered, or counted."""
        if epoch == self._epoch and not self._ended:
            return True
        self.counters["other_epoch"] += 1
        if epoch == self._epoch + 1 and self._last_height is not None:
            if self._early.keep(event):
                self.counters["early"] += 1
        elif isinstance(event, CertificateArrived) and self._is_newest(event.certificate):
            pass  # It is as far as this node.
        elif epoch <= self._epoch:
            # Whoever speaks of an epoch that is over is behind: what ended it leads on.
            ended_it = self._previous if epoch == self._epoch - 1 else None
            self._help(event.sender, *(() if ended_it is None else (ended_it,)))
        return False

    def _is_closing(self, height: int) -> bool:
        """Whether blocks of this height only serve to get the last block of the epoch final."""
        return self._last_height is not None and height > self._last_height

    def _end(self) -> bool:
        """[D] The last block of the epoch is final: nothing more is signed in it."""
        if self._last_height is None or self.final.height < self._last_height:
            return False
        self._ended = True
        self._out.append(EpochEnded(self.final, self._closing))
        return True

    # --- inputs -----------------------------------------------------------------------------------------------------

    def _on_vote(self, sender: bytes, vote: Vote) -> None:
        self._hear(sender)
        if not 0 <= vote.signer < len(self._validators):
            self._out.append(Offence(sender, "unknown_signer"))
            return
        if vote.view <= self._rounds.final_view or vote.view < self._view - self._window:
            self.counters["past_view"] += 1
            self._help(sender)
            return
        if vote.view > self._view + self._window:
            self.counters["far_view"] += 1
            return
        held = self._rounds.at(vote.view)
        if held.tally.holds(vote):
            # Somebody says it again: it may be stuck behind.
            if vote.view < self._view:
                self._help(sender)
            return
        self._out.extend(held.tally.add(sender, vote))
        if vote.view == self._view and self._resends:
            # Others are back and in this view: no reason to go on whispering.
            self._resends, self._resend_at_ms = 0, None
        self._count(vote.view, vote.kind, vote.block)

    def _on_proposal(self, sender: bytes, proposal: Proposal) -> None:
        self._hear(sender)
        vote, header = proposal.vote, proposal.block.header
        if header.epoch != self._epoch:
            self.counters["other_epoch"] += 1
            return
        if vote.view <= self._rounds.final_view or vote.view < self._view:
            # Too late to vote for; but it may be a notarised block that is missing here.
            self._on_block(proposal.block)
            return
        if vote.view > self._view + self._window:
            self.counters["far_view"] += 1
            return
        held = self._rounds.at(vote.view)
        again = self._faults.accept_equivocation
        if held.proposal is not None and (
            held.proposal.vote == vote or (held.tally.has_accused(vote.signer) and not again)
        ):
            return
        if vote.kind is not VoteKind.NOTARISE or vote.block != header.id or vote.view != header.view:
            self._out.append(Offence(sender, "bad_proposal"))
            return
        if vote.signer != self._validators.leader(vote.view):
            self._out.append(Offence(sender, "not_leader"))
            return
        # The one vote that is checked at once: everything that follows is done on the leader's word.
        if not valid_votes(self._network_id, self._validators, [vote])[0]:
            self._out.append(Offence(sender, "bad_signature"))
            return
        self._out.extend(held.tally.add(sender, vote, checked=True))
        if not self._constants_right(header):
            self._out.append(Offence(self._validators.members[vote.signer].key, "bad_header"))
        elif held.proposal is None or again:
            if held.proposal is not None:
                held.check_asked, held.verdict = False, None
                held.own.pop(VoteKind.NOTARISE, None)
            held.proposal = proposal
            self._tree.add(proposal.block)
        self._count(vote.view, vote.kind, vote.block)

    def _on_certificate(self, sender: bytes, certificate: Certificate) -> None:
        self._hear(sender)
        view, kind = certificate.view, certificate.kind
        rival = self._rival(certificate)
        if rival is None:
            if view <= self._rounds.final_view:
                self.counters["superseded_certificate"] += 1
                if not self._is_newest(certificate):
                    self._help(sender)
                return
            held = self._rounds.get(view)
            if held is not None and kind in held.certificates:
                # Known. A peer that still thinks this is the newest one is behind.
                if view < self._view - 1:
                    self._help(sender)
                return
        known = self._rounds.get(view)
        tally = None if known is None else known.tally
        fault = certificate_fault(
            certificate, self._network_id, self._validators, self._quorum, known=tally, faults=self._faults
        )
        if fault is not None:
            self._out.append(Offence(sender, fault))
        elif rival is not None:
            self._out.append(Contradiction(rival, certificate))
        else:
            self._accept(certificate)

    def _rival(self, certificate: Certificate) -> Certificate | None:
        """A certificate held here with which this one, if valid, proves that more than f validators are faulty."""
        held = self._rounds.get(certificate.view)
        final = self._final_certificate
        same_kind = None if held is None else held.certificates.get(certificate.kind)
        if same_kind is not None and same_kind.block != certificate.block:
            return same_kind
        if final is not None and final.view == certificate.view and final.block != certificate.block:
            return final
        if certificate.kind is VoteKind.FINALISE and certificate.view > self._rounds.final_view and held is not None:
            nullification = held.certificates.get(VoteKind.NULLIFY)
            notarisation = held.certificates.get(VoteKind.NOTARISE)
            if nullification is not None:
                return nullification
            if notarisation is not None and notarisation.block != certificate.block:
                return notarisation
        return None

    def _on_certificate_wanted(self, wanted: CertificateWanted) -> None:
        """[D] Answers what is missing at a peer, the finalisation first: it may make the rest needless."""
        self._hear(wanted.sender)
        answer: list[Certificate] = []
        if self._previous is not None and wanted.from_view <= self._previous.view:
            answer.append(self._previous)
        if self._final_certificate is not None and wanted.from_view <= self._rounds.final_view:
            answer.append(self._final_certificate)
        last = min(wanted.to_view, self._view)
        for view in range(max(wanted.from_view, self._rounds.final_view + 1), last + 1):
            if len(answer) >= _ANSWERED_CERTIFICATES:
                break
            answer.extend(self._rounds.certificates(view))
        answer.extend(newest for newest in self.newest_certificates() if newest not in answer)
        self._out.extend(Send(wanted.sender, certificate) for certificate in answer)

    def _on_block(self, block: Block) -> None:
        """[D] A block that a certificate, or a descendant that one names, made necessary."""
        if block.id not in self._tree.missing:
            self.counters["unasked_block"] += 1
            return
        del self._tree.missing[block.id]
        self._blocks_asked.discard(block.id)
        self._tree.add(block)
        self._store(block)

    def _on_checked(self, checked: Checked) -> None:
        held = self._rounds.get(checked.view)
        if held is None or held.proposal is None or held.proposal.block.id != checked.block or not held.check_asked:
            self.counters["stale_check"] += 1
            return
        if held.verdict is None:
            held.verdict = checked.ok

    def _on_built(self, built: Built) -> None:
        """[P1] The node's block becomes the proposal: its vote is on the disk before it is on the wire."""
        held = self._rounds.get(built.view)
        if built.view != self._view or held is None or held.build_asked is None:
            self.counters["stale_build"] += 1
            return
        asked, held.build_asked = held.build_asked, None
        if built.block is None:
            held.build_declined_ms = self._now_ms
            return
        if VoteKind.NOTARISE in held.own or VoteKind.NULLIFY in held.own:
            return
        header = built.block.header
        assert header.parent == asked, "the node built on another parent"
        parent = self._parent_of_proposal(self._view, header.parent)
        if parent is None:
            # Something else became final meanwhile: the next conclusion asks for a block on that.
            return
        assert self._constants_right(header), "the node built a block with foreign constants"
        assert self._follows(header, parent), "the node built a block that does not follow its parent"
        assert not (self._is_closing(header.height) and built.block.digests), "the node filled a closing block"
        self._tree.add(built.block)
        self._store(built.block)
        vote = self._sign(held, VoteKind.NOTARISE, self._view, built.block.id)
        held.proposal = Proposal(built.block, vote)
        held.verdict = True
        self._out.append(Broadcast(held.proposal))
        self._count(self._view, VoteKind.NOTARISE, built.block.id)

    def _on_final_reached(self, ref: BlockRef) -> None:
        """[D] A node that catches up gets final blocks in pieces. What lies below is neither fetched nor kept."""
        if ref.view <= self.final.view:
            return
        self._tree.advance(ref, None)
        if ref.view > self._rounds.final_view:
            self._rounds.supersede(ref.view)
        self._drop_unlinked(ref.view)
        if self._view <= ref.view:
            self._enter(ref.view + 1)

    def _on_work(self, has_work: bool) -> None:
        self._node_has_work = has_work
        held = self._rounds.get(self._view)
        if has_work and held is not None:
            held.build_declined_ms = None

    def _on_timer(self) -> None:
        self._timer_at_ms = None
        self._share()
        deadline_ms = self._view_deadline_ms()
        if deadline_ms is not None and self._now_ms >= deadline_ms:
            self._nullify()
        if self._resend_at_ms is not None and self._now_ms >= self._resend_at_ms:
            self._resends += 1
            self._resend_at_ms = None
            self._resend()
            self._certificates_asked = None
            self._blocks_asked.clear()

    # --- certificates -----------------------------------------------------------------------------------------------

    def _count(self, view: int, kind: VoteKind, block: bytes) -> None:
        """Makes the certificate once the votes for it reach the quorum."""
        held = self._rounds.get(view)
        if held is None or kind in held.certificates:
            return
        certificate, found = held.tally.certificate(kind, block, self._quorum)
        self._out.extend(found)
        if certificate is None:
            return
        rival = self._rival(certificate)
        if rival is not None:
            self._out.append(Contradiction(rival, certificate))
        else:
            self._accept(certificate)

    def _accept(self, certificate: Certificate) -> None:
        """[P4] Keeps a valid certificate, passes it on, and goes where it leads."""
        view, kind = certificate.view, certificate.kind
        self._moved_ms = self._now_ms
        self._records.append(
            CertificateRecord(int(kind), certificate.epoch, view, certificate.block, certificate.encode())
        )
        known = self._rounds.get(view)
        if known is not None:
            self._out.extend(known.tally.learn(certificate))
        if kind is VoteKind.FINALISE:
            # [P5] All before it is superseded. Back to the base timeout.
            self._unshared.append((self._now_ms + self._pace.share_ms, certificate))
            self._final_certificate = certificate
            self._rounds.supersede(view)
            self._pace.finalised()
            self._drop_unlinked(view)
        else:
            held = self._rounds.at(view)
            held.certificates[kind] = certificate
            if known is None:
                held.tally.learn(certificate)
            if view >= self._view and kind is VoteKind.NULLIFY:
                self._out.append(Broadcast(certificate))
            if kind is VoteKind.NOTARISE:
                self._unshared.append((self._now_ms + self._pace.share_ms, certificate))
                self._unlinked[view] = certificate
                self._to_finalise.append(view)
                self._rounds.top_notarised = max(self._rounds.top_notarised, view)
            elif view == self._view:
                leader = self._validators.leader(view)
                self._pace.nullified(leader, own=leader == self._signer)
        if view >= self._view:
            self._enter(view + 1)
        # No timer for what this one has made needless: what is not among the newest never is again, for the view and
        # the final view only grow. While blocks are made, the timer moves on with each of them and never fires.
        newest = self.newest_certificates()
        self._unshared = [entry for entry in self._unshared if entry[1] in newest]

    def _drop_unlinked(self, view: int) -> None:
        for old in [old for old in self._unlinked if old <= view]:
            del self._unlinked[old]

    def _share(self) -> None:
        """[D] Passes certificates on that nothing newer has made needless in the meantime.

        The paper passes every one on at once. But everybody sees the votes themselves, so nearly always everybody has
        the same certificate already; who has not is helped a moment later, and the messages of a view are halved.
        """
        due = [certificate for at_ms, certificate in self._unshared if at_ms <= self._now_ms]
        self._unshared = [entry for entry in self._unshared if entry[0] > self._now_ms]
        self._out.extend(Broadcast(certificate) for certificate in due if certificate in self.newest_certificates())

    def _enter(self, view: int) -> None:
        self._view = view
        self._entered_ms = self._now_ms
        self._resends = 0
        self._resend_at_ms = None
        self._helped_ms.clear()
        self._rounds.forget_votes_below(view - self._window)

    # --- conclusions ------------------------------------------------------------------------------------------------

    def _link(self) -> bool:
        """[P5] Hands over notarised blocks, parents first, and the final one; notes which blocks are missing."""
        tree, final = self._tree, self._final_certificate
        tree.missing.clear()
        if final is not None and final.view > tree.final.view:
            if self._connect(final):
                ref = tree.linked[final.block]
                if self._is_closing(ref.height):
                    # [D] It has done what it was for: its ancestor that ends the epoch is final.
                    below = {name for name, other in tree.linked.items() if not self._is_closing(other.height)}
                    self._closing = tree.path(final.block, below)
                    ref = tree.linked[self._closing[0].header.parent]
                tree.advance(ref, final)
                self._out.append(Finalised(ref, final))
                return True
        for view in sorted(self._unlinked):
            if self._connect(self._unlinked[view]):
                del self._unlinked[view]
                return True
        return False

    def _connect(self, certificate: Certificate) -> bool:
        """Hands over a certified block with those of its ancestors that are not linked yet, if all are here."""
        link = self._tree.connect(certificate)
        if link.leaves_out_final:
            self._out.append(Contradiction(self._tree.final_proof, certificate))
        for block in link.path:
            self._store(block)
            notarisation = self._rounds.certificate(block.header.view, VoteKind.NOTARISE)
            proof = notarisation if notarisation is not None and notarisation.block == block.id else certificate
            self._out.append(Notarised(BlockRef.of(block.header), proof))
        return link.complete

    def _finalise(self) -> bool:
        """[P4] A finalise vote for each notarised view that this validator did not vote to nullify.

        It never waits for payload: the notarisation proves that more than f honest validators hold it. In a view that
        is nullified too the vote would be in vain.
        """
        if not self._to_finalise:
            return False
        views, self._to_finalise = sorted(self._to_finalise), []
        for view in views:
            held = self._rounds.get(view)
            if self._signer is None or held is None or VoteKind.NULLIFY in held.certificates:
                continue
            if VoteKind.FINALISE not in held.own and VoteKind.NULLIFY not in held.own:
                block = held.certificates[VoteKind.NOTARISE].block
                self._out.append(Broadcast(self._sign(held, VoteKind.FINALISE, view, block)))
                self._count(view, VoteKind.FINALISE, block)
        return True

    def _nullify(self) -> None:
        """[P2] The view took too long. Whoever has voted to finalise a view never votes to nullify it."""
        held = self._rounds.at(self._view)
        if VoteKind.NULLIFY in held.own or VoteKind.FINALISE in held.own:
            return
        vote = self._sign(held, VoteKind.NULLIFY, self._view, ZERO_HASH)
        self._out.append(Broadcast(vote))
        self._count(vote.view, VoteKind.NULLIFY, ZERO_HASH)

    def _propose(self) -> bool:
        """[P1] Asks the node for a block, if this validator leads the view and there is something to do.

        With work of the node at once. Only to get a notarised parent final: after a grace in which its finalise votes
        may still arrive, or a network without work would never stop making empty blocks.
        """
        if self._signer is None or self.leader != self._signer or not self._has_work():
            return False
        held = self._rounds.at(self._view)
        if held.build_asked is not None or VoteKind.NOTARISE in held.own or VoteKind.NULLIFY in held.own:
            return False
        due = self._now_ms >= self._build_at_ms()
        if not due and (not self._node_has_work or held.build_declined_ms is not None):
            return False
        needed = due and (self._rounds.unfinished or not self._node_has_work)
        parent = self._best_parent(self._view)
        if parent is None:
            return False
        closing = self._is_closing(parent.height + 1)
        if closing and not due:
            # [D] Most probably the boundary block becomes final without it.
            return False
        held.build_asked = parent.id
        self._out.append(Build(self._view, parent, needed, closing=closing))
        return True

    def _notarise(self) -> bool:
        """[P3] At most one notarise vote in a view, for the leader's first proposal, if all about it is right."""
        held = self._rounds.get(self._view)
        if self._signer is None or held is None or held.proposal is None or VoteKind.NOTARISE in held.own:
            return False
        if held.verdict is False:
            return False
        block = held.proposal.block
        parent = self._parent_of_proposal(self._view, block.header.parent)
        if parent is None:
            return False
        if not self._follows(block.header, parent) or (self._is_closing(block.height) and block.digests):
            held.verdict = False
            self._out.append(Offence(block.header.proposer, "bad_header"))
            return True
        if not held.check_asked:
            held.check_asked = True
            self._out.append(Check(block))
            return True
        if held.verdict is None:
            return False
        self._store(block)
        vote = self._sign(held, VoteKind.NOTARISE, self._view, block.id)
        self._out.append(Broadcast(vote))
        self._count(self._view, VoteKind.NOTARISE, block.id)
        return True

    # --- parents ----------------------------------------------------------------------------------------------------

    def _best_parent(self, view: int) -> BlockRef | None:
        """[P1] What an own block of ``view`` may stand on; certificates that are missing for it are asked for."""
        parent, in_doubt = self._rounds.best_parent(view, self._base(), self._tree.linked)
        if in_doubt is not None:
            self._want_certificates(*in_doubt)
        return None if parent is None else self._tree.linked[parent]

    def _parent_of_proposal(self, view: int, parent: bytes) -> BlockRef | None:
        """[P3] The parent, if its notarisation and the nullifications of the gap are all held and it is linked."""
        right, in_doubt = self._rounds.is_parent(view, parent, self._base())
        if in_doubt is not None:
            self._want_certificates(*in_doubt)
        return self._tree.linked.get(parent) if right else None

    def _base(self) -> bytes:
        """The block of the final view, handed over or not."""
        return self.final.id if self._final_certificate is None else self._final_certificate.block

    def _constants_right(self, header: Header) -> bool:
        return (
            header.network_id == self._network_id
            and header.epoch == self._epoch
            and header.validators_hash == self._validators.hash
            and header.protocol_version == PROTOCOL_VERSION
            and header.proposer == self._validators.members[self._validators.leader(header.view)].key
        )

    @staticmethod
    def _follows(header: Header, parent: BlockRef) -> bool:
        return (
            header.parent == parent.id
            and header.height == parent.height + 1
            and header.time_ms > parent.time_ms
            and header.view > parent.view
        )

    # --- asking, helping, resending ---------------------------------------------------------------------------------

    def _want_certificates(self, from_view: int, to_view: int) -> None:
        self._certificates_wanted = (from_view, min(to_view, from_view + _ASKED_VIEWS - 1))

    def _ask_for_what_is_missing(self) -> None:
        """[D] Once in a view at once, and again with each resend."""
        wanted, self._certificates_wanted = self._certificates_wanted, None
        if wanted is not None:
            asked = self._certificates_asked
            if asked is None or (asked[0] != self._view and self._now_ms >= asked[1] + self._pace.interval_ms):
                self._certificates_asked = (self._view, self._now_ms)
                self._out.append(WantCertificates(*wanted))
        if not self._tree.missing:
            self._blocks_asked.clear()
            return
        self._blocks_asked.intersection_update(self._tree.missing)
        for name, certificate in self._tree.missing.items():
            if name not in self._blocks_asked:
                self._blocks_asked.add(name)
                keys = [self._validators.members[signer].key for signer in certificate.signers]
                self._out.append(WantBlock(name, tuple(key for key in keys if key != self._own_key)))

    def _is_newest(self, certificate: Certificate) -> bool:
        """Whether this node would send the same. Who has it is not behind: to help it would make it help in turn.

        Over links that take longer than the pause between two helps, that would never end.
        """
        said = certificate.kind, certificate.view, certificate.block
        return any((own.kind, own.view, own.block) == said for own in self.newest_certificates())

    def _help(self, sender: bytes, *first: Certificate) -> None:
        """[D] A peer speaks of a view that is over: what leads out of it is sent, at a bounded rate.

        Not while this node itself has just moved: the peer's message then crossed our own certificate on the way.
        """
        if self._now_ms < self._moved_ms + self._pace.interval_ms:
            return
        helped_ms = self._helped_ms.get(sender)
        if helped_ms is not None and self._now_ms < helped_ms + self._pace.interval_ms:
            return
        if len(self._helped_ms) >= 1_024:
            self._helped_ms.clear()
        self._helped_ms[sender] = self._now_ms
        newest = [certificate for certificate in self.newest_certificates() if certificate not in first]
        self._out.extend(Send(sender, certificate) for certificate in (*first, *newest))

    def _resend(self) -> None:
        """[D] Own votes that nobody has acknowledged by a certificate, and the newest certificates.

        With the vote for a proposal goes the proposal, whoever made it: a leader that showed it to few, on purpose or
        not, neither stops the others nor leaves those few waiting for them.
        """
        if self._signer is None:
            if self._has_work():
                self._want_certificates(self._view, self._view)
            return
        held = self._rounds.get(self._view)
        if held is not None:
            notarise = held.own.get(VoteKind.NOTARISE)
            if notarise is not None:
                if held.proposal is not None:
                    self._out.append(Broadcast(held.proposal))
                if held.proposal is None or held.proposal.vote != notarise:
                    self._out.append(Broadcast(notarise))
            if VoteKind.NULLIFY in held.own:
                if held.proposal is not None and notarise is None:
                    # Whoever never saw it has no work, and would let this node want to leave the view for ever.
                    self._out.append(Broadcast(held.proposal))
                self._out.append(Broadcast(held.own[VoteKind.NULLIFY]))
        finalise = self._rounds.own_votes(VoteKind.FINALISE)
        self._out.extend(Broadcast(vote) for vote in finalise[-_RESENT_FINALISE_VOTES:])
        self._out.extend(Broadcast(certificate) for certificate in self.newest_certificates())

    def _hear(self, sender: bytes) -> None:
        """[D] A validator that says anything is not dead: its views get the normal timeout again."""
        signer = self._validators.signer_of(sender)
        if signer is not None:
            self._pace.silent.discard(signer)

    # --- clocks -----------------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        """Whether anything is unfinished."""
        if self._node_has_work or self._rounds.unfinished:
            return True
        held = self._rounds.get(self._view)
        if held is None:
            return False
        if held.proposal is not None or VoteKind.NOTARISE in held.own:
            return True
        # More than f others want to leave the view, so an honest one has work that did not reach this node yet.
        own = 0
        if self._signer is not None and VoteKind.NULLIFY in held.own:
            own = self._validators.members[self._signer].weight
        weight, found = held.tally.checked_weight(VoteKind.NULLIFY, ZERO_HASH, self._faulty + 1 + own)
        self._out.extend(found)
        return weight - own > self._faulty

    def _view_began_ms(self) -> int:
        """When the view's timer started: on entering it, or when work came."""
        return max(self._entered_ms, self._now_ms if self._work_since_ms is None else self._work_since_ms)

    def _view_deadline_ms(self) -> int | None:
        """When this validator votes to nullify; None without work, or when it has voted to nullify or finalise."""
        if self._signer is None or self._work_since_ms is None:
            return None
        held = self._rounds.get(self._view)
        if held is not None and (VoteKind.NULLIFY in held.own or VoteKind.FINALISE in held.own):
            return None
        pace = self._pace
        if (pace.silent and self.leader in pace.silent) or (held is not None and held.verdict is False):
            # Nothing to wait for: the leader is dead, or what it proposed can never be voted for.
            return self._view_began_ms() + pace.quick_timeout_ms
        return self._view_began_ms() + pace.timeout_ms

    def _build_at_ms(self) -> int:
        """When a leader proposes a block even if its node has nothing to put into it."""
        held, below = self._rounds.get(self._view), self._rounds.get(self._view - 1)
        grace_ms = self._pace.grace_ms
        if held is not None and held.build_declined_ms is not None:
            return held.build_declined_ms + grace_ms
        if below is not None and VoteKind.NOTARISE not in below.certificates and self._rounds.unfinished:
            # A nullified view lies between: the finalise votes of the parent have had their time.
            return self._view_began_ms()
        return self._view_began_ms() + grace_ms

    def _set_timer(self) -> None:
        """One timer for the nearest time: leaving the view, resending, sharing a certificate, an empty block."""
        if self._ended:
            self._work_since_ms = None
            if self._timer_at_ms is not None:
                self._timer_at_ms = None
                self._out.append(SetTimer(None))
            return
        work = self._has_work()
        if not work:
            self._work_since_ms = None
        elif self._work_since_ms is None:
            self._work_since_ms = self._now_ms
        if not work and not self._tree.missing:
            self._resend_at_ms = None
            self._resends = 0
        elif self._resend_at_ms is None:
            self._resend_at_ms = self._now_ms + self._pace.resend_pause_ms(self._resends)
        times: list[int] = []
        if self._resend_at_ms is not None:
            times.append(self._resend_at_ms)
        deadline_ms = self._view_deadline_ms()
        if deadline_ms is not None:
            times.append(deadline_ms)
        if self._unshared:
            times.append(self._unshared[0][0])
        if work and self._signer is not None and self.leader == self._signer:
            build_at_ms = self._build_at_ms()
            if build_at_ms > self._now_ms:
                times.append(build_at_ms)
        at_ms = min(times) if times else None
        if at_ms != self._timer_at_ms:
            self._timer_at_ms = at_ms
            self._out.append(SetTimer(at_ms))

    # --- small tools ------------------------------------------------------------------------------------------------

    def _store(self, block: Block) -> None:
        self._records.extend(self._tree.record_of(block))

    def _sign(self, held: Round, kind: VoteKind, view: int, block: bytes) -> Vote:
        """An own vote, on its way to the disk and counted. The three promises of this file are kept here."""
        assert self._keypair is not None
        assert self._signer is not None
        assert kind not in held.own, "a second vote of this kind in this view"
        assert kind is not VoteKind.FINALISE or VoteKind.NULLIFY not in held.own, "finalise after nullify"
        assert kind is not VoteKind.NULLIFY or VoteKind.FINALISE not in held.own, "nullify after finalise"
        vote = Vote.make(self._network_id, self._epoch, view, kind, block, self._signer, self._keypair)
        held.own[kind] = vote
        self._records.append(VoteRecord(vote.epoch, view, int(kind), block, vote.encode()))
        self._out.extend(held.tally.add(self._own_key, vote, checked=True))
        return vote
