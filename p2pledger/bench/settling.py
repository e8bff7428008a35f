"""One measured run of trades through a cluster of real processes, from its genesis to its judgement.

    1  the cluster starts, its ledger is opened; all orders are signed beforehand (nothing of this is measured)
    2  the window: orders fall due at their moments, whatever the ledger does; those of the warm-up do not count
    3  every order is followed to its end, or until its client has waited as long as the limit says
    4  the gate: all nodes agree on one chain and one state root, every order is accounted for, supply is conserved by
       the ledger's own count and by books that share no code with it. A run that fails here has no figures.

Percentiles are over all orders that fell due behind the warm-up: those that timed out or did not end count as over the
limit, and so do those that were refused for want of room (*busy*) until their client gave up.
"""

from __future__ import annotations

import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from math import ceil, floor, isfinite
from pathlib import Path
from typing import Any, Final, Self

import trio

from p2pledger.api.client import Client, Settlements
from p2pledger.bench.histogram import Histogram
from p2pledger.bench.instructions import ThousandLegs
from p2pledger.bench.priority import ahead_of_others
from p2pledger.bench.progress import Progress
from p2pledger.bench.propagation import BlockTimes, block_times
from p2pledger.bench.workloads import BROKERS, THOUSAND_LEG, workload
from p2pledger.cluster.consortium import BANK, node_directory, validator_names
from p2pledger.cluster.development import block_ms, development_parameters
from p2pledger.cluster.directory import usage_of
from p2pledger.cluster.local import Cluster
from p2pledger.cluster.processes import NodeFailed, NodeStats
from p2pledger.load.alarm import alarm
from p2pledger.load.arrivals import Arrivals
from p2pledger.load.books import Books
from p2pledger.load.chain import UNREACHABLE, wait_agreement
from p2pledger.load.generator import Load, Outcome, Session, State, percentile
from p2pledger.load.orders import Order, OrderDesk
from p2pledger.load.readings import holdings_of, look_up, open_world, supply_of
from p2pledger.load.trades import TradeSource
from p2pledger.network.topology import Topology
from p2pledger.network.tracing import Timelines
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.genesis import ENGINES
from p2pledger.primitives.names import suggestion
from p2pledger.primitives.parameters import Parameters
from p2pledger.server.tracing import TRACE_FILE, clock_us, read_trace

__all__ = ["Plan", "Run", "Usage", "failed_slots", "lag_allowed_ms", "nullified_between", "run_plan"]

_SAMPLE_S: Final = 0.25
_SLOT_S: Final = 0.001
"""Orders that fell due within it travel together: no longer than a generator may be late by the rule below."""
_OPEN_WITHIN_S: Final = 120.0
_AGREE_WITHIN_S: Final = 60.0
_FINALITIES: Final = 3
"""For so many times as long as a block takes to become final a cluster is waited for in any case."""
_LAG_LIMIT_MS: Final = 1.0
_LAG_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. ``parameters`` replace those of a development network; ``network`` is the text of a network.toml;
    ``trace``: follow each block through all nodes; ``disk``: the folder below which the nodes keep their data, the
    system's own for temporary files if it is empty; ``degree``: neighbours of each validator, 0 for all."""

    workload: str = "dvp"
    arrivals: str = "fixed:500"
    seconds: float = 20.0
    warmup_s: float = 3.0
    limit_s: float = 10.0
    validators: int = 4
    engine: str = "simplex"
    seed: int = 1
    gateways: int = 4
    network: str = ""
    trace: bool = False
    disk: str = ""
    degree: int = 0
    parameters: dict[str, int] = field(default_factory=dict)

    def check(self) -> Self:
        """InvalidInput or BadConfiguration where it cannot be run."""
        workload(self.workload, 1, self.seed, money_register=BANK)
        if not 0 <= self.warmup_s < self.seconds or self.limit_s <= 0 or self.validators < 1 or self.gateways < 1:
            raise InvalidInput(
                "the window must be longer than the warm-up, and limit, validators and gateways positive", code="usage"
            )
        if not isfinite(self.seconds) or not isfinite(self.limit_s):
            raise InvalidInput("the window and the limit must end", code="usage")
        if self.engine not in ENGINES:
            raise InvalidInput(
                f"engine {self.engine!r} is not known", hint=suggestion(self.engine, ENGINES), code="usage"
            )
        known = development_parameters("consortium", self.engine, self.validators).__dataclass_fields__
        if unknown := [name for name in self.parameters if name not in known]:
            raise InvalidInput(f"no parameter is called {unknown[0]!r}", code="usage")
        self.cluster_parameters().check()
        names = validator_names(self.validators)
        if self.network:
            Topology.parse(self.network).check_names(names)
        if max(self.moments()) < self.warmup_s:
            raise InvalidInput(f"of {self.arrivals} nothing falls due behind the warm-up", code="usage")
        return self

    def moments(self) -> list[float]:
        """When orders fall due, in seconds. InvalidInput for arrivals that are none."""
        return list(Arrivals.parse(self.arrivals).due_s(self.seconds, self.seed)) or [0.0]

    def cluster_parameters(self) -> Parameters:
        return replace(development_parameters("consortium", self.engine, self.validators), **self.parameters)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one node used and moved in the window."""

    name: str
    cpu_s: float
    rss_mib: float
    bytes_in: int
    bytes_out: int


def lag_allowed_ms(latencies: Histogram) -> float:
    """How late the 99th percentile of the messages of a generator may leave, for its latencies to be the ledger's:
    the greater of 1 ms and 5 % of their median."""
    median_us = latencies.percentile_us(0.5) if len(latencies) else None
    return max(_LAG_LIMIT_MS, _LAG_SHARE * (latencies.limit_us if median_us is None else median_us) / 1000)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a plan. Counts and latencies are of the orders behind the warm-up.

    submitted = committed + rejected + timed_out + unfinished. ``series``: every quarter of a second behind the opening
    of the window, how many orders had fallen due and how many were final, from the first.
    """

    plan: Plan
    submitted: int
    committed: int
    rejected: dict[str, int]
    timed_out: int
    unfinished: int
    latencies: Histogram
    lag_p99_ms: float
    offered_per_s: float
    committed_per_s: float
    blocks: int
    nullified: int
    """Views that were nullified (simplex); slots that were missed or reverted (dpos, poa); 0 under pow and pos."""
    transaction_bytes: float
    """Of the average order."""
    block_times: tuple[BlockTimes, ...]
    """Blocks made behind the warm-up and within the window; empty without a trace."""
    series: tuple[tuple[float, int, int], ...]
    nodes: tuple[Usage, ...]
    faults: tuple[str, ...]
    """Why the run is not correct; empty if it is."""

    @property
    def is_correct(self) -> bool:
        return not self.faults

    @property
    def is_saturated(self) -> bool:
        """Whether the generator itself was too late for its figures to be those of the ledger."""
        return self.lag_p99_ms > lag_allowed_ms(self.latencies)

    def values(self) -> dict[str, Any]:
        """For JSON: the histogram as base64."""
        latencies = b64encode(self.latencies.encode()).decode()
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        nodes = [asdict(node) for node in self.nodes]
        times = [block.values() for block in self.block_times]
        return {**plain, "plan": asdict(self.plan), "latencies": latencies, "nodes": nodes, "block_times": times}


async def run_plan(plan: Plan, progress: Progress) -> Run:
    """Runs a plan on a new cluster. P2PLedgerError where it could not be run at all."""
    plan.check()
    moments = plan.moments()
    source = workload(plan.workload, len(moments), plan.seed, money_register=BANK)
    if source.count < len(moments):
        raise InvalidInput(
            f"{plan.workload} has {source.count:,} trades, and {len(moments):,} fall due",
            why="what is offered would end within the window, and its rate be that of nothing",
            hint=f"With these arrivals it lasts for --seconds {moments[source.count]:.1f}",
            code="usage",
        )
    progress.say(f"starting {plan.validators} validators")
    with tempfile.TemporaryDirectory(prefix="p2pledger-bench-", dir=plan.disk or None) as beside:
        network = Path(beside) / "network.toml"
        network.write_text(plan.network, encoding="utf-8")
        cluster = Cluster(
            plan.validators,
            seed=plan.seed,
            directory=Path(beside) / "cluster",
            brokers=len(BROKERS),
            parameters=plan.cluster_parameters(),
            engine=plan.engine,
            network=network if plan.network else None,
            trace=plan.trace,
            degree=plan.degree,
            opening=False,
        )
        return await _run_on(cluster, plan, moments, source, progress)


async def _run_on(
    cluster: Cluster, plan: Plan, moments: Sequence[float], source: TradeSource, progress: Progress
) -> Run:
    async with cluster, alarm() as sleep_until:
        progress.say(f"opening the ledger: {source.world.assets_count:,} assets")
        await open_world(cluster, source.world, timeout_s=max(_OPEN_WITHIN_S, _FINALITIES * _final_s(plan)))
        async with cluster.connect() as client:
            height = (await client.status()).final_height
        valid_until = height + cluster.genesis.parameters.replay_window * 9 // 10
        if plan.workload == THOUSAND_LEG:
            instructions = ThousandLegs(cluster, source.world, len(moments), plan.seed)
            await instructions.prepare(progress)
            orders = instructions.orders()
        else:
            desk = OrderDesk(cluster.consortium, plan.seed)
            orders = (desk.sign(trade, valid_until) for trade in source.trades)
        books = Books(source.world)
        # Books are kept afterwards: while the window is open the generator has no time for them.
        finals: list[tuple[Order, int]] = []
        load = Load(
            orders,
            moments=moments[: source.count],
            nodes=len(cluster.nodes),
            gateways=plan.gateways,
            connect=lambda index: _gateway(cluster, index),
            patience_s=plan.limit_s,
            signed_ahead=len(moments),
            slot_s=_SLOT_S,
            sleep_until=sleep_until,
        )
        load.on_final = lambda order, code: finals.append((order, code))
        progress.say(f"signing {load.count:,} orders")
        await load.sign_ahead()
        before = {name: await cluster.node(name).stats() for name in cluster.nodes}
        progress.say(f"{load.count:,} orders, {plan.arrivals}, for {plan.seconds:g} s")
        series: list[tuple[float, int, int]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_sample, load, plan.seconds, series, progress)
            with ahead_of_others():
                await load.run()
            nursery.cancel_scope.cancel()
        usage = [await _usage(cluster, name, before[name]) for name in cluster.nodes]
        progress.say("waiting until all nodes agree, and counting again")
        faults, last_height = await _judge(cluster, plan, load, books, finals, height)
        nullified = await _failed(cluster, load, plan, height + 1, last_height)
        opened_us = clock_us() - round(1_000_000 * (trio.current_time() - load.started_s))
        weights = {seat.name: seat.weight for seat in cluster.genesis.validators}
    # The nodes have ended: their traces are whole.
    times = _block_times(cluster.directory, weights, plan, opened_us)
    return _result(plan, load, series, usage, faults, last_height - height, nullified, times)


def _final_s(plan: Plan) -> float:
    """How long it may take until a block is final, by its engine's own clock; 0 where a quorum decides at once."""
    if plan.engine == "simplex":
        return 0.0
    parameters = plan.cluster_parameters()
    return parameters.finality_depth * block_ms(plan.engine, parameters) / 1000


def _enter(books: Books, order: Order, code: int) -> None:
    """What became final, into the books."""
    for trade in (order.trade, *order.more) if code == 0 else ():
        books.settle(trade)


@asynccontextmanager
async def _gateway(cluster: Cluster, index: int) -> AsyncIterator[Session]:
    async with cluster.connect(BROKERS[index % len(BROKERS)], cluster.nodes[index]) as client:
        yield _Gateway(client)


class _Gateway:
    """What the generator needs, on top of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream: Settlements = client.settlements()

    async def submit(self, transactions: Sequence[bytes]) -> tuple[Sequence[int], int]:
        submission = await self._client.submit(transactions)
        return submission.codes, submission.retry_after_ms

    async def next_outcomes(self) -> Sequence[Outcome]:
        return [Outcome(outcome.id, outcome.height, outcome.code) for outcome in await anext(self._stream)]


async def _sample(load: Load, seconds: float, series: list[tuple[float, int, int]], progress: Progress) -> None:
    await load.opened.wait()
    due = 0
    while True:
        await trio.sleep(_SAMPLE_S)
        elapsed_s = trio.current_time() - load.started_s
        while due < load.count and load.moments[due] <= elapsed_s:
            due += 1
        series.append((round(elapsed_s, 3), due, len(load.latencies_s)))
        progress.show(elapsed_s, seconds, len(load.latencies_s))


async def _usage(cluster: Cluster, name: str, before: NodeStats) -> Usage:
    node = next(state for state in cluster.ps() if state.name == name)
    try:
        after = await cluster.node(name).stats()
    except NodeFailed:  # that it is gone is found by the gate
        after = before
    rss_mib = usage_of(node.process.pid).rss_mib if node.process is not None else 0.0
    return Usage(
        name,
        round(after.cpu_s - before.cpu_s, 3),
        round(rss_mib, 1),
        after.bytes_in - before.bytes_in,
        after.bytes_out - before.bytes_out,
    )


async def _judge(
    cluster: Cluster, plan: Plan, load: Load, books: Books, finals: Sequence[tuple[Order, int]], first_height: int
) -> tuple[tuple[str, ...], int]:
    """The gate: what is wrong, and how high the chain is."""
    faults: list[str] = []
    within_s = max(_AGREE_WITHIN_S, _FINALITIES * _final_s(plan))
    standings = await wait_agreement(cluster, within_s, max(load.heights.values(), default=0))
    if gone := [name for name in cluster.nodes if name not in standings]:
        faults.append(f"{', '.join(gone)} did not answer at the end")
    if len(set(standings.values())) != 1:
        faults.append("the nodes do not agree on one height, block and state root")
    height = max((standing.height for standing in standings.values()), default=first_height)
    try:
        async with cluster.connect() as client:
            await load.settle_late(lambda orders: look_up(client, orders))
            for order, code in finals:
                _enter(books, order, code)
            supply, findings = await supply_of(client)
            holdings = await holdings_of(client, cluster.consortium.member_keys, list(supply))
            faults += [*findings, *books.compare(supply, holdings)]
    except UNREACHABLE as error:
        faults.append(f"no node could be asked at the end: {error}")
    result = load.result()
    if result.submitted != result.committed + sum(result.rejected.values()) + result.timed_out + result.unfinished:
        faults.append("not every order is accounted for")
    return tuple(faults), height


async def _failed(cluster: Cluster, load: Load, plan: Plan, first_height: int, last_height: int) -> int:
    """How many views (simplex) or slots (dpos, poa) failed; under pow and pos, where they are won by luck, 0."""
    genesis = cluster.genesis
    if last_height <= first_height or genesis.engine in ("pow", "pos"):
        return 0
    try:
        async with cluster.connect() as client:
            if genesis.engine == "simplex":

                async def header_at(height: int) -> Header:
                    return Block.decode((await client.block(height)).block).header

                return await nullified_between(await header_at(first_height), await header_at(last_height), header_at)
            blocks = [Block.decode((await client.block(at)).block) for at in range(first_height, last_height + 1)]
    except UNREACHABLE:  # then the gate has said so
        return 0
    opened_s = time.time() - (trio.current_time() - load.started_s) - genesis.time_ms / 1000
    delay_s = genesis.parameters.batch_delay_ms / 1000
    waits = [
        (opened_s + max(plan.warmup_s, due_s + delay_s), opened_s + due_s + load.latencies_s.get(number, plan.limit_s))
        for number, due_s in enumerate(load.moments)
        if load.states[number] != State.REJECTED
    ]
    return failed_slots([block.header.view for block in blocks], waits, genesis.parameters.slot_ms / 1000)


async def nullified_between(first: Header, last: Header, header_at: Callable[[int], Awaitable[Header]]) -> int:
    """Views without a block of the chain from one block to another, within each epoch.

    At the end of an epoch views go to blocks that only close it: what lies between two epochs is not counted.
    """
    if first.epoch == last.epoch:
        return (last.view - first.view) - (last.height - first.height)
    if last.height - first.height <= 1:
        return 0
    middle = await header_at((first.height + last.height) // 2)
    return await nullified_between(first, middle, header_at) + await nullified_between(middle, last, header_at)


def failed_slots(taken: Collection[int], waits: Iterable[tuple[float, float]], slot_s: float) -> int:
    """Slots through which somebody waited from beginning to end, and from which no block is on the final chain.

    It was missed, or its block was reverted. A slot in which nobody waited has not failed: poa rests without work.
    Behind the last block of the chain nothing is said. ``waits``: (from, to), in seconds since slot 0 began.
    """
    last = max(taken, default=-1)
    needed: set[int] = set()
    for from_s, to_s in waits:
        needed.update(range(ceil(from_s / slot_s), min(floor(to_s / slot_s), last + 1)))
    return len(needed.difference(taken))


def _block_times(directory: Path, weights: Mapping[str, int], plan: Plan, opened_us: int) -> tuple[BlockTimes, ...]:
    """Of the blocks that were made behind the warm-up and before the window closed."""
    if not plan.trace:
        return ()
    traces = [read_trace(node_directory(directory, name) / TRACE_FILE) for name in weights]
    first_us, last_us = opened_us + 1_000_000 * plan.warmup_s, opened_us + 1_000_000 * plan.seconds
    return tuple(times for times in block_times(Timelines(traces), weights) if first_us <= times.made_us < last_us)


def _result(
    plan: Plan,
    load: Load,
    series: list[tuple[float, int, int]],
    usage: Sequence[Usage],
    faults: tuple[str, ...],
    blocks: int,
    nullified: int,
    times: tuple[BlockTimes, ...],
) -> Run:
    first = sum(1 for _ in takewhile(lambda moment: moment < plan.warmup_s, load.moments))
    counted = range(first, load.count)
    latencies = Histogram(round(1_000_000 * plan.limit_s))
    rejected: dict[str, int] = {}
    committed = timed_out = unfinished = 0
    for number in counted:
        state = load.states[number]
        if state == State.COMMITTED:
            committed += 1
            latencies.add(round(1_000_000 * load.latencies_s[number]))
        elif state == State.REJECTED:
            title = load.title_of(number)
            rejected[title] = rejected.get(title, 0) + 1
        elif state == State.GIVEN_UP:
            timed_out += 1
            latencies.add_missing()
        else:
            unfinished += 1
            latencies.add_missing()
    window_s = plan.seconds - plan.warmup_s
    # What was committed while the window was open, whenever it fell due: a backlog of the warm-up counts for nobody.
    ends = [load.moments[number] + load.latencies_s[number] for number in load.latencies_s]
    in_window = sum(plan.warmup_s <= end < plan.seconds for end in ends)
    return Run(
        plan=plan,
        submitted=len(counted),
        committed=committed,
        rejected=rejected,
        timed_out=timed_out,
        unfinished=unfinished,
        latencies=latencies,
        lag_p99_ms=round(1000 * percentile(sorted(load.lags_s), 0.99), 3),
        offered_per_s=round(len(counted) / window_s, 2),
        committed_per_s=round(in_window / window_s, 2),
        blocks=blocks,
        nullified=nullified,
        transaction_bytes=round(sum(len(order.data) for order in load.orders) / len(load.orders), 1),
        block_times=times,
        series=tuple(series),
        nodes=tuple(usage),
        faults=faults,
    )
