"""What a question costs is said before it is answered: a node puts heavy ones aside and goes on with its work."""

from types import SimpleNamespace
from typing import Any

import pytest

from p2pledger.ledger.tables import KEY_WIDTHS, Table
from p2pledger.network.queries import heavy_answer
from p2pledger.primitives.messages import Query
from tests.ledger.market.market_world import founded
from tests.ledger.small_market import key

ROWS = 2_000


@pytest.mark.parametrize("table", [Table.DUE, Table.BENEFICIARIES, Table.OWNERS, Table.INSTRUCTIONS])
def test_a_view_costs_more_where_there_is_more_to_read(table: Table) -> None:
    world = founded()

    def cost_us() -> int:
        node: Any = SimpleNamespace(
            final_height=world.height,
            final_version=world.version,
            final_outcome=SimpleNamespace(state_root=world.version.root()),
            final_block=SimpleNamespace(header=SimpleNamespace(time_ms=world.now_ms)),
            genesis=world.genesis,
        )
        _, cost = heavy_answer(Query(1, "view", ("tasks", (bytes(32),))), node, key("alice").public_key)
        return cost

    before = cost_us()
    with world.version.branch() as branch:
        for number in range(ROWS):
            branch.put(table, number.to_bytes(KEY_WIDTHS[table], "big"), b"\x91\x01")
        world.version = branch.commit()
    assert cost_us() == before + ROWS
