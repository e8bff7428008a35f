"""Who is let in: the profile of the network says so.

    profile       nodes that take part in consensus     nodes that observe        clients
    public        any key                               any key                   any key
    private       validators                            keys of the genesis       keys of the genesis
    consortium    validators                            members and validators    members and validators

*Validators* are those of the epochs around the present one, as the state says: a joiner is welcome before its first
block, and a leaver for one epoch more, in which it serves data. *Keys of the genesis* are those of its validators,
stakes and members; a member's keys are those of its first policy.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pledger.network.effects import CLIENT, OBSERVER, VALIDATOR, Identity
from p2pledger.primitives.genesis import Genesis

__all__ = ["Admission"]


class Admission:
    """The rules of one network. ``is_validator`` asks the state about a node key."""

    def __init__(self, genesis: Genesis, own_key: bytes, is_validator: Callable[[bytes], bool]) -> None:
        self._profile = genesis.profile
        self._own_key = own_key
        self._is_validator = is_validator
        members = {key for member in genesis.members for key, _ in member.policy.keys}
        stakes = {stake.key for stake in genesis.stakes}
        validators = {seat.key for seat in genesis.validators}
        self._known = frozenset(members | validators | stakes if self._profile == "private" else members)

    @property
    def is_open(self) -> bool:
        """Whether anybody may come."""
        return self._profile == "public"

    def judge(self, identity: Identity) -> tuple[str, str] | None:
        """None if this identity is welcome, else the code and the sentence of a refusal."""
        key, role = identity.node_key, identity.role
        if key == self._own_key and role != CLIENT:
            return "self", "a node does not connect to itself"
        if role not in (VALIDATOR, OBSERVER, CLIENT):
            return "unknown_role", f"role {role} is unknown"
        if self.is_open or self._is_validator(key):
            return None
        if role == VALIDATOR:
            return "not_a_validator", "this key is not a validator's"
        if key not in self._known:
            return "stranger", "this key belongs to no member of the network"
        return None
