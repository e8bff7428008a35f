"""Money: who may make it, what must stand behind it, and what stops it."""

import pytest

from p2pledger.ledger.market.money import Attestation, Money, central_bank_of, supply_of_money
from p2pledger.ledger.tables import Asset, AssetFlag
from p2pledger.primitives.market.money import (
    Attest,
    AuthoriseMoney,
    MoneyKind,
    PayAcross,
    Quarantine,
    SetPaymentPolicy,
)
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.transactions import Define, Issue, Lock, Redeem, Release, Transfer
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    CASH,
    HOUR_MS,
    OTHER_CASH,
    World,
    account,
    founded,
    with_money,
)

DOCUMENT = bytes(range(32))
PBOC, ICBC, CMBC, AUDITOR = account("pboc"), account("icbc"), account("cmbc"), account("auditor")
ALICE, BOB, DAVE = account("alice"), account("bob"), account("dave")
STABLE = asset_id("CNY@CSDC")


def bank_money(**changes: object) -> AuthoriseMoney:
    fields = {
        "central_bank": PBOC,
        "asset": CASH,
        "kind": MoneyKind.BANK,
        "reserve_asset": BASE_CASH,
        "reserve_account": ICBC,
        "attestor": AUDITOR,
        "greatest_age_ms": HOUR_MS,
    }
    return AuthoriseMoney(**{**fields, **changes})  # type: ignore[arg-type]


def base_money(asset: bytes = BASE_CASH, central_bank: bytes = PBOC) -> AuthoriseMoney:
    return AuthoriseMoney(central_bank, asset, MoneyKind.BASE)


@pytest.fixture
def world() -> World:
    return with_money(founded())


# Authorising


def test_a_central_bank_authorises_its_base_money_and_the_money_of_a_bank() -> None:
    world = founded()
    world.do(base_money(), "pboc")
    world.do(bank_money(), "pboc", "icbc")
    assert central_bank_of(world.books, CASH[:12]) == PBOC
    row = world.row(Money, CASH)
    assert row == Money(MoneyKind.BANK, BASE_CASH, ICBC, AUDITOR, HOUR_MS)
    assert Money.decode(row.encode()) == row


def test_the_bank_must_sign_for_its_money_and_its_reserves() -> None:
    world = founded()
    world.do(base_money(), "pboc")
    world.refuse("unauthorised", bank_money(), "pboc")
    world.refuse("unauthorised", bank_money(), "icbc")
    world.refuse("unauthorised", bank_money(reserve_account=CMBC), "pboc", "icbc")


def test_only_a_central_bank_authorises() -> None:
    world = founded()
    rule = world.refuse("not_permitted", base_money(CASH, ICBC), "icbc")
    assert rule == "central banks authorise money"


def test_base_money_is_the_central_banks_own_and_has_nothing_behind_it() -> None:
    world = founded()
    world.refuse("wrong_money", base_money(CASH), "pboc", "icbc", rule="the central bank alone issues base money")
    odd = AuthoriseMoney(PBOC, BASE_CASH, MoneyKind.BASE, greatest_age_ms=1)
    world.refuse("wrong_money", odd, "pboc", rule="base money has no reserves and no attestor")
    world.refuse("wrong_money", base_money(BOND), "pboc", "issuer", rule="a security is no money")
    world.refuse("unknown_asset", base_money(asset_id("EUR@PBOC")), "pboc")


def test_bank_money_needs_base_money_of_its_currency_and_precision() -> None:
    world = founded()
    world.refuse("unknown_money", bank_money(), "pboc", "icbc", rule="no authorisation of CNY@PBOC")
    world.do(base_money(), "pboc")
    dollars, coarse = asset_id("USD@ICBC"), asset_id("CNY@CSDC")
    world.do(Define(dollars, int(AssetKind.MONEY), 2, ICBC, "Dollars at ICBC"), "icbc")
    world.do(Define(coarse, int(AssetKind.MONEY), 0, ICBC, "Whole yuan of ICBC"), "csdc", "icbc")
    for asset in (dollars, coarse):
        named = world.refuse("wrong_money", bank_money(asset=asset), "pboc", "icbc")
        assert named == "reserves are of the same currency and precision"
    world.do(bank_money(), "pboc", "icbc")
    on_bank_money = bank_money(asset=OTHER_CASH, reserve_asset=CASH, reserve_account=CMBC)
    world.refuse("wrong_money", on_bank_money, "pboc", "cmbc", rule="CNY@ICBC is bank money")


def test_bank_money_needs_a_bank_its_own_reserves_an_attestor_who_is_somebody_else_and_an_age() -> None:
    world = founded()
    world.do(base_money(), "pboc")
    for changes, signers, rule in (
        ({"attestor": b""}, ("pboc", "icbc"), "bank money has reserves and an attestor"),
        ({"attestor": ICBC}, ("pboc", "icbc"), "a bank does not attest its own deposits"),
        ({"greatest_age_ms": 0}, ("pboc", "icbc"), "an attestation of bank money grows old"),
        ({"reserve_account": CMBC}, ("pboc", "icbc", "cmbc"), "the reserve account is the bank's"),
    ):
        assert world.refuse("wrong_money", bank_money(**changes), *signers) == rule
    world.refuse("unknown_account", bank_money(attestor=b"?" * 32), "pboc", "icbc")
    world.do(Define(STABLE, int(AssetKind.MONEY), 2, account("broker"), "Coins of a broker"), "csdc", "broker")
    coins = bank_money(asset=STABLE, reserve_account=account("broker"))
    world.refuse("wrong_money", coins, "pboc", "broker", rule="bank money is issued by a bank")


def test_terms_can_change_and_the_kind_cannot(world: World) -> None:
    world.do(bank_money(greatest_age_ms=1), "pboc", "icbc")
    row = world.row(Money, CASH)
    assert row is not None
    assert row.greatest_age_ms == 1
    world.refuse("wrong_money", base_money(CASH), "pboc", "icbc")


# Minting and withdrawing


def test_base_money_is_issued_by_the_central_bank_alone(world: World) -> None:
    world.do(Issue(BASE_CASH, ICBC, 5), "pboc")
    world.refuse("unauthorised", Issue(BASE_CASH, ICBC, 5), "icbc")


def test_a_bank_mints_up_to_what_is_attested_and_never_above(world: World) -> None:
    world.do(Issue(CASH, ALICE, 850_000), "icbc")  # 150,000 were in circulation
    rule = world.refuse("above_attestation", Issue(CASH, ALICE, 1), "icbc")
    assert rule == "attestation of CNY@ICBC"
    world.do(Redeem(CASH, ALICE, 10), "alice", "icbc")
    world.refuse("above_attestation", Issue(CASH, BOB, 11), "icbc")
    world.do(Issue(CASH, BOB, 10), "icbc")


def test_an_attestation_grows_stale_at_its_greatest_age(world: World) -> None:
    row = world.row(Attestation, CASH)
    assert row is not None
    world.do(Issue(CASH, ALICE, 1), "icbc", at_ms=row.as_of_ms + HOUR_MS)
    world.refuse("stale_attestation", Issue(CASH, ALICE, 1), "icbc", at_ms=row.as_of_ms + HOUR_MS + 1)
    world.do(Attest(CASH, 1_000_000, world.now_ms, DOCUMENT), "auditor")
    world.do(Issue(CASH, ALICE, 1), "icbc")


def test_without_any_attestation_nothing_is_minted() -> None:
    world = founded()
    world.do(base_money(), "pboc")
    world.do(bank_money(), "pboc", "icbc")
    world.refuse("stale_attestation", Issue(CASH, ALICE, 1), "icbc")
    world.do(Redeem(CASH, ALICE, 1), "alice", "icbc")


def test_an_attestation_of_less_than_circulates_is_the_truth_and_stops_minting(world: World) -> None:
    world.do(Attest(CASH, 10, world.now_ms, DOCUMENT), "auditor")
    world.refuse("above_attestation", Issue(CASH, ALICE, 1), "icbc")
    world.do(Transfer(ALICE, BOB, CASH, 1), "alice")


def test_only_the_attestor_attests_and_only_what_is_new_and_past(world: World) -> None:
    world.refuse("unauthorised", Attest(CASH, 1, world.now_ms, DOCUMENT), "icbc")
    world.refuse("wrong_time", Attest(CASH, 1, world.now_ms + 60_000, DOCUMENT), "auditor")
    row = world.row(Attestation, CASH)
    assert row is not None
    rule = world.refuse("wrong_time", Attest(CASH, 1, row.as_of_ms, DOCUMENT), "auditor")
    assert rule == "a later attestation is there, or later terms"
    world.refuse("wrong_money", Attest(BASE_CASH, 1, world.now_ms, DOCUMENT), "auditor")
    world.refuse("unknown_money", Attest(asset_id("USD@ICBC"), 1, world.now_ms, DOCUMENT), "auditor")
    world.do(Attest(CASH, 2_000_000, world.now_ms, DOCUMENT), "auditor")
    assert world.row(Attestation, CASH) == Attestation(2_000_000, world.now_ms - 1_000, DOCUMENT, world.height)


def test_what_was_paid_to_another_bank_is_no_deposit_any_more(world: World) -> None:
    """Else a bank could mint twice on the same deposit: once before its customer pays it away, and once after."""
    world.do(Issue(CASH, ALICE, 850_000), "icbc")
    world.do(PayAcross(ALICE, DAVE, CASH, OTHER_CASH, 60_000, b"1" * 16), "alice")
    world.refuse("above_attestation", Issue(CASH, ALICE, 1), "icbc")
    paid_ms = world.now_ms
    world.wait_until(paid_ms + HOUR_MS // 4)
    world.do(Attest(CASH, 1_000_000, paid_ms - 1, DOCUMENT), "auditor")  # speaks of the moment before it
    world.refuse("above_attestation", Issue(CASH, ALICE, 1), "icbc")
    world.do(Attest(CASH, 940_001, world.now_ms, DOCUMENT), "auditor")
    world.do(Issue(CASH, ALICE, 1), "icbc")


def test_payments_before_the_first_attestation_count_too() -> None:
    world = founded()
    world.do(base_money(), "pboc")
    for bank, asset in (("icbc", CASH), ("cmbc", OTHER_CASH)):
        world.do(bank_money(asset=asset, reserve_account=account(bank)), "pboc", bank)
    began_ms = world.now_ms
    world.do(PayAcross(ALICE, DAVE, CASH, OTHER_CASH, 50_000, b"1" * 16), "alice")
    world.do(Attest(CASH, 150_000, began_ms, DOCUMENT), "auditor")  # 50,000 of which are no deposits any more
    world.refuse("above_attestation", Issue(CASH, ALICE, 1), "icbc")


def test_a_new_greatest_age_wants_a_new_attestation(world: World) -> None:
    """Payments older than the old age were forgotten, so an attestation about that time proves nothing."""
    world.do(bank_money(greatest_age_ms=24 * HOUR_MS), "pboc", "icbc")
    changed_ms = world.now_ms
    world.refuse("stale_attestation", Issue(CASH, ALICE, 1), "icbc")
    world.refuse("wrong_time", Attest(CASH, 1_000_000, changed_ms, DOCUMENT), "auditor")
    world.do(Attest(CASH, 1_000_000, changed_ms + 1, DOCUMENT), "auditor")
    world.do(Issue(CASH, ALICE, 1), "icbc")
    world.do(bank_money(greatest_age_ms=24 * HOUR_MS), "pboc", "icbc")  # nothing changes
    world.do(Issue(CASH, ALICE, 1), "icbc")


def test_payments_across_are_noted_in_a_bounded_number_of_slots(world: World) -> None:
    for number in range(40):
        pay = PayAcross(ALICE, DAVE, CASH, OTHER_CASH, 1, number.to_bytes(16, "big"))
        world.do(pay, "alice", at_ms=world.now_ms + HOUR_MS // 16)
    row = world.row(Attestation, CASH)
    assert row is not None
    assert len(row.paid_out) <= 18
    assert row.paid_out_since == len(row.paid_out)
    assert Attestation.decode(row.encode()) == row


# Quarantine


def test_a_quarantine_stops_every_new_use_and_lets_come_back_what_was_locked(world: World) -> None:
    world.do(Lock(ALICE, CASH, 100, BOB), "alice")
    world.do(Quarantine(PBOC, CASH, True, DOCUMENT), "pboc")
    rule = "quarantine of CNY@ICBC"
    for operation, signers in (
        (Transfer(ALICE, BOB, CASH, 1), ("alice",)),
        (Lock(ALICE, CASH, 1, BOB), ("alice",)),
        (Issue(CASH, ALICE, 1), ("icbc",)),
        (Redeem(CASH, ALICE, 1), ("alice", "icbc")),
        (PayAcross(ALICE, DAVE, CASH, OTHER_CASH, 1, bytes(16)), ("alice",)),
        (PayAcross(DAVE, ALICE, OTHER_CASH, CASH, 1, bytes(16)), ("dave",)),
    ):
        world.refuse("quarantined", operation, *signers, rule=rule)
    world.do(Release(ALICE, CASH, 100, BOB), "bob")
    world.do(Transfer(DAVE, BOB, OTHER_CASH, 1), "dave")
    world.do(Quarantine(PBOC, CASH, False, DOCUMENT), "pboc")
    world.do(Transfer(ALICE, BOB, CASH, 1), "alice")


def test_a_quarantine_is_noted_with_its_moment_and_document(world: World) -> None:
    world.do(Quarantine(account("regulator"), CASH, True, DOCUMENT), "regulator")
    began_ms = world.now_ms
    world.do(Quarantine(PBOC, CASH, True, DOCUMENT[::-1]), "pboc")
    row = world.row(Money, CASH)
    assert row is not None
    assert (row.quarantined_ms, row.document) == (began_ms, DOCUMENT[::-1])
    asset = world.row(Asset, CASH)
    assert asset is not None
    assert asset.flags == AssetFlag.QUARANTINED


def test_who_may_quarantine_and_what(world: World) -> None:
    world.refuse("not_permitted", Quarantine(ICBC, CASH, True, DOCUMENT), "icbc")
    world.refuse("wrong_money", Quarantine(PBOC, BASE_CASH, True, DOCUMENT), "pboc")
    world.refuse("unknown_money", Quarantine(PBOC, asset_id("USD@ICBC"), True, DOCUMENT), "pboc")


# The payment policy


def coins(world: World) -> World:
    world.do(Define(STABLE, int(AssetKind.MONEY), 2, account("broker"), "Coins of a broker"), "csdc", "broker")
    world.do(Issue(STABLE, ALICE, 1_000), "broker")
    return world


def test_a_policy_forbids_unapproved_assets_as_payment(world: World) -> None:
    coins(world)
    world.do(Transfer(ALICE, BOB, STABLE, 10), "alice")
    world.do(SetPaymentPolicy(PBOC, "CNY", True), "pboc")
    sale = (Transfer(BOB, ALICE, BOND, 1), Transfer(ALICE, BOB, STABLE, 100))
    world.refuse("unapproved_money", sale, "alice", "bob", rule="payment policy of CNY")
    world.refuse("unapproved_money", Issue(STABLE, ALICE, 1), "broker")
    world.refuse("unapproved_money", Lock(ALICE, STABLE, 1, BOB), "alice")
    world.do((Transfer(BOB, ALICE, BOND, 1), Transfer(ALICE, BOB, CASH, 100)), "alice", "bob")
    world.do(Redeem(STABLE, ALICE, 990), "alice", "broker")
    world.do(SetPaymentPolicy(PBOC, "CNY", False), "pboc")
    world.do(Transfer(BOB, ALICE, STABLE, 10), "bob")


def test_the_policy_reaches_what_is_defined_later_until_it_is_authorised() -> None:
    world = founded()
    world.do(base_money(), "pboc")
    world.do(SetPaymentPolicy(PBOC, "CNY", True), "pboc")
    world.refuse("unapproved_money", Transfer(ALICE, BOB, CASH, 1), "alice")
    world.do(bank_money(), "pboc", "icbc")
    world.do(Transfer(ALICE, BOB, CASH, 1), "alice")
    later = asset_id("CNY@CCDC")
    world.do(Define(later, int(AssetKind.MONEY), 2, ICBC, "More yuan"), "ccdc", "icbc")
    world.refuse("unapproved_money", Issue(later, ALICE, 1), "icbc")
    dollars = asset_id("USD@ICBC")
    world.do(Define(dollars, int(AssetKind.MONEY), 2, ICBC, "Dollars at ICBC"), "icbc")
    world.do(Issue(dollars, ALICE, 1), "icbc")


def test_only_the_central_bank_of_a_currency_sets_its_policy(world: World) -> None:
    world.refuse("not_permitted", SetPaymentPolicy(ICBC, "CNY", True), "icbc")
    rule = world.refuse("wrong_money", SetPaymentPolicy(PBOC, "USD", True), "pboc")
    assert rule == "a central bank sets the policy of its own currency"


# Reading


def test_the_central_bank_sees_the_total_supply(world: World) -> None:
    coins(world)
    world.do(PayAcross(ALICE, DAVE, CASH, OTHER_CASH, 40_000, bytes(16)), "alice")
    supply = supply_of_money(world.version, "CNY")
    assert (supply.base, supply.reserves, supply.bank_money) == (200_000, 200_000, 200_000)
    assert supply.held_by_public == 200_000
    assert supply.unauthorised == ((STABLE, 1_000),)
    other, own = supply.banks
    assert (other.asset, other.circulating, other.reserves, other.attested) == (OTHER_CASH, 90_000, 140_000, 1_000_000)
    assert (own.asset, own.circulating, own.reserves, own.backing) == (CASH, 110_000, 60_000, 960_000)
    assert supply_of_money(world.version, "USD").banks == ()
