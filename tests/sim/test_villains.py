"""The villains do what their names say, to the honest around them."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from p2pledger.sim.run import Run, run_scenario
from p2pledger.sim.villains import disguise, villains_of
from p2pledger.sim.villains.producers import Grinder
from tests.sim.campaign import calm
from tests.sim.small_world import SmallWorld


def frames_of(run: Run, name: str, transcript: list[tuple[str, int]]) -> None:
    """Collect (receiver, message type) of every frame that a node sends to others."""
    world = run.world
    send = world.send

    def listen(connection, sender, payload, *, bulk):  # type: ignore[no-untyped-def]
        if sender.name == name:
            target = connection.ends[1 - connection.side_of(sender)]
            transcript.append((target.name, payload[1]))
        send(connection, sender, payload, bulk=bulk)

    world.send = listen  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", villains_of("simplex"))
def test_one_villain_of_four_breaks_nothing(kind: str) -> None:
    for seed in range(2):
        assert not run_scenario(replace(calm(seed), villains=(("node-2", kind),))).violations


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ("pow", "selfish"),
        ("pos", "long-range"),
        ("pos", "grinding"),
        ("pos", "equivocator"),
        ("dpos", "grinding"),
        ("dpos", "equivocator"),
        ("poa", "withholder"),
        ("poa", "impersonator"),
    ],
)
def test_one_villain_of_five_breaks_no_chain(engine: str, kind: str) -> None:
    assert not run_scenario(replace(calm(1, engine), villains=(("node-2", kind),))).violations


def test_grinding_gains_little() -> None:
    """It keeps blocks back, and its share of the final blocks does not exceed its share of the stake by much."""
    made = final = kept = 0
    for seed in range(3):
        run = Run(replace(calm(seed, "pos"), villains=(("node-2", "grinding"),)))
        run.live()
        villain = run.world.machines["node-2"]
        chain = {claim.height: claim.block for claim in run.evidence.finals}
        for block in chain.values():
            final += 1
            made += msgpack.unpackb(run.evidence.blocks[block])[0][7] == villain.keypair.public_key
        grinder = run.villains["node-2"]
        assert isinstance(grinder, Grinder)
        kept += grinder.kept
    assert kept > 0
    assert made / final < 0.25 * 1.25


def test_the_silent_one_says_nothing_to_validators() -> None:
    run, heard = Run(replace(calm(1), villains=(("node-2", "silent"),))), []
    frames_of(run, "node-2", heard)
    run.live()
    assert not [entry for entry in heard if entry[0].startswith("node")]


def test_the_withholder_votes_and_keeps_its_data() -> None:
    run, heard = Run(replace(calm(1), villains=(("node-0", "withholder"),), clients=1)), []
    frames_of(run, "node-0", heard)
    run.live()
    types = {kind for target, kind in heard if target.startswith("node")}
    votes, batches, blocks, chains = 13, 10, 17, 20
    assert votes in types
    assert not types & {batches, blocks, chains}


def test_the_equivocator_proposes_two_blocks_for_one_view() -> None:
    run = Run(replace(calm(1), villains=(("node-2", "equivocator"),)))
    proposed: dict[int, set[bytes]] = {}
    send = run.world.send

    def listen(connection, sender, payload, *, bulk):  # type: ignore[no-untyped-def]
        if sender.name == "node-2" and payload[1] == 12:
            _, view, _, block = msgpack.unpackb(msgpack.unpackb(payload)[2])[1:5]
            proposed.setdefault(view, set()).add(block)
        send(connection, sender, payload, bulk=bulk)

    run.world.send = listen  # type: ignore[method-assign]
    run.live()
    assert any(len(blocks) == 2 for blocks in proposed.values())


def test_an_unknown_villain_is_refused() -> None:
    small = SmallWorld()
    with pytest.raises(ValueError, match="no villain is called 'bazaar'"):
        disguise("bazaar", small.puppet(0), small.genesis, small.machines[0].keypair, small.weather.chance)
