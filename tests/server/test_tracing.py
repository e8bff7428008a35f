"""Traces as files, and two nodes that write them over a shaped link."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pledger.network.effects import Event, Mark, Stage, TimedReceived
from p2pledger.network.tracing import Timelines
from p2pledger.primitives.errors import BadConfiguration
from p2pledger.server import write_config
from p2pledger.server.config import NETWORK_FILE, load_config, load_network
from p2pledger.server.tracing import TRACE_FILE, Tracer, clock_us, read_trace
from tests.server.small_node import BANK_KEY, connect, genesis_of, make_directory, open_books, running

KEY, BATCH, BLOCK = (bytes([number]) * 32 for number in (1, 2, 3))


def test_an_arrival_has_two_ends_and_everything_else_is_now(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path / TRACE_FILE, "a", KEY)
    before_us = clock_us()
    tracer.note(Mark(Stage.ARRIVED, BATCH, 900), TimedReceived(1, b"", 17, 23))
    tracer.note(Mark(Stage.VOTED, BLOCK, is_block=True), Event())
    tracer.close()
    first, last, vote = read_trace(tmp_path / TRACE_FILE).moments
    assert (first.time_us, first.stage, first.id) == (17, "first_byte", BATCH)
    assert (last.time_us, last.stage, last.size_bytes) == (23, "complete", 900)
    assert before_us <= vote.time_us <= clock_us()


def test_a_trace_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / TRACE_FILE
    for tail in ("", "12,voted,blo"):
        tracer = Tracer(path, "a", KEY)
        tracer.note(Mark(Stage.FINAL, BLOCK, is_block=True), Event())
        tracer.close()
        with path.open("a") as file:
            file.write(tail)
    Tracer(path, "a", KEY).close()
    assert [moment.stage for moment in read_trace(path).moments] == ["final", "final"]


def test_a_trace_is_bounded_and_says_so(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path / TRACE_FILE, "a", KEY, limit_bytes=2_000)
    for _ in range(1_000):
        tracer.note(Mark(Stage.FINAL, BLOCK, is_block=True), Event())
    tracer.close()
    trace = read_trace(tmp_path / TRACE_FILE)
    assert trace.is_full
    assert 5 < len(trace.moments) < 40


def test_what_is_no_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="cannot be read"):
        read_trace(tmp_path / TRACE_FILE)
    (tmp_path / TRACE_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfiguration, match="cannot be read"):
        read_trace(tmp_path / TRACE_FILE)


def test_a_manifest_that_is_missing_or_wrong_stops_the_node_before_it_starts(tmp_path: Path) -> None:
    config = make_directory(tmp_path, genesis_of(1), 0, network=NETWORK_FILE)
    assert load_config(config.directory) == config
    with pytest.raises(BadConfiguration, match="manifest cannot be read"):
        load_network(config)
    (config.directory / NETWORK_FILE).write_text("[network]\nlatency = 3\n")
    with pytest.raises(BadConfiguration, match="Did you mean latency_ms"):
        load_network(config)
    assert load_network(replace(config, network="")) is None


async def test_two_nodes_write_what_happens_to_batches_and_blocks_over_a_shaped_link(tmp_path: Path) -> None:
    genesis = genesis_of(2)
    configs = [make_directory(tmp_path, genesis, index, network=NETWORK_FILE, trace=True) for index in range(2)]
    for config in configs:
        (config.directory / NETWORK_FILE).write_text("[network]\nlatency_ms = 40\nbandwidth_mbit = 80\n")
        write_config(config)
    async with running(*configs) as servers:
        for server in servers:
            await server.wait_ready()
        async with connect(servers[0], genesis, BANK_KEY) as client:
            await open_books(client, genesis)
    lines = Timelines(read_trace(config.directory / TRACE_FILE) for config in configs)
    assert lines.nodes == ["node-0", "node-1"]
    batches = [batch for block in lines.blocks for batch in lines.batches_of.get(block, ())]
    assert len(batches) >= 2
    for batch in batches:
        assert lines.made_by[batch] == "node-0"
        made, came, checked = (
            lines.first(name, stage, batch)
            for name, stage in (("node-0", "made"), ("node-1", "complete"), ("node-1", "checked"))
        )
        assert made is not None
        assert came is not None
        assert checked is not None
        assert made + 39_000 <= came <= checked, "it is held back on the way"
        for name in lines.nodes:
            voted, executed = lines.first(name, Stage.VOTED, batch), lines.first(name, Stage.EXECUTED, batch)
            assert voted is not None
            assert executed is not None
            assert lines.first(name, Stage.FINAL, batch) is not None
    for block in lines.blocks:
        [other] = {*lines.nodes} - {lines.made_by[block]}
        first, last = lines.first(other, "first_byte", block), lines.first(other, "complete", block)
        if first is not None and last is not None:
            assert first <= last
