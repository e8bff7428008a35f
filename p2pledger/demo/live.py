"""What is shown while the demonstration runs: a live view on a terminal, plain lines elsewhere. Never on stdout."""

from __future__ import annotations

import os
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol, TextIO

__all__ = ["LiveView", "NodeView", "PlainView", "Snapshot", "View", "view_for"]


@dataclass(frozen=True, slots=True)
class NodeView:
    """One row of the table of nodes. ``cpu_share`` is that of one core since the last snapshot."""

    name: str
    state: str
    height: int
    cpu_share: float
    rss_mib: float
    mempool_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a run at a moment. ``finality_ms`` and ``per_s`` are those since the last snapshot."""

    elapsed_s: float
    total_s: float
    height: int
    sent: int
    committed: int
    rejected: int
    per_s: float
    finality_ms: float
    nodes: tuple[NodeView, ...]
    latest: tuple[str, ...] = ()


class View(Protocol):
    """Where progress goes."""

    def say(self, sentence: str) -> None: ...
    def show(self, snapshot: Snapshot) -> None: ...
    def close(self) -> None: ...


@dataclass
class PlainView:
    """A line for every step, and one every few seconds while the load runs."""

    file: TextIO
    every_s: float = 5.0
    _next_s: float = 0.0

    def say(self, sentence: str) -> None:
        print(sentence, file=self.file, flush=True)

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.elapsed_s >= self._next_s:
            self._next_s = snapshot.elapsed_s + self.every_s
            self.say(
                f"{snapshot.elapsed_s:6.1f} s  height {snapshot.height}, {snapshot.sent:,} sent, "
                f"{snapshot.committed:,} committed, {snapshot.rejected:,} rejected, "
                f"{snapshot.per_s:,.0f}/s, finality {snapshot.finality_ms:,.0f} ms"
            )

    def close(self) -> None:
        pass


@dataclass
class LiveView:
    """Tables that redraw in place. Redrawing costs some 15 ms: the caller shows at most four snapshots a second."""

    file: TextIO
    _said: deque[str] = field(default_factory=lambda: deque(maxlen=4))

    def __post_init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=self.file), auto_refresh=False, redirect_stdout=False, transient=True)
        self._last: Snapshot | None = None
        self._live.start()

    def say(self, sentence: str) -> None:
        self._said.append(sentence)
        self._draw()

    def show(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        self._draw()

    def _draw(self) -> None:
        from rich.console import Group, RenderableType
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = [Text("p2pledger: a joint bond ledger of two depositories", style="bold")]
        if (shot := self._last) is not None:
            parts.append(
                Text(
                    f"{shot.elapsed_s:5.1f} of {shot.total_s:.0f} s   height {shot.height}   "
                    f"{shot.per_s:,.0f} trades/s   "
                    f"finality {shot.finality_ms:,.0f} ms   committed {shot.committed:,} of {shot.sent:,} sent   "
                    f"rejected {shot.rejected:,}"
                )
            )
            nodes = Table(box=None, pad_edge=False)
            for title in ("node", "state", "height", "cpu", "rss MiB", "waiting KiB"):
                nodes.add_column(title, justify="left" if title in ("node", "state") else "right")
            for node in shot.nodes:
                nodes.add_row(
                    node.name,
                    Text(node.state, style="green" if node.state == "running" else "bold red"),
                    str(node.height),
                    f"{node.cpu_share:.0%}",
                    f"{node.rss_mib:.0f}",
                    f"{node.mempool_bytes / 1024:.0f}",
                )
            parts.append(nodes)
            if shot.latest:
                parts.append(Text("latest trades", style="bold"))
                parts.extend(Text(line) for line in shot.latest)
        parts.extend(Text(line, style="dim") for line in self._said)
        self._live.update(Group(*parts), refresh=True)

    def close(self) -> None:
        self._live.stop()


def view_for(file: TextIO | None = None) -> View:
    """A live view where a terminal can show it, else lines; on stderr if no file is given.

    NO_COLOR does not forbid a live view, TERM=dumb does.
    """
    file = file or sys.stderr
    if file.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
        return LiveView(file)
    return PlainView(file)
