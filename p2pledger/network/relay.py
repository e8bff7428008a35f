"""Payloads spread from one node to all: pushed along a mesh, announced beside it, in pieces where they are large.

Theory. Where everybody has a session with everybody, a payload is pushed once to each, and that is the least there can
be. Where sessions are fewer, somebody must pass it on, and then a node hears the same thing from several sides. What
keeps that cheap (the ideas are those of gossipsub 1.1 and 1.2, Vyzovitis et al. 2020, and of Plumtree, Leitao et al.
2007) is to push over few sessions, the *mesh*, and to announce over the others:

* **small** payloads (up to 16 KiB) are pushed whole along the mesh by everybody who gets them first and finds them in
  order (``accept``); a duplicate costs little. Every half second what is new is announced to all who may lack it: so
  what a full queue dropped, or a link of the mesh lost, is fetched all the same;
* **large** payloads are pushed by their origin, to whom nobody can have sent it; everybody else announces them as soon
  as the *head* has come, and they are fetched from the first who did. A head names the hash of each piece of 64 KiB, so
  pieces are passed on as they come, before the whole is there, and nobody can slip in another. A large payload comes in
  once.

The mesh. A node links with some ``degree`` of its neighbours: below two thirds of it it asks further ones, above twice
as many it lets some go, the worst first, but never so that fewer than a third are sessions that it dialled itself
(whoever dials a node in masses must not own its mesh). A neighbour's *score* grows with what it was the first to bring,
falls with promises that it did not keep, and fades. Who sends a piece that does not fit its hash is disconnected.

Everything is bounded: ids that were seen, payloads that are kept to be passed on, payloads under way, questions
answered. What is refused for want of room is counted. Pure: ``now_ms`` comes in, messages to send are taken from
``out``; choices that need chance take it from a hash of the node's key and the count of its choices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from p2pledger.network.allowance import Allowance
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import (
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOAD_IDS,
    MAX_SMALL_PAYLOAD_BYTES,
    PIECE_BYTES,
    HavePayloads,
    MeshLink,
    Message,
    Payload,
    PayloadHead,
    Piece,
    WantPayload,
    head_id,
    payload_id,
)

__all__ = ["HEARTBEAT_MS", "Delivery", "Neighbour", "Outgoing", "Relay", "RelayCounters"]

HEARTBEAT_MS: Final = 500
_MOST_SEEN: Final = 65_536
_SEEN_MS: Final = 120_000
"""So long an id is known again."""
_MOST_KNOWN: Final = 8_192
"""Ids of which is remembered that a neighbour has them."""
_MOST_KEPT_BYTES: Final = 64 * 1_048_576
_KEEP_MS: Final = 30_000
_MOST_COMING_BYTES: Final = 64 * 1_048_576
_MOST_COMING_OF_ONE: Final = 16
_MOST_COMING_OF_ONE_BYTES: Final = MAX_PAYLOAD_BYTES
"""A quarter of the room, so that nobody who begins payloads and does not send them keeps out those of others."""
_MOST_WANTED: Final = 8_192
_MOST_WANTED_OF_ONE: Final = 2_048
_PATIENCE_MS: Final = 1_000
_MOST_TRIES: Final = 8
_BACKOFF_MS: Final = 10_000
_ANNOUNCED_AT: Final = 2
"""Heartbeats at which a new payload is announced: at the first one an answer may be dropped, too."""
_MOST_SCORE: Final = 100
_BROKEN_PROMISE: Final = 5
_BAD_PAYLOAD: Final = 10
_FADE_HEARTBEATS: Final = 20
_SHUNNED_BELOW: Final = -20


@dataclass(frozen=True, slots=True)
class Delivery:
    """A payload that came for the first time, and from which neighbour."""

    topic: int
    data: bytes
    id: bytes
    source: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for a neighbour. ``bulk`` ones may be dropped where a queue is full: they are asked for again."""

    key: bytes
    message: Message
    bulk: bool


@dataclass(slots=True)
class RelayCounters:
    """Since the node started."""

    published: int = 0
    delivered: int = 0
    duplicates: int = 0
    duplicate_bytes: int = 0
    forwarded: int = 0
    served: int = 0
    asked: int = 0
    broken_promises: int = 0
    refused: int = 0
    """Announced, begun or asked for, and not taken or not answered for want of room."""


@dataclass(slots=True)
class Neighbour:
    """What is known of the node at the other end of a session."""

    is_dialled: bool
    is_linked: bool = False
    """Whether payloads are pushed over this session, in both directions."""
    score: int = 0
    not_before_ms: int = 0
    """Until then it is not asked for a link again."""
    owes: int = 0
    """Payloads that it announced, that it was asked for, and that did not come yet."""
    allowance: Allowance = field(default_factory=Allowance)
    known: dict[bytes, None] = field(default_factory=dict)

    def learns(self, identifier: bytes) -> None:
        known = self.known
        if identifier not in known:
            if len(known) >= _MOST_KNOWN:
                del known[next(iter(known))]
            known[identifier] = None


@dataclass(slots=True)
class _Kept:
    """A payload that is complete, to be passed on to whoever asks."""

    messages: tuple[Message, ...]
    size_bytes: int
    until_ms: int


@dataclass(slots=True)
class _Coming:
    """A large payload of which the head is here."""

    head: PayloadHead
    source: bytes
    due_ms: int
    pieces: dict[int, Piece] = field(default_factory=dict)
    waiting: list[bytes] = field(default_factory=list)
    """Neighbours that asked for it: they get each piece as it comes."""


@dataclass(slots=True)
class _Wanted:
    """An announced payload that was asked for, of the last of those who were tried; the others in line."""

    asked: bytes
    due_ms: int
    others: list[bytes] = field(default_factory=list)
    tries: int = 1


class Relay:
    """The payloads of one node. ``relays``: pass on what others bring; not where everybody is connected with everybody.

    ``degree``: neighbours to which payloads are pushed. ``out`` is to be emptied by the caller after each call.
    """

    def __init__(self, key: bytes, *, relays: bool, degree: int = 6) -> None:
        self._key = key
        self._relays = relays
        self._degree = degree
        self._choices = 0
        self.neighbours: dict[bytes, Neighbour] = {}
        self.counters = RelayCounters()
        self.out: list[Outgoing] = []
        self._seen: dict[bytes, int] = {}
        self._kept: dict[bytes, _Kept] = {}
        self._kept_bytes = 0
        self._coming: dict[bytes, _Coming] = {}
        self._coming_bytes = 0
        self._wanted: dict[bytes, _Wanted] = {}
        self._fresh: list[list[bytes]] = [[] for _ in range(_ANNOUNCED_AT)]
        self._heartbeats = 0
        self._now_ms = 0

    # --- neighbours -------------------------------------------------------------------------------------------------

    def opened(self, key: bytes, *, is_dialled: bool) -> None:
        """A session with a node. Without relaying, everybody is linked from the beginning."""
        neighbour = self.neighbours[key] = Neighbour(is_dialled, is_linked=not self._relays)
        if self._relays and len(self._linked()) < self._degree:
            self._link(key, neighbour)

    def closed(self, key: bytes) -> None:
        """It is over: whatever was expected from there is asked of others."""
        self.neighbours.pop(key, None)
        for identifier, wanted in list(self._wanted.items()):
            if wanted.asked == key:
                self._ask_next(identifier, wanted)
        for coming in self._coming.values():
            if key in coming.waiting:
                coming.waiting.remove(key)
            if coming.source == key:
                coming.due_ms = 0  # at the next heartbeat somebody else is asked for what is missing

    def _linked(self) -> list[bytes]:
        return [key for key, neighbour in self.neighbours.items() if neighbour.is_linked]

    def _link(self, key: bytes, neighbour: Neighbour) -> None:
        neighbour.is_linked = True
        self._send(key, MeshLink(True))

    def _unlink(self, key: bytes, neighbour: Neighbour) -> None:
        neighbour.is_linked = False
        neighbour.not_before_ms = self._now_ms + _BACKOFF_MS
        self._send(key, MeshLink(False))

    def _asked_to_link(self, key: bytes, neighbour: Neighbour, wanted: bool) -> None:
        if not self._relays:
            return
        if not wanted:
            neighbour.is_linked = False
            neighbour.not_before_ms = self._now_ms + _BACKOFF_MS
        elif not neighbour.is_linked:
            # Places are left for those that this node called itself, and these are never refused.
            callers = sum(not self.neighbours[other].is_dialled for other in self._linked())
            is_full = not neighbour.is_dialled and callers >= 2 * self._degree - max(1, self._degree // 3)
            if is_full or neighbour.score < _SHUNNED_BELOW:
                self._unlink(key, neighbour)
            else:
                neighbour.is_linked = True

    # --- payloads ---------------------------------------------------------------------------------------------------

    def publish(self, topic: int, data: bytes, now_ms: int) -> bytes:
        """Spreads a payload of this node's own; its id. ValueError for one that is too large: that is a bug above.

        A payload that was seen before is not spread again.
        """
        if not 0 < len(data) <= MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload of {len(data)} bytes")
        self._now_ms = now_ms
        messages: tuple[Message, ...]
        if len(data) <= MAX_SMALL_PAYLOAD_BYTES:
            identifier = payload_id(topic, data)
            messages = (Payload(topic, data),)
        else:
            parts = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
            head = PayloadHead(topic, len(data), b"".join([sha256(part).digest() for part in parts]))
            identifier = head_id(head)
            messages = (head, *(Piece(identifier, index, part) for index, part in enumerate(parts)))
        if self._was_seen(identifier):
            return identifier
        self.counters.published += 1
        self._keep(identifier, messages, len(data))
        self._fresh[0].append(identifier)
        for key, neighbour in self.neighbours.items():
            if neighbour.is_linked:
                for message in messages:
                    self._send(key, message, bulk=True)
        return identifier

    def receive(self, key: bytes, message: Message, now_ms: int) -> list[Delivery]:
        """A message of a neighbour. PeerFault ``bad_piece`` or ``wrong_role`` for what no honest node sends."""
        neighbour = self.neighbours.get(key)
        if neighbour is None:
            return []
        self._now_ms = now_ms
        match message:
            case Payload(topic, data):
                return self._take_small(key, neighbour, topic, data)
            case PayloadHead():
                self._take_head(key, neighbour, message)
            case Piece():
                return self._take_piece(key, neighbour, message)
            case HavePayloads(ids):
                for identifier in ids:
                    neighbour.learns(identifier)
                    self._hear_of(identifier, key, neighbour)
            case WantPayload(identifier, first):
                self._serve(key, neighbour, identifier, first)
            case MeshLink(wanted):
                self._asked_to_link(key, neighbour, wanted)
            case _:
                raise PeerFault(f"{type(message).__name__} is no message of relaying", code="wrong_role")
        return []

    def accept(self, delivery: Delivery) -> None:
        """What was delivered was found in order: it is passed on, where this node relays."""
        kept = self._kept.get(delivery.id)
        if kept is None or not self._relays:
            return
        self._fresh[0].append(delivery.id)
        if len(kept.messages) > 1:
            return  # of a large one the others have heard by its head
        for key, neighbour in self.neighbours.items():
            if neighbour.is_linked and delivery.id not in neighbour.known:
                neighbour.learns(delivery.id)
                self.counters.forwarded += 1
                self._send(key, kept.messages[0], bulk=True)

    def reject(self, delivery: Delivery) -> None:
        """What was delivered was not in order: nobody gets it from here, and who brought it is thought less of."""
        kept = self._kept.pop(delivery.id, None)
        if kept is not None:
            self._kept_bytes -= kept.size_bytes
        neighbour = self.neighbours.get(delivery.source)
        if neighbour is not None:
            neighbour.score -= _BAD_PAYLOAD

    def _take_small(self, key: bytes, neighbour: Neighbour, topic: int, data: bytes) -> list[Delivery]:
        identifier = payload_id(topic, data)
        neighbour.learns(identifier)
        if self._was_seen(identifier):
            self.counters.duplicates += 1
            self.counters.duplicate_bytes += len(data)
            return []
        self._keep(identifier, (Payload(topic, data),), len(data))
        self._came_first(neighbour)
        return [Delivery(topic, data, identifier, key)]

    def _take_head(self, key: bytes, neighbour: Neighbour, head: PayloadHead) -> None:
        identifier = head_id(head)
        neighbour.learns(identifier)
        if self._was_seen(identifier) or identifier in self._coming:
            self.counters.duplicates += 1
            return
        wanted = self._wanted.get(identifier)
        of_one = [coming.head.size_bytes for coming in self._coming.values() if coming.source == key]
        if (
            (neighbour.score < _SHUNNED_BELOW and (wanted is None or wanted.asked != key))
            or len(of_one) >= _MOST_COMING_OF_ONE
            or sum(of_one) + head.size_bytes > _MOST_COMING_OF_ONE_BYTES
            or self._coming_bytes + head.size_bytes > _MOST_COMING_BYTES
        ):
            self.counters.refused += 1
            return
        self._coming[identifier] = _Coming(head, key, self._now_ms + _PATIENCE_MS)
        self._coming_bytes += head.size_bytes
        if wanted is None:
            self._want(identifier, key, neighbour)
        if self._relays:
            for other, it in self.neighbours.items():
                if it.is_linked and identifier not in it.known:
                    self._send(other, HavePayloads((identifier,)))

    def _take_piece(self, key: bytes, neighbour: Neighbour, piece: Piece) -> list[Delivery]:
        coming = self._coming.get(piece.id)
        if coming is None or piece.index in coming.pieces:
            self.counters.duplicates += 1
            self.counters.duplicate_bytes += len(piece.data)
            return []
        expected = coming.head.pieces[32 * piece.index : 32 * piece.index + 32]
        # The last one is what is left: of no other length can the whole be what the head says.
        size_bytes = min(PIECE_BYTES, coming.head.size_bytes - PIECE_BYTES * piece.index)
        if len(piece.data) != size_bytes or sha256(piece.data).digest() != expected:
            raise PeerFault("a piece of a payload is not the one that its head names", code="bad_piece")
        coming.pieces[piece.index] = piece
        coming.due_ms = self._now_ms + _PATIENCE_MS
        for other in coming.waiting:
            self.counters.forwarded += 1
            self._send(other, piece, bulk=True)
        if 32 * len(coming.pieces) < len(coming.head.pieces):
            return []
        pieces = [coming.pieces[index] for index in range(len(coming.pieces))]
        data = b"".join([each.data for each in pieces])
        self._keep(piece.id, (coming.head, *pieces), len(data))
        self._came_first(neighbour)
        return [Delivery(coming.head.topic, data, piece.id, key)]

    def _came_first(self, neighbour: Neighbour) -> None:
        self.counters.delivered += 1
        neighbour.score = min(neighbour.score + 1, _MOST_SCORE)

    def _keep(self, identifier: bytes, messages: tuple[Message, ...], size_bytes: int) -> None:
        """It is seen, and kept for a while for those who ask."""
        self._forget(identifier)
        self._seen.pop(identifier, None)
        if len(self._seen) >= _MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[identifier] = self._now_ms
        if (before := self._kept.pop(identifier, None)) is not None:
            self._kept_bytes -= before.size_bytes
        self._kept[identifier] = _Kept(messages, size_bytes, self._now_ms + _KEEP_MS)
        self._kept_bytes += size_bytes
        while self._kept_bytes > _MOST_KEPT_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._kept_bytes -= self._kept.pop(next(iter(self._kept))).size_bytes

    def _was_seen(self, identifier: bytes) -> bool:
        at_ms = self._seen.get(identifier)
        return at_ms is not None and self._now_ms - at_ms < _SEEN_MS

    # --- asking and answering ---------------------------------------------------------------------------------------

    def _hear_of(self, identifier: bytes, key: bytes, neighbour: Neighbour) -> None:
        """A neighbour has it. The first who says so is asked, the others if that one does not keep its promise."""
        if self._was_seen(identifier) or neighbour.score < _SHUNNED_BELOW:
            return
        wanted = self._wanted.get(identifier)
        if wanted is not None:
            if key != wanted.asked and key not in wanted.others:
                wanted.others.append(key)
        elif len(self._wanted) >= _MOST_WANTED or neighbour.owes >= _MOST_WANTED_OF_ONE:
            self.counters.refused += 1
        else:
            self._want(identifier, key, neighbour)
            self._ask(identifier, key)

    def _want(self, identifier: bytes, key: bytes, neighbour: Neighbour) -> None:
        self._wanted[identifier] = _Wanted(key, self._now_ms + _PATIENCE_MS)
        neighbour.owes += 1

    def _forget(self, identifier: bytes) -> None:
        """It is here, or nobody brings it."""
        wanted = self._wanted.pop(identifier, None)
        if wanted is not None:
            self._owes_less(wanted.asked)
        coming = self._coming.pop(identifier, None)
        if coming is not None:
            self._coming_bytes -= coming.head.size_bytes

    def _owes_less(self, key: bytes) -> None:
        neighbour = self.neighbours.get(key)
        if neighbour is not None:
            neighbour.owes -= 1

    def _ask(self, identifier: bytes, key: bytes) -> None:
        """For what is missing of it."""
        coming, first = self._coming.get(identifier), 0
        if coming is not None:
            coming.source = key
            first = 1 + next(index for index in range(len(coming.head.pieces) // 32) if index not in coming.pieces)
        self.counters.asked += 1
        self._send(key, WantPayload(identifier, first))

    def _ask_next(self, identifier: bytes, wanted: _Wanted) -> None:
        """The one who was asked did not bring it: the next in line, or nobody until it is announced again."""
        while wanted.others:
            key = wanted.others.pop(0)
            neighbour = self.neighbours.get(key)
            if neighbour is not None:
                self._owes_less(wanted.asked)
                neighbour.owes += 1
                wanted.asked, wanted.due_ms = key, self._now_ms + _PATIENCE_MS
                wanted.tries += 1
                coming = self._coming.get(identifier)
                if coming is not None:
                    coming.due_ms = wanted.due_ms
                self._ask(identifier, key)
                return
        self._forget(identifier)

    def _serve(self, key: bytes, neighbour: Neighbour, identifier: bytes, first: int) -> None:
        kept = self._kept.get(identifier)
        coming = self._coming.get(identifier)
        if kept is not None:
            messages: Iterable[Message] = kept.messages[first:]
            items = len(kept.messages) - first
        elif coming is not None:
            ready = [coming.pieces[index] for index in sorted(coming.pieces) if index + 1 >= first]
            messages, items = ([coming.head, *ready] if first == 0 else ready), len(coming.head.pieces) // 32
        else:
            return  # it was forgotten, and whoever asks will ask somebody else
        if not neighbour.allowance.take(items, self._now_ms):
            self.counters.refused += 1
            return
        if coming is not None and key not in coming.waiting:
            coming.waiting.append(key)
        neighbour.learns(identifier)
        self.counters.served += 1
        for message in messages:
            self._send(key, message, bulk=True)

    @property
    def is_restless(self) -> bool:
        """Whether a heartbeat would do anything."""
        short = self._relays and len(self._linked()) < min(self._degree, len(self.neighbours))
        return bool(self._wanted) or any(self._fresh) or short

    # --- time -------------------------------------------------------------------------------------------------------

    def heartbeat(self, now_ms: int) -> None:
        """Every ``HEARTBEAT_MS``: announce what is new, ask again for what did not come, keep the mesh in order."""
        self._now_ms = now_ms
        self._heartbeats += 1
        self._announce()
        for identifier, wanted in list(self._wanted.items()):
            coming = self._coming.get(identifier)
            due_ms = wanted.due_ms if coming is None else coming.due_ms
            if self._now_ms >= due_ms:
                self.counters.broken_promises += 1
                neighbour = self.neighbours.get(wanted.asked)
                if neighbour is not None:
                    neighbour.score -= _BROKEN_PROMISE
                    if wanted.tries < _MOST_TRIES and wanted.asked not in wanted.others:
                        wanted.others.append(wanted.asked)  # what it sent may have been dropped on the way
                self._ask_next(identifier, wanted)
        while self._kept and self._kept[next(iter(self._kept))].until_ms <= self._now_ms:
            self._drop_oldest()
        if self._heartbeats % _FADE_HEARTBEATS == 0:
            for neighbour in self.neighbours.values():
                neighbour.score -= neighbour.score // 2
        if self._relays:
            self._tend_mesh()

    def _announce(self) -> None:
        """What came lately, to everybody who is not known to have it."""
        fresh = [identifier for row in self._fresh for identifier in row]
        self._fresh = [[], *self._fresh[:-1]]
        if not fresh:
            return
        for key, neighbour in self.neighbours.items():
            lacking = [identifier for identifier in fresh if identifier not in neighbour.known]
            for at in range(0, len(lacking), MAX_PAYLOAD_IDS):
                self._send(key, HavePayloads(tuple(lacking[at : at + MAX_PAYLOAD_IDS])))

    def _tend_mesh(self) -> None:
        linked = self._linked()
        if 3 * len(linked) < 2 * self._degree or len(linked) < min(self._degree, len(self.neighbours)):
            free = [
                key
                for key, it in self.neighbours.items()
                if not it.is_linked and it.not_before_ms <= self._now_ms and it.score >= _SHUNNED_BELOW
            ]
            for key in self._shuffled(free)[: self._degree - len(linked)]:
                self._link(key, self.neighbours[key])
        elif called := self._own_calls_lacking(linked):
            for key in called:
                self._link(key, self.neighbours[key])
        elif len(linked) > 2 * self._degree:
            # The best stay; of those that this node dialled itself a third of the degree at least, whatever they do.
            ranked = sorted(self._shuffled(linked), key=lambda key: -self.neighbours[key].score)
            dialled = [key for key in ranked if self.neighbours[key].is_dialled][: self._degree // 3]
            staying = set([*dialled, *(key for key in ranked if key not in dialled)][: self._degree])
            for key in linked:
                if key not in staying:
                    self._unlink(key, self.neighbours[key])
        for key in linked:
            if self.neighbours[key].score < _SHUNNED_BELOW:
                self._unlink(key, self.neighbours[key])

    def _own_calls_lacking(self, linked: list[bytes]) -> list[bytes]:
        """Nodes that this one called, to be linked so that a third of the degree are of its own choice."""
        lacking = self._degree // 3 - sum(self.neighbours[key].is_dialled for key in linked)
        if lacking <= 0:
            return []
        free = [
            key
            for key, it in self.neighbours.items()
            if it.is_dialled and not it.is_linked and it.not_before_ms <= self._now_ms and it.score >= _SHUNNED_BELOW
        ]
        return self._shuffled(free)[:lacking]

    def _shuffled(self, keys: list[bytes]) -> list[bytes]:
        """In an order that nobody else can choose, and that is the same in every replay."""
        self._choices += 1
        salt = self._key + self._choices.to_bytes(8, "big")
        return sorted(keys, key=lambda key: sha256(salt + key).digest())

    def _send(self, key: bytes, message: Message, *, bulk: bool = False) -> None:
        self.out.append(Outgoing(key, message, bulk))
