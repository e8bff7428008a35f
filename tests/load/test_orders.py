"""What is signed for a trade."""

from p2pledger.cluster.consortium import Consortium
from p2pledger.cluster.opening import (
    AssetPlan,
    define_transactions,
    issue_transactions,
    link_transactions,
    sample_assets,
    sample_holdings,
)
from p2pledger.load.orders import OrderDesk
from p2pledger.load.trades import Trade
from p2pledger.primitives.market.links import AgreeLink, Cross
from p2pledger.primitives.names import AssetKind, asset_id, isin_is_valid
from p2pledger.primitives.transactions import Define, SignedTransaction, Transfer

CONSORTIUM = Consortium.make(seed=7)
DESK = OrderDesk(CONSORTIUM, 7)
BOND = "CND100000017"


def signers(order_data: bytes) -> set[str]:
    names = {keypair.public_key: name for name, keypair in CONSORTIUM.member_keys.items()}
    return {names[key] for key in SignedTransaction.decode(order_data).signers}


def test_a_plain_trade_has_two_legs_and_two_signers() -> None:
    trade = Trade(0, "broker-1", "broker-2", f"{BOND}@CSDC", f"{BOND}@CSDC", 10, "CNY@ICBC", 70)
    order = DESK.sign(trade, 500)
    signed = SignedTransaction.decode(order.data)
    assert signed.id == order.id
    assert signed.transaction.valid_until == 500
    security, money = signed.transaction.operations
    assert isinstance(security, Transfer)
    assert isinstance(money, Transfer)
    assert (security.source, security.target) == (money.target, money.source)
    assert signers(order.data) == {"broker-1", "broker-2"}


def test_a_cross_trade_moves_the_bond_and_sells_it_in_one_transaction() -> None:
    trade = Trade(1, "broker-1", "broker-2", f"{BOND}@CSDC", f"{BOND}@CCDC", 10, "CNY@ICBC", 70)
    order = DESK.sign(trade, 500)
    crossing, sale, money = SignedTransaction.decode(order.data).transaction.operations
    assert isinstance(crossing, Cross)
    assert isinstance(sale, Transfer)
    assert isinstance(money, Transfer)
    assert crossing.target == sale.asset == asset_id(f"{BOND}@CCDC")
    assert crossing.amount == sale.amount == 10
    assert signers(order.data) == {"broker-1", "broker-2"}


def test_a_cross_trade_signed_for_other_heights_is_another_crossing() -> None:
    trade = Trade(1, "broker-1", "broker-2", f"{BOND}@CSDC", f"{BOND}@CCDC", 10, "CNY@ICBC", 70)
    one, other = (SignedTransaction.decode(DESK.sign(trade, height).data) for height in (500, 501))
    assert one.transaction.operations[0] != other.transaction.operations[0]


def test_the_depositories_of_an_instrument_in_two_registers_link_them_both_ways() -> None:
    limits = {"CND100000017": 500, "CNE100000007": 7}
    kept = {"CND100000017": ("CCDC", "CSDC"), "CNE100000007": ("CSDC",)}
    (data,) = link_transactions(CONSORTIUM, kept, limits, valid_until=100)
    operations = SignedTransaction.decode(data).transaction.operations
    assert all(isinstance(item, AgreeLink) and item.limit == 500 for item in operations)
    assert [(item.source, item.target) for item in operations if isinstance(item, AgreeLink)] == [
        (b"CCDC", b"CSDC"),
        (b"CSDC", b"CCDC"),
    ]
    assert signers(data) == {"CCDC", "CSDC"}


def test_the_same_trade_has_the_same_identifier_and_others_have_others() -> None:
    trade = Trade(0, "broker-1", "broker-2", f"{BOND}@CSDC", f"{BOND}@CSDC", 10, "CNY@ICBC", 70)
    again = Trade(1, "broker-1", "broker-2", f"{BOND}@CSDC", f"{BOND}@CSDC", 10, "CNY@ICBC", 70)
    assert DESK.sign(trade, 500).id == DESK.sign(trade, 500).id
    assert DESK.sign(trade, 500).id != DESK.sign(again, 500).id


def test_many_holdings_go_into_few_transactions_within_the_limits() -> None:
    plans = [AssetPlan(f"X{i:011d}@CSDC", AssetKind.SECURITY, 0, "n" * 64) for i in range(700)]
    transactions = define_transactions(CONSORTIUM, plans, valid_until=100)
    parameters = CONSORTIUM.genesis.parameters
    assert len(transactions) == 3
    found = [SignedTransaction.decode(data, limit_bytes=parameters.max_transaction_bytes) for data in transactions]
    assert all(len(signed.transaction.operations) <= parameters.max_operations for signed in found)
    assert sum(len(signed.transaction.operations) for signed in found) == 700
    assert all(isinstance(item, Define) for signed in found for item in signed.transaction.operations)


def test_each_register_signs_for_itself() -> None:
    issued = issue_transactions(CONSORTIUM, sample_holdings(CONSORTIUM), valid_until=100)
    assert sorted(signers(data).pop() for data in issued) == ["CCDC", "CSDC", "ICBC"]
    assert all(isin_is_valid(plan.asset[:12]) for plan in sample_assets() if plan.kind is AssetKind.SECURITY)
