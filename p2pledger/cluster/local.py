"""Runs all nodes of a consortium on this machine.

Starting: the directory is locked, the genesis and the keys are made (or read again), the node processes start on free
ports and say which, each is told where the others are, and all are waited for until they say that they are ready.
A node that cannot be started is left out as long as the others are a quorum. Stopping: every node is asked by closing
its pipe, all at once. A node that fails, at the start or later, stays down and is shown as failed until somebody
restarts it: a consortium must see its failures.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from p2pledger.api.client import CannotConnect, Client, ConnectionLost
from p2pledger.cluster.consortium import (
    BROKERS,
    Consortium,
    MemberPlan,
    load_node_key,
    node_directory,
    suggestion,
    validator_names,
)
from p2pledger.cluster.development import needed_weight
from p2pledger.cluster.directory import (
    ClusterState,
    NodeState,
    ProcessIdentity,
    is_cluster,
    refuse_foreign,
)
from p2pledger.cluster.faults import Faults
from p2pledger.cluster.opening import (
    AssetPlan,
    define_transactions,
    issue_transactions,
    sample_assets,
    sample_holdings,
)
from p2pledger.cluster.processes import NodeFailed, NodeProcess
from p2pledger.cluster.settle import settle
from p2pledger.network.neighbours import neighbours_of
from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import BadConfiguration, InvalidInput, P2PLedgerError
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import Reason, sentence_of
from p2pledger.server.config import NETWORK_FILE, load_config, load_manifest, write_config
from p2pledger.storage.lock import DirectoryLock

__all__ = ["Cluster"]

NO_NETWORK = "none"
"""In the place of a manifest: nothing lies between the nodes any more."""
_HOST = "127.0.0.1"
_LAST_WORDS_S = 5.0
"""How long a node that has hung up may take to end and to say why."""


class Cluster:
    """A consortium of validator processes, from ``async with`` to its end.

        async with Cluster(validators=4, seed=7) as cluster:
            client = await cluster.client("broker-1")

    ``validators``: how many (CCDC, CSDC, VENUE-A, VENUE-B, ...), or their names.
    ``profile``: public, private or consortium (the default); ``engine``: simplex, pow, pos, dpos or poa, the profile's
    own if none is given.
    ``seed``: DEV KEYS from this number, which anybody can compute; without it the keys are random.
    ``directory``: where everything is kept; a cluster that is there already goes on. Without it a temporary directory
    is used and removed at the end.
    ``network``: the file of a manifest that says what lies between the nodes (``p2pledger.network.topology``), of which
    the directory keeps a copy; without one a cluster that is there goes on with its own; "none" ends that.
    ``trace``: whether the nodes write down when what happened to each batch and block (``p2pledger.network.tracing``).
    ``degree``: with how many others each node has sessions, all else is relayed; 0: with everybody.
    ``opening``: whether a new ledger gets sample assets that the brokers hold: money, a bond, a share.

    InvalidInput (``directory_in_use``) if another process has the directory; NodeFailed if fewer nodes
    than a quorum come up.
    """

    def __init__(
        self,
        validators: int | Sequence[str] | None = None,
        *,
        seed: int | None = None,
        directory: str | Path | None = None,
        brokers: int = BROKERS,
        members: Sequence[MemberPlan] = (),
        parameters: Parameters | None = None,
        profile: str = "",
        engine: str = "",
        network: str | Path | None = None,
        trace: bool = False,
        degree: int = 0,
        opening: bool = True,
        ready_within_s: float = 60.0,
    ) -> None:
        self._validators = validators
        self._seed = seed
        self._given_directory = None if directory is None else Path(directory)
        self._brokers = brokers
        self._members = tuple(members)
        self._parameters = parameters
        self._profile = profile
        self._engine = engine
        self._network = network
        self._trace = trace
        self._degree = degree
        self._faults = Faults()
        self._is_shaped = False
        self._opening = opening
        self._ready_within_s = ready_within_s
        self._lock: DirectoryLock | None = None
        self._nodes: dict[str, NodeProcess] = {}
        self._changing = trio.Lock()
        """Held while a node is started or stopped: two terminals may ask at once."""

    # --- start and end ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.directory = self._given_directory or Path(tempfile.mkdtemp(prefix="p2pledger-"))
        self.directory = self.directory.absolute()
        self._nursery_manager = trio.open_nursery()
        self._nursery = await self._nursery_manager.__aenter__()
        try:
            await self._start()
        except BaseException as error:
            # The logs of a node that did not come up are worth keeping.
            await self._end(keep=isinstance(error, P2PLedgerError))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(keep=False)

    async def _start(self) -> None:
        refuse_foreign(self.directory)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = DirectoryLock(self.directory, "a running cluster")
        before = ClusterState.load(self.directory)
        if before is not None and (leftovers := before.leftovers):
            named = ", ".join(f"{node.name} (process {node.process.pid})" for node in leftovers if node.process)
            raise InvalidInput(
                "node processes of an earlier run are still there",
                where=str(self.directory),
                why=named,
                hint=f"End them with: p2pledger cluster down --directory {self.directory}",
                code="leftovers",
            )
        fresh = not is_cluster(self.directory)
        network = self._asked_network()
        if fresh:
            self.consortium = Consortium.make(
                self._validators or 4,
                seed=self._seed,
                brokers=self._brokers,
                members=self._members,
                parameters=self._parameters,
                profile=self._profile,
                engine=self._engine,
            )
            self._check_network(network)
            self.consortium.save(self.directory)
        else:
            self.consortium = Consortium.load(self.directory, seed=None if before is None else before.seed)
            self._refuse_conflict()
            self._check_network(network)
        for name, key in self.consortium.node_keys_by_genesis.items():
            self._nodes[name] = NodeProcess(name, key, node_directory(self.directory, name))
        self._lay_network(network)
        await self._start_nodes(list(self._nodes))
        if fresh and self._opening:
            await self._open_new()

    def _asked_network(self) -> str | None:
        """The text of the manifest that is asked for, "" for none; None if nothing is said. BadConfiguration."""
        if self._network is None or str(self._network) == NO_NETWORK:
            return None if self._network is None else ""
        load_manifest(Path(self._network))
        return Path(self._network).read_text(encoding="utf-8")

    def _check_network(self, text: str | None) -> None:
        if text:
            Topology.parse(text, where=str(self._network)).check_names(self.consortium.validators)

    def _lay_network(self, asked: str | None) -> None:
        """Keep the manifest that is asked for, and give each node a copy of the one that is kept. BadConfiguration."""
        kept = self.directory / NETWORK_FILE
        if asked:
            kept.write_text(asked, encoding="utf-8")
        elif asked is not None:
            kept.unlink(missing_ok=True)
        self._is_shaped = kept.exists()
        for node in self._nodes.values() if self._is_shaped else ():
            shutil.copyfile(kept, node.directory / NETWORK_FILE)

    async def _open_new(self) -> None:
        """Gives a new ledger its sample assets. If nodes end meanwhile, the last error of one of them says why.

        It says more than the end of our session with it; and with too few nodes we would wait in vain.
        """
        failure: P2PLedgerError | None = None
        async with trio.open_nursery() as nursery:

            async def watch(node: NodeProcess) -> None:
                await node.wait_ended()
                if failure is not None or not self._can_be_a_quorum():
                    nursery.cancel_scope.cancel()

            for node in self._nodes.values():
                if node.is_running:
                    nursery.start_soon(watch, node)
            try:
                await self.open_ledger(sample_assets(), sample_holdings(self.consortium))
            except P2PLedgerError as error:
                failure = error
                if isinstance(error, ConnectionLost):
                    await trio.sleep(_LAST_WORDS_S)  # cut short by the node that hung up, when it has ended
            else:
                nursery.cancel_scope.cancel()
                return
            nursery.cancel_scope.cancel()
        for node in self._nodes.values():
            if node.state == "running" and not node.is_running:
                failure = await node.last_words()
                break
        assert failure is not None, "only a node that has ended cuts the opening short"
        if self._given_directory is not None:
            begin = f"p2pledger cluster down --purge --directory {self.directory}"
            failure.hint = f"The ledger was not opened. When the cause is gone, begin anew after: {begin}"
        raise failure

    def _refuse_conflict(self) -> None:
        """What is asked for must be what is there: silently going on with something else helps nobody."""
        asked = self._validators
        if asked is not None:
            names = validator_names(asked) if isinstance(asked, int) else tuple(asked)
            if set(names) != set(self.consortium.validators):
                raise BadConfiguration(
                    f"the cluster has the validators {', '.join(self.consortium.validators)}, not {', '.join(names)}",
                    where=str(self.directory),
                    hint="Leave the option away, or choose a new directory",
                    code="conflicting_options",
                )
        for what, wanted, there in (
            ("profile", self._profile, self.genesis.profile),
            ("engine", self._engine, self.genesis.engine),
        ):
            if wanted and wanted != there:
                raise BadConfiguration(
                    f"the cluster has {what} {there}, not {wanted}",
                    where=str(self.directory),
                    hint="Leave the option away, or choose a new directory",
                    code="conflicting_options",
                )
        if self._seed is not None and self._seed != self.consortium.seed:
            raise BadConfiguration(
                f"the cluster was not made from seed {self._seed}",
                where=str(self.directory),
                hint="Leave the option away, or choose a new directory",
                code="conflicting_options",
            )

    async def _start_nodes(self, names: Sequence[str]) -> None:
        """Starts these nodes side by side, tells everybody where everybody is, and waits until these are ready.

        A node that fails is left out, as long as the others can be a quorum; ``ps`` shows it. Else, or if none is left
        of those that were to be started, the error says why.
        """
        nodes = [self._nodes[name] for name in names]
        failures: dict[str, P2PLedgerError] = {}

        async def attempt(node: NodeProcess, do: Callable[[], Awaitable[object]], together: trio.CancelScope) -> None:
            if node.name in failures:
                return
            try:
                await do()
                return
            except P2PLedgerError as error:
                failure = error
            except OSError as error:
                why, where = error.strerror or str(error), str(error.filename or node.directory)
                failure = NodeFailed(f"node {node.name} cannot be started", where=where, why=why)
            failures[node.name] = failure
            await node.fail(failure)
            if too_many():
                together.cancel()

        async def side_by_side(do: Callable[[NodeProcess], Awaitable[object]]) -> bool:
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(attempt, node, partial(do, node), nursery.cancel_scope)
            return not too_many()

        def too_many() -> bool:
            return bool(failures) and (len(failures) == len(nodes) or not self._can_be_a_quorum())

        with trio.move_on_after(self._ready_within_s) as patience:
            if await side_by_side(self._spawn) and await side_by_side(NodeProcess.wait_listening):
                self._save_state()
                self._tell_faults()
                self._tell_peers()
                await side_by_side(NodeProcess.wait_ready)
        self._save_state()
        if too_many():
            raise self._too_many(failures)
        if patience.cancelled_caught:
            late = [node.name for node in nodes if node.state == "starting"]
            raise P2PLedgerError(
                f"{', '.join(late)} did not get ready within {self._ready_within_s:g} s",
                where=str(self.directory),
                why=" | ".join(filter(None, (self._nodes[name].log_tail(2) for name in late))),
                hint="The logs are in nodes/NAME/node.log",
                code="timeout",
            )

    async def _spawn(self, node: NodeProcess) -> None:
        """BadConfiguration if the node's key or its configuration is not what it should be."""
        load_node_key(self.directory, next(seat for seat in self.genesis.validators if seat.name == node.name))
        # Ports are new at every start; those of the last one may belong to somebody else by now.
        network = NETWORK_FILE if self._is_shaped else ""
        write_config(
            replace(load_config(node.directory), peers=(), network=network, trace=self._trace, degree=self._degree)
        )
        await node.spawn()

    def _can_be_a_quorum(self) -> bool:
        """Whether the nodes that run or are being started are enough for the engine."""
        nodes = self._nodes
        left = [
            seat.weight
            for seat in self.genesis.validators
            if nodes[seat.name].state in ("starting", "running") and not nodes[seat.name].has_ended
        ]
        return sum(left) >= needed_weight(self.genesis)

    def _too_many(self, failures: Mapping[str, P2PLedgerError]) -> P2PLedgerError:
        if len(failures) == 1:
            return next(iter(failures.values()))
        return NodeFailed(
            f"{', '.join(sorted(failures))} failed: fewer than a quorum are left",
            where=str(self.directory),
            why=" | ".join(str(failures[name]) for name in sorted(failures)),
        )

    def _tell_peers(self) -> None:
        places = {node.key: (_HOST, node.port) for node in self._nodes.values() if node.port and node.is_running}
        keys = [node.key for node in self._nodes.values()]
        known = neighbours_of(keys, self._degree, self.genesis.network_id) if self._degree else None
        for node in self._nodes.values():
            if node.is_running:
                others = {key for key in places if key != node.key} if known is None else known[node.key]
                node.tell_peers({key.hex(): places[key] for key in places if key in others})

    @trio.lowlevel.enable_ki_protection
    async def _end(self, *, keep: bool) -> None:
        """Whatever happened, no node stays behind.

        Ctrl-C is raised only where this waits, but there also through the shield; it kills the nodes at once.
        """
        try:
            with trio.CancelScope(shield=True):
                self._nursery.cancel_scope.cancel()
                try:
                    await self._with_all_nodes(NodeProcess.stop)
                except BaseException:
                    await self._with_all_nodes(NodeProcess.kill)
                    raise
        finally:
            # The last of this can fail: the disk may be what has ended the run. The nursery has to be closed all the
            # same, or the task would take its error for a breach of Trio's rules.
            try:
                if self._lock is not None:
                    try:
                        if self._nodes:
                            self._save_state()
                    finally:
                        self._lock.release()
                if self._given_directory is None and not keep:
                    shutil.rmtree(self.directory, ignore_errors=True)
            finally:
                # The body's own error goes on by itself: given to this nursery it would come back in a group.
                await self._nursery_manager.__aexit__(None, None, None)

    async def _with_all_nodes(self, do: Callable[[NodeProcess], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            for node in self._nodes.values():
                nursery.start_soon(do, node)

    def _save_state(self) -> None:
        this = ProcessIdentity.of(os.getpid())
        assert this is not None
        state = ClusterState(self.genesis.network_id.hex(), self.consortium.seed, this, self.ps(), self.faults)
        state.save(self.directory)

    # --- nodes ------------------------------------------------------------------------------------------------------

    @property
    def genesis(self) -> Genesis:
        return self.consortium.genesis

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return tuple(self._nodes)

    def ps(self) -> tuple[NodeState, ...]:
        """All nodes as they are now."""
        return tuple(node.describe() for node in self._nodes.values())

    def node(self, name: str) -> NodeProcess:
        """The process of a node. InvalidInput, with a suggestion, for a name that none has."""
        try:
            return self._nodes[name]
        except KeyError:
            raise InvalidInput(
                f"there is no node {name!r}", hint=suggestion(name, list(self._nodes)), code="unknown_node"
            ) from None

    def log_path(self, name: str) -> Path:
        return self.node(name).log

    async def kill(self, name: str) -> None:
        """SIGKILL: the node gets no chance to write anything."""
        async with self._changing:
            await self.node(name).kill()
            self._save_state()

    async def stop(self, name: str) -> None:
        """Stops a node in good order."""
        async with self._changing:
            await self.node(name).stop()
            self._save_state()

    async def restart(self, name: str) -> None:
        """Starts a node again, stopping it first if it runs; returns when it has caught up."""
        async with self._changing:
            await self.node(name).stop()
            await self._start_nodes([name])

    # --- faults -----------------------------------------------------------------------------------------------------

    @property
    def faults(self) -> tuple[str, ...]:
        """What is in force, a sentence each."""
        paused = [f"pause {node.name}" for node in self._nodes.values() if node.is_paused and node.is_running]
        return (*self._faults.sentences(), *paused)

    def cut(self, *groups: Sequence[str]) -> None:
        """Cuts the network: nodes of different groups have no sessions with each other until ``heal``. Clients do.

        One group alone is cut off from all others.
        """
        self._faults.cut([[self.node(name).name for name in group] for group in groups], self.nodes)
        self._tell_faults()

    def delay(self, one: str, other: str, delay_ms: float) -> None:
        """From now on it takes so much longer from each of two nodes to the other than the manifest says."""
        self._faults.delay(self.node(one).name, self.node(other).name, delay_ms)
        self._tell_faults()

    def bandwidth(self, name: str, bandwidth_mbit: float) -> None:
        """From now on this is the uplink of a node; 0: without a bound."""
        self._faults.bandwidth(self.node(name).name, bandwidth_mbit)
        self._tell_faults()

    def skew(self, name: str, skew_ms: float) -> None:
        """From now on the clock of a node is so far ahead of the machine's, or behind it."""
        self._faults.skew(self.node(name).name, skew_ms)
        self._tell_faults()

    def pause(self, name: str) -> None:
        """The process of a node stands still, and its sessions stay open, until ``heal`` or ``restart``."""
        self.node(name).pause()
        self._save_state()

    def heal(self) -> None:
        """Ends a cut, delays, other bandwidths and skews, and lets paused nodes go on. Nobody is started again."""
        for node in self._nodes.values():
            node.resume()
        was_skewed = self._faults.skews_ms
        self._faults = Faults(skews_ms=dict.fromkeys(was_skewed, 0.0))
        self._tell_faults()

    def _tell_faults(self) -> None:
        """Every node what concerns it; one that has just started knows of none."""
        faults = self._faults
        for name, node in self._nodes.items():
            node.shun([self.node(other).key for other in faults.strangers_of(name)])
            node.trouble(faults.delays_from(name), faults.bandwidths_mbit.get(name))
            if name in faults.skews_ms:
                node.skew(faults.skews_ms[name])
        self._save_state()

    # --- clients ----------------------------------------------------------------------------------------------------

    def address(self, name: str) -> tuple[str, int]:
        """Where a node listens. CannotConnect if it does not."""
        node = self.node(name)
        if not node.is_running or not node.port:
            raise CannotConnect(f"node {name} is not running", hint=f"Start it again: restart {name}")
        return _HOST, node.port

    def connect(self, member: str = "", node: str = "") -> AbstractAsyncContextManager[Client]:
        """``async with cluster.connect("broker-1") as client``: a client of a member at a node.

        The first node that runs if none is named; any member if none is named. Outside of ``with`` use ``client``.
        """
        owner = member or next(iter(self.consortium.member_keys))
        keypair = self.consortium.keypair(owner)
        place = node or next((name for name, process in self._nodes.items() if process.is_running), self.nodes[0])
        host, port = self.address(place)
        return Client.connect(host, port, self.genesis, keypair, name=owner, node_key=self.node(place).key)

    async def client(self, member: str = "", node: str = "") -> Client:
        """A client as of ``connect`` that lasts as long as the cluster."""
        client: Client = await self._nursery.start(self._hold, self.connect(member, node))
        return client

    @staticmethod
    async def _hold(
        connection: AbstractAsyncContextManager[Client],
        *,
        task_status: trio.TaskStatus[Client] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with connection as client:
            task_status.started(client)
            # If the session ends before, whoever uses the client is told by each of its calls.
            await trio.sleep_forever()

    async def open_ledger(
        self, plans: Sequence[AssetPlan], holdings: Mapping[tuple[str, str], int], *, timeout_s: float = 60.0
    ) -> None:
        """Defines assets and issues units, (asset, member) -> units. P2PLedgerError with the reason of a refusal."""
        async with self.connect() as client:
            height = (await client.status()).final_height
            valid_until = height + self.genesis.parameters.replay_window // 2
            for transactions in (
                define_transactions(self.consortium, plans, valid_until=valid_until),
                issue_transactions(self.consortium, holdings, valid_until=valid_until),
            ):
                for outcome in await settle(client, transactions, timeout_s=timeout_s):
                    if outcome.code != Reason.OK:
                        raise P2PLedgerError(
                            "the ledger could not be opened",
                            why=f"{sentence_of(outcome.code)} (operation {outcome.operation})",
                            code="not_opened",
                        )
