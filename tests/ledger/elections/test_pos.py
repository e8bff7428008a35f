"""Coin-age: how it grows, what it wins, and that producing consumes it and nothing else does."""

import hashlib
from dataclasses import replace

import pytest

from p2pledger.ledger.elections import pos
from p2pledger.ledger.tables import Stake, Table, engine_key
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.names import stake_id
from tests.ledger.engines import PRODUCERS, Chain, network
from tests.ledger.small_market import account, key

ALICE, BOB = account("alice"), account("bob")
KEYS = tuple(key(name).public_key for name in PRODUCERS)


def test_coin_age_is_amount_times_heights_up_to_the_cap() -> None:
    stake = Stake(ALICE, 7, 10, KEYS[0])
    assert [pos.coin_age(stake, height, 5) for height in (9, 10, 11, 15, 16, 10**9)] == [0, 0, 7, 35, 35, 35]


def test_coin_age_has_128_bits_and_more_is_cut_where_it_is_compared() -> None:
    whale = Stake(ALICE, U64_MAX, 0, KEYS[0])
    age = pos.coin_age(whale, 2**63, 2**63 - 1)
    assert age == U64_MAX * (2**63 - 1)
    assert 2**126 < age < 2**127
    assert pos.wins(b"\xff" * 32, 2**256 - 1, age), "capped at 2^256 - 1, not wrapped"
    assert not pos.wins(bytes(32), 2**256 - 1, 0), "without age nothing wins"


def test_a_draw_wins_up_to_the_target_times_the_age() -> None:
    kernel = (5_000).to_bytes(32, "big")
    assert pos.wins(kernel, 1_000, 5)
    assert not pos.wins(kernel, 999, 5)
    assert pos.wins(kernel, 999, 6)


def test_the_kernel_hashes_modifier_stake_and_slot() -> None:
    expected = hashlib.sha256(b"p2pl.kn1" + b"m" * 32 + b"s" * 32 + b"\0\0\0\0\0\0\1\2").digest()
    assert pos.kernel(b"m" * 32, b"s" * 32, 258) == expected


def test_the_genesis_sets_target_and_modifier() -> None:
    chain = Chain(network("pos"))
    total = 1_000 + 2_000 + 3_000 + 4_000
    difficulty = 4 * total * 99 // 100
    assert pos.base_target(chain.version, chain.spec.parameters) == 2**256 // difficulty - 1
    assert pos.modifier(chain.version) == hashlib.sha256(b"p2pl.md1" + chain.genesis.hash).digest()
    # So at height 1, where every stake has waited one height, about one slot in four is won by somebody.
    chance = pos.base_target(chain.version, chain.spec.parameters) * total / 2**256
    assert 0.25 < chance < 0.26


def test_producing_consumes_the_age_of_one_stake_and_of_no_other() -> None:
    chain = Chain(network("pos"))
    chain.run(1)
    used = chain.last.proof
    for number in range(4):
        found = pos.stake_of(chain.version, stake_id((BOB, ALICE)[number % 2], number.to_bytes(16, "big")))
        assert found is not None
        own = stake_id((BOB, ALICE)[number % 2], number.to_bytes(16, "big")) == used
        assert found.since_height == (1 if own else 0)
    assert pos.stakes_of(chain.version, chain.last.proposer)[0][1].since_height == 1


def test_a_new_stake_has_no_age_in_its_own_block() -> None:
    chain = Chain(network("pos"))
    chain.run(4)
    assert chain.titles(chain.signed(tx.Stake(ALICE, 9, b"s" * 16, KEYS[0]), "alice")) == ["ok"]
    stake = pos.stake_of(chain.version, stake_id(ALICE, b"s" * 16))
    assert stake is not None
    assert pos.coin_age(stake, chain.height, 1_000) == 0
    assert pos.coin_age(stake, chain.height + 1, 1_000) == 9


def test_modifiers_are_fixed_some_blocks_before_they_are_used() -> None:
    chain = Chain(network("pos", modifier_depth=3))
    modifiers, used = [pos.modifier(chain.version)], []
    for _ in range(8):
        drawn_with = pos.modifier(chain.version)
        used.append(drawn_with)
        chain.run(1)
        kernel = hashlib.sha256(
            b"p2pl.kn1" + drawn_with + chain.last.proof + chain.last.view.to_bytes(8, "big")
        ).digest()
        modifiers.append(hashlib.sha256(b"p2pl.md1" + modifiers[-1] + kernel).digest())
        assert chain.version.get(Table.ENGINE, engine_key(2)) == encode((1, tuple(modifiers[-3:])))
    # The block at height h draws with the modifier of height h - 3; the first ones with that of the genesis.
    assert used == [modifiers[max(0, height - 3)] for height in range(1, 9)]


def test_nothing_that_a_producer_puts_into_its_block_moves_its_draws() -> None:
    """Two chains of the same producers and slots, with other transactions and times: the same modifiers and targets."""
    here, there = Chain(network("pos")), Chain(network("pos"))
    for _ in range(15):
        here.run(1)
        busy = there.signed(tx.Pay(ALICE, BOB, 1), "alice")
        there.block(busy, at=there.header(time_ms=there.spec.genesis_time_ms + (there.slot + 1) * 1_000 + 999))
    for number in (1, 2):
        assert here.version.get(Table.ENGINE, engine_key(number)) == there.version.get(Table.ENGINE, engine_key(number))
    assert here.version.root() != there.version.root()


def test_gaps_make_the_next_block_easier() -> None:
    slow, quick = Chain(network("pos")), Chain(network("pos"))
    for _ in range(30):
        slow.block(at=slow.header(slow.slot + 12))
        quick.block(at=quick.header(quick.slot + 1))
    easy, hard = (pos.base_target(chain.version, chain.spec.parameters) for chain in (slow, quick))
    assert easy > 4 * hard


@pytest.mark.parametrize(
    ("proof", "code"),
    [(b"", "unknown_stake"), (bytes(31), "unknown_stake"), (bytes(32), "unknown_stake"), (None, "wrong_proposer")],
)
def test_a_block_without_a_stake_of_its_producer_is_not_executed(proof: bytes | None, code: str) -> None:
    chain = Chain(network("pos"))
    header = chain.header()
    others = [name for name, row in chain.version.scan(Table.STAKES) if Stake.decode(row).key != header.proposer]
    root = chain.version.root()
    with pytest.raises(PeerFault) as caught:
        chain.block(at=replace(header, proof=others[0] if proof is None else proof))
    assert caught.value.code == code
    assert chain.version.root() == root


def test_all_stakes_of_a_key_are_found_among_many() -> None:
    chain = Chain(network("pos"))
    stakes = tuple(tx.Stake(ALICE, 1 + at, (99 + at).to_bytes(16, "big"), KEYS[at % 2]) for at in range(30))
    assert chain.titles(chain.signed(stakes, "alice")) == ["ok"]
    for at, producer in enumerate(KEYS[:2]):
        found = pos.stakes_of(chain.version, producer)
        assert len(found) == 16
        assert [name for name, _ in found] == sorted(name for name, _ in found)
        mine = {stake_id(ALICE, (99 + number).to_bytes(16, "big")) for number in range(at, 30, 2)}
        assert mine < {name for name, _ in found}
        assert {stake.key for _, stake in found} == {producer}
    assert pos.stakes_of(chain.version, b"n" * 32) == ()
