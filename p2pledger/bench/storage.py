"""What a settled trade costs on disk, and how long a node takes to come back: ``p2pledger bench storage``.

Trades are settled by a cluster of real processes with its data in a folder; then all nodes are stopped, the files of
one of them are weighed, and the nodes are started again from what is on the disk: they check it, replay what is newer
than the newest snapshot, and must come to the same root. Bytes are those of the files as the system counts their
blocks, so what a database keeps in reserve is in them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import trio

from p2pledger.bench.machine import describe_machine
from p2pledger.bench.progress import Progress
from p2pledger.bench.results import Results
from p2pledger.bench.runner import fresh_run
from p2pledger.bench.workloads import BROKERS, workload
from p2pledger.cluster.consortium import BANK, node_directory
from p2pledger.cluster.local import Cluster
from p2pledger.load.chain import RESTING, wait_agreement
from p2pledger.load.orders import OrderDesk
from p2pledger.load.readings import open_world, supply_of
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError

__all__ = ["Settings", "StoragePlan", "measure_storage", "rows_of", "run_storage"]

_AT_ONCE: Final = 1_000
_WITHIN_S: Final = 300.0
_REST_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """What to settle, and by whom."""

    trades: int = 20_000
    workload: str = "dvp"
    validators: int = 4
    engine: str = "simplex"
    seed: int = 1

    def check(self) -> StoragePlan:
        """InvalidInput where it cannot be run."""
        if self.trades < 1 or self.validators < 1:
            raise InvalidInput("at least one trade and one validator", code="usage")
        workload(self.workload, 1, self.seed, money_register=BANK)
        if self.engine not in RESTING:
            raise InvalidInput(
                f"under {self.engine} the chain grows on when nothing is left to do, so there is no size to weigh",
                hint=f"One of {', '.join(RESTING)}",
                code="usage",
            )
        return self


@dataclass(frozen=True, slots=True)
class Settings:
    """A plan, and how often it is run."""

    runs: int
    plan: StoragePlan

    def values(self) -> dict[str, Any]:
        return {"runs": self.runs, "plan": asdict(self.plan)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        return cls(values["runs"], StoragePlan(**values["plan"]))


def measure_storage(settings: Settings, folder: Path, progress: Progress) -> Results:
    """Runs everything and keeps it in the folder."""
    settings.plan.check()
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(folder)
    note = f"{settings.plan.validators} validators on {machine.cores} cores; the files are those of one of them"
    results = Results.create(folder, "storage", settings.values(), machine, note)
    for number in range(settings.runs):
        progress.say(f"run {number + 1} of {settings.runs}")
        results.add_run(fresh_run("storage", asdict(settings.plan), progress))
    results.finish(rows_of(list(results.runs())))
    return results


def rows_of(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each figure: the median of the runs."""
    faults = "; ".join(sorted({fault for run in runs for fault in run["faults"]}))
    names = [name for name in runs[0] if name not in ("plan", "faults")]
    return [
        {
            "what": name,
            "value": None if faults else round(median(run[name] for run in runs), 3),
            "runs": len(runs),
            "correct": not faults,
            "faults": faults,
        }
        for name in names
    ]


async def run_storage(plan: StoragePlan, progress: Progress) -> dict[str, Any]:
    """One run: its figures by name, and what was wrong."""
    plan.check()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="p2pledger-bench-") as beside:
        directory = Path(beside) / "cluster"
        progress.say(f"starting {plan.validators} validators")
        async with _cluster(plan, directory) as cluster:
            source = workload(plan.workload, plan.trades, plan.seed, money_register=BANK)
            await open_world(cluster, source.world, timeout_s=120.0)
            await _agree(cluster)
        opened = _weigh(cluster, directory)
        async with _cluster(plan, directory) as cluster:
            progress.say(f"settling {plan.trades:,} trades")
            await _settle(cluster, plan, progress)
            before = await _agree(cluster)
        settled = _weigh(cluster, directory)
        progress.say("starting again from the disk")
        began_s = trio.current_time()
        async with _cluster(plan, directory) as cluster:
            ready_s = trio.current_time() - began_s
            async with cluster.connect() as client:
                _, findings = await supply_of(client)
                faults += findings
            if await _agree(cluster) != before:
                faults.append("after the restart the nodes stand elsewhere")
    added = {name: settled[name] - opened.get(name, 0) for name in settled}
    total = sum(added.values())
    return {
        "plan": asdict(plan),
        "bytes_per_trade": total / plan.trades,
        **{f"bytes_per_trade in {name}": size / plan.trades for name, size in sorted(added.items()) if size},
        "restart_s": ready_s,
        "faults": faults,
    }


def _cluster(plan: StoragePlan, directory: Path) -> Cluster:
    return Cluster(
        plan.validators, seed=plan.seed, directory=directory, brokers=len(BROKERS), engine=plan.engine, opening=False
    )


async def _agree(cluster: Cluster) -> frozenset[Any]:
    """Where all nodes stand once they have come to rest: the empty block that carries the last roots comes later than
    they agree. P2PLedgerError if they do not come to agree."""
    before: frozenset[Any] = frozenset()
    while True:
        standings = await wait_agreement(cluster, 60.0)
        found = frozenset(standings.values())
        if len(standings) != len(cluster.nodes) or len(found) != 1:
            raise P2PLedgerError("the nodes do not agree", code="timeout")
        if found == before:
            return found
        before = found
        await trio.sleep(_REST_S)


async def _settle(cluster: Cluster, plan: StoragePlan, progress: Progress) -> None:
    """All trades, a thousand at a time, as fast as they are taken."""
    source = workload(plan.workload, plan.trades, plan.seed, money_register=BANK)
    desk = OrderDesk(cluster.consortium, plan.seed)
    window = cluster.genesis.parameters.replay_window
    done, began_s = 0, trio.current_time()
    with trio.fail_after(_WITHIN_S):
        async with cluster.connect() as client:
            height = (await client.status()).final_height
            settlements = client.settlements()
            orders = [desk.sign(trade, height + window * 9 // 10) for trade in source.trades]
            for at in range(0, len(orders), _AT_ONCE):
                open_ids = {order.id for order in orders[at : at + _AT_ONCE]}
                submission = await client.submit([order.data for order in orders[at : at + _AT_ONCE]])
                if any(submission.codes):
                    raise P2PLedgerError("a node did not take the trades", why=str(set(submission.codes)), code="busy")
                while open_ids:
                    for outcome in await anext(settlements):
                        open_ids.discard(outcome.id)
                        done += 1
                progress.show(trio.current_time() - began_s, plan.trades / max(done, 1), done)


def _weigh(cluster: Cluster, directory: Path) -> dict[str, int]:
    """Bytes on disk of the first node, by file; snapshots together."""
    folder = node_directory(directory, cluster.nodes[0])
    weights: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            inside = path.relative_to(folder)
            name = inside.parts[0] if len(inside.parts) > 1 else inside.name.removesuffix("-wal").removesuffix("-shm")
            weights[name] = weights.get(name, 0) + path.stat().st_blocks * 512
    return weights
