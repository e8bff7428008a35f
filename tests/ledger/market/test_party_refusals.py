"""In the order in which a rule's docstring names its refusals, the first that applies decides.

Each entry breaks one condition *and those after it*, so that a check in the wrong place is seen.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from p2pledger.ledger.market import claims, holders, listing, omnibus, permissions, registration
from p2pledger.ledger.operations import RULES
from p2pledger.primitives.forms import operation_name
from p2pledger.primitives.market.instruments import (
    INSTRUMENT_OPERATIONS,
    Accredit,
    Describe,
    InstrumentStatus,
    Nature,
    SetHolderRules,
    SetStatus,
    SetVenue,
)
from p2pledger.primitives.market.orders import Order, Power
from p2pledger.primitives.market.parties import (
    PARTY_OPERATIONS,
    AccountKind,
    Allocate,
    DropPermission,
    Effect,
    IssueClaim,
    RegisterAccount,
    RegisterParty,
    RevokeClaim,
    RoleNumber,
    SetPermission,
    Tier,
    TrustIssuer,
)
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import Operation, Transfer
from tests.ledger.market.market_world import BOND, BOND_ACROSS, SHARE, World, account, founded, opened

CSDC, CCDC, OPERATOR, REGULATOR, ISSUER, BROKER, ALICE, BOB, CAROL, DAVE, SSE = (
    account(name)
    for name in (
        "csdc", "ccdc", "operator", "regulator", "issuer", "broker", "alice", "bob", "carol", "dave", "sse",
    )
)  # fmt: skip
LEI, STRANGER = "5493001KJTIIGC8Y1R12", bytes(31) + b"x"
NOWHERE = asset_id("US5949181045@CSDC")
FUND, POOL, OWNED, LOOSE = (opened("alice", name) for name in ("fund", "pool", "owned", "loose"))


@pytest.fixture(scope="module")
def settled() -> World:
    """A fund that CSDC sponsors, a pool with 100 units for Bob and 50 for Carol, an account of Alice's, one of nobody;

    permissions of CSDC, an accreditation by CSDC, a share that is described, rules about who holds the bond.
    """
    world = founded()
    for name in ("fund", "pool", "owned", "loose"):
        world.open("alice", name)
    world.do(RegisterParty(CSDC, FUND, "The fund", LEI, "DE", (RoleNumber.BROKER,)), "csdc", "fund")
    pool = RegisterAccount(POOL, BROKER, CSDC, Tier.BROKER, AccountKind.OMNIBUS)
    world.do(pool, "broker", "pool", "csdc")
    owned = RegisterAccount(OWNED, ALICE, CSDC, Tier.INVESTOR, AccountKind.SEGREGATED)
    world.do(owned, "alice", "owned", "csdc")
    for asset, holder in ((BOND, "alice"), (SHARE, "alice")):
        world.do(Transfer(account(holder), POOL, asset, 500), holder)
        world.do([Allocate(POOL, b"", BOB, asset, 100), Allocate(POOL, b"", CAROL, asset, 50)], "broker")
    world.do(
        SetPermission(CSDC, "ours", Effect.DENY, RoleNumber.ANYBODY, STRANGER[:0], (SetVenue.code,), "XX", b"CSDC"),
        "csdc",
    )
    world.do(Accredit(CSDC, ISSUER, 1), "csdc")
    world.do(Describe(CSDC, SHARE, Nature.NATIVE, "ESVUFR", "", "SHR", "CNY", 0, 0, 0, "CN"), "csdc", "issuer")
    world.do(TrustIssuer(REGULATOR, "qualified", REGULATOR, True), "regulator")
    world.do(IssueClaim(REGULATOR, CAROL, "qualified"), "regulator")
    world.do(SetHolderRules(CSDC, BOND, ("qualified",), most_share_ppm=30_000), "csdc")
    freeze = Order(REGULATOR, account("court"), bytes(16), Power.FREEZE, party=BOB, catches_later=True)
    world.do(freeze, "regulator", "court")
    return world


def denial(by: bytes, name: str = "new", **changes: object) -> SetPermission:
    fields = {"party": b"", "operations": (SetVenue.code,), "register": b"", **changes}
    return SetPermission(by, name, Effect.DENY, RoleNumber.ANYBODY, **fields)  # type: ignore[arg-type]


def description(**changes: object) -> Describe:
    fields = {
        "by": CSDC, "asset": BOND, "nature": Nature.NATIVE, "cfi": "DBFTFB", "mic": "", "ticker": "SHR",
        "currency": "CNY", "issue_size": 1, "issue_day": 0, "maturity_day": 0, "governing_law": "CN",
    }  # fmt: skip
    return Describe(**{**fields, **changes})  # type: ignore[arg-type]


def party(**changes: object) -> RegisterParty:
    fields = {"sponsor": CSDC, "party": LOOSE, "name": "broker", "lei": LEI, "country": "DE"}
    return RegisterParty(**{**fields, "roles": (RoleNumber.BROKER,), **changes})  # type: ignore[arg-type]


def custody(**changes: object) -> RegisterAccount:
    fields = {"account": LOOSE, "owner": ALICE, "custodian": CSDC, "tier": Tier.BROKER, "kind": AccountKind.OWN}
    return RegisterAccount(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Entry:
    reason: str
    operation: Operation
    signers: tuple[str, ...]


def entries() -> Iterable[Entry]:
    """In the order of each rule's docstring."""
    for reason, operation, *signers in (
        # register_party
        ("not_permitted", party(sponsor=BROKER, lei=""), "broker", "loose"),
        ("already_registered", party(sponsor=CCDC, party=FUND, lei=""), "ccdc", "fund"),
        ("bad_party", party(lei=""), "csdc", "loose"),
        ("looks_alike", party(lei="7LTWFZYICNSX8D621K86"), "csdc", "loose"),
        # register_account
        ("not_permitted", custody(account=OWNED, custodian=BOB, owner=LOOSE), "bob", "owned", "loose"),
        ("already_registered", custody(account=OWNED, owner=LOOSE), "csdc", "owned", "loose"),
        ("unknown_party", custody(owner=LOOSE), "csdc", "loose"),
        ("bad_custody", custody(), "csdc", "alice", "loose"),
        # allocate
        ("bad_custody", Allocate(ALICE, BOB, BOB, NOWHERE, 0), "alice"),
        ("zero_amount", Allocate(POOL, BOB, BOB, NOWHERE, 0), "broker"),
        ("same_account", Allocate(POOL, STRANGER, STRANGER, NOWHERE, 1), "broker"),
        ("unknown_asset", Allocate(POOL, BOB, STRANGER, NOWHERE, 999), "broker"),
        ("unknown_party", Allocate(POOL, BOB, STRANGER, SHARE, 999), "broker"),
        ("inactive", Allocate(POOL, BOB, DAVE, SHARE, 999), "broker"),
        ("insufficient_allocation", Allocate(POOL, BOB, DAVE, BOND, 999), "broker"),
        ("order_stops", Allocate(POOL, BOB, DAVE, BOND, 99), "broker"),
        ("ineligible", Allocate(POOL, CAROL, DAVE, BOND, 50), "broker"),
        ("holder_limit", Allocate(POOL, b"", CAROL, BOND, 50), "broker"),
        # set_permission
        ("unknown_register", denial(ALICE, register=b"NONE", party=STRANGER), "alice"),
        ("not_permitted", denial(CSDC, register=b"CCDC", party=STRANGER), "csdc"),
        ("unknown_party", denial(CCDC, "ours", register=b"CCDC", party=STRANGER, operations=(9,)), "ccdc"),
        ("bad_permission", denial(CCDC, "ours", register=b"CCDC", operations=(9,)), "ccdc"),
        ("already_registered", denial(CCDC, "ours", register=b"CCDC"), "ccdc"),
        # drop_permission
        ("unknown_record", DropPermission(ALICE, "other"), "alice"),
        ("not_permitted", DropPermission(CCDC, "ours"), "ccdc"),
        # describe
        ("unknown_asset", description(asset=NOWHERE, by=ALICE, cfi="XXXXXX"), "alice", "issuer"),
        ("not_permitted", description(by=CCDC, cfi="XXXXXX"), "ccdc", "issuer"),
        ("bad_description", description(cfi="XXXXXX"), "csdc", "issuer"),
        ("above_issue_size", description(), "csdc", "issuer"),
        ("looks_alike", description(issue_size=0), "csdc", "issuer"),
        # set_status
        ("unknown_asset", SetStatus(ALICE, NOWHERE, InstrumentStatus.ACTIVE), "alice"),
        ("not_permitted", SetStatus(CCDC, BOND, InstrumentStatus.ACTIVE), "ccdc"),
        ("unknown_record", SetStatus(CSDC, BOND, InstrumentStatus.ACTIVE), "csdc"),
        ("not_accredited", SetStatus(CSDC, SHARE, InstrumentStatus.ACTIVE), "csdc"),
        # accredit
        ("not_permitted", Accredit(ALICE, STRANGER, 0), "alice"),
        ("unknown_party", Accredit(CCDC, STRANGER, 0), "ccdc"),
        ("already_registered", Accredit(CCDC, ISSUER, 0), "ccdc"),
        # set_venue
        ("unknown_asset", SetVenue(ALICE, NOWHERE, STRANGER, True), "alice"),
        ("not_permitted", SetVenue(CSDC, BOND_ACROSS, STRANGER, True), "csdc"),
        ("unknown_party", SetVenue(CSDC, BOND, STRANGER, True), "csdc"),
        ("bad_party", SetVenue(CSDC, BOND, ALICE, True), "csdc"),
        # set_holder_rules
        ("unknown_asset", SetHolderRules(ALICE, NOWHERE, countries=("xx",)), "alice"),
        ("not_permitted", SetHolderRules(CCDC, BOND, countries=("xx",)), "ccdc"),
        ("bad_party", SetHolderRules(CSDC, BOND, countries=("xx",)), "csdc"),
        # trust_issuer
        ("not_permitted", TrustIssuer(ALICE, "topic", STRANGER, False), "alice"),
        ("unknown_party", TrustIssuer(CSDC, "topic", STRANGER, False), "csdc"),
        ("unknown_record", TrustIssuer(CSDC, "topic", ALICE, False), "csdc"),
        # issue_claim
        ("not_permitted", IssueClaim(ALICE, STRANGER, "qualified", "", 1), "alice"),
        ("unknown_account", IssueClaim(REGULATOR, STRANGER, "qualified", "", 1), "regulator"),
        ("bad_party", IssueClaim(REGULATOR, BOB, "qualified", "", 1), "regulator"),
        # revoke_claim
        ("unknown_record", RevokeClaim(ALICE, BOB, "qualified"), "alice"),
    ):
        yield Entry(reason, operation, tuple(signers))  # type: ignore[arg-type]


ENTRIES = tuple(entries())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{operation_name(type(entry.operation))}-{entry.reason}")
def test_the_first_that_applies_decides(settled: World, entry: Entry) -> None:
    world = World(settled.genesis, settled.height, settled.now_ms, settled.salt)
    world.version = settled.version
    world.refuse(entry.reason, entry.operation, *entry.signers)


ELSEWHERE = {
    # The signature of an account that does not exist is asked for first, and gives the same code.
    ("register_party", "unknown_account"), ("register_account", "unknown_account"),
    # Only a permission refuses these, or what 20,000 holdings make expensive: test_permissions.py, test_holders.py.
    ("allocate", "not_permitted"), ("revoke_claim", "not_permitted"), ("set_holder_rules", "holder_limit"),
    # Whoever may drop it, and has not set it, is an operator or the depository of its register: test_permissions.py.
    ("drop_permission", "already_registered"),
}  # fmt: skip


def test_every_refusal_that_a_rule_names_is_tried_in_its_order() -> None:
    ours = [*PARTY_OPERATIONS, *INSTRUMENT_OPERATIONS]
    named = {kind for module in (claims, holders, listing, omnibus, permissions, registration) for kind in module.RULES}
    assert named == set(ours)
    for kind in ours:
        text = re.search(r"refuses +(.+?)\n\n", f"{RULES[kind].__doc__}\n\n", re.DOTALL)
        assert text is not None
        name = operation_name(kind)
        listed = [reason for reason in re.findall(r"\w+", text[1]) if (name, reason) not in ELSEWHERE]
        tried = list(dict.fromkeys(entry.reason for entry in ENTRIES if isinstance(entry.operation, kind)))
        assert tried == [reason for reason in listed if reason in tried], name
        assert set(tried) == {reason for reason in listed if "_" in reason or reason in ("inactive", "ineligible")}, (
            name
        )
