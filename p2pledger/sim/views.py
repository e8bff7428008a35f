"""What a view of Simplex costs with many validators: engines alone, all in one process, every message as bytes.

No faults, and every message takes the same time. Each engine gets what a peer gets, the canonical bytes of proposals,
votes and certificates, decodes them and takes its step; the node around it executes nothing and always has work. So
what is measured is consensus: how many network delays a block takes to be final, and what the processor pays for it.
Transport, TLS and disk come on top in a real node; so do batches, which are streamed ahead of any ordering.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from statistics import median
from time import process_time_ns
from typing import Final

from p2pledger import core
from p2pledger.consensus.engine import (
    BlockRef,
    Broadcast,
    Build,
    Built,
    CertificateArrived,
    Check,
    Checked,
    Effect,
    Finalised,
    Input,
    Proposal,
    ProposalArrived,
    SetTimer,
    TimerFired,
    VoteArrived,
    WorkChanged,
)
from p2pledger.consensus.simplex import Recovered, Simplex
from p2pledger.consensus.tally import certificate_fault
from p2pledger.primitives.blocks import Block, Header, genesis_block
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind

__all__ = ["Views", "measure_views"]

_NETWORK: Final = b"p2plviews"[:8]
_TIMEOUT_MS: Final = 100_000
_FIRST_MS: Final = 1_000

Message = Proposal | Vote | Certificate


@dataclass(frozen=True, slots=True)
class Views:
    """What was measured. Delays are in units of the one network delay; ``views`` have passed, one block each."""

    validators: int
    quorum: int
    views: int
    delays: tuple[float, ...]
    """From a leader's proposal until the last validator held its block as final, for each final block."""
    cpu_us_per_view: float
    """Of one validator: consensus, and its messages from and to bytes. Blocks are built and executed elsewhere."""
    messages_per_view: float
    """Sent over the whole cluster: one to all others counts once for each of them. So do bytes."""
    bytes_per_view: float
    certificate_batch_us: float
    """Checking the signatures of one certificate of a quorum in one batch."""
    certificate_single_us: float
    """The same signatures one by one."""

    @property
    def delays_median(self) -> float:
        return median(self.delays)

    @property
    def delays_most(self) -> float:
        return max(self.delays)


class _Seat:
    """One engine and the least that a node must remember."""

    __slots__ = ("cpu_ns", "engine", "final_height", "keypair", "timer_ms")

    def __init__(self, keypair: Keypair, validators: Validators, genesis: Block) -> None:
        self.keypair = keypair
        self.engine = Simplex(
            network_id=_NETWORK,
            validators=validators,
            keypair=keypair,
            recovered=Recovered.at_genesis(genesis),
            view_timeout_ms=_TIMEOUT_MS,
            view_timeout_cap_ms=_TIMEOUT_MS,
        )
        self.timer_ms: int | None = None
        self.final_height = 0
        self.cpu_ns = 0


class _Mesh:
    """The clock and all links. One delay for each message, none for what a node says to itself."""

    def __init__(self, validators: int, delay_ms: int) -> None:
        keypairs = [Keypair.from_seed(sha256(index.to_bytes(8, "big")).digest()) for index in range(validators)]
        keypairs.sort(key=lambda keypair: keypair.public_key)
        self.validators = Validators.of(0, [Validator(keypair.public_key) for keypair in keypairs])
        self._genesis = genesis_block(
            network_id=_NETWORK, genesis_hash=ZERO_HASH, time_ms=1, validators_hash=self.validators.hash
        )
        self.seats = [_Seat(keypair, self.validators, self._genesis) for keypair in keypairs]
        self.now_ms = _FIRST_MS
        self.messages = 0
        self.bytes = 0
        self.proposed_ms: dict[int, int] = {}
        """By height."""
        self.final_ms: dict[int, list[int]] = {}
        self.certificate: Certificate | None = None
        self._delay_ms = delay_ms
        self._order = count()
        self._heap: list[tuple[int, int, _Seat, bytes, Message | Input]] = []

    def run(self, views: int) -> None:
        """Until every engine has passed so many views."""
        for seat in self.seats:
            self._obey(seat, seat.engine.start(self.now_ms))
            self._step(seat, WorkChanged(True))
        behind = {seat.keypair.public_key for seat in self.seats}
        while self._heap and behind:
            self.now_ms, _, seat, data, event = heapq.heappop(self._heap)
            if isinstance(event, TimerFired):
                if seat.timer_ms != self.now_ms:
                    continue
                seat.timer_ms = None
            self._step(seat, event, data)
            if seat.engine.view > views:
                behind.discard(seat.keypair.public_key)

    def _step(self, seat: _Seat, event: Message | Input, data: bytes = b"") -> None:
        begun_ns = process_time_ns()
        if isinstance(event, Vote):
            event = VoteArrived(data[:0], Vote.decode(data))
        elif isinstance(event, Certificate):
            event = CertificateArrived(data[:0], Certificate.decode(data))
        elif isinstance(event, Proposal):
            size = len(event.vote.encode())
            event = ProposalArrived(data[:0], Proposal(Block.decode(data[size:]), Vote.decode(data[:size])))
        effects = seat.engine.step(event, self.now_ms)
        seat.cpu_ns += process_time_ns() - begun_ns
        self._obey(seat, effects)

    def _obey(self, seat: _Seat, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Broadcast(message):
                    begun_ns = process_time_ns()
                    data = _bytes_of(message)
                    seat.cpu_ns += process_time_ns() - begun_ns
                    self.messages += len(self.seats) - 1
                    self.bytes += len(data) * (len(self.seats) - 1)
                    for other in self.seats:
                        if other is not seat:
                            self._at(self.now_ms + self._delay_ms, other, message, data)
                case Check(block):
                    self._at(self.now_ms, seat, Checked(block.header.view, block.id, True))
                case Build(view, parent):
                    block = self._build(seat, view, parent)
                    self.proposed_ms[block.height] = self.now_ms
                    self._at(self.now_ms, seat, Built(view, block))
                case SetTimer(at_ms):
                    seat.timer_ms = at_ms
                    if at_ms is not None:
                        self._at(max(at_ms, self.now_ms), seat, TimerFired())
                case Finalised(ref, certificate):
                    self.certificate = certificate
                    for height in range(seat.final_height + 1, ref.height + 1):
                        self.final_ms.setdefault(height, []).append(self.now_ms)
                    seat.final_height = ref.height
                case _:
                    pass  # Records, and blocks to execute: none of it is consensus.

    def _at(self, at_ms: int, seat: _Seat, event: Message | Input, data: bytes = b"") -> None:
        heapq.heappush(self._heap, (at_ms, next(self._order), seat, data, event))

    def _build(self, seat: _Seat, view: int, parent: BlockRef) -> Block:
        digests = (sha256(view.to_bytes(8, "big")).digest(),)
        header = Header(
            network_id=_NETWORK,
            epoch=0,
            view=view,
            height=parent.height + 1,
            parent=parent.id,
            time_ms=max(self.now_ms, parent.time_ms + 1),
            proposer=seat.keypair.public_key,
            batches_root=core.merkle_root(digests),
            parent_state_root=ZERO_HASH,
            parent_receipts_root=ZERO_HASH,
            validators_hash=self.validators.hash,
        )
        return Block(header, digests)


def measure_views(validators: int, views: int, *, delay_ms: int = 10) -> Views:
    """Let ``validators`` engines pass ``views`` views over links of one constant delay, and count.

    ValueError for less than one validator or three views: a block is final while the view after next runs.
    """
    if validators < 1 or views < 3 or delay_ms < 1:
        raise ValueError("at least one validator, three views and one millisecond")
    mesh = _Mesh(validators, delay_ms)
    mesh.run(views)
    heights = [height for height, times in sorted(mesh.final_ms.items()) if len(times) == validators]
    assert heights, "no block became final"
    assert mesh.certificate is not None
    delays = tuple((max(mesh.final_ms[height]) - mesh.proposed_ms[height]) / delay_ms for height in heights)
    batch_us, single_us = _certificate_us(mesh.certificate, mesh.validators)
    cpu_ns = sum(seat.cpu_ns for seat in mesh.seats)
    return Views(
        validators=validators,
        quorum=mesh.validators.quorum,
        views=views,
        delays=delays,
        cpu_us_per_view=cpu_ns / 1_000 / validators / views,
        messages_per_view=mesh.messages / views,
        bytes_per_view=mesh.bytes / views,
        certificate_batch_us=batch_us,
        certificate_single_us=single_us,
    )


def _certificate_us(certificate: Certificate, validators: Validators) -> tuple[float, float]:
    """Microseconds to check the signatures of a certificate at once, and one by one; the median of some rounds."""
    votes = [
        Vote(certificate.epoch, certificate.view, VoteKind.FINALISE, certificate.block, signer, signature)
        for signer, signature in certificate.signatures
    ]
    batch, single = [], []
    for _ in range(9):
        begun_ns = process_time_ns()
        fault = certificate_fault(certificate, _NETWORK, validators, validators.quorum)
        between_ns = process_time_ns()
        valid = all(vote.is_valid(_NETWORK, validators) for vote in votes)
        single.append((process_time_ns() - between_ns) / 1_000)
        batch.append((between_ns - begun_ns) / 1_000)
        assert fault is None
        assert valid
    return median(batch), median(single)


def _bytes_of(message: Message) -> bytes:
    if isinstance(message, Proposal):
        return message.vote.encode() + message.block.encode()
    return message.encode()
