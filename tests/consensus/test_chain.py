"""The chain engine by itself: places, judgements, forks, reorganisations, finality, bounds and restarts.

One engine and a fake node that answers at once (``Desk``). Work is nearly free here: every nonce is good unless a test
wants otherwise, so a fork is made by writing it down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from p2pledger.consensus import chain as chain_module
from p2pledger.consensus.chain import ChainEngine, Recovered
from p2pledger.consensus.engine import (
    Accepted,
    Announce,
    BlockArrived,
    BlockRef,
    BranchArrived,
    Check,
    Checked,
    Contradiction,
    Effect,
    Executed,
    Finalised,
    FinalReached,
    HeadMoved,
    Input,
    Offence,
    Persist,
    TimerFired,
    VoteArrived,
    WantBranch,
)
from p2pledger.consensus.orphans import Orphans
from p2pledger.consensus.poa import poa_proof
from p2pledger.consensus.standing import PowStanding
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import Record
from tests.consensus.chain_world import (
    BAD_DIGEST,
    CLOCK,
    DEPTH,
    DRIFT_MS,
    GENESIS_MS,
    NETWORK,
    SLOT_MS,
    PoaToy,
    PowToy,
    Toy,
    genesis_of,
    keypairs_of,
    make_block,
)

KEYS = keypairs_of(4)
GENESIS = genesis_of(KEYS)
START = BlockRef.of(GENESIS.header)
PEER = b"p" * 32
OTHER = b"q" * 32
NOW_MS = 10_000_000


def block_on(parent: BlockRef | Block, nonce: int = 0, keypair: Keypair = KEYS[1], **changes: Any) -> Block:
    ref = BlockRef.of(parent.header) if isinstance(parent, Block) else parent
    return make_block(ref, keypair, nonce.to_bytes(8, "big"), **changes)


def chain_on(parent: BlockRef | Block, length: int, nonce: int = 0, **changes: Any) -> list[Block]:
    blocks: list[Block] = []
    for _ in range(length):
        parent = block_on(parent, nonce, **changes)
        blocks.append(parent)
    return blocks


class Desk:
    """An observing engine and a node that checks, executes and answers at once, unless ``lazy``."""

    def __init__(
        self, toy: Toy | None = None, recovered: Recovered | None = None, *, lazy: bool = False, **changes: Any
    ) -> None:
        self.toys: dict[bytes, Toy] = {(recovered.final.id if recovered else GENESIS.id): toy or PowToy(1)}
        self.lazy = lazy
        self.effects: list[Effect] = []
        self.now_ms = NOW_MS
        self.executable: list[BlockRef] = []
        self.blocks: dict[bytes, Block] = {}
        settings: dict[str, Any] = {
            "rule": next(iter(self.toys.values())).rule,
            "network_id": NETWORK,
            "genesis_time_ms": GENESIS_MS,
            "slot_ms": SLOT_MS,
            "keypair": None,
            "recovered": recovered or Recovered.at_genesis(GENESIS),
            "ask": lambda name: self.toys[name].standing() if name in self.toys else None,
            "finality_depth": DEPTH,
            "max_drift_ms": DRIFT_MS,
        }
        self.engine = ChainEngine(**{**settings, **changes})
        self._obey(self.engine.start(self.now_ms))

    def step(self, event: Input) -> list[Effect]:
        """All effects of an input and of the node's answers to them."""
        before = len(self.effects)
        self._obey(self.engine.step(event, self.now_ms))
        return self.effects[before:]

    def feed(self, *blocks: Block, sender: bytes = PEER) -> list[Effect]:
        return [effect for block in blocks for effect in self.step(BlockArrived(block, sender))]

    def execute(self, ref: BlockRef) -> list[Effect]:
        self.toys[ref.id] = self.toys[ref.parent].after(self.blocks[ref.id])
        return self.step(Executed(ref.id))

    def _obey(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Check):
                self.blocks[effect.block.id] = effect.block
                ok = BAD_DIGEST not in effect.block.digests
                if not self.lazy:
                    self._obey(self.engine.step(Checked(effect.block.header.view, effect.block.id, ok), self.now_ms))
            elif isinstance(effect, Accepted):
                if self.lazy:
                    self.executable.append(effect.block)
                else:
                    self.toys[effect.block.id] = self.toys[effect.block.parent].after(self.blocks[effect.block.id])
                    self._obey(self.engine.step(Executed(effect.block.id), self.now_ms))


def offences(effects: Iterable[Effect]) -> list[str]:
    return [effect.reason for effect in effects if isinstance(effect, Offence)]


def kinds(effects: Iterable[Effect], *wanted: type) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, wanted)]


# --- a block's way --------------------------------------------------------------------------------------------------


def test_a_good_block_is_checked_stored_executed_and_followed() -> None:
    desk = Desk(lazy=True)
    block = block_on(START)
    assert kinds(desk.feed(block), Check) == [Check(block)]
    [persist, accepted] = desk.step(Checked(1, block.id, True))
    assert isinstance(persist, Persist)
    assert accepted == Accepted(replace(BlockRef.of(block.header), proof=block.header.proof, weight=1))
    assert desk.engine.head == START, "it is not executed yet"
    [moved] = desk.execute(desk.executable[0])
    assert isinstance(moved, HeadMoved)
    assert (moved.head.id, moved.ancestor) == (block.id, GENESIS.id)
    assert desk.engine.newest_blocks() == (block,)
    assert desk.engine.head.weight == 1


def test_news_are_passed_on_old_blocks_are_not() -> None:
    desk = Desk()
    old, new = block_on(START), block_on(START, time_ms=NOW_MS)
    assert not kinds(desk.feed(old), Announce)
    assert kinds(desk.feed(new), Announce) == [], "a rival of equal weight is no news"
    newest = block_on(old, time_ms=NOW_MS)
    assert kinds(Desk().feed(old, newest), Announce) == [Announce(newest)]


def stale_toy() -> Toy:
    toy = PowToy()
    toy.target = 0
    return toy


GOOD = block_on(START)
REFUSALS: list[tuple[str, Block]] = [
    ("unknown_version", block_on(START, protocol_version=2)),
    ("wrong_network", block_on(START, network_id=b"othernet")),
    ("wrong_constants", block_on(START, epoch=1)),
    ("wrong_constants", block_on(START, validators_hash=b"v" * 32)),
    ("wrong_height", block_on(START, height=0, view=0)),
    ("wrong_height", block_on(START, height=2, view=2)),
    ("slot_mismatch", block_on(START, view=2)),
    ("from_the_future", block_on(START, time_ms=NOW_MS + DRIFT_MS + 1)),
    ("time_not_after_parent", block_on(START, time_ms=GENESIS_MS)),
    ("bad_seal", replace(GOOD, seal=b"")),
    ("bad_seal", replace(GOOD, seal=bytes(64))),
    ("bad_seal", replace(GOOD, seal=block_on(START, 1).seal)),
    ("bad_seal", replace(GOOD, seal=GOOD.sealed(KEYS[2]).seal)),
    ("malformed_proof", make_block(START, KEYS[0], b"short")),
    ("bad_content", block_on(START, digests=(BAD_DIGEST,))),
]


@pytest.mark.parametrize(("reason", "block"), REFUSALS, ids=[f"{at}-{name}" for at, (name, _) in enumerate(REFUSALS)])
def test_a_wrong_block_is_refused_with_its_reason_and_not_stored(reason: str, block: Block) -> None:
    desk = Desk(validators_hash=bytes(32))
    effects = desk.feed(block)
    assert offences(effects) == [reason]
    assert not kinds(effects, Persist, Accepted, HeadMoved)
    assert desk.engine.size == 1, "nothing is kept"
    assert desk.feed(GOOD), "the engine goes on"
    assert desk.engine.head.id == GOOD.id


def test_not_enough_work_is_refused() -> None:
    desk = Desk(stale_toy())
    assert offences(desk.feed(GOOD)) == ["not_enough_work"]
    assert desk.engine.size == 1


def test_what_stands_on_a_refused_block_is_refused_too_and_its_sender_blamed() -> None:
    desk = Desk()
    bad = block_on(START, digests=(BAD_DIGEST,))
    child, grandchild = chain_on(bad, 2)
    assert offences(desk.feed(child, grandchild)) == []
    assert offences(desk.feed(bad, sender=OTHER)) == ["bad_content", "wrong_parent", "wrong_parent"]
    assert offences(desk.feed(child)) == [], "known as refused"
    assert desk.engine.size == 1
    assert offences(desk.feed(block_on(child, 5))) == ["wrong_parent"]


def test_a_seal_can_be_mended_and_the_future_comes() -> None:
    desk = Desk()
    assert offences(desk.feed(replace(GOOD, seal=bytes(64)), GOOD)) == ["bad_seal"]
    assert desk.engine.head.id == GOOD.id
    later = block_on(GOOD, time_ms=NOW_MS + DRIFT_MS + 5_000)
    assert offences(desk.feed(later)) == ["from_the_future"]
    desk.now_ms += 5_000
    assert offences(desk.feed(later)) == []
    assert desk.engine.head.id == later.id


def test_an_input_of_other_engines_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError):
        Desk().engine.step(VoteArrived(b"", None), NOW_MS)  # type: ignore[arg-type]


# --- ancestors ------------------------------------------------------------------------------------------------------


def test_an_orphan_asks_for_its_ancestors_and_the_branch_comes_whole() -> None:
    desk = Desk()
    blocks = chain_on(START, 5)
    [want] = kinds(desk.feed(blocks[4]), WantBranch)
    assert want == WantBranch(blocks[3].id, PEER)
    effects = desk.step(BranchArrived(tuple(reversed(blocks[:4])), PEER))
    assert desk.engine.head.id == blocks[4].id
    assert [ref.block.height for ref in kinds(effects, Accepted)] == [1, 2, 3, 4, 5]
    assert not kinds(effects, WantBranch)


def test_one_bad_seal_in_a_branch_spoils_nothing_but_what_stands_on_it() -> None:
    desk = Desk()
    blocks = chain_on(START, 4)
    effects = desk.step(BranchArrived((*blocks[:2], replace(blocks[2], seal=bytes(64)), blocks[3]), PEER))
    assert offences(effects) == ["bad_seal"]
    assert desk.engine.head.id == blocks[1].id
    assert kinds(effects, WantBranch) == [WantBranch(blocks[2].id, PEER)]
    desk.feed(blocks[2])
    assert desk.engine.head.id == blocks[3].id


def test_it_asks_again_and_asks_others_too() -> None:
    desk = Desk()
    parent = block_on(START)
    desk.feed(block_on(parent, 1), sender=PEER)
    desk.feed(block_on(parent, 2), sender=OTHER)
    asked = set()
    for _ in range(6):
        desk.now_ms += 1_000
        asked.update(want.sender for want in kinds(desk.step(TimerFired()), WantBranch))
    assert asked == {PEER, OTHER}
    desk.feed(parent)
    desk.now_ms += 5_000
    assert not kinds(desk.step(TimerFired()), WantBranch)


def test_a_child_waits_until_its_parent_is_executed() -> None:
    desk = Desk(lazy=True)
    parent, child = chain_on(START, 2)
    desk.feed(parent)
    assert desk.feed(child) == [], "who may build on the parent is not known yet"
    desk.step(Checked(1, parent.id, True))
    assert kinds(desk.execute(desk.executable[0]), Check) == [Check(child)]


def test_answers_that_nobody_waits_for_do_nothing() -> None:
    desk = Desk()
    desk.feed(GOOD)
    assert desk.step(Checked(1, GOOD.id, False)) == [], "it was found right before"
    assert desk.step(Executed(GOOD.id)) == []
    assert desk.step(Executed(b"x" * 32)) == []
    assert desk.feed(GOOD) == []


# --- fork choice and finality ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork_height", range(1, 13))
def test_a_longer_fork_at_every_height(fork_height: int) -> None:
    """Above the last final block it takes over; at or below it is not followed, and the node has to stop."""
    desk = Desk()
    trunk = [GENESIS, *chain_on(START, 12)]
    desk.feed(*trunk[1:])
    assert desk.engine.final.height == 12 - DEPTH
    before = desk.engine.final
    parent = trunk[fork_height - 1]
    fork = chain_on(BlockRef.of(parent.header), 12 - fork_height + 1, nonce=1)
    effects = desk.feed(*fork)
    assert not kinds(effects, HeadMoved), "equals do not take over"
    assert desk.engine.head.id == trunk[12].id
    last = block_on(fork[-1], 1)
    effects = desk.feed(last)
    if fork_height > before.height:
        [moved] = kinds(effects, HeadMoved)
        assert (moved.head.id, moved.ancestor) == (last.id, parent.id)
        assert "13" in moved.reason
        assert "12" in moved.reason
        assert [final.block.height for final in kinds(effects, Finalised)] == [7]
    else:
        assert not kinds(effects, HeadMoved)
        [contradiction] = kinds(effects, Contradiction)
        assert contradiction.first == before
        assert contradiction.second.id == last.id
        assert desk.engine.final == before


def test_a_lighter_fork_below_the_final_block_is_no_alarm() -> None:
    desk = Desk()
    trunk = chain_on(START, 20)
    desk.feed(*trunk)
    effects = desk.feed(*chain_on(trunk[3], 16, nonce=1))
    assert not kinds(effects, Contradiction, HeadMoved)
    assert not offences(effects), "an honest peer may have lived in another part of the world"


def test_two_forks_take_the_lead_in_turn() -> None:
    desk = Desk()
    left, right = chain_on(START, 5, nonce=1), chain_on(START, 5, nonce=2)
    heads = []
    desk.feed(left[0])
    for pair in pairwise(range(5)):
        desk.feed(*(right[at] for at in pair))
        heads.append(desk.engine.head.id)
        desk.feed(left[pair[1]])
        desk.feed(block_on(left[pair[1]], 1)) if pair[1] == 4 else None
        heads.append(desk.engine.head.id)
    moves = kinds(desk.effects, HeadMoved)
    for before, after in pairwise(moves):
        assert after.ancestor in (before.head.id, GENESIS.id)
    assert len({move.head.id for move in moves}) == len(moves), "it never goes back to a block it had left"
    assert desk.engine.head.height == 6


def test_most_work_wins_and_not_the_most_blocks() -> None:
    """A chain that turned hard with its first block beats one of twice as many easy ones."""

    class Hardening(PowToy):
        def after(self, block: Block) -> PowToy:
            return PowToy(4) if block.digests else self

    hard = Hardening(1)
    desk = Desk(hard)
    easy = chain_on(START, 5, nonce=1)
    desk.feed(*easy)
    first = block_on(START, digests=(b"h" * 32,))
    good = (block_on(first, nonce) for nonce in range(1_000))
    standing = PowToy(4).standing()
    second = next(block for block in good if isinstance(hard.rule.judge(block.header, START, standing), int))
    effects = desk.feed(first, second)
    assert not kinds(effects, HeadMoved), "1 + 4 is not more than 5"
    third = next(
        block
        for block in (block_on(second, nonce) for nonce in range(1_000))
        if isinstance(hard.rule.judge(block.header, START, standing), int)
    )
    [moved] = kinds(desk.feed(third), HeadMoved)
    assert moved.head.weight == 9
    assert moved.reason == "a chain of weight 9, against 5"


def test_a_long_branch_that_comes_at_once_reorganises_once_it_is_heavier() -> None:
    desk = Desk()
    desk.feed(*chain_on(START, DEPTH, nonce=1))
    branch = chain_on(START, 30, nonce=2)
    effects = desk.step(BranchArrived(tuple(branch), PEER))
    first = kinds(effects, HeadMoved)[0]
    assert first.ancestor == GENESIS.id
    assert desk.engine.head.id == branch[-1].id
    assert desk.engine.final.id == branch[-1 - DEPTH].id


def test_branches_that_lose_to_a_final_block_are_forgotten() -> None:
    desk = Desk()
    trunk = chain_on(START, 5)
    desk.feed(*trunk)
    for height in range(5):
        desk.feed(*chain_on(trunk[height - 1] if height else START, 2, nonce=7 + height))
    assert desk.engine.size == 1 + 5 + 10
    desk.feed(*chain_on(trunk[-1], 60))
    assert desk.engine.size == 1 + DEPTH


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_orphans_are_bounded_by_bytes_and_per_sender() -> None:
    orphans = Orphans(total_bytes=20_000, sender_bytes=6_000)
    strays = [block_on(block_on(START, nonce), height=nonce + 5, view=nonce + 5) for nonce in range(60)]
    for block in strays[:40]:
        orphans.add(block, PEER)
    assert len(orphans) == 5
    assert [block.id in orphans for block in strays[:6]] == [True] * 5 + [False], "the lowest stay"
    for at, block in enumerate(strays[40:]):
        orphans.add(block, bytes([at]) * 32)
    assert orphans.size_bytes <= 20_000
    assert [block.id in orphans for block in strays[40:]].count(True) >= 14, "others are served in spite of it"
    orphans.drop_up_to(200)
    assert (len(orphans), orphans.size_bytes, orphans.parents()) == (0, 0, [])


def test_strays_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "_SENDER_BYTES", 20_000)
    monkeypatch.setattr(chain_module, "_SIDE_BLOCKS", 40)
    desk = Desk()
    for nonce in range(100):
        desk.feed(block_on(replace(START, id=nonce.to_bytes(32, "big")), nonce))
    assert desk.engine.size <= 20
    assert desk.engine.counters["orphan_dropped"] > 80
    trunk = chain_on(START, 4)
    desk.feed(*trunk)
    for nonce in range(100):
        desk.feed(block_on(START, nonce + 10))
    assert desk.engine.size <= 20 + 5 + 40
    assert desk.engine.head.id == trunk[-1].id
    winner = chain_on(START, 6, nonce=5_000)
    effects = desk.feed(*winner, sender=OTHER)
    assert WantBranch(winner[0].id, OTHER) in effects, "it was dropped at once, as the weakest; its child wants it back"
    desk.feed(winner[0])
    assert desk.engine.head.id == winner[-1].id, "a full house still lets the heavier chain in"


def test_a_producer_that_seals_many_blocks_for_a_slot_is_heard_twice_unless_others_build_on_it() -> None:
    toy = PoaToy(KEYS)
    desk = Desk(toy)
    leader = KEYS[1 % 4]
    alike = [make_block(START, leader, poa_proof(1), slot=1, digests=(bytes([at]) * 32,)) for at in range(5)]
    effects = desk.feed(*alike)
    assert len(kinds(effects, Accepted)) == 2
    assert desk.engine.counters["too_many_alike"] == 3
    assert not offences(effects), "its sender may be honest"
    child = make_block(BlockRef.of(alike[4].header), KEYS[2], poa_proof(1), slot=2)
    assert kinds(desk.feed(child), WantBranch) == [WantBranch(alike[4].id, PEER)]
    desk.feed(alike[4])
    assert desk.engine.head.id == child.id


# --- slots ----------------------------------------------------------------------------------------------------------


def test_a_block_that_comes_before_its_slot_waits_for_it() -> None:
    desk = Desk(PoaToy(KEYS))
    desk.now_ms = CLOCK.start_ms(1) - 300
    desk.engine._now_ms = 0  # the desk began late in the day
    block = make_block(START, KEYS[1], poa_proof(1), slot=1)
    effects = desk.feed(block)
    assert not kinds(effects, Check)
    assert not offences(effects)
    desk.now_ms += 300
    assert kinds(desk.step(TimerFired()), Check)
    assert desk.engine.head.id == block.id


# --- catching up and restarts ---------------------------------------------------------------------------------------


def test_a_final_block_from_elsewhere_becomes_the_root() -> None:
    desk = Desk()
    near, far = chain_on(START, 3, nonce=1), chain_on(START, 40, nonce=2)
    desk.feed(*near)
    ref = BlockRef.of(far[29].header)
    desk.toys[ref.id] = PowToy(1)
    desk.step(FinalReached(ref))
    assert (desk.engine.final.id, desk.engine.head.id) == (ref.id, ref.id)
    desk.feed(*far[30:])
    assert desk.engine.head.id == far[-1].id
    assert desk.step(FinalReached(START)) == [], "heights only grow"
    inside = BlockRef.of(far[-3].header)
    desk.step(FinalReached(inside))
    assert (desk.engine.final.id, desk.engine.head.id) == (inside.id, far[-1].id), "what stands on it stays"


def records_of(desk: Desk) -> list[Record]:
    return [record for effect in desk.effects if isinstance(effect, Persist) for record in effect.records]


@pytest.mark.parametrize("steps", range(0, 23, 2))
def test_a_restart_at_any_point_ends_with_the_same_head(steps: int) -> None:
    trunk = chain_on(START, 8)
    blocks = [*trunk[:5], *chain_on(trunk[1], 6, nonce=3), *trunk[5:], *chain_on(trunk[7], 4)]
    whole = Desk()
    whole.feed(*blocks)
    first = Desk()
    first.feed(*blocks[:steps])
    final = first.engine.final
    past = tuple(BlockRef.of(block.header) for block in trunk[: max(0, final.height - 1)])
    second = Desk(recovered=replace(Recovered.of(final, records_of(first)), past=past))
    assert second.engine.final == final
    assert second.engine.head.height == first.engine.head.height
    assert not kinds(second.effects, Persist), "what is on the disk is not written again"
    second.feed(*blocks[steps:])
    assert second.engine.head.id == whole.engine.head.id
    assert second.engine.final.id == whole.engine.final.id


def test_after_a_restart_a_heavier_chain_below_the_final_block_is_still_noticed() -> None:
    trunk = chain_on(START, 30)
    first = Desk()
    first.feed(*trunk)
    final = first.engine.final
    past = tuple(BlockRef.of(block.header) for block in trunk[: final.height - 1])
    second = Desk(recovered=replace(Recovered.of(final, records_of(first)), past=past))
    rival = chain_on(trunk[9], 20, nonce=1)
    assert not kinds(second.feed(*rival), Contradiction)
    assert kinds(second.feed(block_on(rival[-1], 1)), Contradiction)


def test_a_branch_that_lost_long_ago_is_no_alarm_after_a_restart_or_on_the_way_to_the_head() -> None:
    """What is above the final block is not here yet, but was there when it became final."""
    trunk = chain_on(START, 30)
    final = BlockRef.of(trunk[23].header)
    past = tuple(BlockRef.of(block.header) for block in trunk[:23])
    lost = chain_on(trunk[21], DEPTH + 2, nonce=1)
    desk = Desk(recovered=Recovered(final, blocks=tuple(lost), past=past))
    assert not kinds(desk.effects, Contradiction)
    assert kinds(desk.feed(block_on(lost[-1], 1)), Contradiction), "one more is more than there can have been"
    catching_up = Desk()
    catching_up.feed(*trunk[:24])
    catching_up.step(FinalReached(final))
    assert not kinds(catching_up.feed(*lost), Contradiction)


def test_blocks_older_than_all_that_is_remembered_are_passed_over() -> None:
    trunk = chain_on(START, 30)
    desk = Desk(recovered=Recovered(BlockRef.of(trunk[19].header)))
    effects = desk.feed(block_on(trunk[3], 9))
    assert desk.engine.counters["below_final"] == 1
    assert effects == [], "an honest peer may be behind"


def ask_of(standing: PowStanding) -> Callable[[bytes], PowStanding]:
    return lambda name: standing


def test_counters_and_sizes_start_at_nothing() -> None:
    desk = Desk(ask=ask_of(PowStanding(0)))
    assert (desk.engine.size, desk.engine.view, desk.engine.produces, desk.engine.has_work) == (1, 1, False, True)
    assert desk.engine.newest_blocks() == ()
