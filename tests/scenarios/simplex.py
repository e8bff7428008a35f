"""The driver for Simplex: some nodes are real engines, the others are played by the script.

Options

    nodes 4                  node-0 to node-3; node v mod 4 leads view v
    weights 5 1 1 1          one each, if not given
    engines node-0 node-1    which are real; all, if not given
    last-height 2            the height with which each epoch ends, counted from its beginning; none, if not given
    at-once check fetch      the nodes around the engines answer at once: a proposal is found right, and a block that is
                             missing is there; without this the script says so

Steps (NODES is one or more names, or ``all``; PARENT is a block or ``genesis``)

    work at NODES                             the node knows of work; ``no work at NODES``
    NODE builds A                             an engine that was asked for a block gets this one; ``builds nothing``
    check A at NODES                          the node has checked the proposal; ``refuse A at NODES``
    give A to NODES                           the block's bytes have been fetched
    wait 500                                  so many milliseconds pass; timers fire in their order
    wait for NODE                             until this engine's timer fires
    deliver [from NODES] [to NODES]           what engines have said arrives, once; ``deliver until quiet``
    lose [from NODES] [to NODES]              and this never does
    next epoch at NODES                       these know the validators of the next epoch: the same ones
    restart NODES                             a crash, and a start from what the disk remembers
    show                                      where the engines are

and what nodes say that are no engines, to all engines or to those that are named:

    NODE proposes A in view 1 on PARENT [to NODES]
    NODE notarises A [to NODES]
    NODE finalises A [to NODES]
    NODE nullifies view 1 [to NODES]
    NODES certify that A is notarised [to NODES]          or: is final; or: view 1 is nullified
    NODE asks NODES for certificates of views 1 to 3

They speak in the newest epoch that an engine has begun. ``block A in view 1 on PARENT`` makes a block that nobody has
heard of. Blocks are called by capital letters. Two with the same parent and view differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
    EpochEnded,
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
from p2pledger.primitives.records import BlockRecord, CertificateRecord, Record, VoteRecord
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.consensus.world import NETWORK, genesis_of, keypairs_of, make_block
from tests.scenarios.scenario import ScenarioError

TIMEOUT_MS = 1_000
CAP_MS = 16_000

Message = Proposal | Vote | Certificate | CertificateWanted
VERBS = {"notarises": VoteKind.NOTARISE, "finalises": VoteKind.FINALISE, "nullifies": VoteKind.NULLIFY}
STATES = {VoteKind.NOTARISE: "notarised", VoteKind.FINALISE: "final", VoteKind.NULLIFY: "nullified"}


@dataclass
class Seat:
    """One real engine and what is around it."""

    engine: Simplex
    final: BlockRef
    disk: list[Record] = field(default_factory=list)
    timer_ms: int | None = None
    build: Build | None = None


class SimplexDriver:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        unknown = options.keys() - {"nodes", "weights", "engines", "last-height", "at-once"}
        if unknown:
            raise ScenarioError(f"unknown options: {', '.join(sorted(unknown))}")
        count = int(options.get("nodes", "4"))
        weights = [int(weight) for weight in options.get("weights", "1 " * count).split()]
        self.keypairs = keypairs_of(count)
        self.names = [f"node-{number}" for number in range(count)]
        self.keys = {keypair.public_key: name for keypair, name in zip(self.keypairs, self.names, strict=True)}
        members = [Validator(pair.public_key, weight) for pair, weight in zip(self.keypairs, weights, strict=True)]
        self.validators = Validators.of(0, members)
        """Of the newest epoch that an engine has begun."""
        self.heights = int(options["last-height"]) if "last-height" in options else None
        self.genesis = genesis_of(self.validators)
        self.blocks: dict[str, Block] = {"genesis": self.genesis}
        self.at_once = set(options.get("at-once", "").split())
        self.now_ms = 0
        self.in_flight: list[tuple[int, int, Message]] = []
        """(from, to, message), oldest first."""
        self.lines: list[str] = []
        self.seats: dict[int, Seat] = {}
        for number in self._numbers(options.get("engines", "all")):
            self._boot(number, self.validators, BlockRef.of(self.genesis.header), [])

    def _last_height(self, epoch: int) -> int | None:
        return None if self.heights is None else (epoch + 1) * self.heights

    def _boot(self, number: int, validators: Validators, final: BlockRef, disk: list[Record]) -> None:
        engine = Simplex(
            network_id=NETWORK,
            validators=validators,
            last_height=self._last_height(validators.epoch),
            keypair=self.keypairs[number],
            recovered=Recovered.of(final, disk),
            view_timeout_ms=TIMEOUT_MS,
            view_timeout_cap_ms=CAP_MS,
        )
        self.seats[number] = Seat(engine, final, disk)
        self._obey(number, engine.start(self.now_ms))

    # --- words ------------------------------------------------------------------------------------------------------

    def _numbers(self, words: str) -> list[int]:
        if words.strip() == "all":
            return list(range(len(self.names)))
        try:
            return [self.names.index(word) for word in words.split()]
        except ValueError:
            raise ScenarioError(f"{words!r} are not nodes of this scenario") from None

    def _engines(self, words: str | None) -> list[int]:
        """Real engines by name; ``None`` and ``all`` are every one."""
        if words is None or words.strip() == "all":
            return sorted(self.seats)
        numbers = self._numbers(words)
        for number in numbers:
            if number not in self.seats:
                raise ScenarioError(f"node-{number} is no engine here")
        return numbers

    def _block(self, name: str) -> Block:
        if name not in self.blocks:
            raise ScenarioError(f"no block is called {name}")
        return self.blocks[name]

    def _new_block(self, name: str, view: int, parent: BlockRef, validators: Validators | None = None) -> Block:
        if name in self.blocks:
            raise ScenarioError(f"a block called {name} exists already")
        block = make_block(validators or self.validators, view, parent, time_ms=parent.time_ms + len(self.blocks))
        self.blocks[name] = block
        return block

    def _name(self, block: bytes) -> str:
        return next((name for name, held in self.blocks.items() if held.id == block), block.hex()[:8])

    def _vote(self, vote: Vote) -> str:
        if vote.kind is VoteKind.NULLIFY:
            return f"nullify view {vote.view}"
        return f"{vote.kind.name.lower()} {self._name(vote.block)}"

    def _certificate(self, certificate: Certificate) -> str:
        what = f"view {certificate.view}" if certificate.kind is VoteKind.NULLIFY else self._name(certificate.block)
        return f"{what} is {STATES[certificate.kind]} (by {' '.join(map(str, certificate.signers))})"

    def _message(self, message: Message) -> str:
        match message:
            case Proposal(block, _):
                return f"proposal {self._name(block.id)} in view {block.header.view}"
            case Vote():
                return self._vote(message)
            case Certificate():
                return self._certificate(message)
            case CertificateWanted(_, from_view, to_view):
                return f"wants certificates of views {from_view} to {to_view}"

    def _record(self, record: Record) -> str:
        match record:
            case VoteRecord():
                return f"vote {self._vote(Vote.decode(record.data))}"
            case CertificateRecord():
                return self._certificate(Certificate.decode(record.data))
            case BlockRecord():
                return f"block {self._name(record.id)}"
            case _:
                raise TypeError(f"a record that no engine asks for: {record!r}")

    def _effect(self, effect: Effect) -> str:
        match effect:
            case Persist(records):
                return f"keep: {'; '.join(self._record(record) for record in records)}"
            case Broadcast(message):
                return f"say: {self._message(message)}"
            case Send(to, message):
                return f"tell {self.keys[to]}: {self._message(message)}"
            case WantCertificates(from_view, to_view):
                return f"ask for certificates of views {from_view} to {to_view}"
            case WantBlock(block, signers):
                return f"fetch {self._name(block)} from {' '.join(self.keys[key] for key in signers)}"
            case SetTimer(at_ms):
                return "timer off" if at_ms is None else f"timer at {at_ms}"
            case Check(block):
                return f"check {self._name(block.id)}"
            case Build(view, parent, needed):
                kind = ", an empty closing block" if effect.closing else ", even an empty block" if needed else ""
                return f"build in view {view} on {self._name(parent.id)}{kind}"
            case Notarised(ref, _):
                return f"execute {self._name(ref.id)}"
            case Finalised(ref, _):
                return f"FINAL: {self._name(ref.id)} at height {ref.height}"
            case EpochEnded(ref, closing):
                above = "".join(f", closed by {self._name(block.id)}" for block in closing)
                return f"THE EPOCH ENDS with {self._name(ref.id)}{above}"
            case Evidence():
                first, second = Vote.decode(effect.first), Vote.decode(effect.second)
                both = " and ".join(sorted((self._vote(first), self._vote(second))))
                return f"EVIDENCE against node-{first.signer}: {both}"
            case Contradiction(first, second):
                held = "the final block" if first is None else self._certificate(first)
                return f"CONTRADICTION: {held}, but {self._certificate(second)}"
            case Offence(sender, reason):
                return f"offence of {self.keys[sender]}: {reason}"
            case _:
                raise TypeError(f"an effect that no scenario shows: {effect!r}")

    # --- engines ----------------------------------------------------------------------------------------------------

    def _tell(self, number: int, event: Input) -> None:
        self._obey(number, self.seats[number].engine.step(event, self.now_ms))

    def _obey(self, number: int, effects: Iterable[Effect]) -> None:
        seat = self.seats[number]
        answers: list[Input] = []
        for effect in effects:
            self.lines.append(f"{self.names[number]}  {self._effect(effect)}")
            match effect:
                case Persist(records):
                    seat.disk.extend(records)
                case Broadcast(message):
                    self._send(number, sorted(self.seats), message)
                case Send(to, message):
                    self._send(number, [self.validators.signer_of(to)], message)
                case WantCertificates(from_view, to_view):
                    asked = CertificateWanted(self.keypairs[number].public_key, from_view, to_view)
                    self._send(number, sorted(self.seats), asked)
                case SetTimer(at_ms):
                    seat.timer_ms = at_ms
                case Build():
                    seat.build = effect
                case Finalised(ref, _):
                    seat.final = ref
                case Check(block) if "check" in self.at_once:
                    answers.append(Checked(block.header.view, block.id, True))
                case WantBlock(name, _) if "fetch" in self.at_once:
                    answers.append(BlockArrived(next(block for block in self.blocks.values() if block.id == name)))
                case _:
                    pass
        for answer in answers:
            self._tell(number, answer)

    def _send(self, source: int, targets: Iterable[int | None], message: Message) -> None:
        self.in_flight.extend((source, to, message) for to in targets if to in self.seats and to != source)

    def _hear(self, source: int, target: int, message: Message) -> None:
        sender = self.keypairs[source].public_key
        match message:
            case Proposal():
                self._tell(target, ProposalArrived(sender, message))
            case Vote():
                self._tell(target, VoteArrived(sender, message))
            case Certificate():
                self._tell(target, CertificateArrived(sender, message))
            case CertificateWanted():
                self._tell(target, message)

    # --- steps ------------------------------------------------------------------------------------------------------

    def do(self, step: str) -> list[str]:
        self.lines = []
        for pattern, action in STEPS.items():
            found = re.fullmatch(pattern, step)
            if found:
                getattr(self, action)(**found.groupdict())
                return self.lines
        raise ScenarioError("no such step; tests/scenarios/simplex.py lists them")

    def _work(self, no: str | None, nodes: str) -> None:
        for number in self._engines(nodes):
            self._tell(number, WorkChanged(not no))

    def _build(self, node: str, name: str) -> None:
        (number,) = self._engines(node)
        seat = self.seats[number]
        asked, seat.build = seat.build, None
        if asked is None:
            raise ScenarioError(f"{node} was not asked to build")
        block = None if name == "nothing" else self._new_block(name, asked.view, asked.parent, seat.engine.validators)
        self._tell(number, Built(asked.view, block))

    def _check(self, verdict: str, name: str, nodes: str) -> None:
        block = self._block(name)
        for number in self._engines(nodes):
            self._tell(number, Checked(block.header.view, block.id, verdict == "check"))

    def _give(self, name: str, nodes: str) -> None:
        for number in self._engines(nodes):
            self._tell(number, BlockArrived(self._block(name)))

    def _restart(self, nodes: str) -> None:
        for number in self._engines(nodes):
            seat = self.seats[number]
            self._boot(number, seat.engine.validators, seat.final, seat.disk)

    def _next_epoch(self, nodes: str) -> None:
        for number in self._engines(nodes):
            seat = self.seats[number]
            if not seat.engine.has_ended:
                raise ScenarioError(f"the epoch of node-{number} has not ended")
            validators = Validators(seat.engine.validators.epoch + 1, self.validators.members)
            if validators.epoch > self.validators.epoch:
                self.validators = validators
            seat.engine = seat.engine.succeed(validators, self._last_height(validators.epoch))
            self._obey(number, seat.engine.start(self.now_ms))

    def _wait(self, milliseconds: str) -> None:
        self._pass_until(self.now_ms + int(milliseconds))

    def _wait_for(self, node: str) -> None:
        (number,) = self._engines(node)
        at_ms = self.seats[number].timer_ms
        if at_ms is None:
            raise ScenarioError(f"{node} has no timer")
        self._pass_until(at_ms)

    def _pass_until(self, until_ms: int) -> None:
        while True:
            due = [(seat.timer_ms, number) for number, seat in self.seats.items() if seat.timer_ms is not None]
            if not due or min(due)[0] > until_ms:
                break
            at_ms, number = min(due)
            self.now_ms = max(self.now_ms, at_ms)
            self.seats[number].timer_ms = None
            self.lines.append(f"{self.names[number]}  ... it is {self.now_ms}")
            self._tell(number, TimerFired())
        self.now_ms = max(self.now_ms, until_ms)

    def _deliver(self, sources: str | None, targets: str | None) -> None:
        for source, target, message in self._take(sources, targets):
            self.lines.append(f"{self.names[source]} -> {self.names[target]}  {self._message(message)}")
            self._hear(source, target, message)

    def _deliver_all(self) -> None:
        while self.in_flight:
            self._deliver(None, None)

    def _lose(self, sources: str | None, targets: str | None) -> None:
        for source, target, message in self._take(sources, targets):
            self.lines.append(f"{self.names[source]} -x {self.names[target]}  {self._message(message)}")

    def _take(self, sources: str | None, targets: str | None) -> list[tuple[int, int, Message]]:
        senders = self._numbers(sources or "all")
        receivers = self._engines(targets)
        taken = [entry for entry in self.in_flight if entry[0] in senders and entry[1] in receivers]
        self.in_flight = [entry for entry in self.in_flight if entry not in taken]
        return taken

    def _show(self) -> None:
        for number in sorted(self.seats):
            engine = self.seats[number].engine
            work = "with work" if engine.has_work else "at rest"
            epoch = "" if self.heights is None else f"epoch {engine.validators.epoch}, "
            final = f"final {self._name(engine.final.id)} at {engine.final.height}"
            self.lines.append(f"{self.names[number]}  {epoch}view {engine.view}, {final}, {work}")

    def _make(self, name: str, view: str, parent: str) -> None:
        self._new_block(name, int(view), BlockRef.of(self._block(parent).header))

    def _propose(self, node: str, name: str, view: str, parent: str, targets: str | None) -> None:
        (number,) = self._numbers(node)
        if name in self.blocks:
            block = self.blocks[name]
        else:
            block = self._new_block(name, int(view), BlockRef.of(self._block(parent).header))
        vote = self._sign(number, VoteKind.NOTARISE, int(view), block.id)
        self._say(number, targets, Proposal(block, vote))

    def _cast(self, node: str, verb: str, name: str | None, view: str | None, targets: str | None) -> None:
        (number,) = self._numbers(node)
        if name is None:
            vote = self._sign(number, VERBS[verb], int(view or 0))
        else:
            block = self._block(name)
            vote = self._sign(number, VERBS[verb], block.header.view, block.id)
        self._say(number, targets, vote)

    def _certify(self, nodes: str, name: str | None, state: str, view: str | None, targets: str | None) -> None:
        kind = {word: kind for kind, word in STATES.items()}[state]
        block = None if name is None else self._block(name)
        at = int(view or 0) if block is None else block.header.view
        signers = self._numbers(nodes)
        named = ZERO_HASH if block is None else block.id
        certificate = Certificate.of({signer: self._sign(signer, kind, at, named) for signer in signers})
        self._say(signers[0], targets, certificate)

    def _ask(self, node: str, nodes: str, first: str, last: str) -> None:
        (number,) = self._numbers(node)
        self._say(number, nodes, CertificateWanted(self.keypairs[number].public_key, int(first), int(last)))

    def _sign(self, number: int, kind: VoteKind, view: int, block: bytes = ZERO_HASH) -> Vote:
        return Vote.make(NETWORK, self.validators.epoch, view, kind, block, number, self.keypairs[number])

    def _say(self, number: int, targets: str | None, message: Message) -> None:
        for target in self._engines(targets):
            if target != number:
                self._hear(number, target, message)


NODE = r"node-\d+"
NODES = rf"all|{NODE}(?: {NODE})*"
TO = rf"(?: to (?P<targets>{NODES}))?"
STEPS = {
    rf"(?P<no>no )?work at (?P<nodes>{NODES})": "_work",
    rf"(?P<node>{NODE}) builds (?P<name>[A-Z]|nothing)": "_build",
    rf"(?P<verdict>check|refuse) (?P<name>[A-Z]) at (?P<nodes>{NODES})": "_check",
    rf"give (?P<name>[A-Z]) to (?P<nodes>{NODES})": "_give",
    rf"restart (?P<nodes>{NODES})": "_restart",
    r"wait (?P<milliseconds>\d+)": "_wait",
    rf"wait for (?P<node>{NODE})": "_wait_for",
    r"deliver until quiet": "_deliver_all",
    rf"deliver(?: from (?P<sources>{NODES}))?{TO}": "_deliver",
    rf"lose(?: from (?P<sources>{NODES}))?{TO}": "_lose",
    r"show": "_show",
    rf"next epoch at (?P<nodes>{NODES})": "_next_epoch",
    r"block (?P<name>[A-Z]) in view (?P<view>\d+) on (?P<parent>[A-Z]|genesis)": "_make",
    rf"(?P<node>{NODE}) proposes (?P<name>[A-Z]) in view (?P<view>\d+) on (?P<parent>[A-Z]|genesis){TO}": "_propose",
    rf"(?P<node>{NODE}) (?P<verb>notarises|finalises) (?P<name>[A-Z])(?P<view>){TO}": "_cast",
    rf"(?P<node>{NODE}) (?P<verb>nullifies) (?P<name>(?!))?view (?P<view>\d+){TO}": "_cast",
    rf"(?P<nodes>{NODES}) certify that (?P<name>[A-Z]) is (?P<state>notarised|final)(?P<view>){TO}": "_certify",
    rf"(?P<nodes>{NODES}) certify that (?P<name>(?!))?view (?P<view>\d+) is (?P<state>nullified){TO}": "_certify",
    rf"(?P<node>{NODE}) asks (?P<nodes>{NODES}) for certificates of views (?P<first>\d+) to (?P<last>\d+)": "_ask",
}
"""What a step looks like, and who plays it."""
