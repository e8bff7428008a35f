"""What a frame costs between nodes: ``python benchmarks/bench_sessions.py``.

Two or four nodes in one process speak over sessions as they are (TCP and TLS on loopback, ``network/transport.py``)
and nothing above them: one asks all others at once, each answers, and when the last answer is there it asks again.
Printed is the processor time of the whole process, both ends together, for one question and its answer: the least of
five runs, since whatever else the machine does only adds to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import trio

from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.effects import Event, Received, SessionOpened
from p2pledger.network.transport import VALIDATOR, LocalEnd, Sessions
from p2pledger.primitives.keys import Keypair

# Nodes, bytes asked, bytes answered, questions in a run.
CASES = ((2, 200, 200, 3_000), (4, 200, 200, 1_000), (2, 100_000, 20, 300), (2, 1_000_000, 20, 40))
RUNS = 5


class Node:
    """Sessions, and what to do with a frame: ``hears(session)``."""

    def __init__(self, number: int) -> None:
        self.keypair = Keypair.from_seed(bytes([number + 1]) * 32)
        self.opened: list[int] = []
        self.changed = trio.Event()
        self.hears: Callable[[int], object] = lambda session: None
        self.sessions = Sessions(
            LocalEnd(bytes(32), self.keypair, VALIDATOR, f"node-{number}"),
            NodeCertificate.fresh(),
            admit=lambda identity: None,
            deliver=self.deliver,
            log=lambda level, event, fields: None,
        )

    async def deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Received):
                self.hears(event.session)
            elif isinstance(event, SessionOpened):
                self.opened.append(event.session)
                self.changed.set()

    async def wait_opened(self, count: int) -> None:
        while len(self.opened) < count:
            self.changed = trio.Event()
            await self.changed.wait()


async def measure(count: int, asked_bytes: int, answered_bytes: int, questions: int) -> float:
    """Microseconds of processor time for one question to one node and its answer."""
    nodes = [Node(number) for number in range(count)]
    asking, answering = nodes[0], nodes[1:]
    question, answer = bytes(asked_bytes), bytes(answered_bytes)
    least_s = float("inf")
    async with trio.open_nursery() as nursery:
        for node in nodes:
            port = await node.sessions.listen("127.0.0.1", 0)
            await nursery.start(node.sessions.run)
            if node is asking:
                address = "127.0.0.1", port
            else:
                node.sessions.dial(*address)
        for node in nodes:
            await node.wait_opened(len(answering) if node is asking else 1)

        is_over = trio.Event()
        answers = 0

        def ask() -> None:
            for session in asking.opened:
                asking.sessions.send(session, question)

        def hear_answer(session: int) -> None:
            nonlocal answers
            answers += 1
            if answers == questions * len(answering):
                is_over.set()
            elif answers % len(answering) == 0:
                ask()

        asking.hears = hear_answer
        for node in answering:
            node.hears = lambda session, node=node: node.sessions.send(session, answer)  # type: ignore[misc]
        for _ in range(RUNS):
            is_over, answers = trio.Event(), 0
            began_s = time.process_time()
            ask()
            await is_over.wait()
            least_s = min(least_s, (time.process_time() - began_s) / answers)
        for node in nodes:
            await node.sessions.stop()
    return least_s * 1_000_000


if __name__ == "__main__":
    for case in CASES:
        count, asked_bytes, answered_bytes, _ = case
        cost_us = trio.run(measure, *case)
        print(f"{count} nodes, {asked_bytes:,} bytes asked, {answered_bytes} answered: {cost_us:,.1f} us", flush=True)
