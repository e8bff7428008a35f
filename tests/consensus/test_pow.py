"""Proof of work: what is judged, how the search is asked for, partitions, and what a selfish miner gains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from p2pledger import core
from p2pledger.consensus.chain import ChainEngine, Recovered
from p2pledger.consensus.engine import (
    Accepted,
    Announce,
    BlockArrived,
    BlockRef,
    Build,
    Built,
    Checked,
    Effect,
    Executed,
    Persist,
    Work,
    WorkChanged,
    WorkDone,
)
from p2pledger.consensus.pow import PowRule, search_prefix, weight_of_target, work_hash
from p2pledger.consensus.standing import PowStanding
from p2pledger.primitives.records import VoteRecord
from tests.consensus.chain_world import (
    DEPTH,
    DRIFT_MS,
    GENESIS_MS,
    NETWORK,
    SLOT_MS,
    ChainWorld,
    Message,
    Seat,
    disagreement,
    genesis_of,
    keypairs_of,
    make_block,
)

KEYS = keypairs_of(2)
GENESIS = genesis_of(KEYS)
START = BlockRef.of(GENESIS.header)
RULE = PowRule()
TARGET = 2**256 // 32 - 1


def test_the_weight_is_the_expected_number_of_hashes() -> None:
    assert weight_of_target(2**256 - 1) == 1
    assert weight_of_target(2**255 - 1) == 2
    assert weight_of_target(0) == 2**256
    assert weight_of_target(2**256 // 1_000_000 - 1) == 1_000_000


def test_the_search_finds_what_the_judge_accepts() -> None:
    template = make_block(START, KEYS[0], bytes(8))
    nonce = core.pow_search(search_prefix(template.header), 0, 10_000, TARGET)
    assert nonce is not None
    header = replace(template.header, proof=nonce.to_bytes(8, "big"))
    assert work_hash(header) <= TARGET
    assert RULE.judge(header, START, PowStanding(TARGET)) == 32
    assert RULE.judge(header, START, PowStanding(work_hash(header))) == weight_of_target(work_hash(header))
    assert RULE.judge(header, START, PowStanding(work_hash(header) - 1)) == "not_enough_work"
    assert RULE.form(replace(header, proof=bytes(9))) == "malformed_proof"


class Miner:
    """An engine that mines, and a node that answers only when it is told to."""

    def __init__(self, recovered: Recovered | None = None) -> None:
        self.executed = {(recovered.final.id if recovered else GENESIS.id)}
        self.now_ms = 10_000
        self.engine = ChainEngine(
            rule=RULE,
            network_id=NETWORK,
            genesis_time_ms=GENESIS_MS,
            slot_ms=SLOT_MS,
            keypair=KEYS[0],
            recovered=recovered or Recovered.at_genesis(GENESIS),
            ask=lambda name: PowStanding(TARGET) if name in self.executed else None,
            finality_depth=DEPTH,
            max_drift_ms=DRIFT_MS,
        )
        self.first = self.engine.start(self.now_ms)

    def step(self, event: Any) -> list[Effect]:
        return list(self.engine.step(event, self.now_ms))

    def build(self, build: Build, digests: tuple[bytes, ...] = ()) -> list[Effect]:
        block = make_block(build.parent, KEYS[0], build.proof, time_ms=build.time_ms, digests=digests)
        return self.step(Built(build.view, replace(block, seal=b"")))


def only(effects: Any, kind: type) -> Any:
    [found] = [effect for effect in effects if isinstance(effect, kind)]
    return found


def nonce_of(work: Work) -> int:
    nonce = core.pow_search(work.prefix, 0, 100_000, work.target)
    assert nonce is not None
    return nonce


def test_a_miner_asks_for_a_template_searches_slice_by_slice_and_announces() -> None:
    miner = Miner()
    build = only(miner.first, Build)
    assert (build.view, build.parent, build.proof) == (1, START, bytes(8))
    first = only(miner.build(build), Work)
    assert (first.start, first.target) == (0, TARGET)
    second = only(miner.step(WorkDone(1, None)), Work)
    assert (second.start, second.prefix) == (first.count, first.prefix)
    persist, announce, accepted = miner.step(WorkDone(1, nonce_of(second)))[:3]
    assert isinstance(persist, Persist)
    assert not any(isinstance(record, VoteRecord) for record in persist.records), "a miner promises nothing"
    assert isinstance(announce, Announce)
    assert work_hash(announce.block.header) <= TARGET
    assert isinstance(accepted, Accepted)
    miner.executed.add(announce.block.id)
    again = only(miner.step(Executed(announce.block.id)), Build)
    assert again.parent.id == announce.block.id
    assert miner.engine.head.weight == 32


def test_a_nonce_for_a_template_that_was_replaced_is_not_used() -> None:
    miner = Miner()
    build = only(miner.first, Build)
    old = only(miner.build(build), Work)
    miner.now_ms += 1_000
    effects = miner.step(WorkDone(1, None))
    renewed = only(effects, Build)
    assert renewed.time_ms == build.time_ms + 1_000, "once a second"
    new = only(miner.build(renewed), Work)
    assert new.prefix != old.prefix
    stale = nonce_of(old)
    while core.pow_search(new.prefix, stale, 1, new.target) is not None:
        stale = core.pow_search(old.prefix, stale + 1, 100_000, old.target) or 0
    assert not miner.step(WorkDone(1, stale))
    assert miner.engine.counters["stale_work"] == 1
    assert only(miner.step(WorkDone(1, nonce_of(new))), Announce)


def test_another_head_or_other_work_means_another_template() -> None:
    miner = Miner()
    work = only(miner.build(only(miner.first, Build)), Work)
    assert only(miner.step(WorkChanged(True)), Build).parent == START
    template = make_block(START, KEYS[1], bytes(8))
    nonce = core.pow_search(search_prefix(template.header), 0, 100_000, TARGET)
    assert nonce is not None
    rival = make_block(START, KEYS[1], nonce.to_bytes(8, "big"))
    miner.step(BlockArrived(rival, b"peer"))
    miner.step(Checked(1, rival.id, True))
    miner.executed.add(rival.id)
    assert only(miner.step(Executed(rival.id)), Build).parent.id == rival.id
    assert miner.step(WorkDone(1, nonce_of(work))) == [], "too late"


def test_a_miner_starts_again_where_its_disk_ends() -> None:
    miner = Miner()
    work = only(miner.build(only(miner.first, Build)), Work)
    effects = miner.step(WorkDone(1, nonce_of(work)))
    records = only(effects, Persist).records
    again = Miner(Recovered.of(START, records))
    assert any(isinstance(effect, Build) for effect in again.first) or again.engine.size == 2
    assert again.engine.size == 2, "the block is judged again"


# --- worlds ---------------------------------------------------------------------------------------------------------


def parted(until_ms: int, seats: int) -> Any:
    """Nothing passes between the first seats and the others until then."""

    def link(world: ChainWorld, source: Seat, target: Seat, message: Message) -> int | None:
        if world.now_ms < until_ms and (source.index < seats) != (target.index < seats):
            return None
        return world.random.randint(5, 100)

    return link


@pytest.mark.parametrize("seed", range(6))
def test_after_a_short_partition_the_half_with_more_work_wins(seed: int) -> None:
    world = ChainWorld("pow", 4, seed=seed, link=parted(5_000, 1))
    for seat in world.seats[1:]:
        seat.power = 2
    world.start()
    world.run(4_000)
    heavy = max(world.seats, key=lambda seat: seat.head.weight).head
    world.run(30_000)
    world.greet()
    world.run(20_000)
    assert disagreement(world.seats) is None
    assert not any(seat.contradictions or seat.offences for seat in world.seats)
    assert min(seat.finals[-1].height for seat in world.seats) > 20
    assert heavy.id in {block.id for block in world.chain(world.seats[0])} or heavy.height <= 3


@pytest.mark.parametrize("seed", range(4))
def test_a_partition_beyond_the_finality_depth_ends_with_the_alarm(seed: int) -> None:
    world = ChainWorld("pow", 4, seed=seed, link=parted(40_000, 2))
    world.start()
    world.run(40_000)
    assert min(seat.finals[-1].height for seat in world.seats) >= 1
    world.greet()
    world.run(10_000)
    assert disagreement(world.seats) is not None
    alarmed = [seat for seat in world.seats if seat.contradictions]
    assert {seat.index // 2 for seat in alarmed} in ({0}, {1}), "the half with less work knows that it was wrong"
    assert len(alarmed) == 2


def share_of_a_selfish_miner(power: int, seed: int) -> float:
    """Blocks of seat 0, of ``power`` percent, in the final chain. It publishes as in Eyal and Sirer (2014)."""
    world = ChainWorld("pow", 3, seed=seed, depth=60)
    villain, *honest = world.seats
    villain.power = 2 * power
    for seat in honest:
        seat.power = 100 - power
    villain.holds_back = []
    world.start()

    def publish() -> bool:
        held = villain.holds_back
        assert held is not None
        if held:
            public = max(seat.head.height for seat in honest)
            lead = held[-1].height - public
            # Behind: give up. A lead of one that was two: show all and win. Level: race. Else match the public height.
            shown = held if lead == 1 and held[0].height <= public else [b for b in held if b.height <= public]
            for block in list(shown):
                held.remove(block)
                world.announce(villain, block)
        return False

    world.run(500_000, stop=publish)
    chain = [block for block in world.chain(honest[0]) if block.height <= honest[0].finals[-1].height]
    return sum(block.header.proposer == villain.key for block in chain) / len(chain)


def test_withholding_pays_for_a_large_miner_and_not_for_a_small_one() -> None:
    """With 42 percent it pays (0.54 if it loses all races, says the paper), with 20 percent it costs (0.13)."""
    assert share_of_a_selfish_miner(42, 0) > 0.45
    assert share_of_a_selfish_miner(20, 0) < 0.19
