"""Certificates: every one that an honest node kept was signed by a quorum of distinct validators of its epoch.

Own arithmetic, own eyes: signers are counted once each, more than two thirds of the weight are needed, and libsodium
judges every signature. Two certificates that cannot both be true are a matter of agreement; that each of them is sound
is a matter of this file.
"""

from __future__ import annotations

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from p2pledger.sim.checkers.books import History, pack, unpack
from p2pledger.sim.evidence import Evidence

__all__ = ["check_certificates"]

KINDS = {1: "notarisation", 2: "nullification", 3: "finalisation"}


def check_certificates(evidence: Evidence, history: History) -> list[str]:
    faults: list[str] = []
    network = history.books.network
    seats_by_epoch = {int.from_bytes(key, "big"): unpack(value)[1] for key, value in history.books.tables()[7]}
    good: set[tuple[bytes, bytes, bytes]] = set()
    for data, node in evidence.certificates.items():
        _, epoch, view, kind, block, signatures = unpack(data)
        seats = seats_by_epoch[max(known for known in seats_by_epoch if known <= epoch)]
        message = b"p2pl.vo1" + pack([network, epoch, view, kind, block])
        signers: set[int] = set()
        for signer, signature in signatures:
            if signer >= len(seats):
                continue
            key = seats[signer][0]
            if (key, message, signature) not in good:
                try:
                    crypto_sign_open(signature + message, key)
                except BadSignatureError:
                    continue
                good.add((key, message, signature))
            signers.add(signer)
        weight = sum(seats[signer][1] for signer in signers)
        total = sum(seat[1] for seat in seats)
        if 3 * weight <= 2 * total:
            faults.append(
                f"{node} kept a {KINDS.get(kind, kind)} of view {view} for {block.hex()[:16]} that {weight} of {total} "
                f"have signed"
            )
    return faults
