"""Proofs of holdings: what a file shows by itself, when an amount is unencumbered, and how a file shows nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from p2pledger import core
from p2pledger.ledger import proofs
from p2pledger.ledger.finality import FinalityProof
from p2pledger.ledger.holding_proof import HoldingProof, ProvedHolding, check_holding, owner_in, rows_to_prove
from p2pledger.ledger.tables import Table
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import P2PLedgerError, PeerFault
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.market.instruments import Describe, Nature
from p2pledger.primitives.market.money import Quarantine
from p2pledger.primitives.market.orders import Power
from p2pledger.primitives.market.parties import AccountKind, RegisterAccount, Tier
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import Lock, Transfer
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.ledger.market.authority import by_authority, release
from tests.ledger.market.market_world import (
    BOND,
    BOND_ACROSS,
    OTHER_CASH,
    SHARE,
    World,
    account,
    founded,
    with_money,
)
from tests.ledger.market.trading import TODAY
from tests.ledger.small_market import key
from tests.primitives.samples import spoiled_bytes

ALICE, BOB = account("alice"), account("bob")


@pytest.fixture
def world() -> World:
    return founded()


def finality(world: World) -> bytes:
    """The block after the newest state, which carries its root, made final by the one validator."""
    genesis = world.genesis
    validators = genesis.validator_set
    block = Header(
        genesis.network_id, 0, world.height + 1, world.height + 1, ZERO_HASH, world.now_ms + 1, key("csdc").public_key,
        core.merkle_root([]), world.version.root(), ZERO_HASH, validators.hash,
    )  # fmt: skip
    vote = Vote.make(genesis.network_id, 0, block.view, VoteKind.FINALISE, block.id, 0, key("csdc"))
    certificate = replace(Certificate.of({0: vote}), view=block.view)
    return FinalityProof(genesis.encode(), (), (block.encode(),), certificate.encode()).encode()


def proof_of(world: World, holder: bytes, asset: bytes) -> HoldingProof:
    owner = owner_in(holder, world.version.get(Table.OWNERS, holder))
    rows = tuple(proofs.prove(world.version, *place) for place in rows_to_prove(holder, owner, asset))
    return HoldingProof(finality(world), holder, asset, rows)


def proved(world: World, holder: bytes, asset: bytes) -> ProvedHolding:
    """What the file shows to somebody who knows the genesis and nothing else."""
    data = proof_of(world, holder, asset).encode()
    assert HoldingProof.decode(data).encode() == data
    return check_holding(data, world.genesis.hash)


def refused(proof: HoldingProof | bytes, genesis_hash: bytes | None = None) -> str:
    with pytest.raises(P2PLedgerError) as raised:
        check_holding(proof if isinstance(proof, bytes) else proof.encode(), genesis_hash)
    assert isinstance(raised.value, PeerFault)
    return raised.value.code


def test_a_free_holding_is_unencumbered_up_to_its_amount(world: World) -> None:
    found = proved(world, ALICE, BOND)
    assert (found.free, found.encumbered, found.decimals, found.name) == (1_000, 0, 0, "Bond of the issuer")
    assert (found.account, found.owner, found.asset, found.height) == (ALICE, ALICE, BOND, world.height)
    assert found.finality.signers == ("csdc",)
    assert found.is_unencumbered(1_000)
    assert found.why_not(1_000) == ""
    assert not found.is_unencumbered(1_001)
    assert found.why_not(1_001) == "only 1000 of 1001 units are free"
    assert not found.is_unencumbered(0)
    assert found.why_not(0)


def test_what_is_locked_is_not_free(world: World) -> None:
    world.do(Lock(ALICE, BOND, 400, BOB), "alice")
    found = proved(world, ALICE, BOND)
    assert (found.free, found.encumbered) == (600, 400)
    assert (found.is_unencumbered(600), found.is_unencumbered(601)) == (True, False)


def test_holding_nothing_is_proved_too(world: World) -> None:
    found = proved(world, BOB, SHARE)
    assert (found.free, found.encumbered, found.is_unencumbered(1)) == (0, 0, False)


@pytest.mark.parametrize(
    ("scope", "obstacle"),
    [
        ({"account": ALICE}, "the account is under an order of authority"),
        ({"party": ALICE}, "the account is under an order of authority"),
        ({"asset": BOND, "catches_later": True}, "the asset is under an order of authority"),
    ],
)
def test_an_order_is_seen_in_the_file_and_its_release_as_well(
    world: World, scope: dict[str, Any], obstacle: str
) -> None:
    freeze = by_authority(power=Power.FREEZE, **scope)
    world.do(freeze, "regulator", "court")
    found = proved(world, ALICE, BOND)
    assert obstacle in found.obstacles
    assert (found.free, found.is_unencumbered(1)) == (1_000, False)
    assert obstacle in found.why_not(1)
    world.do(release(freeze), "regulator", "court")
    assert proved(world, ALICE, BOND).is_unencumbered(1_000)


def test_an_order_over_the_owner_reaches_his_other_accounts(world: World) -> None:
    other = world.open("alice", "other")
    world.do(
        RegisterAccount(other, ALICE, account("csdc"), Tier.INVESTOR, AccountKind.SEGREGATED), "alice", "other", "csdc"
    )
    world.do(Transfer(ALICE, other, BOND, 10), "alice")
    found = proved(world, other, BOND)
    assert (found.owner, found.free, found.is_unencumbered(10)) == (ALICE, 10, True)
    world.do(by_authority(power=Power.FREEZE, party=ALICE, catches_later=True), "regulator", "court")
    found = proved(world, other, BOND)
    assert "its owner is under an order of authority" in found.obstacles
    assert not found.is_unencumbered(10)


def test_other_reasons_for_which_a_holding_is_not_at_somebodys_disposal(world: World) -> None:
    pool = world.open("broker", "pool")
    entry = RegisterAccount(pool, account("broker"), account("csdc"), Tier.BROKER, AccountKind.OMNIBUS)
    world.do(entry, "broker", "pool", "csdc")
    world.do(Transfer(ALICE, pool, BOND, 10), "alice")
    assert "title is with its beneficiaries" in proved(world, pool, BOND).why_not(1)

    describe = Describe(
        account("ccdc"), BOND_ACROSS, Nature.MIRROR, "DBFTFB", "", "BOND", "CNY", 0, TODAY, 0, "China", ()
    )
    world.do(describe, "ccdc", "issuer")
    mirror = proved(world, ALICE, BOND_ACROSS)
    assert mirror.nature == "mirror"
    assert mirror.obstacles == (
        "the asset is not active",
        "the holding mirrors another register and carries no title",
    )
    with_money(world)
    world.do(Quarantine(account("pboc"), OTHER_CASH, True, bytes(32)), "pboc")
    assert proved(world, account("dave"), OTHER_CASH).obstacles == ("the money's bank is in quarantine",)


def test_rows_of_others_prove_nothing(world: World) -> None:
    good, bobs = proof_of(world, ALICE, BOND), proof_of(world, BOB, BOND)
    assert refused(replace(good, account=BOB)) == "wrong_row"
    assert refused(replace(good, asset=SHARE)) == "wrong_row"
    for place in range(len(good.rows)):
        rows = (*good.rows[:place], bobs.rows[(place + 1) % 6], *good.rows[place + 1 :])
        assert refused(replace(good, rows=rows)) == "wrong_row"


def test_an_owner_cannot_be_left_out(world: World) -> None:
    other = world.open("alice", "other")
    before = proof_of(world, other, BOND)
    world.do(RegisterAccount(other, ALICE, account("csdc"), Tier.INVESTOR, AccountKind.OWN), "alice", "other", "csdc")
    good = proof_of(world, other, BOND)
    own = proofs.prove(world.version, Table.ACCOUNTS, other)
    assert refused(replace(good, rows=(*good.rows[:4], own, good.rows[5]))) == "wrong_row"
    assert refused(replace(good, rows=before.rows)) == "bad_proof"


def test_an_older_state_under_a_newer_header_and_the_other_way_round(world: World) -> None:
    old = proof_of(world, ALICE, BOND)
    world.do(Transfer(ALICE, BOB, BOND, 900), "alice")
    new = proof_of(world, ALICE, BOND)
    assert refused(replace(new, rows=old.rows)) == "bad_proof"
    assert refused(replace(old, rows=new.rows)) == "bad_proof"
    assert check_holding(old.encode(), world.genesis.hash).free == 1_000, "it was so, then"
    assert check_holding(new.encode(), world.genesis.hash).free == 100


def test_what_does_not_exist_is_no_holding_of_zero(world: World) -> None:
    assert refused(proof_of(world, ALICE, asset_id("XS0000000009@CSDC"))) == "unknown_holding"
    assert refused(proof_of(world, b"n" * 32, BOND)) == "unknown_holding"


def test_another_genesis_another_form_and_every_changed_byte(world: World) -> None:
    good = proof_of(world, ALICE, BOND)
    assert refused(good, b"g" * 32) == "wrong_genesis"
    assert refused(replace(good, rows=good.rows[:5])) == "malformed"
    assert refused(encode((2, good.finality, ALICE, BOND, good.rows))) == "unknown_version"
    assert refused(replace(good, finality=b"\x90")) == "malformed"
    data = good.encode()
    for bad in spoiled_bytes(data, random.Random(1), 60):
        with pytest.raises(P2PLedgerError):
            check_holding(bad, world.genesis.hash)
