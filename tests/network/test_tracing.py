"""Traces: lines that nodes write, and what several of them tell together."""

from __future__ import annotations

import pytest

from p2pledger.network.tracing import Moment, Timelines, Trace, header_line, line_of, parse_trace
from p2pledger.node.effects import Mark, Stage
from p2pledger.primitives.errors import BadConfiguration

KEY = bytes(range(32))
BATCH, OTHER_BATCH, BLOCK, OTHER_BLOCK = (bytes([number]) * 32 for number in (1, 2, 8, 9))


def test_what_is_written_is_read() -> None:
    text = header_line("VENUE A, the first", KEY)
    text += line_of(5, Mark(Stage.ARRIVED, BATCH, 900), "first_byte")
    text += line_of(7, Mark(Stage.CHECKED, BLOCK, 200, is_block=True))
    text += line_of(8, Mark(Stage.NAMED, BATCH, block=BLOCK))
    assert parse_trace(text) == Trace(
        "VENUE A, the first",
        KEY,
        (
            Moment(5, "first_byte", False, BATCH, 900),
            Moment(7, "checked", True, BLOCK, 200),
            Moment(8, "named", False, BATCH, 0, BLOCK),
        ),
    )


def test_a_trace_may_end_in_the_middle_of_a_line_and_say_that_it_is_full() -> None:
    whole = header_line("a", KEY) + line_of(7, Mark(Stage.FINAL, BLOCK, is_block=True))
    assert len(parse_trace(whole + "123,chec").moments) == 1
    assert parse_trace(whole + "full\n").is_full
    assert parse_trace(header_line("a", KEY)).moments == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not a trace of the form p2pledger.trace/1"),
        (header_line("a", KEY).replace("trace/1", "trace/2"), "not a trace of the form p2pledger.trace/1"),
        (header_line("a", KEY) + "1,made,block,xyz,1,\n", "damaged"),
        (header_line("a", KEY) + f"1,made,bundle,{BATCH.hex()},1,\n", "damaged"),
        (header_line("a", KEY) + "full of nonsense\n", "damaged"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, what: str) -> None:
    with pytest.raises(BadConfiguration, match=what):
        parse_trace(text, where="trace.csv")


def trace(name: str, *moments: Moment) -> Trace:
    return Trace(name, KEY, moments)


def test_the_first_of_each_stage_counts_and_batches_go_with_their_block() -> None:
    lines = Timelines(
        [
            trace(
                "maker",
                Moment(10, Stage.MADE, False, BATCH, 900),
                Moment(20, Stage.MADE, True, BLOCK, 200),
                Moment(20, Stage.NAMED, False, BATCH, 0, BLOCK),
                Moment(25, Stage.VOTED, True, BLOCK, 0),
                Moment(30, Stage.VOTED, True, BLOCK, 0),
            ),
            trace(
                "other",
                Moment(17, "complete", False, BATCH, 900),
                Moment(15, "complete", False, BATCH, 900),
                Moment(60, Stage.FINAL, True, BLOCK, 0),
            ),
        ]
    )
    assert lines.nodes == ["maker", "other"]
    assert lines.sizes == {BATCH: 900, BLOCK: 200}
    assert lines.made_by == {BATCH: "maker", BLOCK: "maker"}
    assert lines.first("maker", Stage.VOTED, BLOCK) == lines.first("maker", Stage.VOTED, BATCH) == 25
    assert lines.first("other", "complete", BATCH) == 15
    assert lines.first("other", Stage.FINAL, BATCH) == 60
    assert lines.first("other", Stage.EXECUTED, BATCH) is None


def test_a_batch_belongs_to_the_first_block_that_names_it() -> None:
    lines = Timelines(
        [
            trace(
                "a", Moment(30, Stage.MADE, True, OTHER_BLOCK, 1), Moment(31, Stage.NAMED, False, BATCH, 0, OTHER_BLOCK)
            ),
            trace(
                "b",
                Moment(20, Stage.MADE, True, BLOCK, 1),
                Moment(20, Stage.NAMED, False, BATCH, 0, BLOCK),
                Moment(20, Stage.NAMED, False, OTHER_BATCH, 0, BLOCK),
            ),
        ]
    )
    assert lines.blocks == (BLOCK, OTHER_BLOCK)
    assert lines.batches_of == {BLOCK: (BATCH, OTHER_BATCH), OTHER_BLOCK: (BATCH,)}
    assert lines.block_of == {BATCH: BLOCK, OTHER_BATCH: BLOCK}
