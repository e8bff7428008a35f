"""What a walk has met, counted: each operation's successes and each refusal, and which of them never came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pledger.ledger.market.due import DueKind
from p2pledger.ledger.receipts import Receipt
from p2pledger.primitives.forms import Operation, operation_name
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason
from p2pledger.primitives.transactions import OPERATIONS

BEYOND = {
    Reason.RESTRICTED: "no rule refuses so any more: what flags forbid, guards refuse by reasons of their own",
}
"""Reasons below 100 that no walk can meet, and why."""

RECEIPTS = tuple(reason for reason in Reason if reason < 100)


@dataclass
class Tally:
    """``succeeded``: by operation; ``refused``: by reason, and by (operation, reason)."""

    steps: int = 0
    blocks: int = 0
    succeeded: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    worked: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def note(self, receipt: Receipt, operations: Sequence[Operation]) -> None:
        self.steps += 1
        if receipt.succeeded:
            self.succeeded.update(operation_name(type(operation)) for operation in operations)
            self.refused["ok"] += 1
            return
        title, at = receipt.reason.title, receipt.operation
        name = "transaction" if at == WHOLE_TRANSACTION else operation_name(type(operations[at]))
        self.refused[title] += 1
        self.pairs[name, title] += 1

    def missing(self) -> list[str]:
        """Operations that never succeeded, due work that never came, and reasons that never occurred but could."""
        names = [operation_name(kind) for kind in OPERATIONS.values()]
        lacking = [f"operation {name}" for name in names if not self.succeeded[name]]
        lacking += [f"due work {kind.name.lower()}" for kind in DueKind if not self.worked[kind.name.lower()]]
        return lacking + [
            f"reason {reason.title}" for reason in RECEIPTS if reason not in BEYOND and not self.refused[reason.title]
        ]

    def table(self) -> str:
        """For people: an operation a line, with how often it succeeded and why it was refused; then all reasons."""
        lines = [f"{self.steps:,} transactions in {self.blocks:,} blocks"]
        lines += [f"  {name}: {count:,}" for name, count in self.others.items()]
        lines.append("  due work: " + ", ".join(f"{name} {count:,}" for name, count in sorted(self.worked.items())))
        lines += ["", f"{'operation':<20}{'done':>7}{'refused':>9}  why"]
        for kind in (None, *(kind for _, kind in sorted(OPERATIONS.items()))):
            name = "transaction" if kind is None else operation_name(kind)
            why = {title: count for (of, title), count in self.pairs.items() if of == name}
            listed = ", ".join(f"{title} {count}" for title, count in sorted(why.items(), key=lambda item: -item[1]))
            done = "" if kind is None else f"{self.succeeded[name]:,}"
            lines.append(f"{name:<20}{done:>7}{sum(why.values()):>9,}  {listed}")
        lines += ["", f"{'code':>4} {'reason':<26}{'times':>7}"]
        for reason in RECEIPTS:
            why_not = f"  ({BEYOND[reason]})" if reason in BEYOND else ""
            lines.append(f"{int(reason):>4} {reason.title:<26}{self.refused[reason.title]:>7,}{why_not}")
        return "\n".join(lines)
