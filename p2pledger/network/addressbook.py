"""Where other nodes may listen, kept so that nobody can fill it with its own.

Theory. Who decides about all the sessions of a node decides what it sees of the ledger (an *eclipse*). Keys cost
nothing in a public network and ports neither; what is dear are addresses in many networks. So what an address may
displace depends on its network *group* (IPv4: the first 16 bits, IPv6: the first 32), as in the address manager of
Bitcoin Core after Heilman, Kendler, Zohar and Goldberg, "Eclipse attacks on Bitcoin's peer-to-peer network" (2015):

* **new** holds what was heard: 256 buckets of 64. The bucket of an address follows from its group, from the group of
  the *source* who told of it and from a secret. All that one group tells lies in at most 32 buckets, however much it
  tells; what it tells of one group, in a single one.
* **tried** holds those with whom a handshake was completed: 64 buckets of 64. All addresses of one group lie in at most
  8 buckets.

The place in a bucket follows from the secret too. In *new* a place that is taken goes to the newcomer only if its
holder is *worthless* (not heard of for a month, or called in vain again and again) or has other places. In *tried*
nobody is displaced untested: the newcomer waits (``collisions``), the holder is called, and only if it does not answer
they change places. So an attacker must answer at many groups, and honest nodes that answer stay.

Choosing: one of the tables by a coin, a bucket that is not empty, an entry of it. So it counts in how many buckets an
attacker is, not how often; and what failed lately is unlikely, or excluded by its backoff.

Whoever tells of addresses can make others call them: so a source tells only of its own reach or of a wider one (nobody
from the internet has a say about the private network or the loopback of a node).

Pure: times come in; what needs chance takes it from a hash of the secret and a count. All numbers are bounded: 16,384
new addresses and 4,096 tried ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from p2pledger.primitives.codec import Fields, Value, decode, encode
from p2pledger.primitives.errors import InvalidInput, PeerFault

__all__ = ["MOST_NEW", "MOST_TRIED", "AddressBook", "Endpoint", "Entry"]

NEW_BUCKETS: Final = 256
NEW_BUCKETS_OF_SOURCE: Final = 32
TRIED_BUCKETS: Final = 64
TRIED_BUCKETS_OF_GROUP: Final = 8
BUCKET_SIZE: Final = 64
MOST_NEW: Final = NEW_BUCKETS * BUCKET_SIZE
MOST_TRIED: Final = TRIED_BUCKETS * BUCKET_SIZE
_MOST_PLACES: Final = 4
"""In *new*, of one address: told of by several groups it lies in several buckets."""
_MOST_COLLISIONS: Final = 16
_MOST_ANCHORS: Final = 2
_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS
_HORIZON_MS: Final = 30 * _DAY_MS
_FAILURES_OF_STRANGER: Final = 3
_FAILURES_OF_FRIEND: Final = 10
_FRIEND_FOR_MS: Final = 7 * _DAY_MS
_FIRST_BACKOFF_MS: Final = 10_000
_LAST_BACKOFF_MS: Final = 60 * _MINUTE_MS
_CHOICES: Final = 64
"""How often a choice is made anew when it met somebody who is out of the question."""
_VERSION: Final = 1
_MOST_BYTES: Final = 8 * 1_048_576
_LOOPBACK, _PRIVATE, _GLOBAL = range(3)


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An IP address (4 or 16 bytes) and a port where somebody may listen."""

    ip: bytes
    port: int

    @classmethod
    def of(cls, host: str, port: int) -> Endpoint | None:
        """From a numeric address as text; None for a name, or for what nobody can be called at."""
        try:
            address = ip_address(host)
        except ValueError:
            return None
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return cls((mapped or address).packed, port).checked()

    @classmethod
    def decode(cls, data: bytes) -> Endpoint | None:
        """Of ``ip || port (2)``. None for one that nobody can be called at. PeerFault for other lengths or port 0."""
        if len(data) not in (6, 18) or data[-2:] == b"\x00\x00":
            raise PeerFault("an address is not an IP address with a port", code="malformed")
        return cls(data[:-2], int.from_bytes(data[-2:], "big")).checked()

    def encode(self) -> bytes:
        return self.ip + self.port.to_bytes(2, "big")

    def checked(self) -> Endpoint | None:
        address = self._address
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return None  # it has a shorter form
        never = address.is_multicast or address.is_unspecified or address.is_link_local
        if never or (address.is_reserved and not address.is_loopback):
            return None
        return self if 0 < self.port < 65_536 else None

    @property
    def _address(self) -> IPv4Address | IPv6Address:
        return IPv4Address(self.ip) if len(self.ip) == 4 else IPv6Address(self.ip)

    @property
    def host(self) -> str:
        return str(self._address)

    @property
    def group(self) -> bytes:
        """The network that it lies in: what an attacker has few of."""
        return b"\x04" + self.ip[:2] if len(self.ip) == 4 else b"\x06" + self.ip[:4]

    @property
    def reach(self) -> int:
        """0 this machine, 1 a private network, 2 the internet."""
        address = self._address
        return _LOOPBACK if address.is_loopback else _PRIVATE if address.is_private else _GLOBAL

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if len(self.ip) == 4 else f"[{self.host}]:{self.port}"


@dataclass(slots=True)
class Entry:
    """What is known of an endpoint. ``key`` is the node key that was met there; empty if nobody was met yet."""

    endpoint: Endpoint
    source: Endpoint
    """Who told of it first."""
    heard_ms: int
    called_ms: int = 0
    met_ms: int = 0
    failures: int = 0
    """Calls in vain since the last one that was answered."""
    key: bytes = b""
    is_tried: bool = False
    places: set[tuple[int, int]] = field(default_factory=set)
    """(bucket, place) in *new*."""

    def is_worthless(self, now_ms: int) -> bool:
        if now_ms - self.called_ms < _MINUTE_MS and self.called_ms:
            return False
        if now_ms - max(self.heard_ms, self.met_ms) > _HORIZON_MS:
            return True
        if not self.met_ms:
            return self.failures >= _FAILURES_OF_STRANGER
        return self.failures >= _FAILURES_OF_FRIEND and now_ms - self.met_ms > _FRIEND_FOR_MS

    def may_be_called(self, now_ms: int) -> bool:
        """Not again at once: after each call in vain twice as late, from ten seconds up to an hour."""
        if not self.failures:
            return True
        backoff_ms = min(_FIRST_BACKOFF_MS << min(self.failures - 1, 16), _LAST_BACKOFF_MS)
        return now_ms - self.called_ms >= backoff_ms


_Table = dict[int, dict[int, Endpoint]]
"""Bucket -> place -> who is there; buckets without anybody are left out."""


class AddressBook:
    """``secret``: 32 bytes that nobody else knows, the same as long as the book lives."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise InvalidInput("the secret of an address book has 32 bytes", code="usage")
        self._secret = secret
        self._choices = 0
        self._entries: dict[Endpoint, Entry] = {}
        self._new: _Table = {}
        self._tried: _Table = {}
        self._collisions: dict[Endpoint, Endpoint] = {}
        self.anchors: tuple[Endpoint, ...] = ()
        """With whom there were sessions lately: after a restart they are called first, so it gives nobody a chance."""
        self.refused = 0
        """Told of, and not taken."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, endpoint: Endpoint) -> bool:
        return endpoint in self._entries

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._entries)

    def entry(self, endpoint: Endpoint) -> Entry | None:
        return self._entries.get(endpoint)

    @property
    def new_count(self) -> int:
        return len(self._entries) - self.tried_count

    @property
    def tried_count(self) -> int:
        return sum(len(bucket) for bucket in self._tried.values())

    # --- what is heard and met --------------------------------------------------------------------------------------

    def hear(self, endpoint: Endpoint, source: Endpoint, now_ms: int) -> bool:
        """Somebody tells of an endpoint. Whether it lies in the book now."""
        if endpoint.reach < source.reach:
            self.refused += 1
            return False
        entry = self._entries.get(endpoint)
        if entry is not None:
            entry.heard_ms = max(entry.heard_ms, now_ms)
            # A further place is the less likely the more there are: being told of often must not be worth much.
            if entry.is_tried or len(entry.places) >= _MOST_PLACES or self.chance(1 << len(entry.places)):
                return True
        place = self._new_place(endpoint, source)
        holder = self._new.get(place[0], {}).get(place[1])
        if holder == endpoint:
            return True
        if holder is not None:
            standing = self._entries[holder]
            gives_way = standing.is_worthless(now_ms) or (entry is None and len(standing.places) > 1)
            if not gives_way:
                self.refused += entry is None
                return entry is not None
            self._leave_new(standing, place)
        if entry is None:
            entry = self._entries[endpoint] = Entry(endpoint, source, now_ms)
        self._enter_new(entry, place)
        return True

    def called(self, endpoint: Endpoint, now_ms: int) -> None:
        """It is being called."""
        entry = self._entries.get(endpoint)
        if entry is not None:
            entry.called_ms = now_ms

    def failed(self, endpoint: Endpoint, now_ms: int) -> None:
        """Nobody answered, or none of this network. The holder of a place in *tried* loses it if somebody waits."""
        entry = self._entries.get(endpoint)
        if entry is None:
            return
        entry.failures += 1
        entry.called_ms = now_ms
        for newcomer, holder in list(self._collisions.items()):
            if holder == endpoint:
                del self._collisions[newcomer]
                waiting = self._entries.get(newcomer)
                if waiting is not None and entry.is_tried:
                    self._remove(self._tried, *self._tried_place(endpoint))
                    entry.is_tried = False
                    self._enter_tried(waiting)
                    self._push_new(entry)

    def met(self, endpoint: Endpoint, key: bytes, now_ms: int) -> None:
        """A handshake with whoever listens there proved the node key: it goes into *tried*, or waits for that."""
        entry = self._entries.get(endpoint)
        if entry is None:
            # Seeds and those whose address was configured: nobody told of them but this node itself.
            entry = self._entries[endpoint] = Entry(endpoint, endpoint, now_ms)
        entry.key, entry.failures = key, 0
        entry.called_ms = entry.met_ms = entry.heard_ms = now_ms
        for newcomer, holder in list(self._collisions.items()):
            if holder == endpoint:
                del self._collisions[newcomer]  # it was tested, and stays
        if entry.is_tried:
            return
        bucket, place = self._tried_place(endpoint)
        standing = self._tried.get(bucket, {}).get(place)
        if standing is None:
            self._enter_tried(entry)
            return
        if len(self._collisions) < _MOST_COLLISIONS:
            self._collisions[endpoint] = standing
        if not entry.places:
            self._push_new(entry)

    def forget(self, endpoint: Endpoint) -> None:
        """It is not of this network, or it is this node itself, or it behaved badly."""
        entry = self._entries.get(endpoint)
        if entry is None:
            return
        if entry.is_tried:
            bucket, place = self._tried_place(endpoint)
            self._remove(self._tried, bucket, place)
        for bucket, place in entry.places:
            self._remove(self._new, bucket, place)
        del self._entries[endpoint]
        for newcomer, holder in list(self._collisions.items()):
            if endpoint in (newcomer, holder):
                del self._collisions[newcomer]
        self.anchors = tuple(anchor for anchor in self.anchors if anchor != endpoint)

    # --- choosing ---------------------------------------------------------------------------------------------------

    def choose(self, now_ms: int, is_fit: Callable[[Entry], bool], *, only_new: bool = False) -> Endpoint | None:
        """Somebody to call: fit, and not to be left in peace for now. None if some tries met nobody."""
        for _ in range(_CHOICES):
            tables = [table for table in ((self._new,) if only_new else (self._new, self._tried)) if table]
            if not tables:
                return None
            table = tables[self.chance(len(tables))]
            bucket = table[sorted(table)[self.chance(len(table))]]
            endpoint = bucket[sorted(bucket)[self.chance(len(bucket))]]
            entry = self._entries[endpoint]
            if entry.may_be_called(now_ms) and is_fit(entry):
                return endpoint
        return None

    def to_test(self, now_ms: int) -> Endpoint | None:
        """The holder of a place in *tried* for which somebody waits: it is to be called before it may be displaced."""
        for holder in self._collisions.values():
            entry = self._entries[holder]
            if entry.may_be_called(now_ms) and now_ms - entry.called_ms >= _MINUTE_MS:
                return holder
        return None

    def sample(self, most: int, now_ms: int, is_fit: Callable[[Entry], bool]) -> tuple[Endpoint, ...]:
        """What this node tells others of: at most so many, and of a large book at most a quarter."""
        known = [
            endpoint for endpoint, entry in self._entries.items() if not entry.is_worthless(now_ms) and is_fit(entry)
        ]
        most = min(most, max(32, len(known) // 4))
        self._choices += 1
        salt = self._secret + b"sample" + self._choices.to_bytes(8, "big")
        return tuple(sorted(known, key=lambda endpoint: sha256(salt + endpoint.encode()).digest())[:most])

    def chance(self, below: int) -> int:
        """A number from 0 to ``below - 1`` that nobody else can know, and that is the same in every replay."""
        self._choices += 1
        digest = sha256(self._secret + b"choice" + self._choices.to_bytes(8, "big")).digest()
        return int.from_bytes(digest[:16], "big") % below

    # --- buckets ----------------------------------------------------------------------------------------------------

    def _hash(self, what: bytes, *parts: bytes) -> int:
        # Parts with their lengths: nobody moves a byte from one to the next.
        data = b"".join(len(part).to_bytes(1, "big") + part for part in (what, *parts))
        return int.from_bytes(sha256(self._secret + data).digest()[:8], "big")

    def _new_place(self, endpoint: Endpoint, source: Endpoint) -> tuple[int, int]:
        one = self._hash(b"new group", endpoint.group, source.group) % NEW_BUCKETS_OF_SOURCE
        bucket = self._hash(b"new", source.group, bytes((one,))) % NEW_BUCKETS
        return bucket, self._hash(b"new place", bucket.to_bytes(2, "big"), endpoint.encode()) % BUCKET_SIZE

    def _tried_place(self, endpoint: Endpoint) -> tuple[int, int]:
        one = self._hash(b"tried group", endpoint.encode()) % TRIED_BUCKETS_OF_GROUP
        bucket = self._hash(b"tried", endpoint.group, bytes((one,))) % TRIED_BUCKETS
        return bucket, self._hash(b"tried place", bucket.to_bytes(2, "big"), endpoint.encode()) % BUCKET_SIZE

    @staticmethod
    def _remove(table: _Table, bucket: int, place: int) -> None:
        del table[bucket][place]
        if not table[bucket]:
            del table[bucket]

    def _enter_new(self, entry: Entry, at: tuple[int, int]) -> None:
        self._new.setdefault(at[0], {})[at[1]] = entry.endpoint
        entry.places.add(at)

    def _leave_new(self, entry: Entry, at: tuple[int, int]) -> None:
        """Out of one place; who has no other is forgotten."""
        if len(entry.places) == 1:
            self.forget(entry.endpoint)
            return
        entry.places.remove(at)
        self._remove(self._new, *at)

    def _enter_tried(self, entry: Entry) -> None:
        for at in entry.places:
            self._remove(self._new, *at)
        entry.places.clear()
        bucket, place = self._tried_place(entry.endpoint)
        self._tried.setdefault(bucket, {})[place] = entry.endpoint
        entry.is_tried = True

    def _push_new(self, entry: Entry) -> None:
        """Among the new, in the place of whoever is there: this one was met."""
        at = self._new_place(entry.endpoint, entry.source)
        holder = self._new.get(at[0], {}).get(at[1])
        if holder is not None:
            self._leave_new(self._entries[holder], at)
        self._enter_new(entry, at)

    # --- bytes ------------------------------------------------------------------------------------------------------

    def keep_anchors(self, endpoints: Iterable[Endpoint]) -> None:
        """The first two of these."""
        self.anchors = tuple(endpoints)[:_MOST_ANCHORS]

    def encode(self) -> bytes:
        """To be kept: ``[1, secret, choices, [anchor, ...], [[endpoint, source, heard, called, met, failures, key,
        is_tried, [bucket x 64 + place, ...]], ...]]``, entries by endpoint."""
        rows: list[Value] = []
        for endpoint, entry in sorted(self._entries.items()):
            times = (entry.heard_ms, entry.called_ms, entry.met_ms, entry.failures)
            places = tuple(sorted(bucket * BUCKET_SIZE + place for bucket, place in entry.places))
            rows.append((endpoint.encode(), entry.source.encode(), *times, entry.key, entry.is_tried, places))
        anchors = tuple(anchor.encode() for anchor in self.anchors)
        return encode((_VERSION, self._secret, self._choices, anchors, tuple(rows)))

    @classmethod
    def decode(cls, data: bytes) -> AddressBook:
        """PeerFault ``malformed`` unless it is what ``encode`` wrote: the shell begins a new book then."""
        values = decode(data, limit_bytes=_MOST_BYTES, what="address book")
        fields = Fields(values, what="address book", count=5, version=_VERSION)
        book = cls(fields.binary("secret", 32))
        book._choices = fields.integer("choices")
        anchors = fields.binaries("anchors", most=_MOST_ANCHORS)
        for row in fields.array("entries", most=MOST_NEW + MOST_TRIED):
            book._restore(Fields(row, what="entry of an address book", count=9))
        book.anchors = tuple(_endpoint(anchor) for anchor in anchors)
        if book.encode() != data:
            raise PeerFault("an address book is not in its one form", code="malformed")
        return book

    def _restore(self, fields: Fields) -> None:
        endpoint, source = _endpoint(fields.binary("endpoint")), _endpoint(fields.binary("source"))
        heard_ms, called_ms, met_ms = (fields.integer(name) for name in ("heard", "called", "met"))
        entry = Entry(endpoint, source, heard_ms, called_ms, met_ms, fields.integer("failures"))
        entry.key = fields.binary("key", most=32)
        is_tried, places = fields.boolean("is_tried"), fields.array("places", most=_MOST_PLACES)
        if endpoint in self._entries or is_tried == bool(places):
            raise PeerFault("an entry of an address book is in no place, or in two", code="malformed")
        self._entries[endpoint] = entry
        if is_tried:
            bucket, place = self._tried_place(endpoint)
            if place in self._tried.get(bucket, {}):
                raise PeerFault("two entries of an address book are in one place", code="malformed")
            self._enter_tried(entry)
        for number in places:
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST_NEW:
                raise PeerFault("an address book has no such place", code="malformed")
            at = divmod(number, BUCKET_SIZE)
            if at[1] in self._new.get(at[0], {}):
                raise PeerFault("two entries of an address book are in one place", code="malformed")
            self._enter_new(entry, at)


def _endpoint(data: bytes) -> Endpoint:
    endpoint = Endpoint.decode(data)
    if endpoint is None:
        raise PeerFault("an address book has an address that nobody can be called at", code="malformed")
    return endpoint
