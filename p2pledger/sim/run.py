"""One run: a world is set up from its scenario, lives, comes to rest, and is judged.

0 .. two thirds   orders come in, faults come and go
.. duration       the last orders, on a whole network
.. bound          until every order has come to an end and all honest nodes stand at one height
.. idle           a few seconds of grace, then two hours in which nobody may say anything
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Final, TextIO

import msgpack

from p2pledger.ledger.tables import Table
from p2pledger.network.peer import Peer
from p2pledger.network.topology import Topology
from p2pledger.node.archive import Archive, Recovery
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.keys import Keypair
from p2pledger.sim.chance import stream
from p2pledger.sim.checkers import judge, judge_beyond
from p2pledger.sim.clients import Client
from p2pledger.sim.disk import Disk
from p2pledger.sim.evidence import Evidence, StateRows, Violation
from p2pledger.sim.impostor import let_in
from p2pledger.sim.links import DISTRIBUTIONS, Cut, Delay, Weather
from p2pledger.sim.market import DIFFICULTY, Market, Order
from p2pledger.sim.scenario import Fault, Scenario, twin_of
from p2pledger.sim.trace import Trace
from p2pledger.sim.villains import TWINS, disguise
from p2pledger.sim.world import Machine, PeerLike, World

__all__ = ["Outcome", "Run", "run_scenario", "run_seed"]

_SLICE_US: Final = 100_000
_GRACE_S: Final = 30
_GRACE_AFTER_VILLAINS_S: Final = 1_800
_MOST_EVENTS: Final = 400_000
_TABLES: Final = len(Table)
_ALL_ROWS: Final = 1_000_000
_MEMPOOL_BYTES: Final = 16 * 1024 * 1024
_MOST_OPEN_BATCHES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to. Equal scenarios give equal outcomes, to the last hexadecimal digit of ``trace_hash``."""

    seed: int
    violations: tuple[Violation, ...]
    trace_hash: str
    events: int
    frames: int
    simulated_s: float
    final_height: int
    orders: tuple[tuple[str, int], ...]
    """(reason, orders that ended so), by reason"""


class Run:
    """A world under a scenario. ``live`` lets it happen; ``evidence`` is then complete for the checkers."""

    def __init__(
        self,
        scenario: Scenario,
        transcript: TextIO | None = None,
        *,
        market: Market | None = None,
        topology: Topology | None = None,
        traces: bool = False,
    ) -> None:
        """``market`` makes the genesis and the orders; the one of all campaigns if none is given.

        ``topology`` says what lies between the nodes, which take the places of its nodes in their order; those for
        whom there is no place get its default. InvalidInput if the engine does not bear such delays.

        ``traces``: the peers mark how far batches and blocks have come (``world.timelines``). It changes nothing.
        """
        self.scenario = scenario
        self._topology = topology
        self._traces = traces
        seed = scenario.seed
        self.market = market or Market(
            seed,
            scenario.validators,
            stream(seed, "market"),
            engine=scenario.engine,
            profile=scenario.profile,
            interval_ms=scenario.interval_ms,
            depth=scenario.depth,
        )
        self.genesis = self.market.genesis
        self._chance = stream(seed, "run")
        self.world = World(seed, self.genesis, self._weather(), build=self._build, trace=Trace(transcript))
        self._villains = dict(scenario.villains)
        places = [(name, name) for name in self.market.node_names]
        places += [(twin_of(name), name) for name in self.market.node_names if self._villains.get(name) == TWINS]
        for index, (name, owner) in enumerate(places):
            self.world.add_machine(
                Machine(
                    self.world,
                    name,
                    self.market.node_keys[owner],
                    is_honest=owner not in self._villains,
                    skew_ms=scenario.skew_ms[index % len(scenario.skew_ms)],
                    drift_ppm=scenario.drift_ppm[index % len(scenario.drift_ppm)] if scenario.drift_ppm else 0,
                    sends_early=scenario.sends_early,
                    alias=owner,
                    hashes_per_s=DIFFICULTY * 1_000 // (scenario.interval_ms * scenario.validators),
                    disk=Disk(forgets_votes=scenario.forgets_votes),
                    sync_us=scenario.sync_us,
                    turn_us=scenario.turn_us,
                )
            )
        self.machines = list(self.world.machines.values())
        self._late = {name for fault in scenario.faults if fault.kind == "late" for name in fault.places}
        gone = {name for fault in scenario.faults if fault.kind == "leave" for name in fault.places}
        self.honest = [machine for machine in self.machines if machine.is_honest and machine.name not in gone]
        """Those who are honest and still there at the end."""
        self.evidence.has_villains = bool(self._villains)
        self.evidence.honest = {item.keypair.public_key: item.name for item in self.machines if item.is_honest}
        self.clients: list[Client] = []
        for index in range(scenario.clients):
            nodes = [self.world.machines[node] for node in self.market.node_names]
            nodes = nodes[index % len(nodes) :] + nodes[: index % len(nodes)]
            name = f"client-{index}"
            keypair = self.market.keys[self.market.brokers[index]]
            chance = stream(seed, "client", name)
            client = Client(self.world, name, keypair, nodes, chance, self._order_ended, follows=index % 2 == 0)
            if not scenario.assumption.is_final_at_once:
                client.patience_us = 2_000 * scenario.interval_ms * scenario.depth
            self.clients.append(client)
        self.villains: dict[str, PeerLike] = {}
        """by name, as they live now"""
        self._opening = self.market.openings()
        self._to_open: Counter[int] = Counter(order.stage for order in self._opening)
        self._last_order_us = 0

    @property
    def evidence(self) -> Evidence:
        return self.world.evidence

    def _weather(self) -> Weather:
        scenario, chance = self.scenario, stream(self.scenario.seed, "latency")
        names = sorted([*scenario.names, *(f"client-{index}" for index in range(scenario.clients))])
        pairs = [(one, other) for index, one in enumerate(names) for other in names[index + 1 :]]
        delays: dict[tuple[str, str], Delay] = {}
        for pair in pairs:
            mean_us = scenario.latency_us // 2 + chance.randrange(scenario.latency_us + 1)
            kind = chance.choice(DISTRIBUTIONS) if scenario.distribution == "mixed" else scenario.distribution
            delays[pair] = Delay(kind, mean_us, scenario.jitter_us)
        rates = {pair: chance.choice(scenario.bytes_per_ms) for pair in pairs}
        bridges = frozenset(name for name, kind in scenario.villains if kind == "equivocator")
        weather = Weather(stream(scenario.seed, "weather"), delays, rates=rates, bridges=bridges)
        if self._topology is not None:
            weather.topology = self._topology
            weather.places = _places(scenario, self._topology)
            _check_delays(scenario, weather)
        return weather

    def _build(self, name: str, keypair: Keypair, archive: Archive, recovery: Recovery | None) -> PeerLike:
        peer = Peer(
            self.genesis,
            keypair,
            name=name,
            archive=archive,
            recovery=recovery,
            quorum=self.scenario.quorum,
            faults=self.scenario.planted,
            traces=self._traces,
        )
        kind = self._villains.get(name)
        if kind is None:
            return peer
        villain = disguise(kind, peer, self.genesis, keypair, stream(self.scenario.seed, "villain", name))
        self.villains[name] = villain
        return villain

    # Orders

    def _order_ended(self, order: Order, code: int) -> None:
        if order.stage < 2 and not code:
            self._to_open[order.stage] -= 1
            if not self._to_open[order.stage]:
                if order.stage == 0:
                    self._open_stage(1)
                else:
                    self._begin_trading()

    def _open_stage(self, stage: int) -> None:
        for order in self._opening:
            if order.stage == stage:
                self._hand_in(self.clients[0], order)

    def _hand_in(self, client: Client, order: Order) -> None:
        if order.has_end:
            self.evidence.wanted.append((client.name, order.id))
        client.hand_in(order)

    def _begin_trading(self) -> None:
        """Orders from now to the end of the scenario, some of them in bursts; all at once if that has passed."""
        chance, world = self._chance, self.world
        span_us = max(1, self.scenario.duration_us - world.now_us)
        due_us = sorted(world.now_us + chance.randrange(span_us) for _ in range(self.scenario.orders))
        for index, time_us in enumerate(due_us):
            if index and not chance.randrange(3):
                due_us[index] = due_us[index - 1]
            client = chance.choice(self.clients)
            world.at(due_us[index], partial(self._hand_in, client, self.market.order()))
            self._last_order_us = max(self._last_order_us, time_us)
        offering = stream(self.scenario.seed, "offers", "run")
        for _ in range(self.scenario.offers):
            time_us = world.now_us + offering.randrange(span_us)
            client, order = offering.choice(self.clients), self.market.offer(time_us // 1_000, offering)
            world.at(time_us, partial(self._hand_in, client, order))
            self._last_order_us = max(self._last_order_us, time_us)

    # Faults

    def _plan(self, number: int, fault: Fault) -> None:
        world, weather = self.world, self.world.weather
        machines = [world.machines[name] for name in fault.places if name in world.machines]

        def begin() -> None:
            world.trace.record(world.now_us, "world", fault.kind, fault.amount, " ".join(fault.places).encode())
            match fault.kind:
                case "crash" | "blackout" | "wipe":
                    for machine in machines:
                        if fault.amount:
                            machine.dies_writing = True
                            continue
                        machine.crash()
                        if fault.kind == "wipe":
                            machine.disk.wipe()
                case "leave":
                    machines[0].leave()
                case "partition":
                    world.cut(number, Cut(frozenset(fault.places)), reset=fault.amount == 1)
                case "one-way":
                    direction = "in" if fault.amount else "out"
                    world.cut(number, Cut(frozenset(fault.places), direction), reset=False)
                case "flapping":
                    flap()
                case "reset":
                    world.reset(*fault.places)
                case "storm":
                    weather.loss_per_million, weather.reset_per_million = fault.amount, fault.amount // 10
                case "surge":
                    weather.stretch = fault.amount
                case "duplicates":
                    weather.duplicates_per_million = fault.amount
                case "slow":
                    weather.slow[fault.places[0]] = fault.amount
                case "pause":
                    machines[0].pause(fault.end_us - fault.begin_us)
                case "slow disk":
                    machines[0].sync_us = fault.amount
                case "late":
                    pass
                case _:
                    raise AssertionError(f"no fault is called {fault.kind!r}")

        def flap() -> None:
            """Cut, whole, cut, until it is over."""
            if world.now_us >= fault.end_us:
                return
            if number in weather.cuts:
                world.heal(number)
            else:
                world.cut(number, Cut(frozenset(fault.places)), reset=False)
            world.after(fault.amount, flap)

        def end() -> None:
            world.trace.record(world.now_us, "world", "over", fault.amount, fault.kind.encode())
            match fault.kind:
                case "crash" | "blackout" | "wipe" | "late":
                    for machine in machines:
                        machine.spare()
                        machine.start()
                case "partition" | "one-way" | "flapping":
                    world.heal(number)
                case "storm":
                    weather.loss_per_million = weather.reset_per_million = 0
                case "surge":
                    weather.stretch = 1
                case "duplicates":
                    weather.duplicates_per_million = 0
                case "slow":
                    weather.slow.pop(fault.places[0], None)
                case "slow disk":
                    machines[0].sync_us = self.scenario.sync_us
                case _:
                    pass

        world.at(fault.begin_us, begin)
        world.at(fault.end_us, end)

    # The run

    def live(self) -> Evidence:
        """Let everything happen, and complete the evidence."""
        scenario, world, evidence = self.scenario, self.world, self.world.evidence
        for machine in self.machines:
            if machine.name not in self._late:
                machine.start()
        world.connect_all()
        for name, kind in scenario.villains:
            if kind == "impersonator":
                for target, victim in let_in(self.genesis.hash, self.market.node_keys, name):
                    evidence.breaches.append(("admission", target, f"took {name} for {victim}"))
        for number, fault in enumerate(scenario.faults):
            self._plan(number, fault)
        world.after(20_000, lambda: self._open_stage(0))
        is_alive = self._advance_to(scenario.duration_us)
        deadline_us = scenario.duration_us + scenario.bound_s * 1_000_000
        while is_alive and not self._is_done() and world.now_us < deadline_us:
            is_alive = self._advance_to(min(deadline_us, world.now_us + _SLICE_US))
        if not is_alive:
            evidence.breaches.append(("livelock", "world", f"more than {_MOST_EVENTS} events before the work was done"))
        if self._to_open[0] > 0 or self._to_open[1] > 0:
            evidence.breaches.append(("progress", "world", "the assets were never issued"))
        if not scenario.idle_s:
            for machine in self.machines:
                machine.finish_writing()
        evidence.unsettled = [(client.name, *standing) for client in self.clients for standing in client.waiting]
        evidence.heights = {machine.name: self._height_of(machine) for machine in self.honest}
        self._take_states()
        if is_alive and self._is_done():
            for machine in self.machines:
                # A villain with something to hide never rests, and who answers it does not either.
                if not machine.is_honest:
                    machine.leave()
            if scenario.idle_s:
                self._watch_idleness()
        return evidence

    def _watch_idleness(self) -> None:
        world, evidence = self.world, self.world.evidence
        # What a villain has named and taken with it nobody finds, and for a while everybody asks.
        grace_s = _GRACE_AFTER_VILLAINS_S if self._villains else _GRACE_S
        self._advance_to(world.now_us + grace_s * 1_000_000)
        frames, timers = world.frames, world.timers
        evidence.idle_s = self.scenario.idle_s
        if not self._advance_to(world.now_us + self.scenario.idle_s * 1_000_000):
            evidence.breaches.append(("livelock", "world", "an idle cluster does not come to rest"))
        evidence.idle_frames, evidence.idle_timers = world.frames - frames, world.timers - timers

    def _advance_to(self, time_us: int) -> bool:
        """Live up to a time, looking at the bounds on the way. False if events do not end."""
        while self.world.now_us < time_us:
            if time_us - self.world.now_us > 100 * _SLICE_US:
                return self.world.run_until(time_us, most_events=_MOST_EVENTS)
            if not self.world.run_until(min(time_us, self.world.now_us + _SLICE_US), most_events=_MOST_EVENTS):
                return False
            self._look_at_bounds()
        return True

    @staticmethod
    def _height_of(machine: Machine) -> int:
        return -1 if machine.peer is None else machine.peer.final_height

    def _is_done(self) -> bool:
        """Every order has come to an end, and the honest nodes stand at one height with nothing left to do."""
        if any(client.waiting for client in self.clients) or self._to_open[1] > 0:
            return False
        heights = {self._height_of(machine) for machine in self.honest}
        if len(heights) > 1 or self.world.now_us < self._last_order_us:
            return False
        return all(not self.world.evidence.blocks or self._rests(machine) for machine in self.honest)

    def _rests(self, machine: Machine) -> bool:
        """The newest final block is empty, so that nothing waits to be certified, and no work is due some day."""
        block = machine.disk.final_block(machine.disk.final_height)
        if machine.peer is not None and machine.peer.final_version.count(Table.DUE):
            return False
        return block is None or not msgpack.unpackb(block)[1]

    def _look_at_bounds(self) -> None:
        for machine in self.honest:
            if isinstance(machine.peer, Peer):
                status = machine.peer.status()
                self.evidence.queue_peak(f"mempool of {machine.name}", status.mempool_bytes, _MEMPOOL_BYTES)
                self.evidence.queue_peak(f"open batches of {machine.name}", status.held_batches, _MOST_OPEN_BATCHES)

    def _take_states(self) -> None:
        for machine in self.honest:
            if machine.peer is not None:
                version = machine.peer.final_version
                tables = tuple(tuple(version.scan(table, limit=_ALL_ROWS)) for table in range(_TABLES))
                self.evidence.states.append(StateRows(machine.name, machine.peer.final_height, tables))


def _places(scenario: Scenario, topology: Topology) -> dict[str, str]:
    """Node of the world -> node of the manifest: the first takes the first place, and so on; twins stand together."""
    nodes = [f"node-{index}" for index in range(scenario.validators)]
    found = {node: place or node for node, place in zip_longest(nodes, topology.nodes[: len(nodes)])}
    return {**found, **{twin_of(node): place for node, place in found.items()}}


def _check_delays(scenario: Scenario, weather: Weather) -> None:
    """Outside of its assumptions an engine promises nothing, and what it does there would be called a violation."""
    longest_ms = scenario.assumption.longest_delay_ms(scenario.interval_ms)
    places = sorted(weather.places)
    for source in places if longest_ms is not None else ():
        for target in places:
            delay_ms = weather.latency(source, target) / 1_000
            if longest_ms is not None and source != target and delay_ms > longest_ms:
                raise InvalidInput(
                    f"it takes {delay_ms:g} ms from {weather.places[source]} to {weather.places[target]}",
                    why=f"at {scenario.interval_ms} ms a block {scenario.engine} assumes at most {longest_ms} ms",
                    code="usage",
                )


def run_scenario(scenario: Scenario, transcript: TextIO | None = None, *, topology: Topology | None = None) -> Outcome:
    """Live through a scenario and judge it. ``transcript`` gets one line for each event."""
    run = Run(scenario, transcript, topology=topology)
    evidence = run.live()
    orders: Counter[str] = Counter()
    for client in run.clients:
        orders.update(client.outcomes)
    return Outcome(
        scenario.seed,
        tuple(judge_beyond(evidence) if scenario.beyond else judge(evidence)),
        run.world.trace.hash,
        run.world.trace.events,
        run.world.frames,
        run.world.now_us / 1e6,
        max(evidence.heights.values(), default=0),
        tuple(sorted(orders.items())),
    )


def run_seed(
    seed: int,
    seconds: int | None = None,
    transcript: TextIO | None = None,
    *,
    engine: str = "simplex",
    beyond: bool = False,
    plant: str = "",
    topology: Topology | None = None,
) -> Outcome:
    """The scenario of a seed, lived through and judged."""
    scenario = Scenario.draw(seed, seconds, engine=engine, beyond=beyond, plant=plant)
    return run_scenario(scenario, transcript, topology=topology)
