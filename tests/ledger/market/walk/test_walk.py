"""One seeded walk of 10,000 transactions over all operations, without Hypothesis; and the model that watches it.

What is looked at after every block is written in ``stage.py`` and ``ways.py``. Run with ``-s`` for the table of what
occurred, or ``python -m tests.ledger.market.walk``; an operation or a refusal that never did is a failure.
"""

from __future__ import annotations

import pytest

from p2pledger.ledger.tables import Holding, Table, holding_key, lock_key
from p2pledger.ledger.tables import Lock as LockRow
from p2pledger.primitives.transactions import Lock, Release, Transfer
from tests.ledger.market.market_world import BOND, account
from tests.ledger.market.walk.stage import ENGINES, Stage, founded
from tests.ledger.market.walk.walker import walk
from tests.ledger.market.walk.ways import Act, spots, trespasses
from tests.ledger.small_market import altered

SEED = 2026
STEPS = 10_000
ALICE, BOB = account("alice"), account("bob")


@pytest.mark.slow
def test_a_walk_of_ten_thousand_steps() -> None:
    tally = walk(SEED, STEPS)
    print(f"\n{tally.table()}")
    assert tally.steps == STEPS
    assert tally.missing() == []


# The model of buckets sees what it is there to see


def held(stage: Stage, who: bytes) -> Holding:
    return stage.books.holding(BOND, who)


def seen(stage: Stage, changes: dict[tuple[Table, bytes], bytes | None], *acts: Act) -> list[str]:
    """What the model says of rows that were changed by hand."""
    after = stage.version
    for (table, row_key), row in changes.items():
        after = altered(after, table, row_key, row)
    return trespasses(stage.version, after, spots(stage.version), spots(after), acts, [])[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_units_that_leave_free_by_no_operation_are_seen(engine: str) -> None:
    stage = founded(engine).again()
    mine, theirs = held(stage, ALICE), held(stage, BOB)
    moved = {
        (Table.HOLDINGS, holding_key(BOND, ALICE)): Holding(mine.free - 7, mine.locked).encode(),
        (Table.HOLDINGS, holding_key(BOND, BOB)): Holding(theirs.free + 7, theirs.locked).encode(),
    }
    assert seen(stage, moved, Act(Transfer(ALICE, BOB, BOND, 7))) == []
    assert len(seen(stage, moved)) == 2, "nobody has sent them, and nobody should have them"
    assert len(seen(stage, moved, Act(Transfer(ALICE, BOB, BOND, 6)))) == 1, "one too many"
    assert len(seen(stage, moved, Act(Transfer(ALICE, account("carol"), BOND, 7)))) == 1, "bob is not carol"


def test_units_that_leave_a_lock_but_by_its_controller_are_seen() -> None:
    stage = founded("simplex").again()
    mine = held(stage, ALICE)
    locked = altered(
        stage.version, Table.HOLDINGS, holding_key(BOND, ALICE), Holding(mine.free - 5, mine.locked + 5).encode()
    )
    stage.version = altered(locked, Table.LOCKS, lock_key(BOND, ALICE, BOB), LockRow(5).encode())
    back = {
        (Table.HOLDINGS, holding_key(BOND, ALICE)): mine.encode(),
        (Table.LOCKS, lock_key(BOND, ALICE, BOB)): None,
    }
    assert seen(stage, back, Act(Release(ALICE, BOND, 5, BOB))) == []
    assert len(seen(stage, back, Act(Release(ALICE, BOND, 5, account("carol"))))) == 1
    assert len(seen(stage, back, Act(Lock(ALICE, BOND, 5, BOB)))) == 1
