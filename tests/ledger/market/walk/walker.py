"""One walker on one stage: draws, sends, and notes what came of it. Both walks are made of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pledger.primitives.forms import Operation
from tests.ledger.market.walk.room import KINDS, Dice, Room, SeededDice
from tests.ledger.market.walk.stage import ENGINES, Stage, founded
from tests.ledger.market.walk.tally import Tally

LEG_STEPS = 500
"""Transactions of the seeded walk on one stage, before the next one begins: the other engine, other chances."""


@dataclass
class Walker:
    """``steps`` counts transactions."""

    stage: Stage
    room: Room
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def on(cls, engine: str, dice: Dice, tally: Tally) -> Walker:
        stage = founded(engine).again()
        return cls(stage, Room(stage, dice), tally)

    def draw(self, kinds: Sequence[type[Operation]] = KINDS) -> list[Operation]:
        return self.room.drawn(self.room.pick(kinds))

    def send(self, transactions: Sequence[tuple[bytes, tuple[Operation, ...]]], time_ms: int) -> None:
        outcome = self.stage.block(transactions, time_ms)
        for index, (_, operations) in enumerate(transactions):
            self.tally.note(outcome.receipt(index), operations)

    def operate(self, kinds: Sequence[type[Operation]] = KINDS) -> None:
        """One transaction in a block of its own."""
        self.send([self.room.transaction(self.draw(kinds))], self.room.moment_of_next_block())

    def operate_together(self) -> None:
        """A transaction of several operations."""
        operations = [operation for _ in range(2) for operation in self.draw()]
        self.send([self.room.transaction(operations)], self.room.moment_of_next_block())

    def fill(self) -> None:
        """A block of several transactions."""
        count = self.room.pick((2, 3, 4))
        self.send([self.room.transaction(self.draw()) for _ in range(count)], self.room.moment_of_next_block())

    def be_careless(self) -> None:
        """A transaction that breaks a rule of all transactions."""
        self.send([self.room.careless(self.draw())], self.room.moment_of_next_block())

    def wait(self) -> None:
        """An empty block."""
        self.send([], self.room.moment_of_next_block())

    def finish(self) -> None:
        """Adds everything up, and notes what the stage has counted."""
        stage, tally = self.stage, self.tally
        stage.add_up()
        tally.blocks += stage.blocks
        tally.others["buckets that something left or came into, each on a way that there is"] += stage.moved
        tally.worked.update(item.name.lower() for item in stage.worked.elements())
        tally.others["locked instructions that settled as foretold"] += stage.kept


def walk(seed: int, steps: int) -> Tally:
    """A walk of a seed, without Hypothesis: on fresh stages of both engines in turn."""
    tally, dice = Tally(), SeededDice.of(seed)
    for leg in range((steps + LEG_STEPS - 1) // LEG_STEPS):
        walker = Walker.on(ENGINES[leg % len(ENGINES)], dice, tally)
        last = min(steps, (leg + 1) * LEG_STEPS)
        while tally.steps < last:
            match dice.below(20):
                case 0:
                    walker.be_careless()
                case 1 | 2:
                    walker.operate_together()
                case 3 if last - tally.steps >= 4:
                    walker.fill()
                case 4:
                    walker.wait()
                case _:
                    walker.operate()
        walker.finish()
    return tally
