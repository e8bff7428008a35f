"""The journal of one transaction: it reads its own writes, and nothing leaves it before it is posted."""

from hypothesis import given
from hypothesis import strategies as st

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.tables import KEY_WIDTHS, Flow, Holding, Lock, Table, holding_key
from tests.ledger.small_market import BOND, account, founded

ALICE, DAVE = account("alice"), account("dave")


def test_writes_are_read_back_and_stay_in_the_journal() -> None:
    version = founded().version
    books = Books(version)
    assert books.holding(BOND, DAVE) == Holding()
    books.put_holding(BOND, DAVE, Holding(3, 4))
    assert books.holding(BOND, DAVE) == Holding(3, 4)
    assert Books(version).holding(BOND, DAVE) == Holding()


def test_rows_of_zeros_are_deletions() -> None:
    branch = founded().version.branch()
    books = Books(branch)
    books.put_holding(BOND, ALICE, Holding())
    books.put_lock(BOND, ALICE, DAVE, Lock(5))
    books.put_lock(BOND, ALICE, DAVE, Lock(0))
    assert books.holding(BOND, ALICE) == Holding()
    assert branch.get(Table.HOLDINGS, holding_key(BOND, ALICE)) is not None
    books.post(branch)
    assert branch.get(Table.HOLDINGS, holding_key(BOND, ALICE)) is None
    assert branch.count(Table.LOCKS) == 0
    branch.drop()


def test_posting_twice_posts_once() -> None:
    branch = founded().version.branch()
    books = Books(branch)
    books.put_holding(BOND, DAVE, Holding(1))
    books.post(branch)
    branch.delete(Table.HOLDINGS, holding_key(BOND, DAVE))
    books.post(branch)
    assert branch.get(Table.HOLDINGS, holding_key(BOND, DAVE)) is None
    branch.drop()


KEYS = st.integers(0, 60).map(lambda number: bytes((number // 8, number % 8)) + bytes(14))
FLOWS = st.dictionaries(KEYS, st.integers(0, 3), max_size=40)


@given(below=FLOWS, above=FLOWS, prefix=st.binary(max_size=1).map(lambda data: bytes(byte % 8 for byte in data)),
       after=st.none() | KEYS)  # fmt: skip
def test_rows_are_those_of_the_state_with_what_was_written_in_their_order(
    below: dict[bytes, int], above: dict[bytes, int], prefix: bytes, after: bytes | None
) -> None:
    """0 stands for a row that is taken away."""
    branch = core.empty_state(KEY_WIDTHS).branch()
    for key, amount in below.items():
        branch.put(Table.FLOWS, key, Flow(amount).encode())
    books = Books(branch)
    for key, amount in above.items():
        books.put(Flow, key, Flow(amount) if amount else None)
    expected = {key: amount for key, amount in (below | above).items() if above.get(key) != 0}
    wanted = sorted(key for key in expected if key.startswith(prefix) and (after is None or key > after))
    assert list(books.rows(Flow, prefix, after)) == [(key, Flow(expected[key])) for key in wanted]
    assert all(books.row(Flow, key) == Flow(amount) for key, amount in expected.items())
    books.post(branch)
    assert list(Books(branch).rows(Flow)) == [(key, Flow(expected[key])) for key in sorted(expected)]


def test_rows_that_change_while_they_are_read_are_seen_as_they_are_by_then() -> None:
    branch = core.empty_state(KEY_WIDTHS).branch()
    keys = [bytes(14) + number.to_bytes(2, "big") for number in range(600)]
    for key in keys:
        branch.put(Table.FLOWS, key, Flow(1).encode())
    books = Books(branch)
    seen = []
    for key, row in books.rows(Flow):
        seen.append((key, row.arrived))
        if key == keys[2]:
            books.put(Flow, keys[3], None)
            books.put(Flow, keys[500], Flow(9))
            books.put(Flow, b"\xff" * 16, Flow(1))
    assert [key for key, _ in seen] == [key for key in keys if key != keys[3]]
    assert dict(seen)[keys[500]] == 9


def test_what_was_written_since_a_mark_can_be_forgotten() -> None:
    books = Books(founded().version)
    books.put_holding(BOND, DAVE, Holding(1))
    mark = books.mark()
    books.put_holding(BOND, DAVE, Holding(2))
    books.put_lock(BOND, DAVE, ALICE, Lock(1))
    books.back_to(mark)
    assert books.holding(BOND, DAVE) == Holding(1)
    assert books.lock(BOND, DAVE, ALICE) == Lock()
