"""A world whose peers are puppets: they do what the test tells them and remember what they were told."""

from __future__ import annotations

from collections.abc import Callable

from p2pledger import core
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.network.effects import Effect, Event, Identity, Received
from p2pledger.node.archive import Archive, Recovery
from p2pledger.primitives.keys import Keypair
from p2pledger.sim.chance import stream
from p2pledger.sim.links import Delay, Weather
from p2pledger.sim.market import Market
from p2pledger.sim.world import Machine, World


class Puppet:
    """``reaction`` answers every event; ``heard`` is (time in milliseconds, event), ``mores`` if another followed."""

    def __init__(self, state: core.Version, recovery: Recovery | None) -> None:
        self.heard: list[tuple[int, Event]] = []
        self.mores: list[bool] = []
        self.reaction: Callable[[Event, int], list[Effect]] = lambda event, now_ms: []
        self.recovery = recovery
        self.final_height = 0
        self.final_version = state

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
        self.heard.append((now_ms, event))
        self.mores.append(more)
        return self.reaction(event, now_ms)

    def admit(self, identity: Identity) -> tuple[str, str] | None:
        return None

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for _, event in self.heard if isinstance(event, kind)]


class SmallWorld:
    """Two machines, started and connected, with a link of one millisecond."""

    def __init__(self, machines: int = 2, *, jitter_us: int = 0) -> None:
        market = Market(1, machines, stream(1, "market"))
        self.genesis = market.genesis
        names = market.node_names
        delay = Delay("uniform", 1_000, jitter_us)
        self.weather = Weather(stream(1, "weather"), {}, delay)
        state = genesis_state(self.genesis)

        def build(name: str, keypair: Keypair, archive: Archive, recovery: Recovery | None) -> Puppet:
            return Puppet(state, recovery)

        self.world = World(1, self.genesis, self.weather, build=build)
        for name in names:
            self.world.add_machine(Machine(self.world, name, market.node_keys[name]))
        self.machines = list(self.world.machines.values())
        for machine in self.machines:
            machine.start()
        self.world.connect_all()
        self.world.run_until(100_000)

    def puppet(self, index: int) -> Puppet:
        peer = self.machines[index].peer
        assert isinstance(peer, Puppet)
        return peer

    def make(self, index: int, *effects: Effect) -> None:
        """Let a puppet answer a nudge with these effects, now; it answers nothing else."""
        nudge = Received(0, b"nudge")
        self.puppet(index).reaction = lambda event, now_ms: list(effects) if event == nudge else []
        self.machines[index].frame_arrived(nudge.session, nudge.payload)

    def run_for(self, duration_us: int) -> None:
        self.world.run_until(self.world.now_us + duration_us)
