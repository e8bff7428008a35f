"""Who takes part: the genesis of a consortium, and the secret keys behind it.

The default is the joint bond ledger of two depositories: CCDC and CSDC keep a register each, ICBC is the cash bank
whose register holds money, two venues and the depositories validate, brokers trade. A validator's node key (which
votes) and its business key (which signs transactions) are different keys.

Keys come from the operating system, or from a small integer: then they are DEV KEYS, which anybody can compute.
Profile and engine decide what else stands in the genesis (``development.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from p2pledger.cluster.development import chosen, development_parameters, measured_difficulty, money_of, stakes_of
from p2pledger.cluster.keyfiles import KeyFile, development_keypair
from p2pledger.primitives.errors import BadConfiguration, InvalidInput, PeerFault
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import account_named, suggestion
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator
from p2pledger.server.config import GENESIS_FILE, ServerConfig, load_keypair, write_node_directory

__all__ = [
    "BANK",
    "BROKERS",
    "DEPOSITORIES",
    "Consortium",
    "MemberPlan",
    "load_genesis",
    "load_node_key",
    "node_directory",
    "suggestion",
    "validator_names",
]

DEPOSITORIES: Final = ("CCDC", "CSDC")
BANK: Final = "ICBC"
BROKERS: Final = 8
_SEEDED_TIME_MS: Final = 1_451_606_400_000
"""2016-01-01: a seeded genesis has a fixed time, so that equal seeds give equal networks."""
_MAX_VALIDATORS: Final = 40


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """A member to be: its name and roles (those of ``primitives.genesis.ROLES``), and the code of the register that it
    keeps, if it keeps one."""

    name: str
    roles: tuple[str, ...]
    register: str = ""


def validator_names(count: int) -> tuple[str, ...]:
    """CCDC, CSDC, VENUE-A, VENUE-B, VENUE-C, ... InvalidInput outside 1 .. 40."""
    if not 1 <= count <= _MAX_VALIDATORS:
        raise InvalidInput(
            f"{count} validators are not possible here", why=f"1 to {_MAX_VALIDATORS} are", code="bad_validators"
        )
    venues = [f"VENUE-{chr(65 + i)}" if i < 26 else f"VENUE-{i + 1}" for i in range(max(0, count - 2))]
    return (*DEPOSITORIES, *venues)[:count]


@dataclass(frozen=True)
class Consortium:
    """A genesis together with the keys of all its validators and members. ``seed`` is None for real keys."""

    genesis: Genesis
    node_keys: Mapping[str, Keypair] = field(repr=False)
    member_keys: Mapping[str, Keypair] = field(repr=False)
    seed: int | None = None

    @classmethod
    def make(
        cls,
        validators: int | Sequence[str] = 4,
        *,
        seed: int | None = None,
        brokers: int = BROKERS,
        members: Sequence[MemberPlan] = (),
        parameters: Parameters | None = None,
        profile: str = "",
        engine: str = "",
        name: str = "joint bond ledger",
    ) -> Consortium:
        """The default consortium, with ``members`` added. A validator is a member too.

        Without ``profile`` a consortium, without ``engine`` the profile's own; ``parameters`` for this machine if none
        are given.
        """
        profile, engine = chosen(profile, engine)
        names = validator_names(validators) if isinstance(validators, int) else tuple(validators)
        plans = {depository: MemberPlan(depository, ("depository",)) for depository in DEPOSITORIES}
        plans[BANK] = MemberPlan(BANK, ("bank",))
        for validator in names:
            plans.setdefault(validator, MemberPlan(validator, ("venue",)))
        for i in range(brokers):
            plans[f"broker-{i + 1}"] = MemberPlan(f"broker-{i + 1}", ("broker",))
        plans.update({plan.name: plan for plan in members})

        def keypair(purpose: str, owner: str) -> Keypair:
            return Keypair.from_seed(os.urandom(32)) if seed is None else development_keypair(seed, purpose, owner)

        node_keys = {validator: keypair("node", validator) for validator in names}
        member_keys = {plan: keypair("member", plan) for plan in plans}
        if parameters is None:
            measured = {"difficulty": measured_difficulty()} if engine == "pow" and seed is None else {}
            parameters = development_parameters(profile, engine, len(names), **measured)
        genesis = Genesis(
            name=name,
            time_ms=_SEEDED_TIME_MS if seed is not None else time.time_ns() // 1_000_000,
            validators=tuple(Validator(node_keys[validator].public_key, 1, validator) for validator in names),
            members=tuple(
                Member(plan.name, Policy.of(member_keys[plan.name].public_key), plan.roles) for plan in plans.values()
            ),
            registers=(
                Register("CCDC", "CCDC", "Interbank market depository"),
                Register("CSDC", "CSDC", "Exchange market depository"),
                Register(BANK, BANK, "Cash accounts"),
                *(Register(plan.register, plan.name, f"Register of {plan.name}") for plan in members if plan.register),
            ),
            parameters=parameters,
            profile=profile,
            engine=engine,
            money=money_of(profile, engine, list(plans), node_keys),
            stakes=stakes_of(engine, list(plans), node_keys),
        ).check()
        return cls(genesis, node_keys, member_keys, seed)

    @property
    def validators(self) -> tuple[str, ...]:
        """Names of the validators: the depositories first, then by name."""
        seats = sorted(self.genesis.validators, key=lambda seat: (seat.name not in DEPOSITORIES, seat.name))
        return tuple(seat.name for seat in seats)

    @property
    def node_keys_by_genesis(self) -> dict[str, bytes]:
        """The public node key of each validator, in the order of ``validators``."""
        keys = {seat.name: seat.key for seat in self.genesis.validators}
        return {name: keys[name] for name in self.validators}

    def keypair(self, member: str) -> Keypair:
        """The business key of a member. InvalidInput, with a suggestion, for a name that nobody has."""
        try:
            return self.member_keys[member]
        except KeyError:
            raise InvalidInput(
                f"there is no member {member!r}",
                hint=suggestion(member, list(self.member_keys)),
                code="unknown_member",
            ) from None

    def account(self, member: str) -> bytes:
        """The 32-byte account of a member; InvalidInput as above."""
        self.keypair(member)
        return account_named(member)

    def name_of(self, account: bytes) -> str:
        """The member's name, or the account in hexadecimal."""
        return self._names.get(account) or account.hex()

    @property
    def _names(self) -> dict[bytes, str]:
        return {member.account: member.name for member in self.genesis.members}

    def save(self, directory: Path) -> None:
        """Writes keys/ (members), nodes/ (one directory for each validator) and genesis.bin into a new directory."""
        (directory / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, keypair in self.member_keys.items():
            KeyFile(name, keypair).save(directory / "keys" / f"{name}.json")
        for name, keypair in self.node_keys.items():
            config = ServerConfig(node_directory(directory, name), name)
            write_node_directory(config, self.genesis, keypair, never_voted=True)
        # Last: a directory that has a genesis has everything.
        partial = directory / f"{GENESIS_FILE}.partial"
        partial.write_bytes(self.genesis.encode())
        partial.replace(directory / GENESIS_FILE)

    @classmethod
    def load(cls, directory: Path, *, seed: int | None = None) -> Consortium:
        """What ``save`` wrote. BadConfiguration where something is missing or does not fit.

        ``node_keys`` lacks those that cannot be had: a damaged node must not keep the others from running.
        """
        genesis = load_genesis(directory)
        node_keys = {}
        for seat in genesis.validators:
            try:
                node_keys[seat.name] = load_node_key(directory, seat)
            except BadConfiguration:
                continue  # whoever starts that node is told
        keys = (KeyFile.load(path) for path in sorted((directory / "keys").glob("*.json")))
        return cls(genesis, node_keys, {key.name: key.keypair for key in keys}, seed)


def node_directory(directory: Path, name: str) -> Path:
    """Where the node of that name keeps everything, in a cluster's directory."""
    return directory / "nodes" / name


def load_node_key(directory: Path, seat: Validator) -> Keypair:
    """The secret key of a validator in a cluster's directory. BadConfiguration unless it is the genesis' one."""
    folder = node_directory(directory, seat.name)
    keypair = load_keypair(folder)
    if keypair.public_key != seat.key:
        raise BadConfiguration(f"the node key of {seat.name} is not the one in the genesis", where=str(folder))
    return keypair


def load_genesis(directory: Path) -> Genesis:
    """The genesis of a cluster directory. BadConfiguration unless there is a good one."""
    path = directory / GENESIS_FILE
    try:
        return Genesis.decode(path.read_bytes())
    except FileNotFoundError:
        raise BadConfiguration(
            "there is no cluster here",
            where=str(directory),
            hint="Make one with: p2pledger cluster up --directory DIRECTORY",
            code="no_cluster",
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise BadConfiguration("the genesis cannot be read", where=str(path), why=why, code="unreadable") from None
    except PeerFault as fault:
        raise BadConfiguration("the genesis is damaged", where=str(path), why=str(fault)) from None
