"""Who takes part: the genesis of a consortium, and the secret keys behind it.

The default is the joint bond ledger of two depositories: CCDC and CSDC keep a register each, ICBC is the cash bank
whose register holds money, two venues and the depositories validate, brokers trade. A validator's node key (which
votes) and its business key (which signs transactions) are different keys.

Keys come from the operating system, or from a small integer: then they are DEV KEYS, which anybody can compute.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Final

from p2pledger.primitives.errors import BadConfiguration, InvalidInput, PeerFault
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import account_named
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.validators import Validator

__all__ = [
    "BANK",
    "BROKERS",
    "DEPOSITORIES",
    "Consortium",
    "KeyFile",
    "MemberPlan",
    "development_keypair",
    "suggestion",
    "validator_names",
]

DEPOSITORIES: Final = ("CCDC", "CSDC")
BANK: Final = "ICBC"
BROKERS: Final = 8
_SEEDED_TIME_MS: Final = 1_451_606_400_000
"""2016-01-01: a seeded genesis has a fixed time, so that equal seeds give equal networks."""
_KEY_SCHEMA: Final = "p2pledger.key/1"
_MAX_VALIDATORS: Final = 40
_GENESIS_FILE: Final = "genesis.bin"


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """A member to be: its name and roles (those of ``primitives.genesis.ROLES``)."""

    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A secret key on disk: JSON, readable by its owner only."""

    name: str
    keypair: Keypair = field(repr=False)

    def save(self, path: Path) -> None:
        """InvalidInput if the file exists: a key is never overwritten."""
        text = json.dumps(
            {
                "schema": _KEY_SCHEMA,
                "name": self.name,
                "public_key": self.keypair.public_key.hex(),
                "secret_seed": self.keypair.seed.hex(),
            },
            indent=2,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise InvalidInput(
                f"the key file {path} exists", hint="Keys are never overwritten: choose another name", code="key_exists"
            ) from None
        except OSError as error:
            raise InvalidInput(
                f"the key file {path} cannot be written", why=error.strerror or str(error), code="key_not_written"
            ) from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    @classmethod
    def load(cls, path: Path) -> KeyFile:
        """BadConfiguration unless the file is there and is a key file."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            schema = values["schema"]
            if schema != _KEY_SCHEMA:
                raise BadConfiguration(f"the key file has the schema {schema!r}", where=str(path), code="bad_key_file")
            keypair = Keypair.from_seed(bytes.fromhex(values["secret_seed"]))
            name, public_key = str(values["name"]), bytes.fromhex(values["public_key"])
        except FileNotFoundError:
            raise BadConfiguration("there is no such key file", where=str(path), code="no_key") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadConfiguration(
                "this is not a key file", where=str(path), why=str(error), code="bad_key_file"
            ) from None
        if keypair.public_key != public_key:
            raise BadConfiguration("the public key does not belong to the secret one", where=str(path))
        return cls(name, keypair)


def development_keypair(seed: int, purpose: str, name: str) -> Keypair:
    """A DEV KEY: anybody who knows the seed has it too. For trials and tests, never for money."""
    return Keypair.from_seed(sha256(f"p2pledger dev key/{seed}/{purpose}/{name}".encode()).digest())


def validator_names(count: int) -> tuple[str, ...]:
    """CCDC, CSDC, VENUE-A, VENUE-B, VENUE-C, ... InvalidInput outside 1 .. 40."""
    if not 1 <= count <= _MAX_VALIDATORS:
        raise InvalidInput(
            f"{count} validators are not possible here", why=f"1 to {_MAX_VALIDATORS} are", code="bad_validators"
        )
    venues = [f"VENUE-{chr(65 + i)}" if i < 26 else f"VENUE-{i + 1}" for i in range(max(0, count - 2))]
    return (*DEPOSITORIES, *venues)[:count]


def suggestion(name: str, known: Sequence[str]) -> str:
    """ "Did you mean ...?" where one of the known names is near, else the list of them."""
    folded = {item.casefold(): item for item in known}
    if near := get_close_matches(name.casefold(), folded, n=1, cutoff=0.5):
        return f"Did you mean {folded[near[0]]}?"
    shown = ", ".join(sorted(known)[:20])
    return f"Known: {shown}{', ...' if len(known) > 20 else ''}" if known else ""


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
        name: str = "joint bond ledger",
    ) -> Consortium:
        """The default consortium, with ``members`` added. A validator is a member too."""
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
            ),
            parameters=parameters or Parameters(),
        ).check()
        return cls(genesis, node_keys, member_keys, seed)

    @property
    def validators(self) -> tuple[str, ...]:
        """Names of the validators, in the order in which they were given."""
        return tuple(self.node_keys)

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
        """Writes genesis.bin, keys/ (members) and node-keys/ (validators) into a new cluster directory."""
        for folder, keys in (("keys", self.member_keys), ("node-keys", self.node_keys)):
            (directory / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, keypair in keys.items():
                KeyFile(name, keypair).save(directory / folder / f"{name}.json")
        # Last: a directory that has a genesis has all its keys.
        partial = directory / f"{_GENESIS_FILE}.partial"
        partial.write_bytes(self.genesis.encode())
        partial.replace(directory / _GENESIS_FILE)

    @classmethod
    def load(cls, directory: Path, *, seed: int | None = None) -> Consortium:
        """What ``save`` wrote. BadConfiguration where something is missing or does not fit."""
        genesis = load_genesis(directory)
        node_keys = {
            seat.name: KeyFile.load(directory / "node-keys" / f"{seat.name}.json").keypair
            for seat in genesis.validators
        }
        for seat in genesis.validators:
            if node_keys[seat.name].public_key != seat.key:
                raise BadConfiguration(
                    f"the node key of {seat.name} is not the one in the genesis", where=str(directory)
                )
        member_keys = {path.stem: KeyFile.load(path).keypair for path in sorted((directory / "keys").glob("*.json"))}
        ordered = {
            name: node_keys[name] for name in sorted(node_keys, key=lambda name: (name not in DEPOSITORIES, name))
        }
        return cls(genesis, ordered, member_keys, seed)


def load_genesis(directory: Path) -> Genesis:
    """The genesis of a cluster directory. BadConfiguration unless there is a good one."""
    path = directory / _GENESIS_FILE
    try:
        return Genesis.decode(path.read_bytes())
    except FileNotFoundError:
        raise BadConfiguration(
            "there is no cluster here",
            where=str(directory),
            hint="Make one with: p2pledger cluster up --directory DIRECTORY",
            code="no_cluster",
        ) from None
    except (OSError, PeerFault) as error:
        raise BadConfiguration("the genesis cannot be read", where=str(path), why=str(error)) from None
