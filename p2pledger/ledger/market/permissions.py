"""Permissions: who may do what in this network. Every rule of the market asks ``require`` once for its actor.

    1  the article of the rulebook under which the operation stands (``rulebook.py``) must grant it
    2  a permission that denies it to this actor refuses
    3  where permissions allow it in this scope, one of them must allow it to this actor

A permission's *scope* is its operations, its class of instruments (what a CFI code begins with) and its register; an
operation on an asset is in scope if all three agree, and one that concerns no asset or register only if the permission
names none. Within its scope it concerns actors of a role, one party, amounts, and a span of time. An allowing
permission that has run out still closes its scope to everybody whom no other one allows: permissions never open
anything by ending.

What is decided bears a name, the article's or the permission's. Refusals carry it, and ``explain`` shows all that was
weighed. Plain operations (transfer, lock, issue, redeem) ask nobody, as the core executes them in bulk; assets in the
scope of a permission that names one of them therefore carry the flag PERMISSIONED, and a guard asks for them. Releasing
a lock is always permitted, if orders let it: it gives back what is the owner's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.flags import set_asset_flag
from p2pledger.ledger.market.instruments import class_of, holds_until
from p2pledger.ledger.market.movement import Cause, Movement
from p2pledger.ledger.market.parties import party_of
from p2pledger.ledger.market.rulebook import Article, article_of
from p2pledger.ledger.rule import Place, Refused, Rule, require_asset
from p2pledger.ledger.tables import Asset, AssetFlag, Party, Table, fields_of, register_of
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.parties import DropPermission, Effect, Role, RoleNumber, SetPermission
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import OPERATIONS

__all__ = [
    "MOST_PERMISSIONS",
    "PLAIN",
    "RULES",
    "Decision",
    "Permission",
    "PermissionGuard",
    "Weighed",
    "explain",
    "flags_at_birth",
    "is_permissioned",
    "permission_key",
    "permissions_of",
    "require",
]

MOST_PERMISSIONS: Final = 256
"""Every operation of the market reads them all."""

PLAIN: Final = frozenset(kind.code for kind in (tx.Transfer, tx.Lock, tx.Issue, tx.Redeem))
"""The operations that a guard asks for; others below 32 need no permission of the ledger."""

_FIRST_MARKET_CODE: Final = 32


@dataclass(frozen=True, slots=True)
class Permission:
    """PERMISSIONS: fields as in ``SetPermission``."""

    table: ClassVar[Table] = Table.PERMISSIONS

    by: bytes
    effect: Effect
    role: RoleNumber
    party: bytes
    operations: tuple[int, ...]
    instrument_class: str
    register: bytes
    most_amount: int
    from_ms: int
    until_ms: int

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.by,
                int(self.effect),
                int(self.role),
                self.party,
                self.operations,
                self.instrument_class,
                self.register,
                self.most_amount,
                self.from_ms,
                self.until_ms,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        by, effect, role, *others = fields_of(row, "PERMISSIONS", 10)
        return cls(by, Effect(effect), RoleNumber(role), *others)

    def covers(self, operation: int, instrument_class: str, register: bytes) -> bool:
        """Whether an operation on an asset of this class and register is in scope."""
        return (
            operation in self.operations
            and instrument_class.startswith(self.instrument_class)
            and self.register in (b"", register)
        )

    def weigh(self, actor: bytes, party: bytes | None, roles: tuple[str, ...], amount: int, time_ms: int) -> str:
        """Why it does not concern an actor and amount at a time; empty where it does."""
        if self.party and self.party not in (actor, party):
            return "concerns another party"
        if self.role and self.role.role not in roles:
            return f"concerns parties of role {self.role.name.lower()}"
        if time_ms < self.from_ms:
            return "does not hold yet"
        if not holds_until(self.until_ms, time_ms):
            return "does not hold any more"
        if self.most_amount and (amount > self.most_amount) is (self.effect is Effect.ALLOW):
            return f"{'allows up to' if self.effect is Effect.ALLOW else 'denies above'} {self.most_amount:,}"
        return ""


_decode_permission = lru_cache(maxsize=4 * MOST_PERMISSIONS)(Permission.decode)
"""Rows are values: the same bytes are the same permission, whichever state they were read from."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A permission whose scope covers the operation, and why it does not concern the actor (empty: it does)."""

    name: str
    effect: Effect
    why_not: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an actor may do something, the name of the rule that says so, and all that was weighed for it."""

    allowed: bool
    rule: str
    why: str
    article: str
    party: bytes | None
    roles: tuple[str, ...]
    weighed: tuple[Weighed, ...] = ()


def permission_key(name: str) -> bytes:
    """The name in UTF-8, filled up with zero bytes to 32."""
    data = name.encode()
    assert len(data) <= 32, "the name of a permission is too long"
    return data.ljust(32, b"\0")


def permissions_of(books: Books) -> Iterator[tuple[str, Permission]]:
    """All permissions with their names, in the order of these."""
    for key, row in books.rows(_Stored):
        yield key.rstrip(b"\0").decode(), row.permission


@dataclass(frozen=True, slots=True)
class _Stored:
    """A row of PERMISSIONS as it is read: decoded once for as long as it stays the same."""

    table: ClassVar[Table] = Table.PERMISSIONS

    permission: Permission

    def encode(self) -> bytes:
        return self.permission.encode()

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(_decode_permission(row))


def require(
    books: Books,
    place: Place,
    actor: bytes,
    operation: int,
    *,
    asset: bytes | None = None,
    register: bytes | None = None,
    amount: int = 0,
) -> str:
    """The name of the rule that lets the actor do this; ``not_permitted``, with the name of the one that does not.

    ``register`` is that of the asset where none is given.
    """
    decision = explain(books, place, actor, operation, asset=asset, register=register, amount=amount)
    if not decision.allowed:
        raise Refused(Reason.NOT_PERMITTED, rule=decision.rule)
    return decision.rule


def explain(
    books: Books,
    place: Place,
    actor: bytes,
    operation: int,
    *,
    asset: bytes | None = None,
    register: bytes | None = None,
    amount: int = 0,
) -> Decision:
    """The decision that ``require`` acts upon, as a value."""
    if operation not in OPERATIONS:
        return Decision(False, f"operation {operation}", "there is no such operation", "", None, ())
    if register is None and asset is not None:
        register = register_of(asset)
    party = party_of(books, actor)
    entry = None if party is None else books.row(Party, party)
    roles = () if entry is None else entry.roles
    article = article_of(operation)
    if not _grants(books, article, party or actor, roles, register):
        return Decision(False, article.name, _missing(article), article.name, party, roles)

    permissions = tuple(permissions_of(books))
    instrument_class = class_of(books, asset) if asset is not None and permissions else ""
    weighed, allowing = [], ""
    for name, permission in permissions:
        if permission.covers(operation, instrument_class, register or b""):
            why_not = permission.weigh(actor, party, roles, amount, place.time_ms)
            weighed.append(Weighed(name, permission.effect, why_not))
            if not why_not and permission.effect is Effect.ALLOW:
                allowing = allowing or name
    for item in weighed:
        if item.effect is Effect.DENY and not item.why_not:
            why = "a permission denies it"
            return Decision(False, item.name, why, article.name, party, roles, tuple(weighed))
    if not allowing:
        closing = [item for item in weighed if item.effect is Effect.ALLOW]
        if closing:
            why = f"what is allowed here {closing[0].why_not}"
            return Decision(False, closing[0].name, why, article.name, party, roles, tuple(weighed))
    if allowing:
        why = "a permission allows it"
    elif article.open_to_all:
        why = "the rulebook leaves it to those who sign, as the operation's own rule says; no permission is in the way"
    else:
        why = "the rulebook allows it, and no permission is in the way"
    return Decision(True, allowing or article.name, why, article.name, party, roles, tuple(weighed))


def _grants(books: Books, article: Article, party: bytes, roles: tuple[str, ...], register: bytes | None) -> bool:
    if article.open_to_all or any(role in roles for role in article.roles):
        return True
    if not article.keeper or register is None:
        return False
    row = books.register(register)
    return row is not None and row.depository == party


def _missing(article: Article) -> str:
    who = [f"a party of role {role.value}" for role in article.roles]
    if article.keeper:
        who.append("the depository of the register")
    return f"the rulebook grants it to {' or '.join(who)}"


def is_permissioned(books: Books, asset: bytes, instrument_class: str | None = None) -> bool:
    """Whether a permission names a plain operation on this asset: then it carries the flag PERMISSIONED."""
    if instrument_class is None:
        instrument_class = class_of(books, asset)
    register = register_of(asset)
    return any(
        permission.covers(operation, instrument_class, register)
        for _, permission in permissions_of(books)
        for operation in permission.operations
        if operation in PLAIN
    )


def flags_at_birth(books: Books, asset: bytes) -> int:
    """The flags with which an asset begins that nobody has described yet."""
    return int(AssetFlag.PERMISSIONED) if is_permissioned(books, asset, "") else 0


class PermissionGuard:
    """Asks the permissions about plain operations on assets in their scope; those of the market ask for themselves."""

    asset_flags = int(AssetFlag.PERMISSIONED)
    account_flags = 0

    def leaving(self, books: Books, place: Place, movement: Movement) -> None:
        if movement.operation in PLAIN and movement.source is not None:
            require(books, place, movement.source, movement.operation, asset=movement.asset, amount=movement.amount)

    def entering(self, books: Books, place: Place, movement: Movement) -> None:
        if movement.operation in PLAIN and movement.cause is Cause.CREATION:
            issuer = require_asset(books, movement.asset).issuer
            require(books, place, issuer, movement.operation, asset=movement.asset, amount=movement.amount)

    def moved(self, books: Books, place: Place, movement: Movement) -> None:
        pass


def _flag_assets(books: Books, permission: Permission) -> None:
    """Brings the flags of all assets up to date that a permission covers by one of its plain operations."""
    plain = [operation for operation in permission.operations if operation in PLAIN]
    if not plain:
        return
    for asset in [asset for asset, _ in books.rows(Asset)]:
        if permission.covers(plain[0], class_of(books, asset), register_of(asset)):
            set_asset_flag(books, asset, AssetFlag.PERMISSIONED, is_permissioned(books, asset))


class SetPermissionRule:
    """Sets a permission, or sets it anew.

    who may     an operator; the depository of the register that is the permission's scope
    signed by   by
    needs       a party that exists, a register that exists, where they are named; operations that permissions can
                concern: transfer, lock, issue, redeem, and those of the market save those that supervise or set
                permissions; fewer than 256 others; a name that is free or was given by the same
                party
    changes     the permission; the flag PERMISSIONED of the assets that it covers, or covered, by a plain operation
    refuses     unknown_register, not_permitted, unknown_party, bad_permission, already_registered
    """

    def must_sign(self, books: Books, operation: SetPermission) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: SetPermission, place: Place) -> None:
        key = permission_key(operation.name)
        if operation.register and books.register(operation.register) is None:
            raise Refused(Reason.UNKNOWN_REGISTER)
        require(books, place, operation.by, operation.code, register=operation.register or None)
        if operation.party and books.row(Party, operation.party) is None:
            raise Refused(Reason.UNKNOWN_PARTY)
        setter = party_of(books, operation.by) or operation.by
        present = books.row(Permission, key)
        _require_sound(books, operation, is_new=present is None)
        if present is not None and not _is_setter(books, operation.by, present):
            raise Refused(Reason.ALREADY_REGISTERED, rule=operation.name)
        permission = Permission(
            setter,
            operation.effect,
            operation.role,
            operation.party,
            operation.operations,
            operation.instrument_class,
            operation.register,
            operation.most_amount,
            operation.from_ms,
            operation.until_ms,
        )
        books.put(Permission, key, permission)
        if present is not None:
            _flag_assets(books, present)
        _flag_assets(books, permission)


def _require_sound(books: Books, operation: SetPermission, *, is_new: bool) -> None:
    for code in operation.operations:
        of_market = code >= _FIRST_MARKET_CODE and code in OPERATIONS
        if code not in PLAIN and not (of_market and not article_of(code).fixed):
            raise Refused(Reason.BAD_PERMISSION, rule=f"operation {code}")
    if operation.until_ms and operation.until_ms < operation.from_ms:
        raise Refused(Reason.BAD_PERMISSION, rule="until_ms is before from_ms")
    if "\0" in operation.name:
        raise Refused(Reason.BAD_PERMISSION, rule="name")
    if is_new and sum(1 for _ in books.rows(_Stored)) >= MOST_PERMISSIONS:
        raise Refused(Reason.BAD_PERMISSION, rule=f"at most {MOST_PERMISSIONS} permissions")


def _is_setter(books: Books, by: bytes, permission: Permission) -> bool:
    party = party_of(books, by) or by
    if party == permission.by:
        return True
    entry = books.row(Party, party)
    return entry is not None and Role.OPERATOR in entry.roles


class DropPermissionRule:
    """Takes a permission away.

    who may     the party that set it; an operator
    signed by   by
    needs       a permission of this name
    changes     the permission goes; the flag PERMISSIONED of the assets that no other one covers
    refuses     unknown_record, not_permitted, already_registered
    """

    def must_sign(self, books: Books, operation: DropPermission) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: DropPermission, place: Place) -> None:
        key = permission_key(operation.name)
        present = books.row(Permission, key)
        if present is None:
            raise Refused(Reason.UNKNOWN_RECORD, rule=operation.name)
        require(books, place, operation.by, operation.code, register=present.register or None)
        if not _is_setter(books, operation.by, present):
            raise Refused(Reason.ALREADY_REGISTERED, rule=operation.name)
        books.put(Permission, key, None)
        _flag_assets(books, present)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {SetPermission: SetPermissionRule(), DropPermission: DropPermissionRule()}
)
