"""A state machine of Hypothesis over all operations: 10,000 steps in short stories, each on a fresh stage.

What to do next is drawn in the room that the seeded walk uses too; all that must hold is looked at by the stage, after
every block. A story that breaks something is shrunk to its shortest form. Run with ``-s`` for the table of what
occurred; an operation or a refusal that never did is a failure.
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from p2pledger.primitives.forms import Operation
from tests.ledger.market.walk.room import KINDS, SeededDice
from tests.ledger.market.walk.stage import ENGINES
from tests.ledger.market.walk.tally import Tally
from tests.ledger.market.walk.walker import Walker

STEPS = 10_000
STORY_STEPS = 100
STORIES = 10
"""In one series. From the eleventh on Hypothesis would vary those that it has, and tell each of them seven times."""
SERIES = 11
CHANCE = st.integers(0, 2**64 - 1)
"""A number for each step, from which all choices in it follow. A story shrinks by whole steps, and by their kinds."""


def _kinds(first: int, last: int) -> tuple[type[Operation], ...]:
    return tuple(kind for kind in KINDS if first <= kind.code <= last)


class Market(RuleBasedStateMachine):
    """Everybody does what comes to his mind."""

    tally: ClassVar[Tally] = Tally()
    walker: Walker
    met: Counter[int]

    @initialize(engine=st.sampled_from(ENGINES), chance=CHANCE)
    def begin(self, engine: str, chance: int) -> None:
        self.walker, self.met = Walker.on(engine, SeededDice.of(chance), self.tally), Counter()

    def _throw(self, chance: int) -> Walker:
        """The walker, with dice that follow from a number, and from how often it came: equal numbers act unlike."""
        self.met[chance] += 1
        self.walker.room.dice = SeededDice.of((chance << 16) + self.met[chance])
        return self.walker

    def _step(self, chance: int, first: int, last: int) -> None:
        self._throw(chance).operate(_kinds(first, last))

    @rule(chance=CHANCE)
    def hold_and_transfer(self, chance: int) -> None:
        self._step(chance, 1, 14)

    @rule(chance=CHANCE)
    def keep_parties_and_accounts(self, chance: int) -> None:
        self._step(chance, 32, 36)

    @rule(chance=CHANCE)
    def describe_and_admit(self, chance: int) -> None:
        self._step(chance, 37, 44)

    @rule(chance=CHANCE)
    def agree_and_settle(self, chance: int) -> None:
        self._step(chance, 50, 56)

    @rule(chance=CHANCE)
    def offer_and_keep_calendars(self, chance: int) -> None:
        self._step(chance, 57, 64)

    @rule(chance=CHANCE)
    def pay_and_cross(self, chance: int) -> None:
        self._step(chance, 65, 79)

    @rule(chance=CHANCE)
    def order_and_escrow(self, chance: int) -> None:
        self._step(chance, 80, 95)

    @rule(chance=CHANCE)
    def do_several_things_at_once(self, chance: int) -> None:
        self._throw(chance).operate_together()

    @rule(chance=CHANCE)
    def fill_a_block(self, chance: int) -> None:
        self._throw(chance).fill()

    @rule(chance=CHANCE)
    def send_carelessly(self, chance: int) -> None:
        self._throw(chance).be_careless()

    @rule(chance=CHANCE)
    def let_time_pass(self, chance: int) -> None:
        self._throw(chance).wait()

    def teardown(self) -> None:
        if hasattr(self, "walker"):
            self.walker.finish()


@pytest.mark.slow
def test_whatever_everybody_does_the_books_add_up_and_nothing_is_refused_that_was_promised() -> None:
    Market.tally = Tally()
    for number in range(SERIES):
        run_state_machine_as_test(
            seed(number)(Market),
            settings=settings(
                max_examples=STORIES,
                stateful_step_count=STORY_STEPS,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(f"\n{Market.tally.table()}")
    assert Market.tally.steps >= STEPS
    assert Market.tally.missing() == []
