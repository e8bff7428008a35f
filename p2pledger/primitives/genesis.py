"""The genesis: everything that the members agree on before the first block. Its hash names the network.

It is stored and hashed as canonical MessagePack (docs/protocol.md, section 6):

    genesis = [1, name, profile, engine, time_ms, [parameter, ...], [[key, weight, name], ...],
               [[name, policy, [role, ...]], ...], [[code, depository name, title], ...]]

Accounts get the identifier of their name; assets and supply come later, by transactions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Final

from p2pledger.primitives.blocks import Block, genesis_block
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import BadConfiguration, InvalidInput, PeerFault
from p2pledger.primitives.hashing import GENESIS_TAG, tagged_hash
from p2pledger.primitives.names import account_named, register_code
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator, Validators

__all__ = ["ROLES", "Genesis", "Member", "Register"]

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

    def check(self) -> Genesis:
        """BadConfiguration, naming the entry, where the genesis contradicts itself."""
        self.parameters.check()
        if self.profile != "consortium":
            raise BadConfiguration(f"profile {self.profile!r} is not known", hint="Known: consortium")
        if self.engine != "simplex":
            raise BadConfiguration(f"engine {self.engine!r} is not known", hint="Known: simplex")
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
        return self

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
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        """PeerFault for bad form, BadConfiguration for contradictions."""
        entry = Fields(decode(data, limit_bytes=_MAX_GENESIS_BYTES, what="genesis"), what="genesis", count=9, version=1)
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
        parameters = Parameters(*numbers)
        genesis = cls(name, time_ms, tuple(validators), tuple(members), tuple(registers), parameters, profile, engine)
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
