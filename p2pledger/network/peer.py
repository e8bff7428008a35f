"""A peer: a node and its sessions. ``step(event, now_ms) -> effects`` is the whole of it.

Around the node it keeps

* **sessions** with other nodes, one for each key at most, and any number of clients. Who is let in depends on the
  profile (``admission.py``);
* **gossip**: own batches are streamed to all nodes at once, votes, proposals and certificates likewise. In a small
  network everybody is connected with everybody; nothing is relayed, so nothing comes twice by design. Where nodes have
  fewer sessions (``degree``) all this is relayed along a mesh (``relay.py``), and a node may find whom to have sessions
  with by itself (``discovery.py``). In the chain family a block is announced
  by its producer and by everybody whose head it becomes, to those who may not know it;
* **fetching** of batches and blocks that a block or certificate names and that did not come (``fetch.py``), and of
  branches whose ancestors are not known (``branches.py``);
* **sync**: a node that hears of a greater final height asks one peer for the final blocks from its own height on, in
  pieces (``sync.py``). Under simplex each is proved by a finalisation, and it does not matter who sends them;
* **clients**: submissions, notifications, and questions (``queries.py``).

Whoever sends what no honest node sends (malformed bytes, bad signatures) is disconnected; who sends blocks that are
refused, when it does so repeatedly (``conduct.py``). The reason is logged. Nobody gets answers without bound
(``allowance.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from typing import Final

from p2pledger import core
from p2pledger.consensus import engine as consensus
from p2pledger.network.admission import Admission
from p2pledger.network.branches import BRANCH_BLOCKS, Branches
from p2pledger.network.conduct import LIMIT_POINTS, Conduct
from p2pledger.network.discovery import Discovery
from p2pledger.network.effects import (
    Computed,
    DialFailed,
    Disconnect,
    Event,
    Identity,
    Received,
    Send,
    SessionClosed,
    SessionOpened,
    SetTimer,
    Started,
    TimerFired,
)
from p2pledger.network.fetch import Fetcher
from p2pledger.network.queries import HEAVY, NodeStatus, answer, heavy_answer
from p2pledger.network.relay import HEARTBEAT_MS, Relay
from p2pledger.network.session import PeerSession
from p2pledger.network.sync import SYNC_BLOCKS, Sync
from p2pledger.node.archive import Archive, Recovery
from p2pledger.node.batches import likely_digest
from p2pledger.node.effects import (
    Admitted,
    Compute,
    Effect,
    Halt,
    Log,
    Mark,
    Persist,
    Settle,
    Stage,
    StreamBatch,
    Tell,
    WantBatches,
    marks_of,
)
from p2pledger.node.node import Node, NodeEffect
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.faults import NO_FAULTS, Faults
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    MAX_MESSAGE_BYTES,
    Addresses,
    Answer,
    BatchMessage,
    BlockMessage,
    Branch,
    CertificateMessage,
    Chain,
    Follow,
    HavePayloads,
    MeshLink,
    Message,
    MissingBatches,
    Payload,
    PayloadHead,
    Piece,
    Progress,
    ProposalMessage,
    Query,
    Rules,
    Settled,
    Status,
    Submit,
    Submitted,
    VoteMessage,
    WantAddresses,
    WantBlocks,
    WantBranch,
    WantCertificates,
    WantChain,
    WantPayload,
    decode_message,
)
from p2pledger.primitives.messages import (
    WantBatches as WantBatchesMessage,
)
from p2pledger.primitives.validators import faulty_of
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

__all__ = ["Peer"]

_FAR_BEHIND: Final = 64
_SYNC_BYTES: Final = 768 * 1024
_SETTLED_PER_MESSAGE: Final = 4_096
_LOOK_AROUND_SLOTS: Final = 10
_CERTIFICATES_COST: Final = 64
"""What an answer with certificates counts, in items."""
_CLIENT_MESSAGES: Final = (Submit, Query, Follow)
_FOR_THE_NODE: Final = (VoteMessage, BatchMessage, Submit, Query)
"""What changes nothing here, but perhaps in the node, which knows that itself."""
_SPREAD: Final = (BatchMessage, ProposalMessage, VoteMessage, CertificateMessage)
"""What is relayed where not every two nodes have a session; blocks of the chain family spread by themselves."""
_SOMEBODY: Final = bytes(32)
"""In the place of the sender of what was relayed: who passes something on answers for its form only."""
_RELAYED: Final = 0
"""The topic under which it is."""
_REPEATS: Final = 255
"""The topics above: what is said again has to be another payload, for whoever has heard it would not pass it on."""
_MOST_TOLD: Final = 1_024


class Peer:
    """One node with its sessions. The shell calls ``step`` with one event at a time; ``now_ms`` never decreases."""

    def __init__(
        self,
        genesis: Genesis,
        keypair: Keypair,
        *,
        name: str,
        archive: Archive,
        recovery: Recovery | None = None,
        quorum: int | None = None,
        faults: Faults = NO_FAULTS,
        traces: bool = False,
        degree: int = 0,
        discovery: Discovery | None = None,
    ) -> None:
        """NodeStopped if the stored chain cannot be replayed. ``quorum`` and ``faults`` are for tests only.

        ``degree``: to how many neighbours things are pushed that all others relay; 0: everybody is connected with
        everybody. ``discovery``: finds whom to call; without it the shell knows. ``traces``: mark what
        happens to batches and blocks (``tracing.py``).
        """
        self.name = name
        self.genesis = genesis
        self.node = Node(genesis, keypair, archive=archive, recovery=recovery, quorum=quorum, faults=faults)
        self.node.traces = traces
        self._faults = faults
        self._is_chain_family = genesis.engine != "simplex"
        self._sessions: dict[int, PeerSession] = {}
        self._nodes: dict[bytes, PeerSession] = {}
        self._batches = Fetcher()
        self._blocks = Fetcher()
        self._branches = Branches()
        self._sync = Sync(is_proved=not self._is_chain_family)
        self._conduct = Conduct()
        self._relay = Relay(keypair.public_key, relays=True, degree=degree) if degree else None
        self._told: dict[bytes, None] = {}
        self._discovery = discovery
        self._beat_at_ms: int | None = None
        self._admission = Admission(genesis, keypair.public_key, self.node.is_validator)
        self._refused_questions = 0
        self._now_ms = 0
        self._timer_ms: int | None = None
        self._out: list[Effect] = []
        self._asking: set[int] = set()
        self._is_unsettled = False
        """Something has happened since it looked around that may have to do with more than the node."""
        self._produce_at_ms: int | None = None

    # --- what the shell reads -------------------------------------------------------------------------------------

    @property
    def final_height(self) -> int:
        return self.node.final_height

    @property
    def final_version(self) -> core.Version:
        """The state after the newest final block: frozen, safe to read from any thread."""
        return self.node.final_version

    @property
    def catching_up(self) -> bool:
        """Whether connected nodes have told, credibly, of a greater final height than this node's."""
        return self._own_height < self._believed_height()

    @property
    def connected_nodes(self) -> frozenset[bytes]:
        """The keys of the nodes with which there are sessions."""
        return frozenset(self._nodes)

    def admit(self, identity: Identity) -> tuple[str, str] | None:
        """None if this identity is welcome, else a code and a sentence for *refuse*."""
        refusal = self._admission.judge(identity)
        if refusal is not None or not self._admission.is_open:
            return refusal
        if self._conduct.is_shunned(identity.node_key, self._now_ms):
            return "shunned", "this key has offended too often; it may come back later"
        return None

    def status(self) -> NodeStatus:
        node, head = self.node, self.node.head
        clients = sum(session.is_client for session in self._sessions.values())
        return NodeStatus(
            name=self.name,
            final_height=node.final_height,
            final_block=node.final_block.id,
            view=node.view,
            state_root=node.final_outcome.state_root,
            mempool_bytes=node.mempool.size_bytes,
            held_batches=len(node.pool.open),
            validators_connected=len(self._nodes),
            clients_connected=clients,
            catching_up=self.catching_up,
            transactions_final=node.transactions_final,
            batches_dropped=node.dropped_lane_batches,
            engine=self.genesis.engine,
            profile=self.genesis.profile,
            head_height=head.entry.block.height,
            head=head.entry.block.id,
            head_weight=node.head_weight,
            forks=head.forks_count,
            given_up=self._batches.given_up + self._blocks.given_up + self._branches.given_up,
            questions_refused=self._refused_questions,
            offences=self._conduct.offences,
        )

    # --- the one door ---------------------------------------------------------------------------------------------

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
        """One event, at one time. The effects are to be obeyed in order.

        ``more``: another event follows at once, or ``settle``. What does not answer this one event, but follows from
        the state, is left to that: a node in a crowd looks around once for all that came together.
        """
        self._now_ms = now_ms
        if type(event) is not Received and type(event) is not Computed:
            self._is_unsettled = True
        match event:
            case Received(session, payload):
                self._receive(session, payload)
            case Computed(job, result):
                self._do(self.node.computed(job, result, now_ms))
            case TimerFired():
                self._timer_ms = None
                self._do(self.node.tick(now_ms))
            case SessionOpened():
                self._meet(event)
            case DialFailed(host, port, code, key):
                if self._discovery is not None:
                    self._discovery.failed((host, port), code, key, now_ms)
            case SessionClosed(session):
                self._close(session)
            case Started():
                self._do(self.node.start(now_ms))
        if more:
            effects, self._out = self._out, []
            return effects
        return self.settle(now_ms)

    def settle(self, now_ms: int) -> list[Effect]:
        """What follows from the state, after the last of the events that came together."""
        self._now_ms = now_ms
        if self.node.is_unsettled or self._is_unsettled:
            self._is_unsettled = False
            self._look_around()
        effects, self._out = self._out, []
        return effects

    def _look_around(self) -> None:
        self._do(self.node.settle(self._now_ms))
        self._fetch()
        self._synchronise()
        self._begin_to_produce()
        self._tend_relay()
        self._discover()
        self._set_timer()

    # --- sessions -------------------------------------------------------------------------------------------------

    def _meet(self, event: SessionOpened) -> None:
        """Somebody is there: to stay, or, if this node only wanted to know whether it is, to be left again."""
        session = PeerSession(event.session, event.identity)
        if self._discovery is not None and not session.is_client:
            code = self._discovery.opened(session.key, (event.host, event.port), event.called, self._now_ms)
            if code:
                self._out.append(Disconnect(session.number, code, "this node wanted to know whether somebody is there"))
                return
        self._open(session, is_dialled=event.is_dialled)

    def _open(self, session: PeerSession, *, is_dialled: bool) -> None:
        self._sessions[session.number] = session
        if session.is_client:
            return
        self._nodes[session.key] = session
        if self._relay is not None:
            self._relay.opened(session.key, is_dialled=is_dialled)
        node = self.node
        self._send(session, self._standing())
        for certificate in node.newest_certificates():
            self._send(session, CertificateMessage(certificate.encode()))
        for held in node.pool.open.values():
            if held.columns.maker == node.keypair.public_key:
                self._send(session, BatchMessage(held.data), bulk=True)

    def _standing(self) -> Status:
        node, head = self.node, self.node.head.entry.block
        return Status(node.final_height, node.final_block.id, node.view, head.height, head.id)

    def _close(self, number: int) -> None:
        session = self._sessions.pop(number, None)
        if session is None:
            return
        self._is_unsettled = True
        key = session.key
        if session.is_client:
            self.node.close_client(number)
        elif self._nodes.get(key) is session:
            del self._nodes[key]
            if self._relay is not None:
                self._relay.closed(key)
            if self._discovery is not None:
                self._discovery.closed(key, self._now_ms)
            self._batches.lost(key)
            self._blocks.lost(key)
            self._branches.lost(key)
            self._sync.forget(key)

    def _send(self, session: PeerSession, message: Message, *, bulk: bool = False) -> None:
        self._out.append(Send(session.number, message.encode(), bulk))

    def _send_all(self, message: Message, *, bulk: bool = False) -> None:
        payload = message.encode()
        for session in self._nodes.values():
            self._out.append(Send(session.number, payload, bulk))

    def _spread(self, message: Message, *, bulk: bool = False) -> None:
        """To all nodes of the network, whether there are sessions with them or not.

        What this node has said before it says again because somebody may not have heard it: on the other side of a
        partition, say, that is over. Its neighbours have, so it goes out under the topic of the second.
        """
        if self._relay is None:
            self._send_all(message, bulk=bulk)
            return
        data = message.encode()
        digest = sha256(data).digest()
        topic = 1 + self._now_ms // 1_000 % _REPEATS if digest in self._told else _RELAYED
        if topic == _RELAYED:
            if len(self._told) >= _MOST_TOLD:
                del self._told[next(iter(self._told))]
            self._told[digest] = None
        self._relay.publish(topic, data, self._now_ms)

    def _from_relay(self, session: PeerSession, message: Message) -> None:
        """A message of the relay; what it brings is taken as if its author had sent it, but for the blame.

        What is not in order by its form, and a batch that nobody has signed, is passed on to nobody, and who brought it
        loses score. More can be beyond who passes something on: the validators of an epoch, say, or the transactions of
        a batch, which are checked later; so nobody is disconnected for it.
        """
        if self._relay is None:
            raise PeerFault("nothing is relayed in this network", code="wrong_role")
        for delivery in self._relay.receive(session.key, message, self._now_ms):
            try:
                inner = decode_message(delivery.data)
                if not isinstance(inner, _SPREAD):
                    raise PeerFault(f"{type(inner).__name__} is not relayed", code="wrong_role")
                may_pass = self.node.may_pass_on(inner.data) if isinstance(inner, BatchMessage) else True
                if may_pass is False:
                    raise PeerFault("what is relayed as a batch is none, or is not signed", code="malformed_batch")
                self._from_node(session, inner, _SOMEBODY)
            except PeerFault:
                self._relay.reject(delivery)
            else:
                if may_pass:
                    self._relay.accept(delivery)

    def _tend_relay(self) -> None:
        """Its heartbeat, where it has something to do; and what it wants to say."""
        relay = self._relay
        if relay is None:
            return
        if self._beat_at_ms is not None and self._now_ms >= self._beat_at_ms:
            relay.heartbeat(self._now_ms)
            self._beat_at_ms = None
        if self._beat_at_ms is None and relay.is_restless:
            self._beat_at_ms = self._now_ms + HEARTBEAT_MS
        encoded: dict[int, bytes] = {}
        for outgoing in relay.out:
            session = self._nodes.get(outgoing.key)
            if session is not None:
                payload = encoded.get(id(outgoing.message))
                if payload is None:
                    payload = encoded[id(outgoing.message)] = outgoing.message.encode()
                self._out.append(Send(session.number, payload, outgoing.bulk))
        relay.out.clear()

    def _discover(self) -> None:
        """When it is time: call, ask for addresses, leave seeds in peace."""
        discovery = self._discovery
        if discovery is None or self._now_ms < discovery.due_ms:
            return
        dials, asks, introduced = discovery.look(self._now_ms)
        self._out += dials
        for key, message in asks:
            self._send(self._nodes[key], message)
        for key in introduced:
            self._disconnect(self._nodes[key], "introduced", "this node has found enough others")

    def _tell_addresses(self, session: PeerSession, port: int) -> None:
        if not self._may_ask(session, 1):
            return
        known = Addresses(()) if self._discovery is None else self._discovery.asked(session.key, port, self._now_ms)
        if known is not None:
            self._send(session, known)

    def _hear_addresses(self, session: PeerSession, message: Addresses) -> None:
        if self._discovery is None:
            raise PeerFault("addresses came that nobody has asked for", code="unasked")
        self._discovery.answered(session.key, message, self._now_ms)

    def _announce(self, block: Block) -> None:
        """To those who do not have it yet, as far as is known."""
        payload = BlockMessage(block.encode()).encode()
        for session in self._nodes.values():
            if session.learns(block.id):
                self._out.append(Send(session.number, payload))

    def _disconnect(self, session: PeerSession, code: str, sentence: str) -> None:
        self._out.append(Disconnect(session.number, code, sentence))
        self._close(session.number)

    # --- what comes in --------------------------------------------------------------------------------------------

    def _receive(self, number: int, payload: bytes) -> None:
        session = self._sessions.get(number)
        if session is None:
            return  # it was disconnected in the meantime
        try:
            message = decode_message(payload)
            if not isinstance(message, _FOR_THE_NODE):
                self._is_unsettled = True
            if isinstance(message, _CLIENT_MESSAGES):
                self._from_client(session, message)
            elif not session.is_client:
                self._from_node(session, message, session.key)
            else:
                raise PeerFault(f"a client may not send {type(message).__name__}", code="wrong_role")
        except PeerFault as fault:
            self._is_unsettled = True
            if not session.is_client:
                self._conduct.offend(session.key, fault.code, self._now_ms, is_grave=True)
                if self._discovery is not None:
                    self._discovery.offended(session.key, self._now_ms)
            self._disconnect(session, fault.code, str(fault))

    def _from_client(self, session: PeerSession, message: Message) -> None:
        match message:
            case Submit(request, transactions):
                self._do(self.node.submit(session.number, request, transactions, self._now_ms))
            case Follow(wanted):
                self.node.follow(session.number, wanted=wanted)
            case Query() if message.kind in HEAVY:
                self._work_out_answer(session, message)
            case Query():
                self._answer(session, answer(message, self.node, self.status()))

    def _answer(self, session: PeerSession, reply: Answer) -> None:
        if len(reply.encode()) > MAX_MESSAGE_BYTES:
            sentence = "the answer does not fit a message; ask for less at a time"
            reply = Answer(reply.request, "too_large", (sentence,))
        self._send(session, reply)

    def _work_out_answer(self, session: PeerSession, query: Query) -> None:
        """A question over the whole state is answered in a ``Compute``, one at a time for each client."""
        if session.number in self._asking:
            self._answer(session, Answer(query.request, "busy", ("your last question of this kind is being answered",)))
            return
        self._asking.add(session.number)
        run, cost_us = heavy_answer(query, self.node, session.key)

        def done(result: Answer) -> None:
            self._asking.discard(session.number)
            if session.number in self._sessions:
                self._answer(session, result)

        self._do(self.node.work_out(run, done, cost_us=cost_us))

    def _from_node(self, session: PeerSession, message: Message, sender: bytes) -> None:
        node, now_ms = self.node, self._now_ms
        match message:
            case BatchMessage(data):
                digest = likely_digest(data)
                if digest is not None:
                    self._mark_arrival(digest, data)
                wanted = digest is not None and self._batches.got(digest)
                self._is_unsettled |= wanted
                self._do(node.receive_batch(data, sender, wanted=wanted, now_ms=now_ms))
            case BlockMessage(data):
                arrived = Block.decode(data)
                self._mark_arrival(arrived.id, data, is_block=True)
                self._receive_block(session, arrived)
            case WantBatchesMessage(digests):
                self._serve_batches(session, digests)
            case MissingBatches(digests):
                self._batches.missing_at(sender, digests)
            case WantBlocks(ids):
                self._serve_blocks(session, ids)
            case Status():
                session.final_height = max(session.final_height, message.final_height)
                session.head_height, session.head = message.head_height, message.head
                session.has_spoken = True
            case WantChain(from_height, limit):
                self._serve_chain(session, from_height, limit)
            case Chain(blocks, certificate):
                self._receive_chain(session, blocks, certificate)
            case WantAddresses(port):
                self._tell_addresses(session, port)
            case Addresses():
                self._hear_addresses(session, message)
            case Payload() | PayloadHead() | Piece() | HavePayloads() | WantPayload() | MeshLink():
                self._from_relay(session, message)
            case _ if self._is_chain_family:
                self._from_chain_node(session, message)
            case _:
                self._from_voter(session, message, sender)

    def _from_voter(self, session: PeerSession, message: Message, sender: bytes) -> None:
        """What there is under simplex only."""
        node, now_ms = self.node, self._now_ms
        match message:
            case VoteMessage(data):
                ballot = Vote.decode(data)
                self._heed_epoch(session, ballot.epoch)
                self._do(node.engine_input(consensus.VoteArrived(sender, ballot), now_ms))
            case ProposalMessage(block, vote):
                proposal = consensus.Proposal(Block.decode(block), Vote.decode(vote))
                self._mark_arrival(proposal.block.id, block, is_block=True)
                self._do(node.engine_input(consensus.ProposalArrived(sender, proposal), now_ms))
            case CertificateMessage(data):
                certificate = self._certificate(data)
                self._heed_epoch(session, certificate.epoch)
                self._do(node.engine_input(consensus.CertificateArrived(sender, certificate), now_ms))
            case WantCertificates(from_view, to_view):
                if self._may_ask(session, _CERTIFICATES_COST):
                    self._do(node.engine_input(consensus.CertificateWanted(sender, from_view, to_view), now_ms))
            case _:
                raise PeerFault(f"a node may not send {type(message).__name__} here", code="wrong_role")

    def _heed_epoch(self, session: PeerSession, epoch: int) -> None:
        """Who speaks of an epoch says that the one before is over: its last block is final there."""
        begins_above = self.node.epochs.last_height(epoch - 1) if epoch else None
        if begins_above is not None and begins_above > session.final_height:
            session.final_height = begins_above
            self._is_unsettled = True

    def _from_chain_node(self, session: PeerSession, message: Message) -> None:
        """What there is in the chain family only."""
        match message:
            case WantBranch(block_id, limit):
                self._serve_branch(session, block_id, limit)
            case Branch(datas):
                blocks, more = self._branches.came(session.key, datas, self._now_ms, self.node.knows)
                if more is not None:
                    self._send(session, WantBranch(more, BRANCH_BLOCKS))
                if blocks:
                    for block in blocks:
                        session.learns(block.id)
                    self._do(self.node.engine_input(consensus.BranchArrived(tuple(blocks), session.key), self._now_ms))
            case _:
                raise PeerFault(f"a node may not send {type(message).__name__} here", code="wrong_role")

    def _receive_block(self, session: PeerSession, block: Block) -> None:
        was_wanted = self._blocks.got(block.id)
        if self._is_chain_family:
            self._show(session, block)
        elif was_wanted:
            self._do(self.node.engine_input(consensus.BlockArrived(block), self._now_ms))

    def _show(self, session: PeerSession, block: Block) -> None:
        """A block of the chain family, for the engine to judge; also if it was here before and had to be let go."""
        session.learns(block.id)
        if not self.node.has_judged(block.id):
            self._do(self.node.engine_input(consensus.BlockArrived(block, session.key), self._now_ms))

    def _may_ask(self, session: PeerSession, items: int) -> bool:
        """Whether this session's question is answered; who asks for more than its share is not."""
        if session.allowance.take(items, self._now_ms):
            return True
        self._refused_questions += 1
        refused = session.allowance.refused
        if refused & (refused - 1) == 0:
            fields = (("peer", session.key.hex()[:16]), ("name", session.identity.name), ("refused", refused))
            self._out.append(Log("warning", "asks_too_much", fields))
        return False

    def _serve_blocks(self, session: PeerSession, ids: tuple[bytes, ...]) -> None:
        if not self._may_ask(session, len(ids)):
            return
        for block_id in ids:
            found = self.node.block(block_id)
            if found is not None:
                session.learns(block_id)
                self._send(session, BlockMessage(found))

    def _serve_branch(self, session: PeerSession, block_id: bytes, limit: int) -> None:
        """A block and its ancestors, newest first, as far as they are held and fit a message."""
        limit = min(limit, BRANCH_BLOCKS)
        if not self._may_ask(session, limit):
            return
        blocks: list[bytes] = []
        size_bytes = 0
        while len(blocks) < limit:
            data = self.node.block(block_id)
            if data is None or size_bytes + len(data) > _SYNC_BYTES:
                break
            blocks.append(data)
            size_bytes += len(data)
            session.learns(block_id)
            block_id = Block.decode(data).header.parent
        self._send(session, Branch(tuple(blocks)))

    def _certificate(self, data: bytes) -> Certificate:
        return Certificate.decode(data, repeats=self._faults.double_counted_signer)

    def _serve_batches(self, session: PeerSession, digests: tuple[bytes, ...]) -> None:
        if not self._may_ask(session, len(digests)):
            return
        missing = []
        for digest in digests:
            data = self.node.batch(digest)
            if data is None:
                missing.append(digest)
            else:
                self._send(session, BatchMessage(data), bulk=True)
        if missing:
            self._send(session, MissingBatches(tuple(missing)))

    # --- sync -----------------------------------------------------------------------------------------------------

    @property
    def _own_height(self) -> int:
        """How far this node has got with what others may call final."""
        return self.node.head.entry.block.height if self._is_chain_family else self.node.final_height

    def _believed_height(self) -> int:
        """The greatest final height that is credible.

        Where validators have weight: one that more than f of it claims to have reached. Elsewhere every claim, until
        its author was asked for the blocks and did not have them (``sync.py``).
        """
        if self.genesis.engine not in ("simplex", "poa"):
            return max((session.final_height for session in self._nodes.values()), default=0)
        validators, weight = self.node.validators, 0
        claims = sorted(((other.final_height, key) for key, other in self._nodes.items()), reverse=True)
        seats = [
            (height, validators.members[signer].weight)
            for height, key in claims
            if (signer := validators.signer_of(key)) is not None
        ]
        # Where there are not sessions with all, the neighbours stand for them: what they claim has to be proved anyway.
        heard = validators.total_weight if self._relay is None else sum(each for _, each in seats)
        for height, each in seats:
            weight += each
            if weight > faulty_of(heard):
                return height
        return 0

    def _serve_chain(self, session: PeerSession, from_height: int, limit: int) -> None:
        """Final blocks from a height on; under simplex up to the last one of the piece that has a finalisation.

        A piece goes no further than into the next epoch: who is that far knows the validators of both, and no others.
        """
        archive, node = self.node.archive, self.node
        first = max(1, from_height)
        known = node.epochs.last_height(node.epochs.after(first - 1) + 1)
        last = node.final_height if known is None else min(known, node.final_height)
        limit = min(limit, SYNC_BLOCKS)
        if not self._may_ask(session, limit):
            return
        blocks: list[bytes] = []
        proved, certificate, size_bytes = 0, b"", 0
        for height in range(first, last + 1):
            block = archive.final_block(height)
            if block is None or size_bytes + len(block) > _SYNC_BYTES or (proved and len(blocks) >= limit):
                break
            blocks.append(block)
            size_bytes += len(block)
            own = b"" if self._is_chain_family else archive.finalisation(height)
            if own is not None:
                proved, certificate = len(blocks), own
            elif not proved and (closed := node.closing(height)) is not None:
                blocks.extend(closed[0])
                proved, certificate = len(blocks), closed[1]
        if proved:
            self._send(session, Chain(tuple(blocks[:proved]), certificate))
        self._send(session, self._standing())

    def _receive_chain(self, session: PeerSession, datas: tuple[bytes, ...], data: bytes) -> None:
        """A piece of the chain: linked, and under simplex its last block must be proved final."""
        blocks = [Block.decode(block) for block in datas]
        certificate = None if self._is_chain_family else self._certificate(data)
        if not blocks or any(later.header.parent != earlier.id for earlier, later in pairwise(blocks)):
            raise PeerFault("a piece of the chain is not linked", code="bad_chain")
        newest = blocks[-1]
        if certificate is None:
            if data:
                raise PeerFault("there are no certificates in this network", code="bad_chain")
            is_news = not self.node.is_executed(newest.id)
            if self._sync.came(session.key, newest.id, newest.height, self._now_ms, is_news=is_news):
                new = tuple(block for block in blocks if not self.node.has_judged(block.id))
                if new:
                    self._do(self.node.engine_input(consensus.BranchArrived(new, session.key), self._now_ms))
            return
        if certificate.kind is not VoteKind.FINALISE or certificate.block != newest.id:
            raise PeerFault("a piece of the chain is not proved by its certificate", code="bad_chain")
        validators = self.node.validators_of(certificate.epoch)
        if validators is None:
            return  # Of an epoch whose validators are not known here yet: it may be right.
        if not certificate.is_valid(self.genesis.network_id, validators):
            raise PeerFault("the certificate of a piece of the chain is not valid", code="bad_certificate")
        # Blocks that close an epoch prove the one below them final, and are no part of the chain themselves.
        blocks = [block for block in blocks if not self._closes(block)]
        if not blocks:
            return
        newest = blocks[-1]
        session.final_height = max(session.final_height, newest.height)
        self._sync.came(session.key, newest.id, newest.height, self._now_ms)
        self._do(self.node.chain_arrived(blocks, certificate, session.key, self._now_ms))

    def _closes(self, block: Block) -> bool:
        last_height = self.node.epochs.last_height(block.header.epoch)
        return last_height is not None and block.height > last_height

    @property
    def _is_digesting(self) -> bool:
        """Whether final blocks wait for their batches or their execution: until then nothing more is asked for."""
        return not self._is_chain_family and self.node.has_unexecuted_finals

    def _synchronise(self) -> None:
        """Ask for the next piece of the chain while some peer is ahead and nothing that was received is unfinished."""
        node = self.node
        if self._is_digesting:
            return
        asked = self._sync.request(self._nodes, self._own_height, node.final_height, self._now_ms, node.is_executed)
        if asked is not None:
            session, from_height = asked
            self._send(session, WantChain(from_height, SYNC_BLOCKS))
        if self._is_chain_family:
            self._fetch_heads()

    def _begin_to_produce(self) -> None:
        """In the chain family a node that starts looks around before it makes blocks, or it might make a chain alone.

        It begins when it has heard of enough validators of the genesis where they are and has caught up with them; or
        after some slots in any case, for they may be gone.
        """
        node = self.node
        if node.may_produce or not self._is_chain_family:
            return
        if self._produce_at_ms is None:
            self._produce_at_ms = self._now_ms + _LOOK_AROUND_SLOTS * self.genesis.parameters.slot_ms
        validators = self.genesis.validator_set
        heard = {key for key, session in self._nodes.items() if session.has_spoken} | {node.keypair.public_key}
        weight = sum(seat.weight for seat in validators.members if seat.key in heard)
        if self._now_ms >= self._produce_at_ms or (weight >= validators.quorum and not self.catching_up):
            self._do(node.begin_to_produce(self._now_ms))
            self._do(node.settle(self._now_ms))

    def _fetch_heads(self) -> None:
        """What others follow and this node does not know: it was told when the session opened. Asked for once."""
        for session in self._nodes.values():
            if session.head != ZERO_HASH and not self._is_far_ahead(session):
                head, session.head = session.head, ZERO_HASH
                if not self.node.knows(head):
                    self._want_branch(session, head)

    def _is_far_ahead(self, session: PeerSession) -> bool:
        """Whether a branch of this peer would be too long: the chain comes in pieces from below first."""
        return session.final_height > self._own_height + _FAR_BEHIND

    def _want_branch(self, session: PeerSession, block_id: bytes) -> None:
        asked = self._branches.want(session.key, block_id, self._now_ms)
        if asked is not None:
            self._send(session, WantBranch(asked, BRANCH_BLOCKS))

    def _fetch(self) -> None:
        self._branches.late(self._now_ms)
        if self._batches or self._blocks:
            connected = sorted(self._nodes)
            for request in self._batches.requests(connected, self._now_ms):
                self._send(self._nodes[request.peer], WantBatchesMessage(request.items))
            for request in self._blocks.requests(connected, self._now_ms):
                self._send(self._nodes[request.peer], WantBlocks(request.items))

    # --- what the node asks for -----------------------------------------------------------------------------------

    def _do(self, effects: list[NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case Persist() | Compute() | Log() | Halt() | Mark():
                    self._out.append(effect)
                case StreamBatch(_, data):
                    self._spread(BatchMessage(data), bulk=True)
                case consensus.Broadcast(message):
                    self._spread(_wire(message))
                    if self.node.traces:
                        self._mark_vote(message)
                case consensus.Send(to, message):
                    if to in self._nodes:
                        self._send(self._nodes[to], _wire(message))
                    elif self._relay is not None:
                        self._spread(_wire(message))
                case consensus.Announce(block):
                    if self.node.traces and block.header.proposer == self.node.keypair.public_key:
                        self._out.extend(marks_of(Stage.MADE, block))
                    self._announce(block)
                case consensus.WantBranch(block_id, sender):
                    if sender in self._nodes and not self._is_far_ahead(self._nodes[sender]):
                        self._want_branch(self._nodes[sender], block_id)
                case WantBatches(digests, hints):
                    self._batches.want(digests, hints)
                case consensus.WantBlock(block_id, signers):
                    # Far behind, the chain comes in pieces from below; fetching it one by one from above is no help.
                    if self._believed_height() - self.node.final_height <= _FAR_BEHIND:
                        self._blocks.want((block_id,), signers)
                case consensus.WantCertificates(from_view, to_view):
                    self._send_all(WantCertificates(from_view, to_view))
                case Admitted(client, request, codes, retry_after_ms):
                    if client in self._sessions:
                        self._send(self._sessions[client], Submitted(request, codes, retry_after_ms))
                case Settle():
                    self._tell_client(effect)
                case Tell(client, status, height, time_ms):
                    if client in self._sessions:
                        for part in _parts(effect):
                            self._send(self._sessions[client], Progress(status, height, time_ms, *part))
                case consensus.Evidence(kind, first, second):
                    fields = (("kind", int(kind)), ("first", first.hex()), ("second", second.hex()))
                    self._out.append(Log("error", "equivocation", fields))
                case consensus.Offence(sender, reason):
                    self._punish(sender, reason)
                case _:
                    raise AssertionError(f"nobody obeys {effect!r}")

    def _mark_arrival(self, item: bytes, data: bytes, *, is_block: bool = False) -> None:
        if self.node.traces:
            self._out.append(Mark(Stage.ARRIVED, item, len(data), is_block))

    def _mark_vote(self, message: consensus.Proposal | Vote | Certificate) -> None:
        """A proposal is its proposer's vote."""
        vote = message.vote if isinstance(message, consensus.Proposal) else message
        if isinstance(vote, Vote) and vote.kind is VoteKind.NOTARISE:
            self._out.append(Mark(Stage.VOTED, vote.block, is_block=True))

    def _punish(self, sender: bytes, code: str) -> None:
        """Score an offence. Under simplex each one ends the session; a refused block only when it is not the first."""
        points = self._conduct.offend(sender, code, self._now_ms, is_grave=not self._is_chain_family)
        offender = self._nodes.get(sender)
        if offender is None:
            return
        if self._is_chain_family:
            fields = (("peer", sender.hex()[:16]), ("name", offender.identity.name), ("points", points))
            self._out.append(Log("warning", "offence", (*fields, ("code", code))))
        if points >= LIMIT_POINTS:
            if self._discovery is not None:
                self._discovery.offended(sender, self._now_ms)
            self._disconnect(offender, code, "it sent what no honest node sends")

    def _tell_client(self, settle: Settle) -> None:
        session = self._sessions.get(settle.client)
        if session is None:
            return
        for ids, codes, rules in _parts(settle):
            self._send(session, Settled(settle.height, settle.time_ms, ids, codes, rules))

    def _set_timer(self) -> None:
        at_ms = self.node.next_timer_ms
        others: list[int | None] = [self._beat_at_ms]
        if self._batches:
            others.append(self._batches.next_due_ms)
        if self._blocks:
            others.append(self._blocks.next_due_ms)
        if self._is_chain_family:
            others.append(self._branches.next_due_ms)
            if not self.node.may_produce:
                others.append(self._produce_at_ms)
        if self._sync.is_waiting and not self._is_digesting:
            # Else nobody would be asked at that time, and it would come again at once.
            others.append(self._sync.due_ms)
        if self._discovery is not None:
            others.append(self._discovery.due_ms)
        for other_ms in others:
            if other_ms is not None and (at_ms is None or other_ms < at_ms):
                at_ms = other_ms
        if at_ms != self._timer_ms:
            self._timer_ms = at_ms
            self._out.append(SetTimer(at_ms))


def _parts(told: Settle | Tell) -> Iterator[tuple[bytes, bytes, Rules]]:
    """Ids, codes and rules, cut to what fits a message."""
    for at in range(0, len(told.codes) // 4, _SETTLED_PER_MESSAGE):
        end = at + _SETTLED_PER_MESSAGE
        rules = tuple((index - at, rule) for index, rule in told.rules if at <= index < end)
        yield told.ids[32 * at : 32 * end], told.codes[4 * at : 4 * end], rules


def _wire(message: consensus.Proposal | Vote | Certificate) -> Message:
    if isinstance(message, Vote):
        return VoteMessage(message.encode())
    if isinstance(message, Certificate):
        return CertificateMessage(message.encode())
    return ProposalMessage(message.block.encode(), message.vote.encode())
