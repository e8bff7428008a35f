"""The recount: a second bookkeeper, which must notice what a ledger could get wrong."""

from collections import Counter

from p2pledger.load.books import Books
from p2pledger.load.trades import Instrument, Trade, World

WORLD = World(
    ("ann", "bob"),
    (Instrument("BOND", "a bond", ("CCDC", "CSDC")),),
    (("CNY@ICBC", 2, "money"),),
    {"BOND@CCDC": 100, "BOND@CSDC": 100, "CNY@ICBC": 1_000},
)
PLAIN = Trade(0, "ann", "bob", "BOND@CSDC", "BOND@CSDC", 10, "CNY@ICBC", 70)
CROSS = Trade(1, "ann", "bob", "BOND@CSDC", "BOND@CCDC", 5, "CNY@ICBC", 30)

Supply = dict[str, tuple[int, int, int]]
Holdings = Counter[tuple[str, str]]


def ledger_of(books: Books) -> tuple[Supply, Holdings]:
    """What an honest node would answer."""
    held: Counter[str] = Counter()
    for (asset, _), units in books.holdings.items():
        held[asset] += units
    supply = {asset: (books.issued[asset], 0, held[asset]) for asset in books.issued}
    return supply, books.holdings.copy()


def after(*trades: Trade) -> Books:
    books = Books(WORLD)
    for trade in trades:
        books.settle(trade)
    return books


def test_an_honest_ledger_agrees() -> None:
    books = after(PLAIN, CROSS)
    assert books.holdings["BOND@CSDC", "ann"] == 85
    assert books.holdings["BOND@CCDC", "bob"] == 105
    assert books.holdings["CNY@ICBC", "ann"] == 1_100
    assert books.compare(*ledger_of(books)) == []


def test_a_trade_that_the_ledger_lost_is_found() -> None:
    findings = after(PLAIN, CROSS).compare(*ledger_of(after(PLAIN)))
    assert any("ann holds 90 of BOND@CSDC on the ledger, 85 by the recount" in finding for finding in findings)


def test_one_leg_alone_is_found() -> None:
    books = after(PLAIN)
    supply, holdings = ledger_of(books)
    holdings["CNY@ICBC", "bob"] += 70
    assert len(books.compare(supply, holdings)) == 1


def test_units_made_by_a_move_between_registers_are_found() -> None:
    books = after(CROSS)
    supply, holdings = ledger_of(books)
    assert supply["BOND@CSDC"] == (200, 0, 195)
    supply["BOND@CSDC"] = (200, 0, 200)
    findings = books.compare(supply, holdings)
    assert "BOND: 405 units over all registers, 400 before" in findings
    assert any("200 held, but 195 in existence in this register" in finding for finding in findings)


def test_a_move_by_redeeming_and_issuing_instead_of_crossing_is_found() -> None:
    books = after(CROSS)
    supply, holdings = ledger_of(books)
    supply["BOND@CSDC"], supply["BOND@CCDC"] = (200, 5, 195), (205, 0, 205)
    assert len(books.compare(supply, holdings)) == 4


def test_an_asset_or_a_holder_that_nobody_knows_is_found() -> None:
    books = after()
    supply, holdings = ledger_of(books)
    supply["GOLD@CSDC"] = (1, 0, 1)
    holdings["GOLD@CSDC", "eve"] = 1
    assert len(books.compare(supply, holdings)) == 3
