"""The rulebook: who may do what, as far as it is the same in every network.

Each operation stands under exactly one *article*. An article has a name, which refusals carry, and grants: a role that
may, or the keeper of the register that the operation is about. Where an article grants nothing in particular, everybody
may who can sign for the accounts that the operation's own rule names; what else that rule asks for (being a party to a
trade, the holder of a lock) stands there.

Networks narrow this by permissions (``permissions.py``); nothing widens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from p2pledger.primitives.forms import operation_name
from p2pledger.primitives.market.parties import Role
from p2pledger.primitives.transactions import OPERATIONS

__all__ = ["ARTICLES", "BOOK", "Article", "article_of", "name_of"]


@dataclass(frozen=True, slots=True)
class Article:
    """``roles`` may anywhere; with ``keeper``, the depository of the register concerned may too, there.

    ``fixed``: no permission reaches it, so that nobody shuts out those who could open again, or supervise.
    """

    name: str
    operations: tuple[str, ...]
    roles: tuple[Role, ...] = ()
    keeper: bool = False
    fixed: bool = False

    @property
    def open_to_all(self) -> bool:
        return not self.roles and not self.keeper


ARTICLES: Final[tuple[Article, ...]] = (
    Article(
        "owners dispose of their own accounts",
        (
            "transfer", "lock", "release", "open", "set_policy", "pay", "stake", "unstake", "cross",
            "open_escrow", "fulfil_escrow", "return_escrow", "place_offer", "take_offer", "withdraw_offer",
            "pay_across", "release_payment", "cancel_payment",
        ),
    ),
    Article("issuers create and redeem what they have issued", ("issue", "redeem", "set_finality")),
    Article("validators keep the ledger", ("set_validators", "report")),
    Article("parties instruct, affirm and settle trades of their own",
            ("instruct", "add_legs", "affirm", "set_hold", "cancel", "lock_instruction", "settle", "authorise_venue")),
    Article("depositories write in their own register only",
            ("define", "describe", "set_status", "set_venue", "set_holder_rules", "reconcile"), keeper=True),
    Article("depositories link their own register only", ("agree_link", "end_link"), keeper=True),
    Article("operators and depositories sponsor parties",
            ("register_party",), roles=(Role.OPERATOR, Role.DEPOSITORY)),
    Article("depositories, brokers and banks keep accounts",
            ("register_account",), roles=(Role.DEPOSITORY, Role.BROKER, Role.BANK)),
    Article("depositories, brokers and banks allocate to customers",
            ("allocate",), roles=(Role.DEPOSITORY, Role.BROKER, Role.BANK)),
    Article("operators set permissions, depositories in their register",
            ("set_permission", "drop_permission"), roles=(Role.OPERATOR,), keeper=True, fixed=True),
    Article("supervisors, operators and depositories accredit issuers",
            ("accredit",), roles=(Role.REGULATOR, Role.OPERATOR, Role.DEPOSITORY), fixed=True),
    Article("supervisors, operators and depositories say whom to trust",
            ("trust_issuer",), roles=(Role.REGULATOR, Role.OPERATOR, Role.DEPOSITORY), fixed=True),
    Article("parties state claims in their own name", ("issue_claim", "revoke_claim")),
    Article("operators, depositories and venues keep calendars",
            ("set_calendar",), roles=(Role.OPERATOR, Role.DEPOSITORY, Role.VENUE)),
    Article("central banks authorise money", ("authorise_money", "set_payment_policy"), roles=(Role.CENTRAL_BANK,)),
    Article("the attestor of a money attests its deposits", ("attest",)),
    Article("central banks and supervisors quarantine a bank's money",
            ("quarantine",), roles=(Role.CENTRAL_BANK, Role.REGULATOR), fixed=True),
    Article("supervisors order, and a second one approves",
            ("order",), roles=(Role.REGULATOR,), fixed=True),
    Article("who is under an order appeals", ("appeal",), fixed=True),
)  # fmt: skip
"""All articles. Together they name every operation once."""

BOOK: Final[Mapping[str, Article]] = MappingProxyType(
    {operation: article for article in ARTICLES for operation in article.operations}
)
"""Name of an operation -> its article."""


def name_of(code: int) -> str | None:
    """The name of the operation of a code; None where there is none."""
    kind = OPERATIONS.get(code)
    return None if kind is None else operation_name(kind)


@cache
def article_of(code: int) -> Article:
    """The article under which an operation stands. AssertionError where the rulebook is silent."""
    name = name_of(code) or ""
    assert name in BOOK, f"the rulebook says nothing about operation {code} ({name})"
    return BOOK[name]
