"""The first version of the state: parameters, members, registers, validators and native money of the genesis.

There are no assets and no holdings yet; those come by transactions that somebody signs. Equal geneses give equal roots.
Stake number i of the genesis (from 0) has i as its salt, in 16 bytes.
"""

from __future__ import annotations

from p2pledger import core
from p2pledger.ledger import elections
from p2pledger.ledger.market.lookalikes import Lookalike, NameKind
from p2pledger.ledger.tables import (
    KEY_WIDTHS,
    Account,
    Issued,
    Native,
    ParameterRow,
    Party,
    Register,
    Stake,
    Staked,
    Table,
    ValidatorsRow,
    engine_key,
    parameter_key,
    validators_key,
)
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.market.lookalikes import skeleton_key
from p2pledger.primitives.names import account_named, register_code, stake_id
from p2pledger.primitives.policies import Policy

__all__ = ["genesis_state"]


def genesis_state(genesis: Genesis) -> core.Version:
    """The state after the block of height 0. BadConfiguration where the genesis contradicts itself."""
    genesis.check()
    branch = core.empty_state(KEY_WIDTHS).branch()
    for number, value in enumerate(genesis.parameters.values(), start=1):
        branch.put(Table.PARAMETERS, parameter_key(number), ParameterRow(value).encode())
    for account, key in genesis.key_accounts.items():
        branch.put(Table.ACCOUNTS, account, Account(Policy.of(key)).encode())
    for member in genesis.members:
        branch.put(Table.ACCOUNTS, member.account, Account(member.policy).encode())
        branch.put(Table.PARTIES, member.account, Party(member.name, member.roles).encode())
        # Nobody who comes later may bear a name that looks like a member's; members agreed on each other's.
        if branch.get(Table.LOOKALIKES, skeleton_key(NameKind.PARTY, member.name)) is None:
            taken = Lookalike(NameKind.PARTY, member.name, member.account)
            branch.put(Table.LOOKALIKES, skeleton_key(NameKind.PARTY, member.name), taken.encode())
    for register in genesis.registers:
        row = Register(account_named(register.depository), register.title)
        branch.put(Table.REGISTERS, register_code(register.code), row.encode())
    branch.put(Table.VALIDATORS, validators_key(0), ValidatorsRow(genesis.validator_set.members).encode())
    for entry in genesis.money:
        branch.put(Table.NATIVE, entry.account, Native(entry.amount).encode())
    behind: dict[bytes, Staked] = {}
    for number, stake in enumerate(genesis.stakes):
        identifier = stake_id(stake.account, number.to_bytes(16, "big"))
        branch.put(Table.STAKES, identifier, Stake(stake.account, stake.amount, 0, stake.key).encode())
        total = behind.get(stake.key, Staked())
        behind[stake.key] = Staked(total.amount + stake.amount, total.rows + 1)
    for key, total in behind.items():
        branch.put(Table.STAKED, key, total.encode())
    branch.put(Table.ENGINE, engine_key(0), Issued(genesis.issued).encode())
    elections.found(branch, genesis)
    return branch.commit()
