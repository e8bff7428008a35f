"""What a fresh ledger needs before anybody can trade: assets, and somebody who holds them.

A genesis has accounts and registers but no assets. These are made by ordinary transactions, signed by whoever keeps
the register: it defines its assets, then issues units to members. Where two registers keep one instrument, their
depositories may link them. Many operations go into one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, permutations
from typing import Final

from p2pledger.cluster.consortium import Consortium, suggestion
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.market.links import AgreeLink
from p2pledger.primitives.names import AssetKind, asset_id, register_code
from p2pledger.primitives.transactions import Define, Issue, Operation, Transaction

__all__ = [
    "AssetPlan",
    "define_transactions",
    "issue_transactions",
    "issuers_of",
    "keeper_of",
    "link_transactions",
    "sample_assets",
    "sample_holdings",
]

_ISIN_CHARACTERS: Final = 12
_OPERATION_BYTES: Final = 200
"""More than any Define or Issue takes, so that a transaction stays below its limit of bytes."""


@dataclass(frozen=True, slots=True)
class AssetPlan:
    """An asset to be: ``asset`` as people write it. Its issuer follows from ``issuers_of``."""

    asset: str
    kind: AssetKind
    decimals: int
    name: str


def sample_assets() -> tuple[AssetPlan, ...]:
    """Money, a bond that both depositories keep, and a share: enough to try every kind of trade."""
    return (
        AssetPlan("CNY@ICBC", AssetKind.MONEY, 2, "Renminbi"),
        AssetPlan("CND100000017@CCDC", AssetKind.SECURITY, 0, "Government bond"),
        AssetPlan("CND100000017@CSDC", AssetKind.SECURITY, 0, "Government bond"),
        AssetPlan("CNE100000007@CSDC", AssetKind.SECURITY, 0, "Sample share"),
    )


def sample_holdings(consortium: Consortium) -> dict[tuple[str, str], int]:
    """(asset, member) -> units: every broker gets a million of everything; of money, a billion fen."""
    brokers = [member.name for member in consortium.genesis.members if "broker" in member.roles]
    return {
        (plan.asset, broker): 10**9 if plan.kind is AssetKind.MONEY else 10**6
        for plan in sample_assets()
        for broker in brokers
    }


def define_transactions(consortium: Consortium, plans: Iterable[AssetPlan], *, valid_until: int) -> list[bytes]:
    """Signed transactions that define the assets. They come before those that issue units."""
    listed = list(plans)
    issuers = issuers_of(consortium, [plan.asset for plan in listed])
    return _signed(
        consortium,
        (
            (
                (keeper_of(consortium, plan.asset), issuers[plan.asset]),
                Define(
                    asset_id(plan.asset),
                    int(plan.kind),
                    plan.decimals,
                    consortium.account(issuers[plan.asset]),
                    plan.name,
                ),
            )
            for plan in listed
        ),
        valid_until,
    )


def issue_transactions(
    consortium: Consortium, holdings: Mapping[tuple[str, str], int], *, valid_until: int
) -> list[bytes]:
    """Signed transactions that issue these units: (asset, member) -> units. Of an instrument that several registers
    keep, all its assets must be among them."""
    issuers = issuers_of(consortium, {asset for asset, _ in holdings})
    return _signed(
        consortium,
        (
            ((issuers[asset],), Issue(asset_id(asset), consortium.account(member), units))
            for (asset, member), units in holdings.items()
        ),
        valid_until,
    )


def link_transactions(
    consortium: Consortium, kept: Mapping[str, Sequence[str]], limits: Mapping[str, int], *, valid_until: int
) -> list[bytes]:
    """Signed transactions by which depositories link their registers, both ways.

    ``kept``: instrument -> codes of the registers that keep it; ``limits``: instrument -> units that may stand in the
    other register.
    """
    by_keepers: dict[tuple[str, str], list[Operation]] = {}
    for instrument, registers in kept.items():
        for source, target in permutations(registers, 2):
            link = AgreeLink(
                register_code(source),
                register_code(target),
                instrument.encode().ljust(12, b"\0"),
                limits[instrument],
            )
            one, other = sorted(keeper_of(consortium, f"{instrument}@{code}") for code in (source, target))
            by_keepers.setdefault((one, other), []).append(link)
    return [
        transaction
        for keepers, operations in by_keepers.items()
        for transaction in _transactions(consortium, operations, keepers, valid_until)
    ]


def issuers_of(consortium: Consortium, assets: Iterable[str]) -> dict[str, str]:
    """asset -> the member who issues it: who keeps its register. A security that several registers keep has one issuer,
    or it could not cross from one to the other: the keeper of the first of them by its code."""
    listed = sorted(assets)
    first: dict[str, str] = {}
    for asset in listed:
        first.setdefault(asset.partition("@")[0], asset)
    is_security = {asset: len(asset.partition("@")[0]) == _ISIN_CHARACTERS for asset in listed}
    return {
        asset: keeper_of(consortium, first[asset.partition("@")[0]] if is_security[asset] else asset)
        for asset in listed
    }


def keeper_of(consortium: Consortium, asset: str) -> str:
    """The member who keeps the asset's register. InvalidInput if nobody does."""
    code = asset.partition("@")[2]
    for register in consortium.genesis.registers:
        if register.code == code:
            return register.depository
    known = [register.code for register in consortium.genesis.registers]
    raise InvalidInput(f"there is no register {code!r}", hint=suggestion(code, known), code="unknown_register")


def _signed(
    consortium: Consortium, operations: Iterable[tuple[tuple[str, ...], Operation]], valid_until: int
) -> list[bytes]:
    """The operations with those who must sign them; who signs alike shares transactions."""
    by_signers: dict[tuple[str, ...], list[Operation]] = {}
    for signers, operation in operations:
        by_signers.setdefault(tuple(dict.fromkeys(signers)), []).append(operation)
    return [
        transaction
        for signers, items in by_signers.items()
        for transaction in _transactions(consortium, items, signers, valid_until)
    ]


def _transactions(
    consortium: Consortium, operations: Sequence[Operation], signers: Sequence[str], valid_until: int
) -> Iterator[bytes]:
    """As few transactions as hold these operations, signed by those members; the first pays."""
    parameters = consortium.genesis.parameters
    most = min(parameters.max_operations, parameters.max_transaction_bytes // _OPERATION_BYTES)
    for part in _chunks(operations, most):
        # The same opening of the same network gives the same transactions, so that sending it twice does no harm.
        salt = sha256(b"".join(repr(operation).encode() for operation in part)).digest()[:16]
        transaction = Transaction(
            consortium.genesis.network_id,
            valid_until,
            salt,
            consortium.account(signers[0]),
            tuple(part),
            parameters.least_fee * len(part),
        )
        yield transaction.sign([consortium.keypair(signer) for signer in signers])


def _chunks(items: Sequence[Operation], most: int) -> Iterator[list[Operation]]:
    rest = iter(items)
    while part := list(islice(rest, most)):
        yield part
