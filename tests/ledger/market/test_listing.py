"""Listing: describing, accrediting, activating, and what an instrument that is not active still does."""

from dataclasses import replace

import pytest

from p2pledger.ledger.market.instruments import (
    Accreditation,
    InstrumentRow,
    circulating,
    class_of,
    instrument_of,
    is_accredited,
    is_mirror,
    judge,
    outstanding,
)
from p2pledger.ledger.market.lookalikes import Lookalike, NameKind
from p2pledger.ledger.market.venues import Venue, is_on, require_on, venues_of
from p2pledger.ledger.rule import Refused
from p2pledger.ledger.tables import AssetFlag
from p2pledger.primitives.market.instruments import (
    Accredit,
    Describe,
    InstrumentStatus,
    Nature,
    SetStatus,
    SetVenue,
)
from p2pledger.primitives.market.lookalikes import skeleton_key
from p2pledger.primitives.names import AssetKind, asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Define, Issue, Lock, Redeem, Release, Transfer
from tests.ledger.market.market_world import BOND, BOND_ACROSS, SHARE, World, account, founded

CSDC, CCDC, OPERATOR, REGULATOR, ISSUER, ALICE, BOB, SSE = (
    account(name) for name in ("csdc", "ccdc", "operator", "regulator", "issuer", "alice", "bob", "sse")
)
DOCUMENT = bytes(range(32))
REGISTERS_ONLY = "depositories write in their own register only"


@pytest.fixture
def world() -> World:
    return founded()


def description(**changes: object) -> Describe:
    """The bond, of which 2,000 units are issued."""
    entry = Describe(
        CSDC, BOND, Nature.NATIVE, "DBFTFB", "XSHG", "BND26", "CNY", 5_000, 20_514, 24_166, "CN", (DOCUMENT,)
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


def activated(world: World, **changes: object) -> World:
    world.do(description(**changes), "csdc", "issuer")
    world.do(Accredit(REGULATOR, ISSUER, 0), "regulator")
    world.do(SetStatus(CSDC, BOND, InstrumentStatus.ACTIVE), "csdc")
    return world


def flags(world: World, asset: bytes = BOND) -> int:
    row = world.books.asset(asset)
    assert row is not None
    return row.flags


# Describing


def test_a_description_is_kept_and_suspends_the_asset(world: World) -> None:
    world.do(description(), "csdc", "issuer")
    row = instrument_of(world.books, BOND)
    assert row == InstrumentRow(
        InstrumentStatus.SUSPENDED, Nature.NATIVE, "DBFTFB", "XSHG", "BND26", "CNY", 5_000, 20_514, 24_166, "CN",
        (DOCUMENT,),
    )  # fmt: skip
    assert row is not None
    assert InstrumentRow.decode(row.encode()) == row
    assert class_of(world.books, BOND) == "DBFTFB"
    assert class_of(world.books, SHARE) == ""
    assert flags(world) == AssetFlag.INACTIVE


def test_depository_and_issuer_both_sign(world: World) -> None:
    world.refuse("unauthorised", description(), "csdc")
    world.refuse("unauthorised", description(), "issuer")


def test_who_and_what(world: World) -> None:
    world.refuse("unknown_asset", description(asset=asset_id("US5949181045@CSDC")), "csdc", "issuer")
    world.refuse("not_permitted", description(by=CCDC), "ccdc", "issuer", rule=REGISTERS_ONLY)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"cfi": "XXXXXX"}, "CFI (ISO 10962)"),
        ({"mic": "XSH"}, "MIC (ISO 10383)"),
        ({"ticker": "B\u200bND"}, "ticker (printable characters)"),
        ({"currency": "cny"}, "currency (ISO 4217)"),
        ({"maturity_day": 20_514}, "maturity before issue"),
        ({"governing_law": " "}, "governing law (printable characters)"),
    ],
)
def test_each_field_is_judged(world: World, changes: dict[str, object], rule: str) -> None:
    world.refuse("bad_description", description(**changes), "csdc", "issuer", rule=rule)


def test_what_may_be_left_out(world: World) -> None:
    world.do(description(mic="", issue_size=0, maturity_day=0, documents=()), "csdc", "issuer")


def test_the_issue_size_covers_what_is_there(world: World) -> None:
    refused = description(issue_size=1_999)
    world.refuse("above_issue_size", refused, "csdc", "issuer", rule="issue size of DE0005140008@CSDC")
    world.do(description(issue_size=2_000), "csdc", "issuer")


def test_a_name_of_the_asset_that_nobody_can_read_is_no_instrument(world: World) -> None:
    hidden = asset_id("US5949181045@CSDC")
    world.do(Define(hidden, int(AssetKind.SECURITY), 0, ISSUER, "Sha\u200bre"), "csdc", "issuer")
    rule = "name of the asset (printable characters)"
    world.refuse("bad_description", description(asset=hidden), "csdc", "issuer", rule=rule)


def test_what_is_active_is_not_described_anew_but_what_is_suspended_is(world: World) -> None:
    activated(world)
    rule = "status of DE0005140008@CSDC"
    world.refuse("bad_description", description(ticker="NEW"), "csdc", "issuer", rule=rule)
    world.do(SetStatus(CSDC, BOND, InstrumentStatus.SUSPENDED), "csdc")
    world.do(description(ticker="NEW"), "csdc", "issuer")
    row = instrument_of(world.books, BOND)
    assert row is not None
    assert row.ticker == "NEW"


# Look-alikes


@pytest.mark.parametrize("ticker", ["BND26", "bnd26", "BND 26", "B-ND26", "BNĎ26", "ВND26"])
def test_a_ticker_that_looks_like_anothers_is_refused_with_it(world: World, ticker: str) -> None:
    world.do(description(), "csdc", "issuer")
    other = description(asset=SHARE, ticker=ticker, cfi="ESVUFR")
    world.refuse("looks_alike", other, "csdc", "issuer", rule="looks like BND26 of DE0005140008")


def test_a_name_that_looks_like_anothers_is_refused_with_it(world: World) -> None:
    world.do(description(), "csdc", "issuer")
    spoof = asset_id("US5949181045@CCDC")
    world.do(Define(spoof, int(AssetKind.SECURITY), 0, ISSUER, "B0nd of the |ssuer"), "ccdc", "issuer")
    other = description(by=CCDC, asset=spoof, ticker="OTHER")
    world.refuse("looks_alike", other, "ccdc", "issuer", rule="looks like Bond of the issuer of DE0005140008")


def test_one_instrument_bears_its_ticker_in_both_registers(world: World) -> None:
    world.do(description(), "csdc", "issuer")
    world.do(description(by=CCDC, asset=BOND_ACROSS), "ccdc", "issuer")
    row = world.row(Lookalike, skeleton_key(NameKind.TICKER, "BND26"))
    assert row == Lookalike(NameKind.TICKER, "BND26", BOND[:12], 2)
    assert row is not None
    assert Lookalike.decode(row.encode()) == row
    world.do(description(ticker="NEW"), "csdc", "issuer")
    share = description(asset=SHARE, cfi="ESVUFR")
    world.refuse("looks_alike", share, "csdc", "issuer")
    world.do(description(by=CCDC, asset=BOND_ACROSS, ticker="NEW"), "ccdc", "issuer")
    world.do(share, "csdc", "issuer")


# Status and accreditation


def test_an_instrument_is_active_once_its_issuer_is_accredited(world: World) -> None:
    activate = SetStatus(CSDC, BOND, InstrumentStatus.ACTIVE)
    world.refuse("unknown_record", activate, "csdc", rule="description of DE0005140008@CSDC")
    world.do(description(), "csdc", "issuer")
    world.refuse("not_accredited", activate, "csdc", rule="accreditation for DE0005140008@CSDC")
    until_ms = world.now_ms + 60_000
    world.do(Accredit(REGULATOR, ISSUER, until_ms), "regulator")
    assert world.row(Accreditation, ISSUER) == Accreditation(REGULATOR, until_ms)
    world.refuse("not_accredited", activate, "csdc", at_ms=until_ms + 1)
    world.do(Accredit(REGULATOR, ISSUER, 0), "regulator")
    assert is_accredited(world.books, world.place, ISSUER)
    world.do(activate, "csdc")
    assert flags(world) == 0
    world.do(Transfer(ALICE, BOB, BOND, 1), "alice")


def test_an_accreditation_holds_at_its_last_moment(world: World) -> None:
    world.do(description(), "csdc", "issuer")
    until_ms = world.now_ms + 60_000
    world.do(Accredit(REGULATOR, ISSUER, until_ms), "regulator")
    world.do(SetStatus(CSDC, BOND, InstrumentStatus.ACTIVE), "csdc", at_ms=until_ms)


def test_only_its_depository_sets_the_status(world: World) -> None:
    world.do(description(), "csdc", "issuer")
    for by, signer in ((CCDC, "ccdc"), (OPERATOR, "operator"), (ISSUER, "issuer")):
        refused = SetStatus(by, BOND, InstrumentStatus.ACTIVE)
        world.refuse("not_permitted", refused, signer, rule=REGISTERS_ONLY)
    world.refuse("unknown_asset", SetStatus(CSDC, asset_id("US5949181045@CSDC"), InstrumentStatus.ACTIVE), "csdc")


def test_who_accredits(world: World) -> None:
    rule = "supervisors, operators and depositories accredit issuers"
    world.refuse("not_permitted", Accredit(ISSUER, ISSUER, 0), "issuer", rule=rule)
    world.refuse("unknown_party", Accredit(REGULATOR, bytes(31) + b"x", 0), "regulator")
    world.do(Accredit(CSDC, ISSUER, 0), "csdc")
    rule = "the issuer was accredited by another party"
    world.refuse("already_registered", Accredit(CCDC, ISSUER, 1), "ccdc", rule=rule)
    world.do(Accredit(CSDC, ISSUER, 1), "csdc")
    assert not is_accredited(world.books, world.place, ISSUER)
    world.do(Accredit(REGULATOR, ISSUER, 0), "regulator")
    world.do(Accredit(OPERATOR, ISSUER, 1), "operator")


# What suspends


def test_nothing_new_begins_with_what_is_suspended(world: World) -> None:
    world.do(Lock(ALICE, BOND, 10, BOB), "alice")
    world.do(description(), "csdc", "issuer")
    for operation, signers in (
        (Transfer(ALICE, BOB, BOND, 1), ("alice",)),
        (Lock(ALICE, BOND, 1, BOB), ("alice",)),
        (Issue(BOND, ALICE, 1), ("issuer",)),
        (Redeem(BOND, ALICE, 1), ("alice", "issuer")),
    ):
        reason = "not_accredited" if isinstance(operation, Issue) else "inactive"
        world.refuse(reason, operation, *signers)
    world.refuse("inactive", Transfer(ALICE, BOB, BOND, 1), "alice", rule="status of DE0005140008@CSDC")
    world.do(Release(ALICE, BOND, 10, BOB), "bob")
    with pytest.raises(Refused) as refused:
        judge(world.books, BOND)
    assert refused.value.reason is Reason.INACTIVE
    assert judge(world.books, SHARE).name == "Share of the issuer"


def test_no_more_than_the_issue_size_is_issued(world: World) -> None:
    activated(world)
    world.do(Issue(BOND, ALICE, 3_000), "issuer")
    world.refuse("above_issue_size", Issue(BOND, ALICE, 1), "issuer", rule="issue size of DE0005140008@CSDC")
    world.do(Redeem(BOND, ALICE, 5), "alice", "issuer")
    world.do(Issue(BOND, ALICE, 5), "issuer")
    assert circulating(world.books, BOND) == 5_000


def test_the_issue_size_is_that_of_the_instrument_in_all_registers_but_mirrors(world: World) -> None:
    world.do(Issue(BOND_ACROSS, BOB, 1_000), "issuer")
    world.refuse("above_issue_size", description(issue_size=2_999), "csdc", "issuer")
    activated(world, issue_size=3_005)
    world.do(Issue(BOND, ALICE, 5), "issuer")
    world.refuse("above_issue_size", Issue(BOND, ALICE, 1), "issuer", rule="issue size of DE0005140008@CSDC")
    mirror = description(by=CCDC, asset=BOND_ACROSS, nature=Nature.MIRROR, issue_size=1_000)
    world.do(mirror, "ccdc", "issuer")
    assert (outstanding(world.books, BOND), outstanding(world.books, BOND_ACROSS)) == (2_005, 1_000)
    world.do(Issue(BOND, ALICE, 1_000), "issuer")
    world.do(SetStatus(CCDC, BOND_ACROSS, InstrumentStatus.ACTIVE), "ccdc")
    world.refuse("above_issue_size", Issue(BOND_ACROSS, BOB, 1), "issuer", rule="issue size of DE0005140008@CCDC")


def test_an_issuer_whose_accreditation_has_run_out_issues_no_more_but_what_is_active_trades_on(world: World) -> None:
    activated(world)
    world.do(Accredit(REGULATOR, ISSUER, 1), "regulator")
    world.refuse("not_accredited", Issue(BOND, ALICE, 1), "issuer", rule="accreditation for DE0005140008@CSDC")
    world.do(Transfer(ALICE, BOB, BOND, 1), "alice")


def test_a_mirror_is_known_as_one(world: World) -> None:
    world.do(description(by=CCDC, asset=BOND_ACROSS, nature=Nature.MIRROR), "ccdc", "issuer")
    assert is_mirror(world.books, BOND_ACROSS)
    assert not is_mirror(world.books, BOND)


# Venues


def test_a_venue_is_off_until_it_is_switched_on_for_an_asset(world: World) -> None:
    assert not is_on(world.books, BOND, SSE)
    with pytest.raises(Refused) as refused:
        require_on(world.books, BOND, SSE)
    assert (refused.value.reason, refused.value.rule) == (Reason.VENUE_OFF, "venues of DE0005140008@CSDC")
    world.do(SetVenue(CSDC, BOND, SSE, True), "csdc")
    assert is_on(world.books, BOND, SSE)
    require_on(world.books, BOND, SSE)
    assert not is_on(world.books, SHARE, SSE)
    world.do(SetVenue(CSDC, BOND, SSE, False), "csdc")
    assert list(venues_of(world.books, BOND)) == [(SSE, Venue(False, world.now_ms))]


def test_each_refusal_of_set_venue(world: World) -> None:
    world.refuse("unknown_asset", SetVenue(CSDC, asset_id("US5949181045@CSDC"), SSE, True), "csdc")
    world.refuse("not_permitted", SetVenue(SSE, BOND, SSE, True), "sse", rule=REGISTERS_ONLY)
    world.refuse("unknown_party", SetVenue(CSDC, BOND, bytes(31) + b"x", True), "csdc")
    world.refuse("bad_party", SetVenue(CSDC, BOND, ALICE, True), "csdc", rule="role venue")
