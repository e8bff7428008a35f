"""Four peers in one room: every message takes one millisecond, every disk is a dictionary, nothing fails by itself.

For tests of a peer's own rules. Delay, loss, crashes and villains are the simulator's (``p2pledger.sim``).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from p2pledger.network.effects import (
    CLIENT,
    VALIDATOR,
    Compute,
    Computed,
    Disconnect,
    Halt,
    Identity,
    Log,
    Persist,
    Received,
    Send,
    SessionClosed,
    SessionOpened,
    SetTimer,
    Started,
    TimerFired,
)
from p2pledger.network.peer import Peer
from p2pledger.node.archive import Recovery
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.genesis import Genesis, Member, Money, Register, Stake
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    Answer,
    Follow,
    Message,
    Progress,
    Query,
    Settled,
    Submit,
    Submitted,
    decode_message,
)
from p2pledger.primitives.names import account_of_key, asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.records import (
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    FinalRecord,
    ForgetRecord,
    ReceiptsRecord,
    Record,
    VoteRecord,
)
from p2pledger.primitives.transactions import Define, Issue, Operation, Transaction, Transfer
from p2pledger.primitives.validators import Validator
from p2pledger.primitives.votes import VoteKind

START_MS = 1_700_000_000_000
SHARE, CASH = asset_id("DE0005140008@CSDC"), asset_id("CNY@BANK")
CLIENT_KEY = Keypair.from_seed(b"c" * 32)
NODE_KEYS = [Keypair.from_seed(bytes([number]) * 32) for number in range(1, 8)]
MEMBERS = tuple(Member(name, Policy.of(CLIENT_KEY.public_key)) for name in ("CSDC", "BANK", "A", "B"))
ACCOUNTS = {member.name: member.account for member in MEMBERS}
CLIENT_SESSION = 100
_HASHES_PER_MS = 16


def genesis_of(
    validators: int = 4,
    parameters: Parameters | None = None,
    *,
    engine: str = "simplex",
    profile: str = "consortium",
    money: tuple[Money, ...] = (),
) -> Genesis:
    """Under pos and dpos all nodes have the same stake."""
    keys = NODE_KEYS[:validators]
    stakes = tuple(Stake(account_of_key(key.public_key), 1_000, key.public_key) for key in keys)
    return Genesis(
        name="small",
        time_ms=START_MS - 1,
        validators=tuple(Validator(key.public_key, 1, f"v{at}") for at, key in enumerate(keys)),
        members=MEMBERS,
        registers=(Register("CSDC", "CSDC", "shares"), Register("BANK", "BANK", "money")),
        parameters=parameters or Parameters(),
        profile=profile,
        engine=engine,
        money=money,
        stakes=stakes if engine in ("pos", "dpos") else (),
    ).check()


def chain_genesis(engine: str, validators: int = 4, **changes: int) -> Genesis:
    """A network of the chain family that is quick to simulate: slots of 100 ms, final after 4 blocks."""
    settings = {"slot_ms": 100, "finality_depth": 4, "initial_difficulty": 512, "delegates": validators}
    return genesis_of(validators, Parameters(**{**settings, **changes}), engine=engine)


class MemoryDisk:
    """Durable at once; remembers the records in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.batches: dict[bytes, bytes] = {}
        self.blocks: dict[bytes, bytes] = {}
        self.finals: dict[int, bytes] = {}
        self.finalisations: dict[bytes, bytes] = {}
        self.outcomes: dict[int, bytes] = {}

    def write(self, records: Iterable[Record]) -> None:
        for record in records:
            self.records.append(record)
            match record:
                case BatchRecord(digest, _, _, data):
                    self.batches[digest] = data
                case BlockRecord(block_id, _, _, _, data):
                    self.blocks[block_id] = data
                case CertificateRecord(VoteKind.FINALISE, _, _, block, data):
                    self.finalisations[block] = data
                case FinalRecord(height, block):
                    self.finals[height] = block
                case ReceiptsRecord(height, _, codes):
                    self.outcomes[height] = codes
                case ForgetRecord(batches, _):
                    for digest in batches:
                        del self.batches[digest]

    def batch(self, digest: bytes) -> bytes | None:
        return self.batches.get(digest)

    def block(self, block_id: bytes) -> bytes | None:
        return self.blocks.get(block_id)

    def final_block(self, height: int) -> bytes | None:
        return self.blocks.get(self.finals.get(height, b""))

    def finalisation(self, height: int) -> bytes | None:
        return self.finalisations.get(self.finals.get(height, b""))

    def receipts(self, height: int) -> bytes | None:
        return self.outcomes.get(height)

    def recovery(self) -> Recovery:
        """Everything that was ever written, as a store would hand it back."""
        height = max(self.finals, default=0)
        ordered = {digest for at in range(1, height + 1) for digest in _digests(self.blocks[self.finals[at]])}
        return Recovery(
            votes=tuple(record.data for record in self.records if isinstance(record, VoteRecord)),
            certificates=tuple(record.data for record in self.records if isinstance(record, CertificateRecord)),
            blocks=tuple(
                record.data for record in self.records if isinstance(record, BlockRecord) and record.height > height
            ),
            batches=tuple(data for digest, data in self.batches.items() if digest not in ordered),
            final_height=height,
            final_block=self.finals.get(height, b""),
        )


def _search_ms(result: object) -> int:
    """How long a search for a nonce took: this room makes 16 hashes in a millisecond. All other work takes no time."""
    if result is None:
        return 65_536 // _HASHES_PER_MS
    return result % 65_536 // _HASHES_PER_MS if isinstance(result, int) else 0


def _digests(block: bytes) -> tuple[bytes, ...]:
    return Block.decode(block).digests


@dataclass
class SmallNetwork:
    """Peers by number; a session's number is the number of the peer at its other end, 100 is the client's."""

    genesis: Genesis = field(default_factory=genesis_of)
    now_ms: int = START_MS
    degree: int = 0
    """With one, sessions are only those of ``edges``, and things are relayed."""
    edges: frozenset[frozenset[int]] = frozenset()

    def __post_init__(self) -> None:
        size = self.size
        self.disks = [MemoryDisk() for _ in range(size)]
        self.peers = [self._make(number) for number in range(size)]
        self.down: set[int] = set()
        self.cut: set[frozenset[int]] = set()
        self.heard: list[tuple[int, int, Message]] = []
        self.logs: list[tuple[int, Log]] = []
        self.ended: list[tuple[int, Disconnect]] = []
        self.halted: list[tuple[int, Halt]] = []
        self.sent = 0
        self._queue: list[tuple[int, int, int, object]] = []
        self._order = count()
        self._timers: dict[int, int | None] = {}
        self._salt = count(1)
        for number in range(size):
            self.step(number, Started())
        for number in range(size):
            self._connect(number)

    @property
    def size(self) -> int:
        """The number of nodes: each validator is one."""
        return len(self.genesis.validators)

    def _make(self, number: int, recovery: Recovery | None = None) -> Peer:
        name, disk = f"v{number}", self.disks[number]
        return Peer(self.genesis, NODE_KEYS[number], name=name, archive=disk, recovery=recovery, degree=self.degree)

    def _neighbours(self, number: int) -> list[int]:
        everybody = [other for other in range(self.size) if other != number]
        return [other for other in everybody if not self.degree or frozenset((number, other)) in self.edges]

    def _connect(self, number: int) -> None:
        for other in self._neighbours(number):
            self.step(number, SessionOpened(other, Identity(NODE_KEYS[other].public_key, VALIDATOR, f"v{other}")))
        self.step(number, SessionOpened(CLIENT_SESSION, Identity(CLIENT_KEY.public_key, CLIENT, "client")))

    # --- what happens ---------------------------------------------------------------------------------------------

    def step(self, number: int, event: object) -> None:
        if number in self.down:
            return
        for effect in self.peers[number].step(event, self.now_ms):  # type: ignore[arg-type]
            match effect:
                case Persist(records):
                    self.disks[number].write(records)
                case Send(session, payload, _):
                    self._send(number, session, payload)
                case Compute(job, run, _):
                    result = run()
                    done = ("computed", self.peers[number], Computed(job, result))
                    self._at(self.now_ms + _search_ms(result), number, done)
                case SetTimer(at_ms):
                    self._timers[number] = at_ms
                    if at_ms is not None:
                        self._at(max(at_ms, self.now_ms), number, ("timer", at_ms))
                case Log():
                    self.logs.append((number, effect))
                case Halt():
                    self.halted.append((number, effect))
                    self.down.add(number)
                case Disconnect(session, _, _):
                    self.ended.append((number, effect))
                    if session < len(self.peers):
                        self.step(session, SessionClosed(number))

    def _send(self, number: int, session: int, payload: bytes) -> None:
        self.sent += 1
        if session >= CLIENT_SESSION:
            self.heard.append((self.now_ms, number, decode_message(payload)))
        elif frozenset((number, session)) not in self.cut:
            self._at(self.now_ms + 1, session, Received(number, payload))

    def _at(self, at_ms: int, number: int, event: object) -> None:
        heapq.heappush(self._queue, (at_ms, next(self._order), number, event))

    def run(self, duration_ms: int) -> None:
        until_ms = self.now_ms + duration_ms
        while self._queue and self._queue[0][0] <= until_ms:
            at_ms, _, number, event = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, at_ms)
            if isinstance(event, tuple) and event[0] == "computed":
                if event[1] is self.peers[number]:  # Else it has crashed meanwhile.
                    self.step(number, event[2])
            elif isinstance(event, tuple):
                if self._timers.get(number) == event[1]:
                    self._timers[number] = None
                    self.step(number, TimerFired())
            else:
                self.step(number, event)
        self.now_ms = until_ms

    @property
    def is_quiet(self) -> bool:
        """Nothing is under way and no timer runs."""
        live = [entry for entry in self._queue if not isinstance(entry[3], tuple) or entry[3][0] != "timer"]
        return not live and not any(at for number, at in self._timers.items() if number not in self.down)

    # --- what a test does -----------------------------------------------------------------------------------------

    def crash(self, number: int) -> None:
        self.down.add(number)
        for other in self._neighbours(number):
            self.step(other, SessionClosed(number))

    def restart(self, number: int, *, empty: bool = False, recovery: Recovery | None = None) -> None:
        """Back with what its disk remembers, or with ``recovery``; with ``empty`` as a node that was never there."""
        if empty:
            self.disks[number] = MemoryDisk()
        else:
            recovery = recovery or self.disks[number].recovery()
        self.peers[number] = self._make(number, recovery)
        self._timers[number] = None
        self.down.discard(number)
        self.step(number, Started())
        self._connect(number)
        for other in self._neighbours(number):
            identity = Identity(NODE_KEYS[number].public_key, VALIDATOR, f"v{number}")
            self.step(other, SessionOpened(number, identity))

    def transaction(self, *operations: Operation, payer: str = "A", valid_for: int = 1_000) -> bytes:
        height = max(peer.final_height for peer in self.peers)
        body = Transaction(
            self.genesis.network_id,
            height + valid_for,
            next(self._salt).to_bytes(16, "big"),
            ACCOUNTS[payer],
            operations,
        )
        return body.sign([CLIENT_KEY])

    def submit(self, number: int, *transactions: bytes) -> None:
        self.step(number, Received(CLIENT_SESSION, Submit(7, transactions).encode()))

    def query(self, number: int, kind: str, *arguments: object) -> Answer:
        self.step(number, Received(CLIENT_SESSION, Query(9, kind, arguments).encode()))
        self.run(0)
        answer = self.heard.pop()[2]
        assert isinstance(answer, Answer)
        return answer

    def receive(self, number: int, sender: int, payload: bytes) -> None:
        """Bytes as if ``sender`` had sent them."""
        self.step(number, Received(sender, payload))

    def found(self) -> None:
        """A share and money exist, A holds both."""
        defines = (
            Define(SHARE, 0, 0, ACCOUNTS["CSDC"], "Deutsche Bank"),
            Define(CASH, 1, 2, ACCOUNTS["BANK"], "Yuan"),
        )
        patience_ms = 100 if self.genesis.engine == "simplex" else 1_000
        if self.genesis.engine in ("pow", "pos"):
            # Stake wins a slot in four.
            parameters = self.genesis.parameters
            patience_ms += 6 * parameters.slot_ms * parameters.finality_depth
        self.submit(0, self.transaction(*defines))
        self.run(patience_ms)
        issues = (Issue(SHARE, ACCOUNTS["A"], 1_000), Issue(CASH, ACCOUNTS["A"], 1_000_000))
        self.submit(0, self.transaction(*issues))
        self.run(2 * patience_ms)
        assert list(self.settled().values()) == [b"\0\0\0\0"] * 2
        self.heard.clear()

    def transfer(self, amount: int = 1) -> bytes:
        return self.transaction(Transfer(ACCOUNTS["A"], ACCOUNTS["B"], SHARE, amount))

    def story(self, number: int, identifier: bytes) -> list[tuple[str, int]]:
        """What a node told its client of a transaction: (word, height), in order."""
        words = []
        for _, teller, message in self.heard:
            if teller == number and isinstance(message, Progress | Settled):
                word = "settled" if isinstance(message, Settled) else message.status.name.lower()
                ids = [message.ids[at : at + 32] for at in range(0, len(message.ids), 32)]
                words += [(word, message.height)] * ids.count(identifier)
        return words

    def follow(self, number: int, *, wanted: bool = True) -> None:
        self.step(number, Received(CLIENT_SESSION, Follow(wanted).encode()))

    def settled(self) -> dict[bytes, bytes]:
        """Outcomes (4 bytes) by transaction id, as clients were told; nothing may be told twice."""
        outcomes: dict[bytes, bytes] = {}
        for _, _, message in self.heard:
            if isinstance(message, Settled):
                for at in range(len(message.ids) // 32):
                    identifier = message.ids[32 * at : 32 * at + 32]
                    assert identifier not in outcomes, "settled twice"
                    outcomes[identifier] = message.codes[4 * at : 4 * at + 4]
        return outcomes

    def admitted(self) -> list[int]:
        return [code for _, _, message in self.heard if isinstance(message, Submitted) for code in message.codes]

    def heights(self) -> list[int]:
        return [peer.final_height for peer in self.peers]

    def roots(self) -> set[bytes]:
        return {peer.node.final_outcome.state_root for peer in self.peers}
