"""The first version of the state, as the genesis describes it: parameters, members, registers and validators.

There are no assets and no holdings yet; those come by transactions that somebody signs. Equal geneses give equal roots.
"""

from __future__ import annotations

from p2pledger import core
from p2pledger.ledger.tables import (
    KEY_WIDTHS,
    Account,
    ParameterRow,
    Party,
    Register,
    Table,
    ValidatorsRow,
    parameter_key,
    validators_key,
)
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.names import account_named, register_code

__all__ = ["genesis_state"]


def genesis_state(genesis: Genesis) -> core.Version:
    """The state after the block of height 0. BadConfiguration where the genesis contradicts itself."""
    genesis.check()
    branch = core.empty_state(KEY_WIDTHS).branch()
    for number, value in enumerate(genesis.parameters.values(), start=1):
        branch.put(Table.PARAMETERS, parameter_key(number), ParameterRow(value).encode())
    for member in genesis.members:
        branch.put(Table.ACCOUNTS, member.account, Account(member.policy).encode())
        branch.put(Table.PARTIES, member.account, Party(member.name, member.roles).encode())
    for register in genesis.registers:
        row = Register(account_named(register.depository), register.title)
        branch.put(Table.REGISTERS, register_code(register.code), row.encode())
    branch.put(Table.VALIDATORS, validators_key(0), ValidatorsRow(genesis.validator_set.members).encode())
    return branch.commit()
