"""Each checker can fail: one honest run, then one lie in its evidence."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import msgpack
import pytest

from p2pledger.primitives.codec import encode
from p2pledger.sim.checkers import judge
from p2pledger.sim.evidence import Evidence, FinalClaim, ProgressNotice, QueuePeak, RootClaim, VoteSent
from p2pledger.sim.run import Run
from tests.sim.campaign import calm

HOLDINGS, LOCKS, REPLAY = 3, 4, 8


@pytest.fixture(scope="module")
def honest() -> Evidence:
    """The evidence of a run in which all is well."""
    return Run(calm(5)).live()


def test_an_honest_run_is_found_honest(honest: Evidence) -> None:
    assert judge(honest) == []
    assert len(honest.finals) > 8
    assert len(honest.notices) > 8
    assert len(honest.states) == 4
    assert honest.queues


def other_block(evidence: Evidence) -> None:
    claim = evidence.finals[-1]
    evidence.finals.append(FinalClaim(0, "node-9", claim.height, bytes(32)))


def other_root(evidence: Evidence) -> None:
    claim = evidence.roots[-1]
    evidence.roots.append(RootClaim("node-9", claim.height, bytes(32)))


def second_vote(evidence: Evidence) -> None:
    for kind, block in ((1, b"a" * 32), (1, b"b" * 32)):
        evidence.votes.append(VoteSent(0, "node-0", encode((1, 0, 900, kind, block, 0, bytes(64)))))


def finalise_and_nullify(evidence: Evidence) -> None:
    for kind, block in ((3, b"a" * 32), (2, bytes(32))):
        evidence.votes.append(VoteSent(0, "node-0", encode((1, 0, 900, kind, block, 0, bytes(64)))))


def change_row(evidence: Evidence, table: int, key: bytes, value: bytes) -> None:
    state = evidence.states[0]
    tables = list(state.tables)
    tables[table] = tuple(sorted({**dict(tables[table]), key: value}.items()))
    evidence.states[0] = replace(state, tables=tuple(tables))


def money_from_nowhere(evidence: Evidence) -> None:
    change_row(evidence, HOLDINGS, evidence.states[0].tables[HOLDINGS][0][0], encode((1, 10**12, 0)))


def holding_of_nothing(evidence: Evidence) -> None:
    change_row(evidence, HOLDINGS, bytes(48), encode((1, 5, 0)))


def lock_without_holding(evidence: Evidence) -> None:
    change_row(evidence, LOCKS, evidence.states[0].tables[HOLDINGS][0][0] + bytes(32), encode((1, 5)))


def forgotten_transaction(evidence: Evidence) -> None:
    state = evidence.states[0]
    tables = list(state.tables)
    tables[REPLAY] = tables[REPLAY][1:]
    evidence.states[0] = replace(state, tables=tuple(tables))


def notice_of_nothing(evidence: Evidence) -> None:
    evidence.notices.append(replace(evidence.notices[-1], transaction=bytes(32)))


def notice_of_another_height(evidence: Evidence) -> None:
    notice = evidence.notices[-1]
    evidence.notices.append(replace(notice, height=notice.height + 1))


def notice_of_another_outcome(evidence: Evidence) -> None:
    evidence.notices.append(replace(evidence.notices[-1], code=8))


def other_receipts(evidence: Evidence) -> None:
    node, height, codes = next(entry for entry in evidence.receipts if entry[2])
    evidence.receipts.append((node, height, b"\0\x08" + codes[2:]))


def block_without_parent(evidence: Evidence) -> None:
    """The final block of height 2 takes the place of height 3."""
    by_height = {claim.height: claim for claim in evidence.finals}
    evidence.finals[:] = [
        replace(claim, block=by_height[2].block) if claim.height == 3 else claim for claim in evidence.finals
    ]


def changed_batch(evidence: Evidence) -> None:
    digest, data = next(iter(evidence.batches.items()))
    evidence.batches[digest] = data[:-1] + bytes([data[-1] ^ 1])


def lost_batch(evidence: Evidence) -> None:
    del evidence.batches[next(iter(evidence.batches))]


def unsettled_order(evidence: Evidence) -> None:
    evidence.unsettled.append(("client-0", bytes(32), "kept by node-0"))


def left_behind(evidence: Evidence) -> None:
    evidence.heights["node-0"] -= 1


def overfull_queue(evidence: Evidence) -> None:
    evidence.queues["mempool of node-0"] = QueuePeak("mempool of node-0", 101, 100)


def idle_talk(evidence: Evidence) -> None:
    evidence.idle_frames = 1


def idle_unrest(evidence: Evidence) -> None:
    evidence.idle_timers = 10**6


def another_final_block_later(evidence: Evidence) -> None:
    claim = evidence.finals[-1]
    evidence.finals.append(replace(claim, block=bytes(32)))


def certificate_with_a_forged_signature(evidence: Evidence) -> None:
    data = next(iter(evidence.certificates))
    evidence.certificates[data[:-1] + bytes([data[-1] ^ 1])] = "node-0"


def certificate_that_repeats_a_signer(evidence: Evidence) -> None:
    _, epoch, view, kind, block, signatures = msgpack.unpackb(next(iter(evidence.certificates)), use_list=False)
    evidence.certificates[encode((1, epoch, view, kind, block, signatures[:1] * 3))] = "node-0"


def told_twice(evidence: Evidence) -> None:
    evidence.notices += [evidence.notices[-1]] * 3


def reverted_after_settled(evidence: Evidence) -> None:
    last = next(
        notice
        for notice in reversed(evidence.notices)
        if evidence.asked[notice.client, notice.session, notice.transaction] == 1
    )
    evidence.progress.append(
        ProgressNotice(
            last.time_us + 1, last.node, last.client, last.session, last.transaction, 2, last.height, bytes(4)
        )
    )


def exception_in_a_node(evidence: Evidence) -> None:
    evidence.breaches.append(("exception", "node-0", "ZeroDivisionError"))


@pytest.mark.parametrize(
    ("lie", "checker", "words"),
    [
        (other_block, "agreement", "has the final block"),
        (other_root, "agreement", "has the state root"),
        (another_final_block_later, "finality", "and later"),
        (certificate_with_a_forged_signature, "certificates", "that 2 of 4 have signed"),
        (certificate_that_repeats_a_signer, "certificates", "that 1 of 4 have signed"),
        (told_twice, "delivery", "times that it is settled"),
        (reverted_after_settled, "delivery", "is reverted after settled"),
        (second_vote, "votes", "notarised both"),
        (finalise_and_nullify, "votes", "both nullified and finalised in view 900"),
        (money_from_nowhere, "conservation", "the holdings of"),
        (holding_of_nothing, "conservation", "an asset that does not exist"),
        (lock_without_holding, "conservation", "not the sum of its locks"),
        (forgotten_transaction, "validity", "other rows in table 8"),
        (notice_of_nothing, "validity", "the final chain says otherwise"),
        (notice_of_another_height, "validity", "the final chain says otherwise"),
        (notice_of_another_outcome, "validity", "the final chain says otherwise"),
        (other_receipts, "validity", "stored other receipts"),
        (block_without_parent, "validity", "does not follow its parent"),
        (changed_batch, "validity", "has a forged signature"),
        (lost_batch, "validity", "was stored by nobody"),
        (unsettled_order, "progress", "came to no end: kept by node-0"),
        (left_behind, "progress", "different heights"),
        (overfull_queue, "bounds", "its limit is 100"),
        (idle_talk, "idle", "1 frames were sent"),
        (idle_unrest, "idle", "timers fired"),
        (exception_in_a_node, "exception", "ZeroDivisionError"),
    ],
)
def test_a_lie_is_found_by_its_checker(
    honest: Evidence, lie: Callable[[Evidence], None], checker: str, words: str
) -> None:
    evidence = deepcopy(honest)
    lie(evidence)
    found = [violation.detail for violation in judge(evidence) if violation.checker == checker]
    assert any(words in detail for detail in found), found
