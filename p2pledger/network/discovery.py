"""Whom to call: so many sessions that things can be relayed, and enough of them of this node's own choice.

Where the nodes of a network are written in nobody's configuration, a node starts with some *seeds* and asks whoever it
has called for further addresses (messages 46 and 47). What it hears goes into the address book, which resists those who
tell much (``addressbook.py``); from there it chooses.

* It calls until it has ``degree`` sessions, two thirds of them (the *quota*) called by itself: whoever calls it in
  masses does not keep it from calling others. On the internet no two of its own calls go to one network group.
* Those with whom it had sessions when it stopped come first (*anchors*); seeds come when the book has nobody to call.
  A seed is left in peace (``introduced``) when the quota is met without it.
* With the quota met it still calls somebody new every two minutes, says goodbye (``tested``), and so learns what its
  book is worth; whoever would displace somebody tried makes that one be called first.
* Addresses are asked for when a session opens that this node called, and again while sessions are lacking: after 2 s,
  4 s, and so on up to ten minutes. Nobody can send any without being asked. A question is answered once a second.
* Who is found to be of another network, to be this node itself, or, in a public network, to behave badly, is forgotten
  and not called for an hour.

Pure: ``now_ms`` comes in, calls and messages come out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from p2pledger.network.addressbook import AddressBook, Endpoint, Entry
from p2pledger.network.effects import Dial
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import MAX_ADDRESSES, Addresses, WantAddresses

__all__ = ["Discovery", "Known"]

_LOOK_MS: Final = 1_000
_LAST_LOOK_MS: Final = 30_000
_TEST_EVERY_MS: Final = 120_000
_FIRST_ASK_MS: Final = 2_000
_LAST_ASK_MS: Final = 600_000
_ANSWER_EVERY_MS: Final = 1_000
_ANSWER_WITHIN_MS: Final = 60_000
_SEED_AGAIN_MS: Final = 5_000
_LAST_SEED_AGAIN_MS: Final = 300_000
_BANNED_MS: Final = 3_600_000
_MOST_BANNED: Final = 1_024
_MOST_CALLS: Final = 8
_FOREIGN: Final = frozenset(
    {"own_key", "wrong_network", "wrong_genesis", "unknown_wire_version", "malformed", "tls_failed"}
)
"""Codes of calls that found somebody who is none of us."""

Place = tuple[str, int]
"""Host and port, as somebody is called."""


class _Call(Enum):
    """What a call is for."""

    SESSION = 1
    TEST = 2
    SEED = 3


@dataclass(slots=True)
class Known:
    """What discovery remembers of one session."""

    endpoint: Endpoint | None
    """Where the other end listens, as far as that is known."""
    is_dialled: bool
    is_seed: bool
    remote: Endpoint | None
    """The other end of the connection; of a caller its port says nothing."""
    ask_at_ms: int
    asked_ms: int = -1
    ask_after_ms: int = _FIRST_ASK_MS
    answered_ms: int | None = None


class Discovery:
    """The calls of one node. ``bans``: whether behaving badly has consequences; not where all members are known."""

    def __init__(
        self, book: AddressBook, *, seeds: Iterable[Place] = (), degree: int, port: int = 0, bans: bool = True
    ) -> None:
        """``port``: where this node listens, told to those whom it asks; 0 keeps it to itself."""
        self.book = book
        self.port = port
        self._degree = degree
        self._quota = -(-2 * degree // 3)
        self._bans = bans
        self._seeds: dict[Place, tuple[int, int]] = dict.fromkeys(seeds, (0, 0))
        """(when it may be called again, how long it is left in peace after the next call in vain)"""
        self._sessions: dict[bytes, Known] = {}
        self._calls: dict[Place, _Call] = {}
        """Under way."""
        self._anchors = list(book.anchors)
        self._banned: dict[Endpoint, int] = {}
        self._look_at_ms = 0
        self._look_after_ms = _LOOK_MS
        self._test_at_ms = 0
        self.due_ms = 0
        """When ``look`` is to be called."""
        self.changes = 0
        """How often the book has changed: so its keeper knows when to write it."""

    # --- what happens -----------------------------------------------------------------------------------------------

    def opened(self, key: bytes, remote: Place, called: Place | None, now_ms: int) -> str:
        """A session with a node. Empty if it is to stay, else the code with which to end it at once."""
        other_end = Endpoint.of(*remote)
        endpoint = None if called is None else other_end
        call = None if called is None else self._calls.pop(called, None)
        if called in self._seeds:
            self._seeds[called] = (0, 0)
        if endpoint is not None:
            self.book.met(endpoint, key, now_ms)
            self.changes += 1
        if call is _Call.TEST and not self._lacks:
            return "tested"
        self._sessions[key] = Known(endpoint, called is not None, call is _Call.SEED, other_end, now_ms)
        self._look_soon(now_ms)
        return ""

    def closed(self, key: bytes, now_ms: int) -> None:
        if self._sessions.pop(key, None) is not None:
            self._look_soon(now_ms)

    def failed(self, called: Place, code: str, key: bytes, now_ms: int) -> None:
        """A call led to no session."""
        self._calls.pop(called, None)
        self.changes += 1
        if called in self._seeds:
            again_ms = self._seeds[called][1] or _SEED_AGAIN_MS
            self._seeds[called] = (now_ms + again_ms, min(2 * again_ms, _LAST_SEED_AGAIN_MS))
        endpoint = Endpoint.of(*called)
        if endpoint is not None:
            if code in _FOREIGN:
                self._ban(endpoint, now_ms)
            elif code == "duplicate_session" and key in self._sessions:
                self.book.met(endpoint, key, now_ms)  # It is there, and is a neighbour by another call.
            else:
                self.book.failed(endpoint, now_ms)
        self._look_soon(now_ms)

    def offended(self, key: bytes, now_ms: int) -> None:
        """The node behind a session did what no honest one does."""
        known = self._sessions.get(key)
        if known is not None and known.endpoint is not None and self._bans:
            self._ban(known.endpoint, now_ms)

    def asked(self, key: bytes, port: int, now_ms: int) -> Addresses | None:
        """A neighbour wants addresses, and tells where it listens. None where it has asked a moment ago."""
        known = self._sessions.get(key)
        if known is None or (known.answered_ms is not None and now_ms - known.answered_ms < _ANSWER_EVERY_MS):
            return None
        known.answered_ms = now_ms
        asker = known.remote
        told = self.book.sample(
            MAX_ADDRESSES, now_ms, lambda entry: asker is None or entry.endpoint.reach >= asker.reach
        )
        if port and asker is not None and not known.is_dialled:
            # It tells of itself: it counts as its own source, and is believed when somebody has met it there.
            endpoint = Endpoint(asker.ip, port)
            if known.endpoint != endpoint and not self._is_banned(endpoint, now_ms):
                known.endpoint = endpoint
                self.book.hear(endpoint, endpoint, now_ms)
                self.changes += 1
        return Addresses(tuple(endpoint.encode() for endpoint in told if endpoint != known.endpoint))

    def answered(self, key: bytes, message: Addresses, now_ms: int) -> None:
        """Addresses came. PeerFault ``unasked`` where nobody has asked, ``malformed`` for what is no address."""
        known = self._sessions.get(key)
        if known is None:
            return
        if known.asked_ms < 0 or now_ms - known.asked_ms > _ANSWER_WITHIN_MS:
            raise PeerFault("addresses came that nobody has asked for", code="unasked")
        known.asked_ms = -1
        endpoints = [Endpoint.decode(data) for data in message.addresses]
        source = known.endpoint
        if source is None:
            return
        size = len(self.book)
        for endpoint in endpoints:
            if endpoint is not None and not self._is_banned(endpoint, now_ms):
                self.book.hear(endpoint, source, now_ms)
        self.changes += 1
        if len(self.book) > size:
            self._look_soon(now_ms)

    # --- what to do -------------------------------------------------------------------------------------------------

    def look(self, now_ms: int) -> tuple[list[Dial], list[tuple[bytes, WantAddresses]], list[bytes]]:
        """When ``due_ms`` has come: whom to call, whom to ask, whom to leave in peace (``introduced``)."""
        dials: list[Dial] = []
        asks: list[tuple[bytes, WantAddresses]] = []
        for key, known in self._sessions.items():
            if known.is_dialled and now_ms >= known.ask_at_ms:
                asks.append((key, WantAddresses(self.port)))
                known.asked_ms = now_ms
                known.ask_at_ms = now_ms + (known.ask_after_ms if self._lacks else _LAST_ASK_MS)
                known.ask_after_ms = min(2 * known.ask_after_ms, _LAST_ASK_MS)
        if now_ms >= self._look_at_ms:
            self._call(dials, now_ms)
            self._look_after_ms = _LOOK_MS if dials else min(2 * self._look_after_ms, _LAST_LOOK_MS)
            if not self._lacks:
                self._look_after_ms = _TEST_EVERY_MS
            # Two that call each other in the same moment refuse each other: they must not do so in step.
            self._look_at_ms = now_ms + self._look_after_ms + self.book.chance(_LOOK_MS)
        if now_ms >= self._test_at_ms:
            if self._test_at_ms:
                self._test(dials, now_ms)
            self._test_at_ms = now_ms + _TEST_EVERY_MS
        anchors = [it.endpoint for it in self._sessions.values() if it.is_dialled and it.endpoint is not None]
        if anchors:
            self.book.keep_anchors(anchors)
        self._set_due()
        return dials, asks, self._introduced()

    def _set_due(self) -> None:
        asks = [known.ask_at_ms for known in self._sessions.values() if known.is_dialled]
        self.due_ms = min([self._look_at_ms, self._test_at_ms, *asks])

    @property
    def _lacks(self) -> int:
        """How many sessions are to be called."""
        chosen = sum(it.is_dialled and not it.is_seed for it in self._sessions.values())
        return max(self._quota - chosen, self._degree - len(self._sessions), 0)

    def _look_soon(self, now_ms: int) -> None:
        self._look_after_ms = _LOOK_MS
        self._look_at_ms = min(self._look_at_ms, now_ms + self.book.chance(_LOOK_MS))
        self._set_due()

    def _call(self, dials: list[Dial], now_ms: int) -> None:
        """As many as are lacking; a seed only where there is nobody else."""
        wanted = min(self._lacks, _MOST_CALLS) - len(self._calls)
        while wanted > 0:
            endpoint = self._anchor() or self.book.choose(now_ms, self._is_fit)
            if endpoint is None:
                break
            self.book.called(endpoint, now_ms)
            self._dial((endpoint.host, endpoint.port), _Call.SESSION, dials)
            wanted -= 1
        if wanted > 0 and not self._calls:
            free = [place for place, (not_before_ms, _) in self._seeds.items() if not_before_ms <= now_ms]
            connected = {
                (it.endpoint.host, it.endpoint.port) for it in self._sessions.values() if it.endpoint is not None
            }
            has_seed = any(it.is_seed for it in self._sessions.values())
            free = [] if has_seed else [place for place in free if place not in connected]
            if free:
                self._dial(free[self.book.chance(len(free))], _Call.SEED, dials)

    def _anchor(self) -> Endpoint | None:
        while self._anchors:
            endpoint = self._anchors.pop(0)
            entry = self.book.entry(endpoint)
            if entry is not None and self._is_fit(entry):
                return endpoint
        return None

    def _is_fit(self, entry: Entry) -> bool:
        """Whether a session with it would be one more, and in a network group of its own."""
        endpoint = entry.endpoint
        if entry.key in self._sessions or (endpoint.host, endpoint.port) in self._calls:
            return False
        for known in self._sessions.values():
            if known.endpoint == endpoint:
                return False
            if known.is_dialled and known.endpoint is not None and _is_near(known.endpoint, endpoint):
                return False
        return not any(_is_near(Endpoint.of(*place), endpoint) for place in self._calls)

    def _test(self, dials: list[Dial], now_ms: int) -> None:
        if self._lacks or len(self._calls) >= _MOST_CALLS:
            return
        endpoint = self.book.to_test(now_ms) or self.book.choose(now_ms, self._is_stranger, only_new=True)
        if endpoint is not None and (endpoint.host, endpoint.port) not in self._calls:
            self.book.called(endpoint, now_ms)
            self._dial((endpoint.host, endpoint.port), _Call.TEST, dials)

    def _is_stranger(self, entry: Entry) -> bool:
        return entry.key not in self._sessions and all(it.endpoint != entry.endpoint for it in self._sessions.values())

    def _dial(self, place: Place, call: _Call, dials: list[Dial]) -> None:
        self._calls[place] = call
        dials.append(Dial(*place))

    def _introduced(self) -> list[bytes]:
        """Seeds that are not needed any more: they have everybody else to help."""
        seeds = [key for key, known in self._sessions.items() if known.is_seed and known.is_dialled]
        if not seeds or self._lacks or len(self._sessions) - len(seeds) < self._degree:
            return []
        return seeds

    # --- who is not called ------------------------------------------------------------------------------------------

    def _ban(self, endpoint: Endpoint, now_ms: int) -> None:
        self.book.forget(endpoint)
        self.changes += 1
        if len(self._banned) >= _MOST_BANNED:
            del self._banned[next(iter(self._banned))]
        self._banned[endpoint] = now_ms + _BANNED_MS

    def _is_banned(self, endpoint: Endpoint, now_ms: int) -> bool:
        until_ms = self._banned.get(endpoint)
        if until_ms is not None and until_ms <= now_ms:
            del self._banned[endpoint]
            return False
        return until_ms is not None


def _is_near(one: Endpoint | None, other: Endpoint) -> bool:
    """Whether both lie in one network group of the internet; in a private network groups say nothing."""
    return one is not None and one.group == other.group and one.reach == other.reach == 2
