"""The core floor's only door: chooses between the compiled core and the reference, and says which one runs.

`_core` (C behind Cython) is taken where it was built, `_reference` (plain Python, the same names and results, far
slower) elsewhere. The environment variable P2PLEDGER_CORE decides when it is set: `reference` forces the
reference, `compiled` makes a missing compiled core an error. Everybody above this floor imports from here.

Where the reference runs, `verify_batch` takes libsodium's word for signatures that it accepts, which ZIP 215 then
accepts too; the compiled core decides everything itself.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from p2pledger import _reference
from p2pledger._reference import (
    BranchInUse,
    Buffer,
    Limits,
    MalformedBytes,
    Proof,
    StateReleased,
    Verdict,
    verify_zip215,
)

__all__ = [
    "Branch",
    "BranchInUse",
    "Columns",
    "Limits",
    "MalformedBytes",
    "Proof",
    "StateReleased",
    "Verdict",
    "Version",
    "batch_digest",
    "compiled",
    "compiler",
    "description",
    "empty_state",
    "encode_batch",
    "level",
    "levels",
    "merkle_proof",
    "merkle_root",
    "merkle_verify",
    "merkle_verify_hash",
    "pow_search",
    "receipts",
    "receipts_root",
    "scan_batch",
    "scan_transactions",
    "set_level",
    "sha256_many",
    "sha512_many",
    "state_verify",
    "validate",
    "verify_batch",
    "verify_columns",
    "verify_zip215",
]

CHOICES = ("", "compiled", "reference")

_choice = os.environ.get("P2PLEDGER_CORE", "")
if _choice not in CHOICES:
    raise ImportError(f"P2PLEDGER_CORE must be one of {', '.join(CHOICES[1:])} or unset, not {_choice!r}")

compiled: bool
"""True if the compiled core runs."""

_reason: str


def _verify_batch_by_libsodium(public_keys: Buffer, signatures: Buffer, messages: Sequence[Buffer]) -> bytes:
    """n flags, 1 = valid under ZIP 215. public_keys n x 32 bytes, signatures n x 64 bytes, n messages.

    libsodium's acceptance implies ZIP 215's: it demands everything that ZIP 215 demands and more (canonical y, no
    small-order points, the equation without the cofactor). Its refusal implies nothing, so what it refuses goes to
    the plain-integer check, and every flag is exact. An honest signature costs about 0.1 ms, a refused one about
    1 ms more: callers bound n (max_batch_signatures for a batch), and with it the work of one call.
    """
    keys, both, signed = _reference.check_batch_arguments(public_keys, signatures, messages)
    flags = bytearray(len(signed))
    for i, message in enumerate(signed):
        key, signature = keys[32 * i : 32 * i + 32], both[64 * i : 64 * i + 64]
        try:
            crypto_sign_open(signature + message, key)
            flags[i] = 1
        except BadSignatureError:
            flags[i] = verify_zip215(key, signature, message)
    return bytes(flags)


def _verify_columns_by_libsodium(columns: _reference.Columns) -> Verdict:
    """Verifies all signatures of scanned columns, the maker's among them."""
    return _reference._verify_columns(columns, _verify_batch_by_libsodium)


def _validate_by_libsodium(data: Buffer, network_id: bytes, limits: Limits) -> tuple[_reference.Columns, Verdict]:
    """Scans a *signed batch* and verifies all its signatures."""
    columns = _reference.scan_batch(data, network_id, limits)
    return columns, _verify_columns_by_libsodium(columns)


if TYPE_CHECKING:
    # Both implementations have one face; the stub of the compiled one is its written form.
    from p2pledger._core import (
        Branch,
        Columns,
        Version,
        batch_digest,
        compiler,
        empty_state,
        encode_batch,
        level,
        levels,
        merkle_proof,
        merkle_root,
        merkle_verify,
        merkle_verify_hash,
        pow_search,
        receipts,
        receipts_root,
        scan_batch,
        scan_transactions,
        set_level,
        sha256_many,
        sha512_many,
        state_verify,
        validate,
        verify_batch,
        verify_columns,
    )
else:
    try:
        if _choice == "reference":
            raise ImportError("P2PLEDGER_CORE=reference")
        from p2pledger import _core as _chosen

        compiled = True
        _reason = ""
    except ImportError as error:
        if _choice == "compiled":
            raise ImportError(f"P2PLEDGER_CORE=compiled, but there is no compiled core: {error}") from error
        _chosen = _reference
        compiled = False
        _reason = str(error)

    Branch = _chosen.Branch
    Columns = _chosen.Columns
    Version = _chosen.Version
    batch_digest = _chosen.batch_digest
    compiler = _chosen.compiler
    empty_state = _chosen.empty_state
    encode_batch = _chosen.encode_batch
    level = _chosen.level
    levels = _chosen.levels
    merkle_proof = _chosen.merkle_proof
    merkle_root = _chosen.merkle_root
    merkle_verify = _chosen.merkle_verify
    merkle_verify_hash = _chosen.merkle_verify_hash
    pow_search = _chosen.pow_search
    receipts = _chosen.receipts
    receipts_root = _chosen.receipts_root
    scan_batch = _chosen.scan_batch
    scan_transactions = _chosen.scan_transactions
    set_level = _chosen.set_level
    sha256_many = _chosen.sha256_many
    sha512_many = _chosen.sha512_many
    state_verify = _chosen.state_verify
    validate = _chosen.validate if compiled else _validate_by_libsodium
    verify_batch = _chosen.verify_batch if compiled else _verify_batch_by_libsodium
    verify_columns = _chosen.verify_columns if compiled else _verify_columns_by_libsodium


def description() -> str:
    """One line that says which core runs, at which CPU level, and, for the reference, why."""
    if compiled:
        return f"compiled core, level {level()}"
    return f"REFERENCE CORE in plain Python (same results, far slower): {_reason}"
