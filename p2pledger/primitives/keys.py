"""Ed25519 keys. Signing and key handling stay in libsodium (through PyNaCl), which is constant-time.

Checking many signatures is the core's work (``core.verify_batch``); ``verify`` here is the same rule for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from p2pledger import core

__all__ = ["Keypair", "verify"]


@dataclass(frozen=True, slots=True)
class Keypair:
    """A signing key and its public key (32 bytes). Made from a 32-byte secret seed; equal seeds give equal keys."""

    public_key: bytes
    _secret: bytes = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> Keypair:
        """ValueError unless ``seed`` has 32 bytes."""
        if len(seed) != 32:
            raise ValueError(f"seed must have 32 bytes, not {len(seed)}")
        public_key, secret = crypto_sign_seed_keypair(seed)
        return cls(public_key, secret)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for key files."""
        return self._secret[:32]

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature (RFC 8032) of ``message``."""
        return crypto_sign(message, self._secret)[:64]


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether one signature is valid under ZIP 215."""
    return core.verify_batch(public_key, signature, [message]) == b"\x01"
