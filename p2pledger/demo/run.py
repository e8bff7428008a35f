"""The demonstration from its first process to its verdict.

1  a consortium starts: CCDC, CSDC and the venues validate
2  assets are defined, and every broker is given plenty of each; this is not measured
3  the window: trades fall due at the rate, whatever the ledger does; one node may be killed and restarted in it, or
   the network may be cut into halves and healed
4  every trade is followed to its end, and all nodes are waited for until they agree on one chain
5  the books: what clients were told, what the nodes hold, and a recount that shares no code with the ledger
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from math import ceil
from pathlib import Path
from typing import Final

import trio

from p2pledger import core
from p2pledger.api.client import Client, Progressions, Settlements
from p2pledger.cluster.consortium import BANK, Consortium
from p2pledger.cluster.development import block_ms, chosen, development_parameters, measured_difficulty
from p2pledger.cluster.directory import usage_of
from p2pledger.cluster.local import Cluster
from p2pledger.cluster.processes import NodeFailed, NodeStats
from p2pledger.demo.live import NodeView, Snapshot, View
from p2pledger.demo.notices import Notices
from p2pledger.demo.partition import Partition, cut_and_heal
from p2pledger.demo.report import Check, FinalityMs, NodeReport, Report
from p2pledger.load.books import Books
from p2pledger.load.chain import UNREACHABLE, Standing, forks_of, proposers, wait_agreement
from p2pledger.load.generator import Load, Outcome, Session, percentile
from p2pledger.load.orders import Order, OrderDesk
from p2pledger.load.readings import LOOKUPS_AT_ONCE, holdings_of, look_up, open_world, supply_of
from p2pledger.load.tape import tape_source
from p2pledger.load.trades import Trade, TradeSource, generated_trades, generated_world
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.parameters import Parameters

__all__ = ["Settings", "run_demo"]

_BROKERS: Final = 16
_PATIENCE_S: Final = 30.0
_AGREE_WITHIN_S: Final = 60.0
_LEAST_AWAY_S: Final = 2.0
_LEAST_CUT_S: Final = 4.0
_REFRESH_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Settings:
    """What to run. ``tape`` is the folder of a real tape; without it the trades are generated."""

    validators: int = 4
    seconds: float = 20.0
    rate_per_s: float = 200.0
    tape: Path | None = None
    limit: int | None = None
    seed: int = 1
    kill: bool = False
    directory: Path | None = None
    engine: str = ""
    profile: str = ""
    partition: bool = False

    @property
    def window_s(self) -> float:
        """How long trades fall due, where they are generated."""
        return self.seconds if self.limit is None else min(self.seconds, self.limit / self.rate_per_s)

    @property
    def cut_s(self) -> float:
        """How long a partition lasts: long enough for blocks on both sides, also where they come by luck."""
        _, engine = chosen(self.profile, self.engine)
        return max(_LEAST_CUT_S * (1.5 if engine in ("pow", "pos") else 1), self.window_s / 3)

    def check(self) -> Settings:
        """InvalidInput where it cannot be run."""
        _, engine = chosen(self.profile, self.engine)
        if self.rate_per_s <= 0 or self.seconds <= 0:
            raise InvalidInput("--rate and --seconds must be positive", code="usage")
        if self.kill and self.partition:
            raise InvalidInput("--kill and --partition exclude each other", code="usage")
        least = 2 if engine in ("pow", "pos") else 4
        if self.kill and self.validators < least:
            raise InvalidInput(
                f"--kill needs at least {least} validators",
                why=f"{self.validators} tolerate none that is down",
                code="usage",
            )
        if self.partition and self.validators < 2:
            raise InvalidInput("--partition needs at least 2 validators", code="usage")
        return self

    def parameters(self) -> Parameters:
        """Those of a cluster on this machine.

        Where blocks get final by their depth, a partition may last for a quarter of it (docs/consensus.md).
        """
        profile, engine = chosen(self.profile, self.engine)
        difficulty = {"difficulty": measured_difficulty()} if engine == "pow" else {}
        parameters = development_parameters(profile, engine, self.validators, **difficulty)
        if self.partition and engine in ("pow", "pos"):
            blocks = ceil(self.cut_s * 1_000 / block_ms(engine, parameters))
            parameters = replace(parameters, finality_depth=max(parameters.finality_depth, 4 * blocks))
        return parameters


def source_of(settings: Settings, brokers: tuple[str, ...]) -> TradeSource:
    """Where the trades come from. A tape is played to its limit, or as long as the window lasts."""
    count = max(1, round(settings.rate_per_s * settings.seconds))
    if settings.tape is not None:
        return tape_source(
            settings.tape,
            brokers=brokers,
            money_register=BANK,
            register="CSDC",
            seed=settings.seed,
            limit=settings.limit or count,
        )
    count = min(count, settings.limit or count)
    world = generated_world(BANK, brokers)
    description = f"{count:,} generated trades of {len(world.instruments)} securities between {len(brokers)} brokers"
    return TradeSource(world, generated_trades(world, settings.seed, count), count, description)


async def run_demo(settings: Settings, view: View) -> Report:
    """Runs the demonstration. The report says whether it passed; what could not be run at all is a P2PLedgerError."""
    settings.check()
    brokers = tuple(f"broker-{i + 1}" for i in range(_BROKERS))
    view.say(f"seed {settings.seed}, {core.description()}")
    source = source_of(settings, brokers)
    view.say(f"starting {settings.validators} validator{'' if settings.validators == 1 else 's'}")
    async with Cluster(
        settings.validators,
        seed=settings.seed,
        directory=settings.directory,
        brokers=_BROKERS,
        parameters=settings.parameters(),
        profile=settings.profile,
        engine=settings.engine,
        opening=False,
    ) as cluster:
        run = _Run(settings, source, cluster, view)
        return await run.live()


class _Run:
    """One run on a cluster that is ready."""

    def __init__(self, settings: Settings, source: TradeSource, cluster: Cluster, view: View) -> None:
        self.settings = settings
        self.source = source
        self.cluster = cluster
        self.consortium: Consortium = cluster.consortium
        self.view = view
        self.engine = cluster.genesis.engine
        self.books = Books(source.world)
        self.notices = Notices()
        self.partition: Partition | None = None
        self._sessions = count(1)
        self.told: list[tuple[Order, int]] = []
        """Trades that a client was told are final, with their codes."""
        self.cross_register = 0
        self.latest: deque[str] = deque(maxlen=5)
        self._decimals = {asset: decimals for asset, decimals, _ in source.world.moneys}
        self.height = 0
        self.not_counted: dict[str, NodeStats] = {}
        """What was used before the window, less what a process had used in all that was killed in it."""
        self.victim = ""
        self.killed = False
        self.restarted = trio.Event()
        self.desk = OrderDesk(self.consortium, settings.seed)
        self.patience_s = _PATIENCE_S + self._finality_s()
        self.load = Load(
            self._signed(source.trades),
            moments=[number / settings.rate_per_s for number in range(source.count)],
            nodes=len(cluster.nodes),
            gateways=max(2, len(cluster.nodes)),
            connect=self._connect,
            patience_s=self.patience_s,
        )
        self.load.on_final = self._on_final

    def _finality_s(self) -> float:
        """What finality may take beyond what a busy machine costs anyway: blocks come late, and a cut holds all up."""
        genesis, settings = self.cluster.genesis, self.settings
        blocks = {"simplex": 0, "pow": genesis.parameters.finality_depth, "pos": genesis.parameters.finality_depth}
        waiting_s = 3 * blocks.get(self.engine, 10) * block_ms(self.engine, genesis.parameters) / 1_000
        return waiting_s + (2 * settings.cut_s if settings.partition else 0.0)

    def _signed(self, trades: Iterator[Trade]) -> Iterator[Order]:
        window = self.consortium.genesis.parameters.replay_window
        for trade in trades:
            # Far enough ahead for any run, and a little inside of what the ledger allows.
            yield self.desk.sign(trade, self.height + window - window // 10)

    def _on_final(self, order: Order, code: int) -> None:
        self.told.append((order, code))
        if code == 0:
            self.books.settle(order.trade)
            trade = order.trade
            self.cross_register += trade.is_cross
            moved = f", moved to {trade.target}" if trade.is_cross else ""
            money = trade.price / 10 ** self._decimals[trade.money]
            self.latest.append(
                f"{trade.seller} to {trade.buyer}: {trade.quantity:,} {trade.source}{moved} "
                f"against {money:,.2f} {trade.money}"
            )

    @asynccontextmanager
    async def _connect(self, index: int) -> AsyncIterator[Session]:
        """A gateway's session: it speaks for a broker, at the node of this index."""
        async with self._client(index, self.source.world.brokers[index]) as client:
            if self.engine == "simplex":  # nothing is ever told before the end
                yield _GatewaySession(client, client.settlements(), next(self._sessions), self.notices)
            else:
                yield _GatewaySession(client, await client.follow(), next(self._sessions), self.notices)

    def _client(self, index: int, member: str = "") -> AbstractAsyncContextManager[Client]:
        connection: AbstractAsyncContextManager[Client] = self.cluster.connect(member, self.cluster.nodes[index])
        return connection

    # --- the course of a run ----------------------------------------------------------------------------------------

    async def live(self) -> Report:
        await self._open_ledger()
        self.view.say("signing the first trades")
        await self.load.sign_ahead()
        for name in self.cluster.nodes:
            self.not_counted[name] = await self.cluster.node(name).stats()
        first_height = self.height
        expected_s = self.source.count / self.settings.rate_per_s
        self.view.say(f"{self.source.count:,} trades at {self.settings.rate_per_s:g}/s for {expected_s:.1f} s")
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch, expected_s)
            if self.settings.kill:
                nursery.start_soon(self._kill_and_restart, expected_s)
            if self.settings.partition:
                nursery.start_soon(self._cut_and_heal, expected_s)
            await self.load.run()
            if self.settings.kill or self.settings.partition:
                await self.restarted.wait()
            nursery.cancel_scope.cancel()
        self.view.say("waiting until all nodes agree on one chain")
        least_height = max(self.load.heights.values(), default=0)
        standings = await wait_agreement(self.cluster, _AGREE_WITHIN_S + self._finality_s(), least_height)
        nodes = await self._node_reports(standings)
        return await self._judge(nodes, standings, first_height)

    async def _open_ledger(self) -> None:
        world = self.source.world
        self.view.say(f"opening the ledger: {world.assets_count:,} assets, {world.holdings_count:,} holdings")
        await open_world(self.cluster, world, timeout_s=60.0 + self._finality_s())
        async with self._client(0) as client:
            self.height = (await client.status()).final_height

    async def _kill_and_restart(self, expected_s: float) -> None:
        """The last validator dies at a third of the window and comes back at two thirds, at least 2 s later."""
        await self.load.opened.wait()
        self.victim = self.cluster.nodes[-1]
        await trio.sleep_until(self.load.started_s + expected_s / 3)
        last, before = await self.cluster.node(self.victim).stats(), self.not_counted[self.victim]
        self.not_counted[self.victim] = NodeStats(
            before.cpu_s - last.cpu_s, before.bytes_in - last.bytes_in, before.bytes_out - last.bytes_out
        )
        await self.cluster.kill(self.victim)
        self.killed = True
        self.view.say(f"killed {self.victim} (SIGKILL)")
        await trio.sleep(max(_LEAST_AWAY_S, expected_s / 3))
        self.view.say(f"restarting {self.victim}")
        await self.cluster.restart(self.victim)
        self.restarted.set()
        self.view.say(f"{self.victim} has caught up")

    async def _cut_and_heal(self, expected_s: float) -> None:
        """The network is cut at a third of the window and healed at two thirds, or some seconds later."""
        await self.load.opened.wait()
        await trio.sleep_until(self.load.started_s + expected_s / 3)
        self.partition = await cut_and_heal(self.cluster, self.settings.cut_s, self.view)
        self.restarted.set()

    async def _watch(self, expected_s: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Shows how things stand, four times a second at most."""
        task_status.started()
        told_before, moment = 0, trio.current_time()
        cpu: dict[str, float] = {}
        heights: dict[str, int] = {}
        mempools: dict[str, int] = {}
        async with trio.open_nursery() as nursery:
            for index, name in enumerate(self.cluster.nodes):
                nursery.start_soon(self._poll, index, name, heights, mempools)
            while True:
                await trio.sleep(_REFRESH_S)
                now = trio.current_time()
                if not self.load.started_s or now < self.load.started_s:
                    continue
                rows = []
                for state in self.cluster.ps():
                    usage = usage_of(state.process.pid) if state.process is not None else None
                    share = 0.0
                    if usage is not None:
                        share = max(0.0, usage.cpu_s - cpu.get(state.name, usage.cpu_s)) / max(now - moment, 1e-3)
                        cpu[state.name] = usage.cpu_s
                    rows.append(
                        NodeView(
                            state.name,
                            state.state,
                            heights.get(state.name, 0),
                            share,
                            usage.rss_mib if usage is not None else 0.0,
                            mempools.get(state.name, 0),
                        )
                    )
                fresh = self.told[told_before:]
                latencies = [self.load.latencies_s[self.load.number_of[order.id]] for order, code in fresh if code == 0]
                told_before += len(fresh)
                self.height = max([self.height, *heights.values()])
                committed = len(self.load.latencies_s)
                self.view.show(
                    Snapshot(
                        now - self.load.started_s,
                        expected_s,
                        self.height,
                        self.load.sent,
                        committed,
                        sum(1 for _, code in self.told if code),
                        len(fresh) / max(now - moment, 1e-3),
                        1000 * sum(latencies) / len(latencies) if latencies else 0.0,
                        tuple(rows),
                        tuple(self.latest),
                    )
                )
                moment = now

    async def _poll(self, index: int, name: str, heights: dict[str, int], mempools: dict[str, int]) -> None:
        """Asks one node how it stands, as long as it can be reached."""
        while True:
            try:
                async with self._client(index) as client:
                    while True:
                        status = await client.status()
                        heights[name], mempools[name] = status.final_height, status.mempool_bytes
                        await trio.sleep(2 * _REFRESH_S)
            except* UNREACHABLE:
                pass
            await trio.sleep(_REFRESH_S)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _node_reports(self, standings: Mapping[str, Standing]) -> tuple[NodeReport, ...]:
        reports = []
        for state in self.cluster.ps():
            standing, before = standings.get(state.name), self.not_counted[state.name]
            try:
                after = await self.cluster.node(state.name).stats()
            except NodeFailed:  # it ended by itself; that it is not at the others' height makes the verdict red
                after = NodeStats()
            reports.append(
                NodeReport(
                    state.name,
                    round(max(0.0, after.cpu_s - before.cpu_s), 2),
                    round(usage_of(state.process.pid).rss_mib if state.process is not None else 0.0, 1),
                    max(0, after.bytes_in - before.bytes_in),
                    max(0, after.bytes_out - before.bytes_out),
                    0 if standing is None else standing.height,
                    "" if standing is None else standing.state_root.hex(),
                )
            )
        return tuple(reports)

    async def _judge(
        self, nodes: tuple[NodeReport, ...], standings: Mapping[str, Standing], first_height: int
    ) -> Report:
        load, settings = self.load, self.settings
        # Not the node that most clients used, and with --kill the one that was away; any other if it is gone.
        reachable = [name for name in reversed(self.cluster.nodes) if name in standings]
        witness = reachable[0] if reachable else ""
        lost, differences = [], []
        height, wrote = max((node.height for node in nodes), default=0), {}
        if witness:
            async with self.cluster.connect(node=witness) as client:
                await load.settle_late(lambda orders: look_up(client, orders))
                lost = await self._lost(client)
                supply, found_by_node = await supply_of(client)
                holdings = await holdings_of(client, self.consortium.member_keys, list(supply))
                names = {key: name for name, key in self.consortium.node_keys_by_genesis.items()}
                wrote = await proposers(client, names, first_height + 1, height)
            differences = [*found_by_node, *self.books.compare(supply, holdings)]
        else:
            lost = differences = ["no node answers"]
        result = load.result()
        total = result.committed + sum(result.rejected.values()) + result.timed_out + result.unfinished
        roots_equal = len(standings) == len(nodes) and len(set(standings.values())) == 1
        checks = [
            Check("every trade is accounted for", result.submitted == total == self.source.count),
            Check("no trade was left without an outcome", result.timed_out + result.unfinished == 0),
            Check(
                "all nodes stand at one height with one state root",
                roots_equal,
                "" if roots_equal else ", ".join(f"{node.name} {node.height} {node.state_root[:8]}" for node in nodes),
            ),
            Check(
                "supply and holdings agree with an independent recount",
                not differences,
                "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else ""),
            ),
            Check(
                f"nothing that a client was told is final is missing at {witness or 'any node'}",
                not lost,
                "; ".join(lost[:3]),
            ),
        ]
        checks += self._partition_checks()
        if self.engine != "simplex":
            findings = self.notices.findings
            sentence = "no client was told twice that a trade is final, or anything else after that"
            checks.append(Check(sentence, not findings, "; ".join(findings[:3])))
        forks = await forks_of(self.cluster)
        if settings.kill:
            caught_up = self.killed and self.restarted.is_set() and roots_equal
            checks.append(Check(f"{self.victim} was killed, came back and caught up", caught_up))
        ordered = sorted(result.latencies_s)
        spent_s = max(result.window_s, result.last_final_s)
        return Report(
            seed=settings.seed,
            validators=settings.validators,
            seconds=round(result.window_s, 3),
            submitted=result.submitted,
            committed=result.committed,
            rejected=result.rejected,
            timed_out=result.timed_out,
            unfinished=result.unfinished,
            offered_per_s=round(result.submitted / result.window_s, 2),
            committed_per_s=round(result.committed / spent_s, 2),
            finality_ms=FinalityMs(
                p50=round(1000 * percentile(ordered, 0.50), 2),
                p90=round(1000 * percentile(ordered, 0.90), 2),
                p99=round(1000 * percentile(ordered, 0.99), 2),
                max=round(1000 * percentile(ordered, 1.0), 2),
            ),
            blocks=height - first_height,
            state_roots_equal=roots_equal,
            supply_conserved=not differences,
            nodes=nodes,
            core_compiled=core.compiled,
            core_level=core.level(),
            killed=self.victim if self.killed else "",
            send_lag_ms=round(1000 * result.send_lag_s, 2),
            cross_register=self.cross_register,
            input=self.source.description,
            checks=tuple(checks),
            engine=self.engine,
            profile=self.cluster.genesis.profile,
            blocks_by_proposer=wrote,
            reorganisations=max((len(lines) for lines in forks.values()), default=0),
            deepest=max((line.depth for lines in forks.values() for line in lines), default=0),
            reverted=len(self.notices.reverted),
            applied_again=self.notices.applied_again(),
            partition=self.partition,
        )

    def _partition_checks(self) -> list[Check]:
        partition = self.partition
        if partition is None:
            return []
        one, other = partition.halves
        if self.engine == "simplex":
            halted = all(half.final_height == half.final_before for half in partition.halves)
            return [Check("without a quorum neither half made anything final", halted)]
        grown = [half.height - half.height_before for half in partition.halves]
        waiting = len(self.notices.reverted) - self.notices.applied_again()
        return [
            Check(
                "both halves went on with chains of their own",
                partition.forked and min(grown) > 0,
                f"{grown[0]} and {grown[1]} blocks",
            ),
            Check("one chain won, and the other half left its own", one.won != other.won and partition.depth > 0),
            Check("every trade that fell out was applied again", not waiting, f"{waiting} were not" if waiting else ""),
        ]

    async def _lost(self, client: Client) -> list[str]:
        """Trades that a client was told are final, and that this node does not know, or knows otherwise."""
        lost = []
        for at in range(0, len(self.told), LOOKUPS_AT_ONCE):
            part = self.told[at : at + LOOKUPS_AT_ONCE]
            for (order, code), outcome in zip(part, await look_up(client, [order for order, _ in part]), strict=True):
                height = self.load.heights[self.load.number_of[order.id]]
                # Only a transaction that executed with authority is remembered; other receipts leave no trace.
                if outcome is None and code == 0:
                    lost.append(f"trade {order.trade.number}, final at height {height}, is not there")
                elif outcome is not None and (outcome.code, outcome.height) != (code, height):
                    lost.append(
                        f"trade {order.trade.number} has code {outcome.code} at height {outcome.height}, "
                        f"its client was told {code} at {height}"
                    )
        return lost


class _GatewaySession:
    """What the load generator needs, on top of a client. Whatever else the client is told is noted down."""

    def __init__(self, client: Client, stream: Settlements | Progressions, number: int, notices: Notices) -> None:
        self._client = client
        self._stream = stream
        self._number = number
        self._notices = notices

    async def submit(self, transactions: Sequence[bytes]) -> tuple[Sequence[int], int]:
        submission = await self._client.submit(transactions)
        return submission.codes, submission.retry_after_ms

    async def next_outcomes(self) -> Sequence[Outcome]:
        if isinstance(self._stream, Settlements):
            return [Outcome(outcome.id, outcome.height, outcome.code) for outcome in await anext(self._stream)]
        settled = []
        for news in await anext(self._stream):
            if news.status is not None:
                self._notices.progress(self._number, news.status, news.outcome.id)
            else:
                outcome = Outcome(news.outcome.id, news.outcome.height, news.outcome.code)
                self._notices.settled(self._number, outcome.id, outcome.height, outcome.code)
                settled.append(outcome)
        return settled
