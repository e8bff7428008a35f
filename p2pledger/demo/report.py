"""The report of a run: what is printed, what stands in JSON, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from p2pledger.demo.partition import Partition

__all__ = ["Check", "FinalityMs", "NodeReport", "Report"]

SCHEMA: Final = "p2pledger.demo/1"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, and what was found."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FinalityMs:
    """From the moment a trade was due to the moment its client saw it final; exact, over all committed trades."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What one node used while the load ran, and where it stands. Bytes are those of its sessions."""

    name: str
    cpu_s: float
    rss_mib: float
    bytes_in: int
    bytes_out: int
    height: int
    state_root: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a run found. ``submitted = committed + sum(rejected) + timed_out + unfinished``."""

    seed: int
    validators: int
    seconds: float
    submitted: int
    committed: int
    rejected: Mapping[str, int]
    timed_out: int
    unfinished: int
    offered_per_s: float
    committed_per_s: float
    finality_ms: FinalityMs
    blocks: int
    state_roots_equal: bool
    supply_conserved: bool
    nodes: tuple[NodeReport, ...]
    core_compiled: bool
    core_level: str
    killed: str
    send_lag_ms: float
    cross_register: int
    input: str
    checks: tuple[Check, ...]
    engine: str = "simplex"
    profile: str = "consortium"
    blocks_by_proposer: Mapping[str, int] = field(default_factory=dict)
    """Final blocks of the window by the node that wrote them."""
    reorganisations: int = 0
    """Of the node that had most of them, as far as it remembers."""
    deepest: int = 0
    """Blocks that were left in the deepest one."""
    reverted: int = 0
    """Trades that were pending in a block that was left, at the node that their client asked."""
    applied_again: int = 0
    """Of those, how many became final later."""
    partition: Partition | None = None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def values(self) -> dict[str, Any]:
        """The JSON object."""
        values = asdict(self)
        compiled, level = values.pop("core_compiled"), values.pop("core_level")
        return {
            "schema": SCHEMA,
            **values,
            "core": {"compiled": compiled, "level": level},
            "verdict": "green" if self.passed else "red",
        }

    @staticmethod
    def _partition_lines(partition: Partition) -> list[str]:
        text = [f"Cut        for {partition.seconds:.1f} s into two halves that did not hear of each other:"]
        for half in partition.halves:
            grown = half.height - half.height_before
            what = f"made {grown:,} block{'' if grown == 1 else 's'} and stood" if grown else "halted"
            kept = "; its chain won" if half.won else ""
            stood = f"{what} at height {half.height:,}, final to {half.final_height:,}{kept}"
            text.append(f"           {', '.join(half.nodes)} {stood}")
        if partition.depth:
            text.append(f"           the other half left {partition.depth:,} blocks: {partition.reason}")
        text.append(f"           one chain again {partition.met_after_s:.1f} s after the cut")
        return text

    def lines(self) -> list[str]:
        """The report for people, without colours."""
        rejected = ", ".join(f"{reason} {count:,}" for reason, count in self.rejected.items()) or "none"
        latency = self.finality_ms
        rejected_count = sum(self.rejected.values())
        text = [f"Input      {self.input}; seed {self.seed}"]
        text.append(
            f"Trades     {self.submitted:,} submitted = {self.committed:,} committed + {rejected_count:,} rejected + "
            f"{self.timed_out:,} timed out + {self.unfinished:,} unfinished"
        )
        text.append(f"           of the committed, {self.cross_register:,} moved a bond between the depositories")
        text.append(f"Rejected   {rejected}")
        text.append(
            f"Rate       {self.offered_per_s:,.1f}/s offered, {self.committed_per_s:,.1f}/s committed, "
            f"{self.blocks:,} block{'' if self.blocks == 1 else 's'} in {self.seconds:.1f} s"
        )
        text.append(
            f"Finality   p50 {latency.p50:,.0f} ms, p90 {latency.p90:,.0f} ms, p99 {latency.p99:,.0f} ms, "
            f"max {latency.max:,.0f} ms (from due to seen final by the sender)"
        )
        wrote = ", ".join(f"{name} {count:,}" for name, count in self.blocks_by_proposer.items())
        text.append(f"Engine     {self.engine}, {self.profile}; blocks by {wrote or 'nobody'}")
        if self.engine != "simplex":
            text.append(
                f"Forks      {self.reorganisations:,} reorganisation{'' if self.reorganisations == 1 else 's'} at the "
                f"node with most of them, {self.deepest:,} deep at most; {self.reverted:,} trades reverted, "
                f"{self.applied_again:,} of them final later"
            )
        if self.partition is not None:
            text += self._partition_lines(self.partition)
        if self.killed:
            text.append(f"Killed     {self.killed}, by SIGKILL in the middle, and restarted")
        core = f"compiled, level {self.core_level}" if self.core_compiled else "REFERENCE CORE in plain Python"
        text.append(f"Core       {core}")
        text.append("")
        text.append(f"{'node':<10} {'cpu s':>7} {'rss MiB':>8} {'MB in':>8} {'MB out':>8} {'height':>7}  state root")
        for node in self.nodes:
            text.append(
                f"{node.name:<10} {node.cpu_s:>7.1f} {node.rss_mib:>8.1f} {node.bytes_in / 1e6:>8.2f} "
                f"{node.bytes_out / 1e6:>8.2f} {node.height:>7}  {node.state_root[:16]}"
            )
        text.append("")
        for check in self.checks:
            text.append(
                f"[{'ok' if check.passed else 'FAILED'}] {check.name}{': ' + check.detail if check.detail else ''}"
            )
        text.append("")
        text.append(f"VERDICT: {'GREEN' if self.passed else 'RED'}")
        if self.send_lag_ms > 100:
            text.append(f"The generator itself was up to {self.send_lag_ms:,.0f} ms late; the latencies include this.")
        text.append("All nodes and the load shared one machine: this says nothing about networks or other machines.")
        return text
