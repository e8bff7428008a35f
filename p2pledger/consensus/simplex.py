"""Simplex: finality by a quorum, three message delays after a proposal. Messages in, effects out.

B. Chan and R. Pass, "Simplex Consensus: A Simple and Fast Consensus Protocol", TCC 2023 (eprint 2023/463), in the
dialect that says *view* for the paper's iteration and knows three votes, *notarise*, *nullify* and *finalise*, where
the paper votes for a block, votes for the dummy block, and finalises. docs/consensus.md says what it promises, what
it assumes and where the dialect departs. The marks [P1] to [P5] are the five steps of an iteration, in the order in
which the paper describes them; [D] marks what the dialect or this house adds.

    [P1] leader proposal    the leader of view v proposes a block on a notarised parent p, where every view between
                            p's and v is nullified
    [P2] dummy blocks       whoever is still in v when its timer fires votes to nullify v
    [P3] notarising         the first proposal of v whose parent is notarised and whose gap is nullified gets one
                            notarise vote; [D] and only if the node holds, checked and stored its data
    [P4] next view          a notarisation or a nullification of v is passed on and leads into v + 1; whoever sees the
                            notarisation and did not vote to nullify v votes to finalise it
    [P5] final              a quorum of finalise votes for a block makes it and all its ancestors final

**Why it is safe.** Two quorums share an honest validator. An honest one notarises at most one block in a view, so at
most one block of a view is ever notarised. An honest one never both nullifies and finalises a view, so a view with a
final block is never nullified; hence every later block, whose gap must be nullified, has the final block among its
ancestors. Nothing here depends on time. The engine keeps three promises for it, across crashes too, because each vote
is a record on the disk before it is a message: one notarise vote in a view; never finalise and nullify in one view;
one proposal in a view that it leads (its proposal is its notarise vote).

**Why it goes on.** Nobody waits for anything but certificates and its own timer, never for payload: a certificate for
view v, of any kind, leads into v + 1 wherever the node was. One honest leader whose proposal reaches everybody in time
is enough for finality. Lost messages are made good by resending, late nodes by asking.

What is held, by view (``_rounds``), is what is not yet final; a finalisation supersedes all before it:

    final view              rounds above it                                   the current view
    ---------- + ---------- + ---------- + ---------- + ---------- + --------------------------------
    finalised    notarised    nullified    nullified    notarised    votes, a proposal, the timer

Blocks become known to the node in the order of the chain: *linked* ones have been handed over with ``Notarised``; a
notarised block with a missing ancestor waits until the ancestor has been fetched.

**Work.** Timers run and messages are resent only while there is work: the node says that it has some, a notarised
block is not final yet, somebody proposed in this view, or more than f validators want to leave it. Without work the
engine is silent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
from p2pledger.consensus.tally import Tally, certificate_fault, valid_votes
from p2pledger.primitives.blocks import PROTOCOL_VERSION, Block, Header
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import BlockRecord, CertificateRecord, Record, VoteRecord
from p2pledger.primitives.validators import Validators, faulty_of
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

__all__ = ["Recovered", "Simplex"]

_QUICK_TIMEOUT_LEAST_MS: Final = 50
_RESENT_FINALISE_VOTES: Final = 4
_ANSWERED_CERTIFICATES: Final = 64
_ASKED_VIEWS: Final = 64


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an engine starts from: the last final block, and what the disk remembers beyond it.

    ``votes`` are this validator's own. They must be complete for all views above the final block's: a validator that
    may have lost some must start with ``may_vote=False``.
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
            if isinstance(record, VoteRecord):
                votes.append(Vote.decode(record.data))
            elif isinstance(record, CertificateRecord):
                certificates.append(Certificate.decode(record.data))
            elif isinstance(record, BlockRecord):
                blocks.append(Block.decode(record.data))
        return cls(final, tuple(votes), tuple(certificates), tuple(blocks))


@dataclass(slots=True)
class _Round:
    """One view that is not superseded: its votes, certificates and proposal."""

    tally: Tally
    own: dict[VoteKind, Vote] = field(default_factory=dict)
    certificates: dict[VoteKind, Certificate] = field(default_factory=dict)
    """The notarisation and the nullification, if held."""
    proposal: Proposal | None = None
    """The leader's first one, with a good signature and the right constants in its header."""
    check_asked: bool = False
    verdict: bool | None = None
    """Whether the proposal may be voted for; None while unknown."""
    build_asked: bytes | None = None
    """The parent on which the node is building."""
    build_declined_ms: int | None = None
    """When the node last said that there was nothing to build."""


class Simplex(Engine):
    """A consensus engine for the validators of one epoch.

    ``keypair`` None, one that is not a validator's, or ``may_vote=False`` makes an observer: it follows certificates
    and blocks and signs nothing. ``recovered`` is where it starts from (``Recovered.at_genesis`` the first time).
    ``quorum`` exists for tests only: it replaces the quorum of the validators, so that a simulator can show that its
    agreement checker notices what a quorum too small leads to.
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
        may_vote: bool = True,
        quorum: int | None = None,
    ) -> None:
        self._network_id = network_id
        self._validators = validators
        self._epoch = validators.epoch
        self._keypair = keypair
        signer = None if keypair is None or not may_vote else validators.signer_of(keypair.public_key)
        self._signer: int | None = signer
        self._own_key = b"" if keypair is None else keypair.public_key
        self._quorum = validators.quorum if quorum is None else quorum
        self._faulty = faulty_of(validators.total_weight)
        self._window = 2 * len(validators) + 64
        self._base_ms = view_timeout_ms
        self._cap_ms = view_timeout_cap_ms
        self._interval_ms = max(1, view_timeout_ms // 2)
        self._share_ms = max(1, view_timeout_ms // 20)

        self._now_ms = 0
        self._out: list[Effect] = []
        self._records: list[Record] = []
        self.counters: Counter[str] = Counter()
        """What was ignored, by reason."""

        # The chain: what is final, what proves it, and the blocks above it.
        self._final = recovered.final
        self._final_certificate: Certificate | None = None
        """The newest one; it runs ahead of ``_final`` while blocks are missing."""
        self._final_proof: Certificate | None = None
        """That of ``_final``."""
        self._final_view = recovered.final.view
        self._rounds: dict[int, _Round] = {}
        self._blocks: dict[bytes, Block] = {}
        self._stored: set[bytes] = set()
        self._linked: dict[bytes, BlockRef] = {recovered.final.id: recovered.final}
        self._unlinked: dict[int, Certificate] = {}
        self._deepest: dict[bytes, bytes] = {}
        self._missing: dict[bytes, Certificate] = {}
        self._foreign: set[bytes] = set()
        self._to_finalise: list[int] = []
        """Views notarised since the last look."""
        self._top_notarised = self._final_view

        # The current view and its clocks.
        self._view = self._final_view + 1
        self._entered_ms = 0
        self._moved_ms = 0
        self._work_since_ms: int | None = None
        self._node_has_work = False
        self._nullified_streak = 0
        self._unshared: list[tuple[int, Certificate]] = []
        """Certificates to pass on, and when, in the order of time."""
        self._silent: set[int] = set()
        self._resends = 0
        self._resend_at_ms: int | None = None
        self._timer_at_ms: int | None = None
        self._certificates_wanted: tuple[int, int] | None = None
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
        return self._final

    @property
    def leader(self) -> int:
        """The signer who leads the current view."""
        return self._validators.leader(self._view)

    @property
    def votes(self) -> bool:
        """Whether this engine votes (False: it observes)."""
        return self._signer is not None

    @property
    def has_work(self) -> bool:
        """Whether timers run."""
        return self._work_since_ms is not None

    def newest_certificates(self) -> tuple[Certificate, ...]:
        """What brings a late peer to where this engine is: good to send once to a peer that connects."""
        found = [] if self._final_certificate is None else [self._final_certificate]
        held = self._rounds.get(self._view - 1)
        if held is not None:
            found.extend(held.certificates[kind] for kind in sorted(held.certificates))
        return tuple(found)

    # --- the two doors ----------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> Sequence[Effect]:
        """Hands over what is linked, asks for what is missing, and says again what was said before a restart."""
        self._now_ms = self._entered_ms = self._moved_ms = now_ms
        if self._has_work():
            self._resend()
        return self._finish()

    def step(self, event: Input, now_ms: int) -> Sequence[Effect]:
        """One input, at one time. Effects must be obeyed in order; at most one of them is a Persist."""
        self._now_ms = max(now_ms, self._now_ms)
        if isinstance(event, VoteArrived):
            self._on_vote(event.sender, event.vote)
        elif isinstance(event, ProposalArrived):
            self._on_proposal(event.sender, event.proposal)
        elif isinstance(event, CertificateArrived):
            self._on_certificate(event.sender, event.certificate)
        elif isinstance(event, CertificateWanted):
            self._on_certificate_wanted(event)
        elif isinstance(event, BlockArrived):
            self._on_block(event.block)
        elif isinstance(event, Checked):
            self._on_checked(event)
        elif isinstance(event, Built):
            self._on_built(event)
        elif isinstance(event, FinalReached):
            self._on_final_reached(event.block)
        elif isinstance(event, WorkChanged):
            self._on_work(event.has_work)
        elif isinstance(event, TimerFired):
            self._on_timer()
        else:
            raise TypeError(f"no such input: {event!r}")
        return self._finish()

    def _finish(self) -> tuple[Effect, ...]:
        """Draws all conclusions, sets the timer, and puts the records of this step before everything else."""
        while self._link() or self._finalise() or self._propose() or self._notarise():
            pass
        self._ask_for_what_is_missing()
        self._set_timer()
        effects, records = self._out, self._records
        self._out, self._records = [], []
        # One group of records, ahead of all messages of the step: earlier than needed does no harm, and it is one
        # write to the disk instead of several.
        return (Persist(tuple(records)), *effects) if records else tuple(effects)

    # --- restart ----------------------------------------------------------------------------------------------------

    def _recover(self, recovered: Recovered) -> None:
        """Own votes, certificates and blocks back into place; the view is the highest that they speak of."""
        for block in recovered.blocks:
            self._stored.add(block.id)
            if block.header.view > self._final.view:
                self._blocks[block.id] = block
        for certificate in recovered.certificates:
            if certificate.epoch != self._epoch:
                continue
            if certificate.kind is VoteKind.FINALISE:
                held = self._final_certificate
                if certificate.view >= self._final_view and (held is None or certificate.view > held.view):
                    self._final_certificate = certificate
                    self._final_view = certificate.view
                if certificate.block == self._final.id:
                    self._final_proof = certificate
        for certificate in recovered.certificates:
            if certificate.epoch != self._epoch:
                continue
            self._view = max(self._view, certificate.view + 1)
            if certificate.view > self._final_view and certificate.kind is not VoteKind.FINALISE:
                self._round(certificate.view).certificates[certificate.kind] = certificate
                if certificate.kind is VoteKind.NOTARISE:
                    self._unlinked[certificate.view] = certificate
                    self._to_finalise.append(certificate.view)
                    self._top_notarised = max(self._top_notarised, certificate.view)
        for vote in recovered.votes:
            if vote.epoch != self._epoch or vote.view <= self._final_view:
                continue
            if self._signer is not None and vote.signer != self._signer:
                continue
            # A vote is only cast in the current view, or, to finalise, below it.
            self._view = max(self._view, vote.view)
            held_round = self._round(vote.view)
            held_round.own[vote.kind] = vote
            if self._signer is not None:
                held_round.tally.add(self._own_key, vote, checked=True)
            block_voted_for = self._blocks.get(vote.block)
            if vote.kind is VoteKind.NOTARISE and block_voted_for is not None:
                if block_voted_for.header.proposer == self._own_key:
                    held_round.proposal = Proposal(block_voted_for, vote)
        self._top_notarised = max(self._top_notarised, self._final_view)

    # --- inputs -----------------------------------------------------------------------------------------------------

    def _on_vote(self, sender: bytes, vote: Vote) -> None:
        self._hear(sender)
        if vote.epoch != self._epoch:
            self.counters["other_epoch"] += 1
            return
        if not 0 <= vote.signer < len(self._validators):
            self._out.append(Offence(sender, "unknown_signer"))
            return
        if vote.view <= self._final_view or vote.view < self._view - self._window:
            self.counters["past_view"] += 1
            self._help(sender)
            return
        if vote.view > self._view + self._window:
            self.counters["far_view"] += 1
            return
        held = self._round(vote.view)
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
        if vote.epoch != self._epoch or header.epoch != self._epoch:
            self.counters["other_epoch"] += 1
            return
        if vote.view <= self._final_view or vote.view < self._view:
            # Too late to vote for; but it may be a notarised block that is missing here.
            self._on_block(proposal.block)
            return
        if vote.view > self._view + self._window:
            self.counters["far_view"] += 1
            return
        held = self._round(vote.view)
        if held.proposal is not None and (held.proposal.vote == vote or held.tally.has_accused(vote.signer)):
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
        elif held.proposal is None:
            held.proposal = proposal
            self._blocks[proposal.block.id] = proposal.block
        self._count(vote.view, vote.kind, vote.block)

    def _on_certificate(self, sender: bytes, certificate: Certificate) -> None:
        self._hear(sender)
        view, kind = certificate.view, certificate.kind
        if certificate.epoch != self._epoch:
            self.counters["other_epoch"] += 1
            return
        rival = self._rival(certificate)
        if rival is None:
            if view <= self._final_view:
                self.counters["superseded_certificate"] += 1
                self._help(sender)
                return
            held = self._rounds.get(view)
            if held is not None and kind in held.certificates:
                # Known. A peer that still thinks this is the newest one is behind.
                if view < self._view - 1:
                    self._help(sender)
                return
        tally = self._rounds[view].tally if view in self._rounds else None
        fault = certificate_fault(certificate, self._network_id, self._validators, self._quorum, known=tally)
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
        if certificate.kind is VoteKind.FINALISE and certificate.view > self._final_view and held is not None:
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
        if self._final_certificate is not None and wanted.from_view <= self._final_view:
            answer.append(self._final_certificate)
        last = min(wanted.to_view, self._view)
        for view in range(max(wanted.from_view, self._final_view + 1), last + 1):
            if len(answer) >= _ANSWERED_CERTIFICATES:
                break
            held = self._rounds.get(view)
            if held is not None:
                answer.extend(held.certificates[kind] for kind in sorted(held.certificates))
        answer.extend(newest for newest in self.newest_certificates() if newest not in answer)
        self._out.extend(Send(wanted.sender, certificate) for certificate in answer)

    def _on_block(self, block: Block) -> None:
        """[D] A block that a certificate, or a descendant that one names, made necessary."""
        if block.id not in self._missing:
            self.counters["unasked_block"] += 1
            return
        del self._missing[block.id]
        self._blocks_asked.discard(block.id)
        self._blocks[block.id] = block
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
        self._blocks[built.block.id] = built.block
        self._store(built.block)
        vote = self._sign(held, VoteKind.NOTARISE, self._view, built.block.id)
        held.proposal = Proposal(built.block, vote)
        held.verdict = True
        self._out.append(Broadcast(held.proposal))
        self._count(self._view, VoteKind.NOTARISE, built.block.id)

    def _on_final_reached(self, ref: BlockRef) -> None:
        """[D] A node that catches up gets final blocks in pieces. What lies below is neither fetched nor kept."""
        if ref.view <= self._final.view:
            return
        self._final, self._final_proof = ref, None
        self._linked = {name: other for name, other in self._linked.items() if other.view > ref.view}
        self._linked[ref.id] = ref
        self._blocks = {name: block for name, block in self._blocks.items() if block.header.view > ref.view}
        self._stored.intersection_update(self._blocks)
        self._deepest.clear()
        if ref.view > self._final_view:
            self._final_view = ref.view
            self._top_notarised = max(self._top_notarised, ref.view)
            for old in [old for old in self._rounds if old <= ref.view]:
                del self._rounds[old]
        for old in [old for old in self._unlinked if old <= ref.view]:
            del self._unlinked[old]
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
        if kind is VoteKind.FINALISE:
            # [P5] All before it is superseded. Back to the base timeout.
            self._unshared.append((self._now_ms + self._share_ms, certificate))
            self._final_certificate = certificate
            self._final_view = view
            self._top_notarised = max(self._top_notarised, view)
            self._nullified_streak = 0
            for old in [old for old in self._rounds if old <= view]:
                del self._rounds[old]
            for old in [old for old in self._unlinked if old <= view]:
                del self._unlinked[old]
        else:
            self._round(view).certificates[kind] = certificate
            if view >= self._view and kind is VoteKind.NULLIFY:
                self._out.append(Broadcast(certificate))
            if kind is VoteKind.NOTARISE:
                self._unshared.append((self._now_ms + self._share_ms, certificate))
                self._unlinked[view] = certificate
                self._to_finalise.append(view)
                self._top_notarised = max(self._top_notarised, view)
            elif view == self._view:
                # [D] A nullified view makes the next ones longer, unless it was cut short because its leader is dead.
                leader = self._validators.leader(view)
                if leader not in self._silent:
                    self._nullified_streak += 1
                if leader != self._signer:
                    self._silent.add(leader)
        if view >= self._view:
            self._enter(view + 1)

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
        for old, held in self._rounds.items():
            if old < view - self._window:
                held.tally.clear()

    # --- conclusions ------------------------------------------------------------------------------------------------

    def _link(self) -> bool:
        """[P5] Hands over notarised blocks, parents first, and the final one; notes which blocks are missing."""
        self._missing.clear()
        final = self._final_certificate
        if final is not None and final.view > self._final.view:
            if self._connect(final):
                # What lies at or below the final block and is not the final block itself is of no use any more.
                self._final, self._final_proof = self._linked[final.block], final
                self._linked = {
                    name: ref for name, ref in self._linked.items() if ref.view > final.view or name == final.block
                }
                self._blocks = {name: block for name, block in self._blocks.items() if block.header.view > final.view}
                self._stored.intersection_update(self._blocks)
                self._deepest.clear()
                self._out.append(Finalised(self._final, final))
                return True
        for view in sorted(self._unlinked):
            if self._connect(self._unlinked[view]):
                del self._unlinked[view]
                return True
        return False

    def _connect(self, certificate: Certificate) -> bool:
        """Hands over a certified block with those of its ancestors that are not linked yet, if all are here.

        ``_deepest`` remembers how far down the way is known, so that fetching a long chain block by block costs one
        step for each block.
        """
        if certificate.block in self._foreign:
            return False
        name = self._deepest.get(certificate.block, certificate.block)
        while name not in self._linked:
            block = self._blocks.get(name)
            if block is None:
                self._deepest[certificate.block] = name
                self._missing.setdefault(name, certificate)
                return False
            if block.header.height <= self._final.height:
                # A certified chain that leaves out our final block: more than f validators are faulty.
                self._foreign.add(certificate.block)
                self._out.append(Contradiction(self._final_proof, certificate))
                return False
            name = block.header.parent
        self._deepest.pop(certificate.block, None)
        path: list[Block] = []
        name = certificate.block
        while name not in self._linked:
            path.append(self._blocks[name])
            name = path[-1].header.parent
        for block in reversed(path):
            ref = BlockRef.of(block.header)
            self._linked[block.id] = ref
            self._store(block)
            own = self._rounds.get(ref.view)
            notarisation = None if own is None else own.certificates.get(VoteKind.NOTARISE)
            proof = notarisation if notarisation is not None and notarisation.block == ref.id else certificate
            self._out.append(Notarised(ref, proof))
        return True

    def _finalise(self) -> bool:
        """[P4] A finalise vote for each notarised view that this validator did not vote to nullify.

        It never waits for payload: the notarisation proves that more than f honest validators hold it. In a view that
        is nullified too the vote would be in vain.
        """
        views, self._to_finalise = sorted(self._to_finalise), []
        for view in views:
            held = self._rounds.get(view)
            if self._signer is None or held is None or VoteKind.NULLIFY in held.certificates:
                continue
            if VoteKind.FINALISE not in held.own and VoteKind.NULLIFY not in held.own:
                block = held.certificates[VoteKind.NOTARISE].block
                self._out.append(Broadcast(self._sign(held, VoteKind.FINALISE, view, block)))
                self._count(view, VoteKind.FINALISE, block)
        return bool(views)

    def _nullify(self) -> None:
        """[P2] The view took too long. Whoever has voted to finalise a view never votes to nullify it."""
        held = self._round(self._view)
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
        held = self._round(self._view)
        if held.build_asked is not None or VoteKind.NOTARISE in held.own or VoteKind.NULLIFY in held.own:
            return False
        due = self._now_ms >= self._build_at_ms()
        if not due and (not self._node_has_work or held.build_declined_ms is not None):
            return False
        needed = due and (self._top_notarised > self._final_view or not self._node_has_work)
        parent = self._best_parent(self._view)
        if parent is None:
            return False
        held.build_asked = parent.id
        self._out.append(Build(self._view, parent, needed))
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
        if not self._follows(block.header, parent):
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
        """[P1] The highest notarised block below ``view`` above which every view is nullified, if it is linked."""
        missing: list[int] = []
        for below in range(view - 1, self._final_view, -1):
            held = self._rounds.get(below)
            certificates = {} if held is None else held.certificates
            notarisation = certificates.get(VoteKind.NOTARISE)
            if notarisation is not None and not missing and notarisation.block in self._linked:
                return self._linked[notarisation.block]
            if VoteKind.NULLIFY not in certificates:
                if notarisation is not None:
                    break
                missing.append(below)
        else:
            if not missing:
                return self._linked.get(self._base())
        if missing:
            self._want_certificates(missing[-1], missing[0])
        return None

    def _parent_of_proposal(self, view: int, parent: bytes) -> BlockRef | None:
        """[P3] The parent, if its notarisation and the nullifications of the gap are all held and it is linked."""
        missing: list[int] = []
        for below in range(view - 1, self._final_view, -1):
            held = self._rounds.get(below)
            certificates = {} if held is None else held.certificates
            notarisation = certificates.get(VoteKind.NOTARISE)
            if notarisation is not None and notarisation.block == parent:
                if missing:
                    self._want_certificates(missing[-1], missing[0])
                    return None
                return self._linked.get(parent)
            if VoteKind.NULLIFY not in certificates:
                missing.append(below)
        if parent == self._base() and not missing:
            return self._linked.get(parent)
        # Either nullifications are missing, or the parent's notarisation, perhaps of a view that is nullified as well.
        if missing:
            self._want_certificates(missing[-1], missing[0])
        elif view - 1 > self._final_view:
            self._want_certificates(self._final_view + 1, view - 1)
        return None

    def _base(self) -> bytes:
        """The block of the final view, handed over or not."""
        return self._final.id if self._final_certificate is None else self._final_certificate.block

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
            if asked is None or (asked[0] != self._view and self._now_ms >= asked[1] + self._interval_ms):
                self._certificates_asked = (self._view, self._now_ms)
                self._out.append(WantCertificates(*wanted))
        self._blocks_asked.intersection_update(self._missing)
        for name, certificate in self._missing.items():
            if name not in self._blocks_asked:
                self._blocks_asked.add(name)
                keys = [self._validators.members[signer].key for signer in certificate.signers]
                self._out.append(WantBlock(name, tuple(key for key in keys if key != self._own_key)))

    def _help(self, sender: bytes) -> None:
        """[D] A peer speaks of a view that is over: what leads out of it is sent, at a bounded rate.

        Not while this node itself has just moved: the peer's message then crossed our own certificate on the way.
        """
        if self._now_ms < self._moved_ms + self._interval_ms:
            return
        helped_ms = self._helped_ms.get(sender)
        if helped_ms is not None and self._now_ms < helped_ms + self._interval_ms:
            return
        if len(self._helped_ms) >= 1_024:
            self._helped_ms.clear()
        self._helped_ms[sender] = self._now_ms
        self._out.extend(Send(sender, certificate) for certificate in self.newest_certificates())

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
                self._out.append(Broadcast(held.own[VoteKind.NULLIFY]))
        finalise = [
            self._rounds[view].own[VoteKind.FINALISE]
            for view in sorted(self._rounds)
            if VoteKind.FINALISE in self._rounds[view].own
        ]
        self._out.extend(Broadcast(vote) for vote in finalise[-_RESENT_FINALISE_VOTES:])
        self._out.extend(Broadcast(certificate) for certificate in self.newest_certificates())

    def _hear(self, sender: bytes) -> None:
        """[D] A validator that says anything is not dead: its views get the normal timeout again."""
        signer = self._validators.signer_of(sender)
        if signer is not None:
            self._silent.discard(signer)

    # --- clocks -----------------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        """Whether anything is unfinished."""
        if self._node_has_work or self._top_notarised > self._final_view:
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

    def _timeout_ms(self) -> int:
        """[P2] The paper's 3 Delta; [D] doubled for each view nullified in a row, up to the cap."""
        return min(self._base_ms << min(self._nullified_streak, 32), self._cap_ms)

    def _view_began_ms(self) -> int:
        """When the view's timer started: on entering it, or when work came."""
        return max(self._entered_ms, self._now_ms if self._work_since_ms is None else self._work_since_ms)

    def _view_deadline_ms(self) -> int | None:
        """When this validator votes to nullify; None without work, or when it has voted to nullify or finalise."""
        held = self._rounds.get(self._view)
        if self._signer is None or self._work_since_ms is None:
            return None
        if held is not None and (VoteKind.NULLIFY in held.own or VoteKind.FINALISE in held.own):
            return None
        timeout_ms = self._timeout_ms()
        if self.leader in self._silent or (held is not None and held.verdict is False):
            # Nothing to wait for: the leader is dead, or what it proposed can never be voted for.
            timeout_ms = min(timeout_ms, max(_QUICK_TIMEOUT_LEAST_MS, timeout_ms // 10))
        return self._view_began_ms() + timeout_ms

    def _build_at_ms(self) -> int:
        """When a leader proposes a block even if its node has nothing to put into it."""
        held, below = self._rounds.get(self._view), self._rounds.get(self._view - 1)
        grace_ms = self._timeout_ms() // 4
        if held is not None and held.build_declined_ms is not None:
            return held.build_declined_ms + grace_ms
        if below is not None and VoteKind.NOTARISE not in below.certificates and self._top_notarised > self._final_view:
            # A nullified view lies between: the finalise votes of the parent have had their time.
            return self._view_began_ms()
        return self._view_began_ms() + grace_ms

    def _set_timer(self) -> None:
        """One timer for the nearest time: leaving the view, resending, sharing a certificate, an empty block."""
        work = self._has_work()
        if not work:
            self._work_since_ms = None
        elif self._work_since_ms is None:
            self._work_since_ms = self._now_ms
        if not work and not self._missing:
            self._resend_at_ms = None
            self._resends = 0
        elif self._resend_at_ms is None:
            delay_ms = min(self._interval_ms << min(self._resends, 32), max(self._interval_ms, self._cap_ms // 4))
            self._resend_at_ms = self._now_ms + delay_ms
        times = [self._resend_at_ms, self._view_deadline_ms()]
        if self._unshared:
            times.append(self._unshared[0][0])
        if work and self._signer is not None and self.leader == self._signer:
            build_at_ms = self._build_at_ms()
            if build_at_ms > self._now_ms:
                times.append(build_at_ms)
        at_ms = min((time for time in times if time is not None), default=None)
        if at_ms != self._timer_at_ms:
            self._timer_at_ms = at_ms
            self._out.append(SetTimer(at_ms))

    # --- small tools ------------------------------------------------------------------------------------------------

    def _round(self, view: int) -> _Round:
        held = self._rounds.get(view)
        if held is None:
            held = self._rounds[view] = _Round(Tally(self._network_id, self._validators))
        return held

    def _store(self, block: Block) -> None:
        if block.id not in self._stored:
            self._stored.add(block.id)
            header = block.header
            self._records.append(BlockRecord(block.id, header.height, header.view, header.parent, block.encode()))

    def _sign(self, held: _Round, kind: VoteKind, view: int, block: bytes) -> Vote:
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
