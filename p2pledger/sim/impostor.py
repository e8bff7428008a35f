"""Replayed handshakes: an impostor keeps the hellos that others once sent to it, and shows them to third parties.

The world's sessions begin with proved identities, so the proof itself is tried here, with the very handshake that nodes
use: a hello is signed over the certificates of both ends of one TLS session, and the impostor cannot show the other's.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pledger.network.effects import VALIDATOR
from p2pledger.network.handshake import Handshake, LocalEnd
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.keys import Keypair

__all__ = ["let_in"]


def let_in(genesis_hash: bytes, keys: Mapping[str, Keypair], impostor: str) -> list[tuple[str, str]]:
    """(who was fooled, whom it took the impostor for), for every pair of others; empty where all is well."""
    fooled: list[tuple[str, str]] = []
    for victim in keys:
        kept = _end(genesis_hash, keys, victim, impostor).hello()
        for target in keys:
            if impostor in (victim, target) or victim == target:
                continue
            try:
                _end(genesis_hash, keys, target, impostor).receive(kept)
            except PeerFault as fault:
                if fault.code == "bad_signature":
                    continue
            fooled.append((target, victim))
    return fooled


def _end(genesis_hash: bytes, keys: Mapping[str, Keypair], own: str, other: str) -> Handshake:
    return Handshake(
        LocalEnd(genesis_hash, keys[own], VALIDATOR, own),
        certificate=f"certificate of {own}".encode(),
        peer_certificate=f"certificate of {other}".encode(),
        admit=lambda identity: None,
    )
