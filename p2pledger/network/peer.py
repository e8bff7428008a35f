"""A peer: a node and its sessions. ``step(event, now_ms) -> effects`` is the whole of it.

Around the node it keeps

* **sessions**, one for each validator at most, and any number of clients;
* **gossip**: own batches are streamed to all validators at once, votes, proposals and certificates likewise. Among
  validators everybody is connected with everybody; nothing is relayed, so nothing comes twice by design;
* **fetching** (``fetch.py``) of batches and blocks that a block or certificate names and that did not come;
* **sync**: a node that hears of a greater final height asks one peer for the final blocks from its own height on, in
  pieces, each proved by a finalisation. It does not matter who sends them;
* **clients**: submissions, notifications, and questions (``queries.py``).

Whoever sends what no honest node sends (malformed bytes, bad signatures) is disconnected, and the reason is logged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from p2pledger import core
from p2pledger.consensus import engine as consensus
from p2pledger.network.effects import (
    CLIENT,
    VALIDATOR,
    Computed,
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
from p2pledger.node.archive import Archive, Recovery
from p2pledger.node.batches import likely_digest
from p2pledger.node.effects import Admitted, Compute, Effect, Halt, Log, Persist, Settle, StreamBatch, WantBatches
from p2pledger.node.node import Node, NodeEffect
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    MAX_MESSAGE_BYTES,
    Answer,
    BatchMessage,
    BlockMessage,
    CertificateMessage,
    Chain,
    Message,
    MissingBatches,
    ProposalMessage,
    Query,
    Settled,
    Status,
    Submit,
    Submitted,
    VoteMessage,
    WantBlocks,
    WantCertificates,
    WantChain,
    decode_message,
)
from p2pledger.primitives.messages import (
    WantBatches as WantBatchesMessage,
)
from p2pledger.primitives.validators import faulty_of
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

__all__ = ["Peer"]

_SYNC_PATIENCE_MS: Final = 2_000
_SYNC_BLOCKS: Final = 256
_FAR_BEHIND: Final = 64
_SYNC_BYTES: Final = 768 * 1024
_SETTLED_PER_MESSAGE: Final = 4_096
_CLIENT_MESSAGES: Final = (Submit, Query)


@dataclass(slots=True)
class _Session:
    number: int
    identity: Identity
    final_height: int = 0


@dataclass(slots=True)
class _Sync:
    """The one outstanding wish for a piece of the chain."""

    peer: bytes | None = None
    due_ms: int = 0
    tried: set[bytes] = field(default_factory=set)


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
    ) -> None:
        """``quorum`` is for tests only (see ``Simplex``). NodeStopped if the stored chain cannot be replayed."""
        self.name = name
        self.genesis = genesis
        self.node = Node(genesis, keypair, archive=archive, recovery=recovery, quorum=quorum)
        self._sessions: dict[int, _Session] = {}
        self._validators: dict[bytes, _Session] = {}
        self._batches = Fetcher()
        self._blocks = Fetcher()
        self._sync = _Sync()
        self._now_ms = 0
        self._timer_ms: int | None = None
        self._out: list[Effect] = []
        self._asking: set[int] = set()
        self._client_keys = _client_keys(genesis)

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
        """Whether connected validators that cannot all be lying have told of a greater final height."""
        return self.node.final_height < self._believed_height()

    def admit(self, identity: Identity) -> tuple[str, str] | None:
        """None if this identity is welcome, else a code and a sentence for *refuse*."""
        key = identity.node_key
        seat = self.node.validators.signer_of(key)
        if identity.role == CLIENT:
            if seat is None and key not in self._client_keys:
                return "stranger", "this key belongs to no member of the network"
            return None
        if identity.role != VALIDATOR or seat is None:
            return "not_a_validator", "this key is not a validator's, and this network has no other peers"
        if key == self.node.keypair.public_key:
            return "self", "a node does not connect to itself"
        return None

    def status(self) -> NodeStatus:
        node = self.node
        return NodeStatus(
            name=self.name,
            final_height=node.final_height,
            final_block=node.final_block.id,
            view=node.view,
            state_root=node.final_outcome.state_root,
            mempool_bytes=node.mempool.size_bytes,
            held_batches=len(node.pool.open),
            validators_connected=len(self._validators),
            clients_connected=len(self._sessions) - len(self._validators),
            catching_up=self.catching_up,
            transactions_final=node.transactions_final,
            batches_dropped=node.dropped_lane_batches,
        )

    # --- the one door ---------------------------------------------------------------------------------------------

    def step(self, event: Event, now_ms: int) -> list[Effect]:
        """One event, at one time. The effects are to be obeyed in order."""
        self._now_ms = now_ms
        match event:
            case Received(session, payload):
                self._receive(session, payload)
            case Computed(job, result):
                self._do(self.node.computed(job, result, now_ms))
            case TimerFired():
                self._timer_ms = None
                self._do(self.node.tick(now_ms))
            case SessionOpened(session, identity):
                self._open(_Session(session, identity))
            case SessionClosed(session):
                self._close(session)
            case Started():
                self._do(self.node.start(now_ms))
        self._fetch()
        self._synchronise()
        self._set_timer()
        effects, self._out = self._out, []
        return effects

    # --- sessions -------------------------------------------------------------------------------------------------

    def _open(self, session: _Session) -> None:
        self._sessions[session.number] = session
        if session.identity.role != VALIDATOR:
            return
        self._validators[session.identity.node_key] = session
        node = self.node
        self._send(session, Status(node.final_height, node.final_block.id, node.view))
        for certificate in node.newest_certificates():
            self._send(session, CertificateMessage(certificate.encode()))
        for held in node.pool.open.values():
            if held.columns.maker == node.keypair.public_key:
                self._send(session, BatchMessage(held.data), bulk=True)

    def _close(self, number: int) -> None:
        session = self._sessions.pop(number, None)
        if session is None:
            return
        key = session.identity.node_key
        if session.identity.role != VALIDATOR:
            self.node.close_client(number)
        elif self._validators.get(key) is session:
            del self._validators[key]
            self._batches.lost(key)
            self._blocks.lost(key)
            if self._sync.peer == key:
                self._sync.due_ms = 0

    def _send(self, session: _Session, message: Message, *, bulk: bool = False) -> None:
        self._out.append(Send(session.number, message.encode(), bulk))

    def _send_all(self, message: Message, *, bulk: bool = False) -> None:
        payload = message.encode()
        for session in self._validators.values():
            self._out.append(Send(session.number, payload, bulk))

    def _disconnect(self, session: _Session, code: str, sentence: str) -> None:
        self._out.append(Disconnect(session.number, code, sentence))
        self._close(session.number)

    # --- what comes in --------------------------------------------------------------------------------------------

    def _receive(self, number: int, payload: bytes) -> None:
        session = self._sessions.get(number)
        if session is None:
            return  # it was disconnected in the meantime
        try:
            message = decode_message(payload)
            if isinstance(message, _CLIENT_MESSAGES):
                self._from_client(session, message)
            elif session.identity.role == VALIDATOR:
                self._from_validator(session, message)
            else:
                raise PeerFault(f"a client may not send {type(message).__name__}", code="wrong_role")
        except PeerFault as fault:
            self._disconnect(session, fault.code, str(fault))

    def _from_client(self, session: _Session, message: Message) -> None:
        match message:
            case Submit(request, transactions):
                self._do(self.node.submit(session.number, request, transactions, self._now_ms))
            case Query() if message.kind in HEAVY:
                self._work_out_answer(session, message)
            case Query():
                self._answer(session, answer(message, self.node, self.status()))

    def _answer(self, session: _Session, reply: Answer) -> None:
        if len(reply.encode()) > MAX_MESSAGE_BYTES:
            sentence = "the answer does not fit a message; ask for less at a time"
            reply = Answer(reply.request, "too_large", (sentence,))
        self._send(session, reply)

    def _work_out_answer(self, session: _Session, query: Query) -> None:
        """A question over the whole state is answered in a ``Compute``, one at a time for each client."""
        if session.number in self._asking:
            self._answer(session, Answer(query.request, "busy", ("your last question of this kind is being answered",)))
            return
        self._asking.add(session.number)
        run, cost_us = heavy_answer(query, self.node)

        def done(result: Answer) -> None:
            self._asking.discard(session.number)
            if session.number in self._sessions:
                self._answer(session, result)

        self._do(self.node.work_out(run, done, cost_us=cost_us))

    def _from_validator(self, session: _Session, message: Message) -> None:
        node, sender, now_ms = self.node, session.identity.node_key, self._now_ms
        match message:
            case BatchMessage(data):
                digest = likely_digest(data)
                wanted = digest is not None and self._batches.got(digest)
                self._do(node.receive_batch(data, sender, wanted=wanted, now_ms=now_ms))
            case VoteMessage(data):
                self._do(node.engine_input(consensus.VoteArrived(sender, Vote.decode(data)), now_ms))
            case ProposalMessage(block, vote):
                proposal = consensus.Proposal(Block.decode(block), Vote.decode(vote))
                self._do(node.engine_input(consensus.ProposalArrived(sender, proposal), now_ms))
            case CertificateMessage(data):
                self._do(node.engine_input(consensus.CertificateArrived(sender, Certificate.decode(data)), now_ms))
            case WantCertificates(from_view, to_view):
                self._do(node.engine_input(consensus.CertificateWanted(sender, from_view, to_view), now_ms))
            case BlockMessage(data):
                fetched = Block.decode(data)
                if self._blocks.got(fetched.id):
                    self._do(node.engine_input(consensus.BlockArrived(fetched), now_ms))
            case WantBatchesMessage(digests):
                self._serve_batches(session, digests)
            case MissingBatches(digests):
                self._batches.missing_at(sender, digests)
            case WantBlocks(ids):
                for block_id in ids:
                    found = node.block(block_id)
                    if found is not None:
                        self._send(session, BlockMessage(found))
            case Status(final_height, _, _):
                session.final_height = max(session.final_height, final_height)
            case WantChain(from_height, limit):
                self._serve_chain(session, from_height, limit)
            case Chain(blocks, certificate):
                self._receive_chain(session, blocks, certificate)
            case _:
                raise PeerFault(f"a validator may not send {type(message).__name__}", code="wrong_role")

    def _serve_batches(self, session: _Session, digests: tuple[bytes, ...]) -> None:
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

    def _best_height(self) -> int:
        return max((session.final_height for session in self._validators.values()), default=0)

    def _believed_height(self) -> int:
        """The greatest height that more than f of the weight claims to have reached."""
        validators, weight = self.node.validators, 0
        claims = sorted(((other.final_height, key) for key, other in self._validators.items()), reverse=True)
        for height, key in claims:
            signer = validators.signer_of(key)
            assert signer is not None
            weight += validators.members[signer].weight
            if weight > faulty_of(validators.total_weight):
                return height
        return 0

    def _serve_chain(self, session: _Session, from_height: int, limit: int) -> None:
        """Final blocks from a height on, up to the last one of the piece that has a finalisation of its own."""
        archive, node = self.node.archive, self.node
        limit = min(limit, _SYNC_BLOCKS)
        blocks: list[bytes] = []
        proved, certificate, size_bytes = 0, b"", 0
        for height in range(max(1, from_height), node.final_height + 1):
            block = archive.final_block(height)
            if block is None or size_bytes + len(block) > _SYNC_BYTES or (proved and len(blocks) >= limit):
                break
            blocks.append(block)
            size_bytes += len(block)
            own = archive.finalisation(height)
            if own is not None:
                proved, certificate = len(blocks), own
        if proved:
            self._send(session, Chain(tuple(blocks[:proved]), certificate))
        self._send(session, Status(node.final_height, node.final_block.id, node.view))

    def _receive_chain(self, session: _Session, datas: tuple[bytes, ...], data: bytes) -> None:
        """A piece of the chain: it must follow our root or overlap it, and its last block must be proved final."""
        sender = session.identity.node_key
        blocks = [Block.decode(block) for block in datas]
        certificate = Certificate.decode(data)
        if not blocks or certificate.kind is not VoteKind.FINALISE or certificate.block != blocks[-1].id:
            raise PeerFault("a piece of the chain is not proved by its certificate", code="bad_chain")
        if any(later.header.parent != earlier.id for earlier, later in pairwise(blocks)):
            raise PeerFault("a piece of the chain is not linked", code="bad_chain")
        if not certificate.is_valid(self.genesis.network_id, self.node.validators):
            raise PeerFault("the certificate of a piece of the chain is not valid", code="bad_certificate")
        session.final_height = max(session.final_height, blocks[-1].height)
        if self._sync.peer == sender:
            self._sync = _Sync()
        self._do(self.node.chain_arrived(blocks, certificate, sender, self._now_ms))

    def _synchronise(self) -> None:
        """Ask for the next piece of the chain while some peer is ahead and nothing that was received is unfinished."""
        sync, node = self._sync, self.node
        if node.final_height >= self._best_height() or node.has_unexecuted_finals:
            return
        if sync.peer is not None and self._now_ms < sync.due_ms:
            return
        ahead = sorted(key for key, other in self._validators.items() if other.final_height > node.final_height)
        candidates = [key for key in ahead if key not in sync.tried]
        if not candidates:
            sync.tried.clear()
            candidates = ahead
        sync.peer = candidates[0]
        sync.tried.add(sync.peer)
        sync.due_ms = self._now_ms + _SYNC_PATIENCE_MS
        self._send(self._validators[sync.peer], WantChain(node.final_height + 1, _SYNC_BLOCKS))

    def _fetch(self) -> None:
        if self._batches or self._blocks:
            connected = sorted(self._validators)
            for request in self._batches.requests(connected, self._now_ms):
                self._send(self._validators[request.peer], WantBatchesMessage(request.items))
            for request in self._blocks.requests(connected, self._now_ms):
                self._send(self._validators[request.peer], WantBlocks(request.items))

    # --- what the node asks for -----------------------------------------------------------------------------------

    def _do(self, effects: list[NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case Persist() | Compute() | Log() | Halt():
                    self._out.append(effect)
                case StreamBatch(_, data):
                    self._send_all(BatchMessage(data), bulk=True)
                case consensus.Broadcast(message):
                    self._send_all(_wire(message))
                case consensus.Send(to, message):
                    if to in self._validators:
                        self._send(self._validators[to], _wire(message))
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
                case consensus.Evidence(kind, first, second):
                    fields = (("kind", int(kind)), ("first", first.hex()), ("second", second.hex()))
                    self._out.append(Log("error", "equivocation", fields))
                case consensus.Offence(sender, reason):
                    offender = self._validators.get(sender)
                    if offender is not None:
                        self._disconnect(offender, reason, "it sent what no honest node sends")
                case _:
                    raise AssertionError(f"nobody obeys {effect!r}")

    def _tell_client(self, settle: Settle) -> None:
        session = self._sessions.get(settle.client)
        if session is None:
            return
        for at in range(0, len(settle.codes) // 4, _SETTLED_PER_MESSAGE):
            end = at + _SETTLED_PER_MESSAGE
            ids, codes = settle.ids[32 * at : 32 * end], settle.codes[4 * at : 4 * end]
            self._send(session, Settled(settle.height, settle.time_ms, ids, codes))

    def _set_timer(self) -> None:
        times = [self.node.next_timer_ms, self._batches.next_due_ms, self._blocks.next_due_ms]
        if self._sync.peer is not None and self.node.final_height < self._best_height():
            times.append(self._sync.due_ms)
        at_ms = min((time for time in times if time is not None), default=None)
        if at_ms != self._timer_ms:
            self._timer_ms = at_ms
            self._out.append(SetTimer(at_ms))


def _wire(message: consensus.Proposal | Vote | Certificate) -> Message:
    if isinstance(message, Vote):
        return VoteMessage(message.encode())
    if isinstance(message, Certificate):
        return CertificateMessage(message.encode())
    return ProposalMessage(message.block.encode(), message.vote.encode())


def _client_keys(genesis: Genesis) -> frozenset[bytes]:
    """The keys that may log in as clients: those in the first policies of the members."""
    return frozenset(key for member in genesis.members for key, _ in member.policy.keys)
