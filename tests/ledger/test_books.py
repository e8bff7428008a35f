"""The journal of one transaction: it reads its own writes, and nothing leaves it before it is posted."""

from p2pledger.ledger.books import Books
from p2pledger.ledger.tables import Holding, Lock, Table, holding_key
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
