"""Delegates: elected by stake, shuffled by secrets, counted when they are silent, and suspended for it."""

import hashlib
import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.ledger.elections import dpos
from p2pledger.ledger.elections.dpos import Delegate, Schedule, shuffled
from p2pledger.ledger.queries import stakes_owned_by
from p2pledger.ledger.tables import Table
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.codec import decode, encode
from p2pledger.primitives.errors import PeerFault
from tests.ledger.engines import PRODUCERS, Chain, network, secret
from tests.ledger.small_market import account, key

ALICE, BOB = account("alice"), account("bob")
KEYS = {name: key(name).public_key for name in (*PRODUCERS, "candidate", "rich candidate")}
NAMES = {public: name for name, public in KEYS.items()}
LETTERS = tuple(bytes([letter]) * 32 for letter in b"abcdefg")


def chain_of(delegates: int = 4, epoch_rounds: int = 3) -> Chain:
    return Chain(network("dpos", delegates=delegates, epoch_rounds=epoch_rounds))


def schedule_of(chain: Chain) -> Schedule:
    return Schedule.read(chain.version, chain.spec.parameters)


def records(chain: Chain) -> dict[str, Delegate]:
    return {NAMES[delegate.key]: delegate for delegate in schedule_of(chain).delegates}


def without(chain: Chain, name: str, until: int) -> None:
    """Blocks in all slots up to ``until`` that do not belong to this delegate."""
    while chain.slot < until:
        schedule, slot = schedule_of(chain), chain.slot + 1
        while schedule.producer(slot) == KEYS[name]:
            slot += 1
        if slot > until:
            return
        chain.block(at=chain.header(slot))


# The order of a round.


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True), st.integers(0, 2**40))
def test_an_order_is_a_permutation(keys: list[bytes], round_number: int) -> None:
    order = shuffled(sorted(keys), b"s" * 32, round_number)
    assert sorted(order) == sorted(keys)
    assert order == shuffled(sorted(keys), b"s" * 32, round_number)


def test_every_order_is_as_likely_as_any_other() -> None:
    """Six orders of three keys in 6,000 rounds; the chance of a fair shuffle to miss by so much is below 1 in 10^6."""
    counts = Counter(shuffled(LETTERS[:3], b"seed" * 8, round_number) for round_number in range(6_000))
    assert set(counts) == set(itertools.permutations(LETTERS[:3]))
    assert sum((count - 1_000) ** 2 / 1_000 for count in counts.values()) < 36
    first = Counter(shuffled(LETTERS, b"seed" * 8, round_number)[0] for round_number in range(7_000))
    assert sum((count - 1_000) ** 2 / 1_000 for count in first.values()) < 40


def test_an_order_by_hand() -> None:
    """The words of the protocol, drawn without the function that is tested."""
    words = []
    for counter in range(2):
        block = hashlib.sha256(b"s" * 32 + (9).to_bytes(8, "big") + counter.to_bytes(8, "big")).digest()
        words += [int.from_bytes(block[at : at + 8], "big") for at in (0, 8, 16, 24)]
    expected = list(LETTERS[:5])
    for last, word in zip((4, 3, 2, 1), words, strict=False):
        assert word < 2**64 - 2**64 % (last + 1)
        at = word % (last + 1)
        expected[at], expected[last] = expected[last], expected[at]
    assert shuffled(LETTERS[:5], b"s" * 32, 9) == tuple(expected)


def test_the_seed_is_made_of_the_secrets_of_the_round_before() -> None:
    chain = chain_of()
    seed = hashlib.sha256(b"p2pl.sd1" + chain.genesis.hash).digest()
    revealed: dict[bytes, bytes] = {}
    for slot in range(1, 25):
        if slot % 4 == 0:
            seed = hashlib.sha256(
                b"p2pl.sd1" + seed + b"".join(value for _, value in sorted(revealed.items()))
            ).digest()
            revealed = {}
        chain.run(1)
        _, _, reveal = decode(chain.last.proof, limit_bytes=512, what="proof")
        assert bool(reveal) is ((slot // 4 - 2, chain.last.proposer) in chain.committed)
        if reveal:
            revealed[chain.last.proposer] = reveal
        schedule = schedule_of(chain)
        assert (schedule.slot, schedule.seed, schedule.round) == (slot, seed, slot // 4)
        assert dict(schedule.revealed) == revealed
        assert schedule.order(schedule.round) == shuffled(sorted(KEYS[name] for name in PRODUCERS), seed, slot // 4)


def test_one_secret_more_or_less_changes_every_later_order() -> None:
    chain = chain_of()
    chain.run(14)
    schedule = schedule_of(chain)
    assert len(schedule.revealed) == 3
    for left_out in range(3):
        other = replace(schedule, revealed=schedule.revealed[:left_out] + schedule.revealed[left_out + 1 :])
        assert other.next_seed != schedule.next_seed
    guessed = replace(schedule, revealed=(*schedule.revealed[:2], (schedule.revealed[2][0], b"g" * 32)))
    assert guessed.next_seed != schedule.next_seed


def test_rounds_without_blocks_keep_the_seed_and_have_orders_of_their_own() -> None:
    chain = chain_of()
    chain.run(10)
    schedule = schedule_of(chain)
    orders = [schedule.order(round_number) for round_number in range(3, 40)]
    assert len(set(orders)) > 10
    chain.block(at=chain.header(4 * 30 + 1))
    assert schedule_of(chain).seed == schedule.next_seed
    assert schedule_of(chain).order(30) == orders[27]


# The election.


def test_the_most_stake_serves() -> None:
    """The genesis stakes 1,000 to 4,000 behind the four; with three places the first of them has none."""
    chain = chain_of(delegates=3)
    assert schedule_of(chain).serving(1) == tuple(sorted(KEYS[name] for name in PRODUCERS[1:]))
    stake = tx.Stake(ALICE, 2_500, b"s" * 16, KEYS["candidate"])
    assert chain.titles(chain.signed(stake, "alice")) == ["ok"]
    chain.run(7)
    assert chain.slot == 8, "the last one of the epoch"
    assert KEYS["candidate"] not in schedule_of(chain).serving(8)
    assert schedule_of(chain).serving(9) == tuple(sorted([KEYS["candidate"], KEYS["node-2"], KEYS["node-3"]]))
    chain.run(1)
    assert set(records(chain)) == {"candidate", "node-2", "node-3"}
    epoch, past = dpos.last_epoch(chain.version)
    assert (epoch, {NAMES[delegate.key] for delegate in past}) == (0, set(PRODUCERS[1:]))


def test_equal_stakes_are_ranked_by_key_and_those_without_any_do_not_serve() -> None:
    chain = chain_of(delegates=4)
    stakes = (tx.Stake(ALICE, 1_000, b"s" * 16, KEYS["candidate"]),)
    assert chain.titles(chain.signed(stakes, "alice")) == ["ok"]
    chain.run(10)
    better = min(KEYS["candidate"], KEYS["node-0"])
    serving = schedule_of(chain).serving(12)
    assert better in serving
    assert len({KEYS["candidate"], KEYS["node-0"]} & set(serving)) == 1
    assert KEYS["rich candidate"] not in serving


def test_fewer_delegates_than_places_repeat_their_order() -> None:
    chain = chain_of(delegates=10)
    schedule = schedule_of(chain)
    order = schedule.order(3)
    assert len(order) == 4
    assert [schedule.producer(30 + place) for place in range(10)] == [order[place % 4] for place in range(10)]


def test_when_nobody_stands_for_election_the_old_delegates_stay() -> None:
    chain = chain_of(epoch_rounds=1)
    own = [(owner, name) for owner in (ALICE, BOB) for name, _ in stakes_owned_by(chain.version, owner)]
    assert chain.titles(chain.signed([tx.Unstake(*one) for one in own], "alice", "bob")) == ["ok"]
    assert chain.version.count(Table.STAKED) == 0
    chain.run(8)
    assert set(records(chain)) == set(PRODUCERS)


NEW = [key(f"newcomer {number}").public_key for number in range(10)]


def buy_seats(chain: Chain, *amounts: int) -> list[bytes]:
    """Stakes of these amounts behind new keys; the keys."""
    stakes = [tx.Stake(ALICE, amount, bytes([at]) * 16, NEW[at]) for at, amount in enumerate(amounts)]
    assert chain.titles(chain.signed(stakes, "alice")) == ["ok"]
    return NEW[: len(amounts)]


def test_votes_replace_no_more_seats_in_one_epoch_than_a_quorum_can_spare() -> None:
    """Of four delegates one: three are a quorum of the old set, so what it has built still becomes final."""
    chain = chain_of(epoch_rounds=1)
    newcomers = buy_seats(chain, 5_000, 7_000, 6_000)
    serving = {KEYS[name] for name in PRODUCERS}
    for newcomer, outvoted in ((newcomers[1], "node-0"), (newcomers[2], "node-1"), (newcomers[0], "node-2")):
        serving = serving - {KEYS[outvoted]} | {newcomer}
        last_slot = (chain.slot // 4 + 1) * 4 - 1
        while chain.slot < last_slot:
            chain.run(1)
        assert set(schedule_of(chain).serving(last_slot + 1)) == serving, "the most votes come first, the fewest go"
        chain.run(1)
        assert {delegate.key for delegate in schedule_of(chain).delegates} == serving


def test_who_has_lost_all_votes_may_have_to_serve_on_for_an_epoch() -> None:
    chain = chain_of(epoch_rounds=1)
    gone = [
        (owner, name)
        for owner in (ALICE, BOB)
        for name, stake in stakes_owned_by(chain.version, owner)
        if stake.key in (KEYS["node-2"], KEYS["node-3"])
    ]
    assert chain.titles(chain.signed([tx.Unstake(*one) for one in gone], "alice", "bob")) == ["ok"]
    first = max(KEYS["node-2"], KEYS["node-3"])
    while chain.slot < 3:
        chain.run(1)
    assert set(schedule_of(chain).serving(4)) == {KEYS[name] for name in PRODUCERS} - {first}
    while chain.slot < 8:
        chain.run(1)
    assert set(records(chain)) == {"node-0", "node-1"}


def test_empty_seats_are_not_filled_all_at_once() -> None:
    """Whoever has dust to stake cannot take more seats at once than those who serve can do without."""
    chain = chain_of(delegates=10, epoch_rounds=1)
    newcomers = buy_seats(chain, *[1] * 6)
    first = min(newcomers)
    assert set(schedule_of(chain).serving(10)) == {KEYS[name] for name in PRODUCERS} | {first}


# Silence.


def test_slots_without_a_block_are_missed_by_their_owner() -> None:
    chain = chain_of()
    schedule = schedule_of(chain)
    silent = [schedule.producer(slot) for slot in (1, 2)]
    chain.block(at=chain.header(3))
    found = records(chain)
    assert [found[NAMES[owner]].missed for owner in silent] == [1, 1]
    assert found[NAMES[chain.last.proposer]].made == 1
    assert sum(record.missed for record in found.values()) == 2


def test_who_misses_more_than_half_of_its_slots_is_put_last() -> None:
    chain = chain_of(delegates=4)
    stake = tx.Stake(ALICE, 10, b"s" * 16, KEYS["candidate"])  # far less than the others have
    assert chain.titles(chain.signed(stake, "alice")) == ["ok"]
    absent = next(name for name in PRODUCERS if KEYS[name] != chain.last.proposer)
    without(chain, absent, 11)
    chain.block(at=chain.header(12 if schedule_of(chain).producer(12) != KEYS[absent] else 13))
    _, past = dpos.last_epoch(chain.version)
    record = {NAMES[delegate.key]: delegate for delegate in past}[absent]
    assert (record.made, record.missed) in ((0, 2), (0, 3)), "a slot of round 0 is that of the genesis"
    assert record.is_faulty
    assert set(records(chain)) == ({*PRODUCERS} - {absent}) | {"candidate"}
    # It is judged again by what it does: not serving it misses nothing, and is back for the epoch after.
    while chain.slot < 24:
        chain.run(1)
    assert set(records(chain)) == set(PRODUCERS)


def test_half_of_the_slots_is_not_more_than_half() -> None:
    assert not Delegate(LETTERS[0], made=2, missed=2).is_faulty
    assert Delegate(LETTERS[0], made=2, missed=3).is_faulty
    assert Delegate(LETTERS[0], made=9, withheld=1).is_faulty
    assert not Delegate(LETTERS[0]).is_faulty


def test_no_more_than_a_third_is_suspended_the_worst_first() -> None:
    """A halt of the network makes all silent; nobody may take their places for that."""
    records = [Delegate(letter, made=1, missed=3 + number) for number, letter in enumerate(LETTERS)]
    assert dpos.suspended(records) == (LETTERS[6], LETTERS[5])
    records[1] = replace(records[1], withheld=1)
    assert dpos.suspended(records) == (LETTERS[1], LETTERS[6])
    assert dpos.suspended(records[:2]) == (LETTERS[1],)
    assert dpos.suspended([Delegate(letter, made=3, missed=3) for letter in LETTERS]) == ()
    assert dpos.suspended([]) == ()
    chain = chain_of(delegates=4)
    stakes = [tx.Stake(ALICE, 1, bytes(15) + bytes([9 + at]), letter) for at, letter in enumerate(LETTERS)]
    assert chain.titles(chain.signed(stakes, "alice")) == ["ok"]
    chain.block(at=chain.header(12 * 7))
    assert len(set(schedule_of(chain).serving(chain.slot)) & {KEYS[name] for name in PRODUCERS}) == 3


def test_the_suspended_serve_where_nobody_takes_their_place() -> None:
    chain = chain_of(delegates=4)
    without(chain, "node-2", 13)
    _, past = dpos.last_epoch(chain.version)
    assert {NAMES[delegate.key] for delegate in past if delegate.is_faulty} == {"node-2"}
    assert set(records(chain)) == set(PRODUCERS)


def test_a_secret_that_is_withheld_is_counted_and_suspends() -> None:
    """It commits in round 1 and is silent in round 3, when it should open: one bit of influence, one epoch of pay."""
    chain = chain_of(delegates=4, epoch_rounds=8)
    chain.run(11)  # up to slot 11, the end of round 2
    absent = "node-1"
    assert schedule_of(chain).reveal_due(KEYS[absent], 12) is not None
    without(chain, absent, 17)
    record = records(chain)[absent]
    assert record.withheld == 1
    assert record.missed <= record.made, "it would not be suspended for absence"
    assert record.is_faulty
    assert sum(other.withheld for other in records(chain).values()) == 1
    # What it committed to in round 1 is not due any more.
    assert all(made_in >= 2 for made_in, _, _ in schedule_of(chain).commitments)


def test_a_commitment_that_falls_due_in_a_round_without_blocks_lapses() -> None:
    chain = chain_of(delegates=4, epoch_rounds=100)
    chain.run(11)
    chain.block(at=chain.header(4 * 20 + 1))
    chain.run(8)
    assert sum(record.withheld for record in records(chain).values()) == 0


def test_empty_epochs_count_nothing_against_anybody_but_the_rest_of_the_last_one_does() -> None:
    chain = chain_of(delegates=4, epoch_rounds=3)
    chain.run(2)
    chain.block(at=chain.header(12 * 50 + 3))
    epoch, past = dpos.last_epoch(chain.version)
    assert (epoch, sum(record.made for record in past), sum(record.missed for record in past)) == (0, 2, 9)
    found = records(chain)
    assert (schedule_of(chain).epoch, sum(record.missed for record in found.values())) == (50, 3)


# Blocks that do not fit.


def spoiled(chain: Chain, name: str) -> tuple[bytes, dict[str, object]]:
    header = chain.header()
    confirm_from, commitment, reveal = decode(header.proof, limit_bytes=512, what="proof")
    other = next(public for public in (KEYS[name] for name in PRODUCERS) if public != header.proposer)
    return {
        "no proof": ("malformed", {"proof": b""}),
        "a proof of two fields": ("malformed", {"proof": encode((confirm_from, commitment))}),
        "no commitment": ("malformed", {"proof": encode((confirm_from, b"", reveal))}),
        "a reveal of 31 bytes": ("bad_reveal", {"proof": encode((confirm_from, commitment, reveal[:31]))}),
        "no reveal": ("bad_reveal", {"proof": encode((confirm_from, commitment, b""))}),
        "another secret": ("bad_reveal", {"proof": encode((confirm_from, commitment, b"x" * 32))}),
        "another delegate": ("wrong_order", {"proposer": other}),
        "a stranger": ("wrong_order", {"proposer": KEYS["candidate"]}),
        "the slot of the parent": ("bad_slot", {"view": chain.slot}),
        "an earlier slot": ("bad_slot", {"view": chain.slot - 1}),
    }[name]  # type: ignore[return-value]


@pytest.mark.parametrize(
    "name",
    ["no proof", "a proof of two fields", "no commitment", "a reveal of 31 bytes", "no reveal", "another secret",
     "another delegate", "a stranger", "the slot of the parent", "an earlier slot"],
)  # fmt: skip
def test_a_block_that_does_not_fit_is_not_executed(name: str) -> None:
    chain = chain_of()
    chain.run(9)
    code, changes = spoiled(chain, name)
    root = chain.version.root()
    with pytest.raises(PeerFault) as caught:
        chain.block(at=replace(chain.header(), **changes))  # type: ignore[arg-type]
    assert caught.value.code == code
    assert chain.version.root() == root


def test_a_secret_is_not_opened_where_none_is_due() -> None:
    chain = chain_of()
    chain.run(2)
    header = chain.header()
    confirm_from, commitment, _ = decode(header.proof, limit_bytes=512, what="proof")
    with pytest.raises(PeerFault, match="owes"):
        chain.block(at=replace(header, proof=encode((confirm_from, commitment, secret(header.proposer, 1)))))


def test_only_the_first_commitment_of_a_round_counts() -> None:
    """With one delegate each round is its own: it commits four times and opens the first."""
    genesis = network("dpos", delegates=4)
    chain = Chain(replace(genesis, stakes=genesis.stakes[:1]))
    chain.run(9)
    assert len({place for place, _, _ in schedule_of(chain).commitments}) == 2
    assert [owner for _, owner, _ in schedule_of(chain).commitments] == [KEYS["node-0"]] * 2
    assert len(schedule_of(chain).revealed) == 1
