"""Views: what is told about the market, from one version of the state, and to whom."""

import random
from typing import TypeVar

import pytest

from p2pledger.ledger.market.views import VIEWS, NoView, view
from p2pledger.ledger.rule import Place
from p2pledger.primitives.codec import U64_MAX, Value, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.market.escrow import OpenEscrow
from p2pledger.primitives.market.instructions import Cancel, Origin, SetHold
from p2pledger.primitives.market.instruments import Describe, Nature, SetVenue
from p2pledger.primitives.market.links import AgreeLink, Cross
from p2pledger.primitives.market.money import PayAcross, Quarantine
from p2pledger.primitives.market.orders import Power
from p2pledger.primitives.market.parties import (
    AccountKind,
    Allocate,
    Effect,
    RegisterAccount,
    RoleNumber,
    SetPermission,
    Tier,
)
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.statements import (
    Beneficiaries,
    Decision,
    Directory,
    Forecast,
    InstructionList,
    InstructionStatement,
    Investor,
    MoneySupply,
    OrderList,
    PositionLine,
    Positions,
    Signers,
    Tasks,
    VenueReport,
    pack,
    unpack,
)
from p2pledger.primitives.transactions import OPERATIONS, Issue, Lock, Transfer
from tests.core import form_values
from tests.ledger.market.authority import by_authority, release
from tests.ledger.market.market_world import (
    BOND,
    BOND_ACROSS,
    CASH,
    DAY_MS,
    HOUR_MS,
    OTHER_CASH,
    SHARE,
    World,
    account,
    founded,
    with_money,
)
from tests.ledger.market.trading import TODAY, affirm, calendar, dvp, instruct, leg, lock, offer
from tests.ledger.small_market import key

T = TypeVar("T")
ALICE, BOB, CAROL, DAVE = (account(name) for name in ("alice", "bob", "carol", "dave"))


@pytest.fixture
def world() -> World:
    return founded()


def seen(world: World, kind: type[T], name: str, *arguments: Value, reader: str = "alice") -> T:
    """A view as a client gets it, through its bytes, of the newest state at the time of its block."""
    place = Place(world.height, world.now_ms, world.spec)
    statement = unpack(kind, view(world.version, place, key(reader).public_key, name, arguments))
    assert unpack(kind, pack(statement)) == statement
    return statement


def positions(world: World, name: str) -> dict[bytes, PositionLine]:
    return {line.asset: line for line in seen(world, Positions, "positions", account(name)).lines}


# --- holdings ---------------------------------------------------------------------------------------------------------


def test_a_position_is_told_by_bucket_with_what_it_is_for(world: World) -> None:
    world.do(Lock(ALICE, BOND, 100, DAVE), "alice")
    trade = instruct("alice", dvp(quantity=50), "bob")
    world.do(trade, "alice")
    world.do([affirm(trade, "bob"), lock(trade.id, "bob")], "bob")
    standing = offer("alice", gives_amount=5, lots=2)
    world.do(standing, "alice")
    escrow = OpenEscrow(ALICE, bytes(16), BOND, 7, BOB, after_height=1, expires_ms=world.now_ms + DAY_MS)
    world.do(escrow, "alice")
    line = positions(world, "alice")[BOND]
    assert {(each.bucket, each.what, each.reference): each.amount for each in line.buckets} == {
        ("free", "", b""): 833,
        ("locked", "controller", DAVE): 100,
        ("settling", "instruction", trade.id): 50,
        ("escrowed", "offer", standing.id): 10,
        ("escrowed", "escrow", escrow.id): 7,
    }
    assert (line.total, line.decimals, line.orders) == (1_000, 0, ())
    assert sum(each.amount for each in line.buckets) == line.total


def test_a_position_tells_which_order_holds_how_much_of_what(world: World) -> None:
    freeze = by_authority(power=Power.PARTIAL_FREEZE, party=ALICE, asset=BOND, quantity=300)
    world.do(freeze, "regulator", "court")
    line = positions(world, "alice")[BOND]
    assert line.orders == (freeze.id,)
    [held] = line.held
    assert (held.order, held.bucket, held.amount, held.outcome) == (freeze.id, "free", 300, "effective now")
    assert positions(world, "alice")[SHARE].orders == ()
    world.do(release(freeze), "regulator", "court")
    assert positions(world, "alice")[BOND].orders == ()


def test_the_accounts_of_a_party_are_told_together(world: World) -> None:
    other = world.open("alice", "other")
    entry = RegisterAccount(other, ALICE, account("csdc"), Tier.INVESTOR, AccountKind.SEGREGATED)
    world.do(entry, "alice", "other", "csdc")
    world.do(Transfer(ALICE, other, BOND, 10), "alice")
    told = seen(world, Positions, "positions", ALICE)
    assert {line.account for line in told.lines if line.asset == BOND} == {ALICE, other}
    assert told.name == "alice"
    alone = seen(world, Positions, "positions", other)
    assert [(line.account, line.total) for line in alone.lines] == [(other, 10)]
    assert alone.name == "alice"


@pytest.fixture
def pool(world: World) -> bytes:
    """An omnibus account of the broker at CSDC: of 500 bonds Bob has 200."""
    made = world.open("broker", "pool")
    entry = RegisterAccount(made, account("broker"), account("csdc"), Tier.BROKER, AccountKind.OMNIBUS)
    world.do(entry, "broker", "pool", "csdc")
    world.do(Transfer(ALICE, made, BOND, 500), "alice")
    world.do(Allocate(made, b"", BOB, BOND, 200), "broker")
    return made


def test_those_entitled_look_through_an_account(world: World, pool: bytes) -> None:
    for reader in ("broker", "csdc", "regulator", "auditor"):
        told = seen(world, Beneficiaries, "look_through", account(reader), pool, BOND, reader=reader)
        assert {line.name: line.amount for line in told.lines} == {"broker": 300, "bob": 200}
        assert told.total == 500
        assert told.seen_as
    own = seen(world, Beneficiaries, "look_through", BOB, pool, BOND, reader="bob")
    assert ([(line.name, line.amount) for line in own.lines], own.total) == ([("bob", 200)], 200)


def test_nobody_else_does_nor_with_a_foreign_key(world: World, pool: bytes) -> None:
    for reader, signed in (("alice", "alice"), ("ccdc", "ccdc"), ("operator", "operator"), ("csdc", "alice")):
        with pytest.raises(NoView) as caught:
            seen(world, Beneficiaries, "look_through", account(reader), pool, BOND, reader=signed)
        assert caught.value.code == "not_entitled"


def test_who_has_the_key_of_an_account_of_an_investors_does_not_read_as_the_investor(world: World, pool: bytes) -> None:
    """A dealer keeps an account of Bob's and has its key: what Bob has with the broker is none of his business."""
    kept = world.open("dealer", "kept")
    entry = RegisterAccount(kept, BOB, account("csdc"), Tier.INVESTOR, AccountKind.SEGREGATED)
    world.do(entry, "bob", "kept", "csdc")
    for name, *about in (("investor", BOB), ("look_through", pool, BOND)):
        with pytest.raises(NoView, match="reads as the party") as caught:
            seen(world, Investor, name, kept, *about, reader="kept")
        assert caught.value.code == "not_entitled"


def test_an_investor_is_seen_over_both_registers_as_far_as_the_reader_may(world: World, pool: bytes) -> None:
    world.do(AgreeLink(b"CSDC", b"CCDC", b"DE0005140008", 500, 0), "csdc", "ccdc")
    world.do(Cross(BOB, BOND, b"CCDC", 100, bytes(16)), "bob")
    himself = seen(world, Investor, "investor", BOB, BOB, reader="bob")
    lines = {line.asset: (line.free, line.held_for_him) for line in himself.lines}
    assert lines == {BOND: (1_100, 200), BOND_ACROSS: (100, 0), CASH: (50_000, 0)}
    assert himself.seen_as == "himself"
    assert {line.register for line in himself.lines} == {b"CSDC", b"CCDC", b"ICBC"}
    for reader, assets in (
        ("csdc", {BOND: 1_100}),
        ("ccdc", {BOND_ACROSS: 100}),
        ("auditor", {BOND: 1_100, BOND_ACROSS: 100, CASH: 50_000}),
        ("broker", {BOND: 200}),
    ):
        told = seen(world, Investor, "investor", account(reader), BOB, reader=reader)
        assert {line.asset: line.free for line in told.lines} == assets, reader
    with pytest.raises(NoView, match="within the reader's scope"):
        seen(world, Investor, "investor", CAROL, BOB, reader="carol")


def test_what_an_omnibus_account_holds_for_others_is_not_its_owners(world: World, pool: bytes) -> None:
    told = seen(world, Investor, "investor", account("broker"), account("broker"), reader="broker")
    assert [(line.asset, line.free) for line in told.lines] == [(BOND, 300)]


def test_a_mirror_is_marked(world: World) -> None:
    describe = Describe(
        account("ccdc"), BOND_ACROSS, Nature.MIRROR, "DBFTFB", "", "BOND", "CNY", 0, TODAY, 0, "China", ()
    )
    world.do(describe, "ccdc", "issuer")
    world.do(AgreeLink(b"CSDC", b"CCDC", b"DE0005140008", 500, 0), "csdc", "ccdc")
    world.refuse("is_mirror", Cross(BOB, BOND, b"CCDC", 100, bytes(16)), "bob")
    told = seen(world, Investor, "investor", BOB, BOB, reader="bob")
    assert {line.asset: line.is_mirror for line in told.lines} == {BOND: False, CASH: False}


# --- instructions -----------------------------------------------------------------------------------------------------


def test_an_instruction_is_told_with_its_statuses_moments_and_legs(world: World) -> None:
    world.do(calendar(), "operator")
    trade = instruct("alice", dvp(), "bob", reference="T-1", calendar="TARGET")
    world.do(trade, "alice")
    told = seen(world, InstructionStatement, "instruction", trade.id)
    assert (told.line.processing, told.line.matching, told.line.settlement) == ("accepted", "unmatched", "pending")
    assert told.line.code
    assert [(each.name, each.affirmed) for each in told.participants] == sorted(
        [("alice", True), ("bob", False)], key=lambda each: account(each[0])
    )
    assert [(moment.name, bool(moment.height)) for moment in told.moments] == [
        ("entry", True), ("irrevocable", False), ("final", False),
    ]  # fmt: skip
    assert [(each.giver, each.asset, each.amount, each.decimals) for each in told.legs] == [
        (ALICE, BOND, 10, 0), (BOB, CASH, 1_000, 2),
    ]  # fmt: skip
    assert (told.origin, told.calendar, told.legs_wanted, told.rules_version) == ("party", "TARGET", 2, 0)
    assert affirm(trade, "bob").legs == told.digest

    world.do([affirm(trade, "bob"), lock(trade.id, "bob")], "bob")
    locked = seen(world, InstructionStatement, "instruction", trade.id)
    assert [bool(moment.height) for moment in locked.moments] == [True, True, False]
    assert locked.rules_version > 0
    assert locked.line.due_ms > world.now_ms
    freeze = by_authority(power=Power.FREEZE, party=ALICE)
    world.do(freeze, "regulator", "court")
    assert seen(world, InstructionStatement, "instruction", trade.id).stopped_by == (freeze.id,)
    world.do(release(freeze), "regulator", "court")

    world.wait_until(locked.line.due_ms)
    settled = seen(world, InstructionStatement, "instruction", trade.id)
    assert (settled.line.settlement, settled.line.code) == ("settled", "")
    assert settled.moments[2].time_ms == world.now_ms


def test_two_that_matched_name_each_other_and_share_their_participants(world: World) -> None:
    one, other = instruct("alice", dvp(), "bob"), instruct("bob", dvp(), "alice")
    world.do(one, "alice")
    world.do(other, "bob")
    first = seen(world, InstructionStatement, "instruction", one.id)
    second = seen(world, InstructionStatement, "instruction", other.id)
    assert (first.pair, second.pair) == (other.id, one.id)
    assert first.line.matching == second.line.matching == "matched"
    assert first.participants == second.participants


def test_what_will_come_of_an_instruction_is_known_when_it_is_locked(world: World) -> None:
    world.do(calendar(), "operator")
    trade = instruct("alice", dvp(), "bob", calendar="TARGET")
    world.do(trade, "alice")
    before = seen(world, Forecast, "forecast", trade.id)
    assert (before.is_locked, Reason(before.code).title) == (False, "not_matched")
    world.do([affirm(trade, "bob"), lock(trade.id, "bob")], "bob")
    world.do(Transfer(ALICE, CAROL, BOND, world.free("alice", BOND)), "alice")
    freeze = by_authority(power=Power.FREEZE, party=ALICE)
    world.do(freeze, "regulator", "court")
    stopped = seen(world, Forecast, "forecast", trade.id)
    assert (Reason(stopped.code).title, freeze.id.hex()[:8] in stopped.rule) == ("order_stops", True)
    world.do(release(freeze), "regulator", "court")
    said = seen(world, Forecast, "forecast", trade.id)
    assert (said.is_locked, said.code, said.rule) == (True, 0, "")
    world.wait_until(said.time_ms)
    assert seen(world, InstructionStatement, "instruction", trade.id).line.settlement == "settled"
    with pytest.raises(NoView):
        seen(world, Forecast, "forecast", bytes(32))


def test_instructions_are_listed_page_by_page_all_or_those_of_a_party(world: World) -> None:
    made = [instruct("alice", dvp(quantity=number), "bob") for number in range(1, 6)]
    made.append(instruct("carol", [leg("carol", "dave", SHARE, 1)], "dave"))
    for each in made:
        world.do(each, "carol" if each.by == CAROL else "alice")
    ordered = sorted(each.id for each in made)
    first = seen(world, InstructionList, "instructions", b"", b"", 4)
    assert [line.id for line in first.lines] == ordered[:4]
    rest = seen(world, InstructionList, "instructions", b"", first.next, 4)
    assert ([line.id for line in rest.lines], rest.next) == (ordered[4:], b"")
    for party, count in ((BOB, 5), (DAVE, 1), (account("broker"), 0)):
        assert len(seen(world, InstructionList, "instructions", party, b"", 100).lines) == count


def tasks(world: World, name: str) -> list[tuple[str, bytes]]:
    told = seen(world, Tasks, "tasks", account(name))
    assert [line.deadline_ms for line in told.lines] == sorted(line.deadline_ms for line in told.lines)
    assert all(line.sentence and line.deadline_ms > world.now_ms for line in told.lines)
    return [(line.what, line.reference) for line in told.lines]


def test_tasks_say_who_has_to_do_what(world: World) -> None:
    trade = instruct("alice", dvp(), "bob")
    world.do(trade, "alice")
    assert (tasks(world, "alice"), tasks(world, "bob")) == ([], [("affirm", trade.id)])
    world.do(affirm(trade, "bob"), "bob")
    assert tasks(world, "bob") == []
    world.do(SetHold(trade.id, BOB, True), "bob")
    assert tasks(world, "bob") == [("set_hold", trade.id)]
    world.do(SetHold(trade.id, BOB, False), "bob")
    world.do(Cancel(trade.id, ALICE), "alice")
    assert (tasks(world, "alice"), tasks(world, "bob")) == ([], [("cancel", trade.id)])
    world.do(Cancel(trade.id, BOB), "bob")
    assert tasks(world, "bob") == []


def test_missing_legs_escrows_and_waiting_payments_are_tasks_too(world: World) -> None:
    part = instruct("alice", dvp()[:1], "bob", leg_count=2)
    world.do(part, "alice")
    assert tasks(world, "alice") == [("add_legs", part.id)]
    assert tasks(world, "bob") == []
    escrow = OpenEscrow(CAROL, bytes(16), SHARE, 1, DAVE, (account("auditor"),), 1, expires_ms=world.now_ms + HOUR_MS)
    world.do(escrow, "carol")
    assert tasks(world, "dave") == tasks(world, "auditor") == [("fulfil_escrow", escrow.id)]

    with_money(world)
    world.do(Transfer(account("icbc"), account("pboc"), asset_id("CNY@PBOC"), 100_000), "icbc")
    payment = PayAcross(CAROL, DAVE, CASH, OTHER_CASH, 100, bytes(16), 0)
    world.do(payment, "carol")
    assert ("release_payment", payment.id) in tasks(world, "carol")
    assert tasks(world, "icbc") == [("release_payment", payment.id)]


# --- money, venues, orders, permissions -------------------------------------------------------------------------------


def test_the_supply_of_money_is_told_by_bank_and_in_total(world: World) -> None:
    with_money(world, attested=400_000)
    world.do(Quarantine(account("pboc"), OTHER_CASH, True, bytes(32)), "pboc")
    told = seen(world, MoneySupply, "money_supply")
    lines = {line.asset: line for line in told.lines}
    assert (lines[CASH].kind, lines[CASH].circulating, lines[CASH].attested) == ("bank", 150_000, 400_000)
    assert (lines[CASH].reserves, lines[CASH].bank_name, lines[CASH].waiting) == (100_000, "icbc", 0)
    assert (lines[OTHER_CASH].is_quarantined, lines[CASH].is_quarantined) == (True, False)
    [total] = told.totals
    assert (total.currency, total.base, total.reserves, total.bank_money) == ("CNY", 200_000, 200_000, 200_000)
    assert (total.held_by_public, total.only_authorised) == (200_000, False)


def test_totals_beyond_64_bits_are_told_as_the_greatest_number(world: World) -> None:
    """Two banks whose attestors vouch for anything must not keep nodes from answering."""
    with_money(world, attested=U64_MAX)
    for bank, asset in (("icbc", CASH), ("cmbc", OTHER_CASH)):
        world.do(Issue(asset, account(bank), U64_MAX - 200_000), bank)
    [total] = seen(world, MoneySupply, "money_supply").totals
    assert (total.bank_money, total.held_by_public) == (U64_MAX, U64_MAX)


def test_a_venue_is_told_what_became_of_its_trades(world: World) -> None:
    world.do(SetVenue(account("csdc"), BOND, account("sse"), True), "csdc")
    good = instruct("sse", dvp(), origin=Origin.VENUE)
    poor = instruct("sse", dvp(quantity=5_000), origin=Origin.VENUE)
    for trade in (good, poor):
        world.do(trade, "sse")
        for name in ("alice", "bob"):
            world.do(affirm(trade, name), name)
    told = seen(world, VenueReport, "venue_report", account("sse"), b"", 100)
    assert (told.settled, told.failing, told.pending, told.cancelled) == (0, 0, 2, 0)
    assert [(line.asset, line.is_on) for line in told.assets] == [(BOND, True)]
    world.wait_until(max(line.due_ms for line in told.lines))
    told = seen(world, VenueReport, "venue_report", account("sse"), b"", 100)
    assert (told.settled, told.failing) == (1, 1)
    assert {line.id: (line.settlement, line.code) for line in told.lines} == {
        good.id: ("settled", ""),
        poor.id: ("failing", "LACK"),
    }


def test_orders_are_listed_with_their_status(world: World) -> None:
    freeze = by_authority(power=Power.FREEZE, party=ALICE, asset=BOND)
    world.do(freeze, "regulator", "court")
    world.do(release(freeze), "regulator", "court")
    told = {line.id: line for line in seen(world, OrderList, "orders", b"").lines}
    assert (told[freeze.id].power, told[freeze.id].status, told[freeze.id].party) == ("freeze", "lifted", ALICE)
    assert {line.power for line in told.values()} == {"freeze", "release"}
    assert freeze.id.hex()[:8] in told[freeze.id].rule


def test_a_permission_is_explained_by_the_rule_that_decides(world: World) -> None:
    def explain(name: str, code: int, asset: bytes = b"", amount: int = 0) -> Decision:
        return seen(world, Decision, "explain", account(name), code, asset, amount)

    refused = explain("csdc", Describe.code, BOND_ACROSS)
    assert (refused.is_allowed, refused.rule) == (False, "depositories write in their own register only")
    assert (refused.operation, refused.name, refused.roles) == ("describe", "csdc", ("depository",))
    assert explain("ccdc", Describe.code, BOND_ACROSS).is_allowed
    limit = SetPermission(
        account("operator"), "small trades", Effect.DENY, RoleNumber.INVESTOR, b"", (Transfer.code,), "", b"", 100, 0, 0
    )
    world.do(limit, "operator")
    assert explain("alice", Transfer.code, BOND, 100).is_allowed
    denied = explain("alice", Transfer.code, BOND, 101)
    assert (denied.is_allowed, denied.rule) == (False, "small trades")
    assert [(each.name, each.effect, each.why_not) for each in denied.weighed] == [("small trades", "deny", "")]
    # What is explained is what happens.
    assert world.refuse("not_permitted", Transfer(ALICE, BOB, BOND, 101), "alice") == "small trades"
    with pytest.raises(NoView):
        explain("alice", 31)


# --- for programs -----------------------------------------------------------------------------------------------------


def test_the_directory_knows_parties_and_their_accounts(world: World, pool: bytes) -> None:
    told = seen(world, Directory, "directory", b"")
    lines = {line.account: line for line in told.lines}
    assert [line.account for line in told.lines] == sorted(lines)
    assert (lines[ALICE].name, lines[ALICE].roles, lines[ALICE].owner) == ("alice", ("investor",), ALICE)
    assert (lines[pool].name, lines[pool].owner) == ("", account("broker"))
    assert told.next == b""


def test_who_has_to_sign_is_what_the_rules_say(world: World) -> None:
    trade = instruct("alice", dvp(), "bob")
    operations = [trade, Transfer(BOB, ALICE, BOND, 1), lock(bytes(32), "carol")]
    told = seen(world, Signers, "signers", tuple(encode(each.values()) for each in operations))
    assert set(told.accounts) == {ALICE, BOB, CAROL}
    with pytest.raises(PeerFault):
        seen(world, Signers, "signers", (encode((31, 1)),))
    with pytest.raises(PeerFault):
        seen(world, Signers, "signers", (b"\xc1",))


def test_operations_of_right_form_and_no_meaning_need_nobody_or_somebody(world: World) -> None:
    dice = random.Random(11)
    for kind in OPERATIONS.values():
        drawn = tuple(encode(form_values.operation(kind, dice).values()) for _ in range(20))
        seen(world, Signers, "signers", drawn)


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("weather", (), "unknown_view"),
        ("positions", (bytes(32),), "unknown_account"),
        ("tasks", (bytes(32),), "unknown_account"),
        ("instruction", (bytes(32),), "unknown_instruction"),
        ("look_through", (ALICE, bytes(32), BOND), "unknown_account"),
        ("look_through", (bytes(32), ALICE, BOND), "not_entitled"),
    ],
)
def test_what_does_not_exist_is_told_by_a_code(
    world: World, name: str, arguments: tuple[Value, ...], code: str
) -> None:
    with pytest.raises(NoView) as caught:
        seen(world, Positions, name, *arguments)
    assert caught.value.code == code


def test_arguments_of_another_form_are_refused(world: World) -> None:
    for name, (count, _) in VIEWS.items():
        with pytest.raises(PeerFault):
            seen(world, Positions, name, *([None] * (count + 1)))
        if count:
            with pytest.raises(PeerFault):
                seen(world, Positions, name, *([None] * count))


def test_a_statement_of_another_kind_or_version_is_refused() -> None:
    data = pack(Signers((ALICE,)))
    assert unpack(Signers, data) == Signers((ALICE,))
    for bad in (data[:-1], encode((2, (ALICE,))), encode((1,)), encode((1, ("alice",))), encode((1, (1,))), encode(7)):
        with pytest.raises(PeerFault):
            unpack(Signers, bad)
    with pytest.raises(PeerFault):
        unpack(Tasks, data)


def test_whatever_a_client_asks_gets_an_answer_or_a_code(world: World, pool: bytes) -> None:
    """An error of another kind would stop the node."""
    trade = instruct("alice", dvp()[:1], "bob", leg_count=2)
    world.do(trade, "alice")
    dice = random.Random(7)
    asset_like = (BOND, b"", b"x", bytes(16), b"\xff" * 16, BOND_ACROSS)
    account_like = (ALICE, pool, trade.id, bytes(32), b"\xff" * 32, b"", b"y" * 31)
    numbers = (0, 1, 31, 50, 255, 256, 1_000, 1_001, 2**64 - 1)
    others: tuple[Value, ...] = (None, True, "text", (), (b"",), (encode((50,)),), (encode(trade.values()),) * 300)
    place = Place(world.height, world.now_ms, world.spec)
    answered = 0
    for _ in range(4_000):
        name = dice.choice(tuple(VIEWS))
        count = VIEWS[name][0] + dice.choice((0, 0, 0, 0, 0, 0, 1))
        arguments = tuple(
            dice.choice(dice.choice((account_like, account_like, asset_like, numbers, others))) for _ in range(count)
        )
        try:
            view(world.version, place, key("alice").public_key, name, arguments)
            answered += 1
        except (NoView, PeerFault):
            pass
    assert answered > 100
