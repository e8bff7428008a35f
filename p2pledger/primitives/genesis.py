"""The genesis: everything that the members agree on before the first block. Its hash names the network.

It is stored and hashed as canonical MessagePack (docs/protocol.md, section 6):

    genesis = [1, name, profile, engine, time_ms, [parameter, ...], [[key, weight, name], ...],
               [[name, policy, [role, ...]], ...], [[code, depository name, title], ...],
               [[account, amount], ...], [[account, amount, key], ...]]

Accounts get the identifier of their name; assets and supply come later, by transactions. Native money, in which fees
are paid and which is staked, is there from the beginning or earned with blocks.

The *profile* says who takes part and what it costs, the *engine* how the one is chosen who writes the next block:

    profile       takes part                 fees and rewards    engine unless another is named
    public        anybody with a key         a fee is due        pow
    private       the keys in the genesis    none                poa
    consortium    the members                none                simplex
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Final

from p2pledger.primitives.blocks import Block, genesis_block
from p2pledger.primitives.codec import U64_MAX, Fields, decode, encode
from p2pledger.primitives.errors import BadConfiguration, InvalidInput, PeerFault
from p2pledger.primitives.hashing import GENESIS_TAG, tagged_hash
from p2pledger.primitives.names import account_named, account_of_key, register_code
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator, Validators

__all__ = ["ENGINES", "PROFILES", "ROLES", "Genesis", "Member", "Money", "Register", "Stake", "default_engine"]

PROFILES: Final = ("public", "private", "consortium")
ENGINES: Final = ("simplex", "pow", "pos", "dpos", "poa")
_STAKED_ENGINES: Final = ("pos", "dpos")
_DEFAULT_ENGINES: Final[Mapping[str, str]] = MappingProxyType(
    {"public": "pow", "private": "poa", "consortium": "simplex"}
)

ROLES: Final = (
    "depository",
    "venue",
    "issuer",
    "bank",
    "central_bank",
    "broker",
    "investor",
    "regulator",
    "auditor",
    "operator",
)
_MAX_NAME_BYTES: Final = 64
_MAX_GENESIS_BYTES: Final = 16 * 1024 * 1024


def default_engine(profile: str) -> str:
    """The engine of a profile unless another is named. BadConfiguration for an unknown profile."""
    if profile not in _DEFAULT_ENGINES:
        raise BadConfiguration(f"profile {profile!r} is not known", hint=f"Known: {', '.join(PROFILES)}")
    return _DEFAULT_ENGINES[profile]


@dataclass(frozen=True, slots=True)
class Member:
    """A named account with its first policy and its roles."""

    name: str
    policy: Policy
    roles: tuple[str, ...] = ()

    @property
    def account(self) -> bytes:
        return account_named(self.name)


@dataclass(frozen=True, slots=True)
class Register:
    """A register of holdings: its short code, the member who keeps it, and a title for people."""

    code: str
    depository: str
    title: str


@dataclass(frozen=True, slots=True)
class Money:
    """Native money that an account has from the beginning."""

    account: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Stake:
    """Native money of an account that is staked from the beginning: ``key`` may produce blocks with it (pos), or is
    the delegate for whom it votes (dpos)."""

    account: bytes
    amount: int
    key: bytes


@dataclass(frozen=True)
class Genesis:
    """Equal values give equal hashes, whatever they were read from. ``check`` before use."""

    name: str
    time_ms: int
    validators: tuple[Validator, ...]
    members: tuple[Member, ...]
    registers: tuple[Register, ...]
    parameters: Parameters = field(default_factory=Parameters)
    profile: str = "consortium"
    engine: str = "simplex"
    money: tuple[Money, ...] = ()
    stakes: tuple[Stake, ...] = ()

    def check(self) -> Genesis:
        """BadConfiguration, naming the entry, where the genesis contradicts itself."""
        self.parameters.check()
        if self.profile not in PROFILES:
            raise BadConfiguration(f"profile {self.profile!r} is not known", hint=f"Known: {', '.join(PROFILES)}")
        if self.engine not in ENGINES:
            raise BadConfiguration(f"engine {self.engine!r} is not known", hint=f"Known: {', '.join(ENGINES)}")
        _ = self.validator_set
        texts = [self.name, *(seat.name for seat in self.validators), *(member.name for member in self.members)]
        for text in [*texts, *(register.title for register in self.registers)]:
            if len(text.encode()) > _MAX_NAME_BYTES:
                raise BadConfiguration(f"the name {text[:16]!r}... has more than {_MAX_NAME_BYTES} bytes")
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise BadConfiguration("two members have the same name")
        for member in self.members:
            if unknown := set(member.roles) - set(ROLES):
                raise BadConfiguration(f"member {member.name!r} has unknown roles {sorted(unknown)}")
            try:
                Policy.decode(member.policy.values())
            except PeerFault as fault:
                what = f"the policy of member {member.name!r} is not possible"
                raise BadConfiguration(what, why=str(fault)) from None
        codes = [register.code for register in self.registers]
        if len(set(codes)) != len(codes):
            raise BadConfiguration("two registers have the same code")
        for register in self.registers:
            try:
                register_code(register.code)
            except InvalidInput as error:
                raise BadConfiguration("a register has an impossible code", why=str(error)) from None
            if register.depository not in names:
                raise BadConfiguration(f"register {register.code} is kept by {register.depository!r}, no member")
        self._check_money()
        return self

    def _check_money(self) -> None:
        priced = self.parameters.least_fee or self.parameters.block_reward
        if self.profile != "public" and priced:
            raise BadConfiguration(
                f"a {self.profile} network has neither fees nor rewards",
                hint="Set least_fee and block_reward to 0, or choose profile public",
            )
        if self.profile == "public" and not self.parameters.least_fee:
            raise BadConfiguration("a public network needs a fee", why="otherwise spam is free", hint="Set least_fee")
        if self.profile == "public" and not (self.parameters.block_reward or self.money):
            raise BadConfiguration("nobody could ever pay a fee", hint="Set block_reward, or give somebody money")
        if self.engine in _STAKED_ENGINES and not self.stakes:
            raise BadConfiguration(f"engine {self.engine} needs stakes", why="nobody could produce the first block")
        known = {member.account for member in self.members} | self.key_accounts.keys()
        given = [(entry.account, entry.amount) for entry in self.money]
        for account, amount in given + [(stake.account, stake.amount) for stake in self.stakes]:
            if account not in known:
                raise BadConfiguration(f"money is given to account {account.hex()}, which nobody opens")
            if not 0 < amount <= U64_MAX:
                raise BadConfiguration(f"account {account.hex()} is given {amount}")
        if any(len(stake.key) != 32 for stake in self.stakes):
            raise BadConfiguration("the key of a stake must be 32 bytes")
        if len({entry.account for entry in self.money}) != len(self.money):
            raise BadConfiguration("an account is given money twice")
        if self.issued > U64_MAX:
            raise BadConfiguration("the native money exceeds 64 bits")

    @property
    def issued(self) -> int:
        """The native money that is there from the beginning, free and staked."""
        return sum(entry.amount for entry in self.money) + sum(entry.amount for entry in self.stakes)

    @property
    def key_accounts(self) -> dict[bytes, bytes]:
        """account -> key: the accounts that belong to the keys of validators and stakes."""
        keys = [seat.key for seat in self.validators] + [stake.key for stake in self.stakes]
        return {account_of_key(key): key for key in keys}

    @cached_property
    def validator_set(self) -> Validators:
        """The validators of epoch 0."""
        return Validators.of(0, self.validators)

    def encode(self) -> bytes:
        return encode(
            [
                1,
                self.name,
                self.profile,
                self.engine,
                self.time_ms,
                self.parameters.values(),
                [[seat.key, seat.weight, seat.name] for seat in self.validator_set.members],
                [[member.name, member.policy.values(), member.roles] for member in self.members],
                [[register.code, register.depository, register.title] for register in self.registers],
                [[entry.account, entry.amount] for entry in self.money],
                [[stake.account, stake.amount, stake.key] for stake in self.stakes],
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        """PeerFault for bad form, BadConfiguration for contradictions."""
        entry = Fields(
            decode(data, limit_bytes=_MAX_GENESIS_BYTES, what="genesis"), what="genesis", count=11, version=1
        )
        name, profile, engine = (
            entry.text("name", most=64),
            entry.text("profile", most=32),
            entry.text("engine", most=32),
        )
        time_ms = entry.integer("time_ms")
        numbers = entry.array("parameters", most=len(fields(Parameters)))
        if len(numbers) != len(fields(Parameters)):
            raise BadConfiguration(f"the genesis has {len(numbers)} parameters instead of {len(fields(Parameters))}")
        validators = []
        for row in entry.array("validators", most=1_024):
            seat = Fields(row, what="validator", count=3)
            validators.append(Validator(seat.binary("key", 32), seat.integer("weight"), seat.text("name", most=64)))
        members = []
        for row in entry.array("members", most=1_000_000):
            item = Fields(row, what="member", count=3)
            title, policy = item.text("name", most=64), Policy.decode(item.array("policy", most=3))
            members.append(Member(title, policy, tuple(str(role) for role in item.array("roles", most=len(ROLES)))))
        registers = []
        for row in entry.array("registers", most=1_024):
            item = Fields(row, what="register", count=3)
            registers.append(
                Register(item.text("code", most=4), item.text("depository", most=64), item.text("title", most=64))
            )
        money = []
        for row in entry.array("money", most=1_000_000):
            item = Fields(row, what="money", count=2)
            money.append(Money(item.binary("account", 32), item.integer("amount")))
        stakes = []
        for row in entry.array("stakes", most=1_000_000):
            item = Fields(row, what="stake", count=3)
            stakes.append(Stake(item.binary("account", 32), item.integer("amount"), item.binary("key", 32)))
        genesis = cls(
            name,
            time_ms,
            tuple(validators),
            tuple(members),
            tuple(registers),
            Parameters(*numbers),
            profile,
            engine,
            tuple(money),
            tuple(stakes),
        )
        genesis.check()
        if genesis.encode() != data:
            # Its hash would depend on who reads it: validators stand in the order of their keys, roles are texts.
            raise PeerFault("the genesis is not written in its one canonical form", code="malformed")
        return genesis

    @cached_property
    def hash(self) -> bytes:
        return tagged_hash(GENESIS_TAG, self.encode())

    @property
    def network_id(self) -> bytes:
        """8 bytes that every transaction, batch and block carries."""
        return self.hash[:8]

    @cached_property
    def block(self) -> Block:
        """The block of height 0."""
        return genesis_block(
            network_id=self.network_id,
            genesis_hash=self.hash,
            time_ms=self.time_ms,
            validators_hash=self.validator_set.hash,
        )
