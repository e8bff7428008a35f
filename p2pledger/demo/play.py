"""Plays a scenario on a cluster of processes, and says of each step whether the ledger answered as expected.

Steps are done strictly one after the other: a transaction is final before the next step begins, so each is judged on
the books that the step before has left. Members send from different nodes; what is looked at is read from a node that
has reached the height of the last step. At the end the nodes must stand alike and the books must add up, by the
ledger's own check and by a recount of its rows that shares no code with it.

A refusal that is expected is a step that went well. What could not be run at all is a P2PLedgerError.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import trio

from p2pledger.api.client import Client, RequestFailed
from p2pledger.cluster.consortium import suggestion
from p2pledger.cluster.keyfiles import development_keypair
from p2pledger.cluster.local import Cluster
from p2pledger.cluster.proofs import fetch_holding_proof
from p2pledger.cluster.remote import decimals_of
from p2pledger.cluster.settle import settle
from p2pledger.demo.live import View
from p2pledger.demo.recount import recount
from p2pledger.demo.scenario import Act, Advance, Call, Clock, Look, Scenario, Step, expanded
from p2pledger.ledger.holding_proof import check_holding
from p2pledger.load.chain import wait_agreement
from p2pledger.primitives.amounts import amount_text, units_of
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.forms import Blob, Field, ListOf, Operation, Salt, Text, operation_name
from p2pledger.primitives.forms_text import NAMES, Names, assets_named, operation_kind, operation_of
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.market.instructions import AddLegs, Instruct, legs_digest
from p2pledger.primitives.names import account_named, account_opened, asset_id, asset_text
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason, rule_named, sentence_of
from p2pledger.primitives.transactions import Open, Transaction

__all__ = ["PlayReport", "StepReport", "operation_fields", "play"]

_PATIENCE_S: Final = 30.0
_AGREE_WITHIN_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.05
_VALID_HEIGHTS: Final = 1_000
_ADVANCED: Final = "advanced"


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step as it was expected and as it came. ``code`` is that of the receipt; 0 for a look."""

    number: int
    title: str
    chapter: str
    expected: str
    outcome: str
    code: int
    ok: bool
    rule: str
    sentence: str
    took_ms: float

    @property
    def line(self) -> str:
        wanted = "" if self.ok else f", not {self.expected}"
        return f"{self.number:>3}  {'ok' if self.ok else 'DIFFERS':<7}  {self.title}: {self.outcome}{wanted}"


@dataclass(frozen=True, slots=True)
class PlayReport:
    scenario: str
    title: str
    steps: tuple[StepReport, ...]
    state_roots_equal: bool
    supply_conserved: bool
    findings: tuple[str, ...]
    measured_ms: Mapping[str, float]
    height: int
    seconds: float

    @property
    def passed(self) -> bool:
        return all(step.ok for step in self.steps) and self.state_roots_equal and self.supply_conserved

    @property
    def refusals(self) -> int:
        """Steps that were refused, as they should be."""
        return sum(step.ok and step.code != 0 for step in self.steps)

    def values(self) -> dict[str, Any]:
        """The last line for programs."""
        return {
            "schema": "p2pledger.scenario/1",
            "scenario": self.scenario,
            "passed": self.passed,
            "steps": [
                {
                    "step": f"{step.number} {step.title}",
                    "expected": step.expected,
                    "outcome": step.outcome,
                    "code": step.code,
                    "ok": step.ok,
                    "rule": step.rule,
                    "took_ms": round(step.took_ms, 1),
                }
                for step in self.steps
            ],
            "refusals": self.refusals,
            "state_roots_equal": self.state_roots_equal,
            "supply_conserved": self.supply_conserved,
            "findings": list(self.findings),
            "measured_ms": {name: round(value, 1) for name, value in self.measured_ms.items()},
            "height": self.height,
            "seconds": round(self.seconds, 2),
        }


def operation_fields() -> dict[str, list[tuple[str, bool]]]:
    """The operations that a step may name -> (field, whether it may be left out)."""
    known = {}
    for name, kind in NAMES.items():
        defaults = {item.name for item in fields(kind) if item.default is not MISSING}
        known[name] = [(item.name, item.name in defaults or _may_be_absent(item)) for item in kind.form]
    return known


def _may_be_absent(item: Field) -> bool:
    """As in ``forms_text``: salts are drawn, what is optional is absent, what may be empty is empty."""
    if isinstance(item, Salt) or getattr(item, "optional", False):
        return True
    return isinstance(item, Text | ListOf | Blob) and item.least == 0


async def play(scenario: Scenario, view: View, *, directory: Path | None = None) -> PlayReport:
    """Runs a scenario from a fresh genesis to its report."""
    began_s = time.monotonic()
    view.say(f"{scenario.title}: {len(scenario.steps)} steps, seed {scenario.seed}")
    view.say(f"starting {scenario.validators} validators")
    async with Cluster(
        scenario.validators,
        seed=scenario.seed,
        directory=directory,
        brokers=scenario.brokers,
        members=scenario.members,
        opening=scenario.sample_assets,
    ) as cluster:
        return await _Player(scenario, cluster, view).run(began_s)


@dataclass
class _Player:
    """One run on a cluster that is ready."""

    scenario: Scenario
    cluster: Cluster
    view: View
    clock: Clock = field(default_factory=lambda: Clock(time.time_ns() // 1_000_000))
    height: int = 0
    """Of the last step: nothing is looked at in an older state."""
    ahead_ms: int = 0
    """How far the clocks of the nodes were set ahead."""
    saved: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, bytes] = field(default_factory=dict)
    """Accounts that steps have opened, by the name under which they were saved."""
    decimals: dict[bytes, int] = field(default_factory=dict)
    digests: dict[bytes, bytes] = field(default_factory=dict)
    """Of the legs of the instructions that were made, as far as they are there."""
    measured_ms: dict[str, float] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)

    async def run(self, began_s: float) -> PlayReport:
        reports = []
        chapter = ""
        for step in self.scenario.steps:
            if step.chapter and step.chapter != chapter:
                chapter = step.chapter
                self.view.say(f"\n{chapter}")
            report = await self._step(step)
            reports.append(report)
            self.view.say(report.line)
            if not report.ok and report.sentence:
                self.view.say(f"              {report.sentence}")
        self.view.say("\nwaiting until all nodes agree")
        standings = await wait_agreement(self.cluster, _AGREE_WITHIN_S, self.height)
        agree = len(standings) == len(self.cluster.nodes) and len(set(standings.values())) == 1
        client = await self._client("")
        findings = list((await client.supply()).findings)
        height, counted = await recount(client)
        return PlayReport(
            self.scenario.name,
            self.scenario.title,
            tuple(reports),
            agree,
            not findings and not counted,
            (*findings, *counted),
            self.measured_ms,
            height,
            time.monotonic() - began_s,
        )

    async def _step(self, step: Step) -> StepReport:
        begun = time.monotonic()
        try:
            if isinstance(step.does, Advance):
                told = await self._advance(step.does)
            elif isinstance(step.does, Act):
                told = await self._act(step, step.does)
            else:
                told = await self._look(step.does)
        except InvalidInput as error:
            # Mostly because a step before has not made what this one is about.
            told = (_expected_of(step.does), f"not possible: {error.what}", 0, False, "", error.hint)
        expected, outcome, code, ok, rule, sentence = told
        took_ms = (time.monotonic() - begun) * 1_000
        return StepReport(step.number, step.title, step.chapter, expected, outcome, code, ok, rule, sentence, took_ms)

    async def _client(self, member: str) -> Client:
        """A session of a member, at a node of its own turn; those who are no members of the genesis use the first's."""
        if member not in self.cluster.consortium.member_keys:
            member = ""
        if member not in self.clients:
            node = self.cluster.nodes[len(self.clients) % len(self.cluster.nodes)]
            self.clients[member] = await self.cluster.client(member, node)
        return self.clients[member]

    # --- transactions -------------------------------------------------------------------------------------------------

    async def _act(self, step: Step, act: Act) -> tuple[str, str, int, bool, str, str]:
        client = await self._client(act.by)
        genesis = self.cluster.genesis
        operations = []
        for number, call in enumerate(act.calls):
            given = self._expanded(call.fields)
            names = await self._names(client, call.operation, given)
            operations.append(operation_of(call.operation, given, names, self._salt(f"{step.number}.{number}")))
        if not self.height:
            self.height = (await client.status()).final_height
        transaction = Transaction(
            genesis.network_id,
            self.height + min(_VALID_HEIGHTS, genesis.parameters.replay_window),
            self._salt(str(step.number)),
            self._account(act.by),
            tuple(operations),
            genesis.parameters.least_fee * len(operations),
        )
        data = transaction.sign(self._keypair(name) for name in act.sign)
        begun = time.monotonic()
        [outcome] = await settle(client, [data], timeout_s=_PATIENCE_S)
        if act.measure:
            self.measured_ms[act.measure] = (time.monotonic() - begun) * 1_000
        self.height = max(self.height, outcome.height)
        at = "" if outcome.operation == WHOLE_TRANSACTION else operation_name(type(operations[outcome.operation]))
        reason, rule = Reason(outcome.code).title, rule_named(outcome.code, outcome.rule, at)
        if outcome.code == 0:
            for call, operation in zip(act.calls, operations, strict=True):
                self._save(call, operation)
        ok = reason == act.expect and act.rule in rule
        told = f"{reason}: {rule}" if rule else reason
        sentence = "" if outcome.code == 0 else sentence_of(outcome.code)
        return _expected_of(act), told, outcome.code, ok, rule, sentence

    async def _names(self, client: Client, operation: str, given: Mapping[str, Any]) -> Names:
        """The accounts by name, and the decimals of the assets that are named. Unknown assets have none: their amounts
        are taken as smallest units, so that a step may name an asset that does not exist and be refused."""
        unknown = assets_named(operation, given) - self.decimals.keys()
        if unknown:
            self.decimals.update(await decimals_of(client, None))
        members = {name: account_named(name) for name in self.cluster.consortium.member_keys}
        return Names({**members, **self.accounts}, {**dict.fromkeys(unknown, 0), **self.decimals})

    def _salt(self, what: str) -> bytes:
        """The same scenario on the same genesis makes the same objects."""
        return hashlib.sha256(f"{self.scenario.name} {what}".encode()).digest()[:16]

    def _keypair(self, name: str) -> Keypair:
        """A member's, or the DEV KEY of somebody whose account a step has opened."""
        if name in self.accounts and name not in self.cluster.consortium.member_keys:
            return development_keypair(self.scenario.seed, "member", name)
        return self.cluster.consortium.keypair(name)

    def _account(self, name: str) -> bytes:
        if name in self.accounts:
            return self.accounts[name]
        if name in self.cluster.consortium.member_keys:
            return account_named(name)
        known = [*self.accounts, *self.cluster.consortium.member_keys]
        raise InvalidInput(f"there is no account {name!r}", hint=suggestion(name, known), code="unknown_account")

    def _save(self, call: Call, operation: Operation) -> None:
        """Keeps what later steps may refer to."""
        if isinstance(operation, Instruct | AddLegs):
            if isinstance(operation, Instruct):
                identifier, digest = operation.id, operation.digest
            else:
                identifier = operation.instruction
                digest = legs_digest(operation.legs, self.digests[identifier])
            self.digests[identifier] = digest
            for name, text in [*self.saved.items(), (call.save, identifier.hex())]:
                if name and text == identifier.hex():
                    self.saved[f"{name}.legs"] = digest.hex()
        if not call.save:
            return
        if isinstance(operation, Open):
            account = account_opened(operation.opener, operation.salt, operation.policy.values())
            self.accounts[call.save] = account
            self.saved[call.save] = account.hex()
        else:
            self.saved[call.save] = operation.id.hex()  # type: ignore[attr-defined]

    def _text(self, text: str) -> str:
        return expanded(text, self.saved, self.clock, self._now_ms, self.scenario.seed)

    def _expanded(self, value: Any) -> Any:
        """A field with all of its expressions replaced."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self._expanded(item) for item in value]
        if isinstance(value, dict):
            return {name: self._expanded(item) for name, item in value.items()}
        return value

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def _now_ms(self) -> int:
        """As the nodes' clocks have it."""
        return time.time_ns() // 1_000_000 + self.ahead_ms

    async def _advance(self, advance: Advance) -> tuple[str, str, int, bool, str, str]:
        """Sets the clocks of all nodes ahead."""
        self.ahead_ms += advance.by_ms
        for name in self.cluster.nodes:
            self.cluster.skew(name, self.ahead_ms)
        return _ADVANCED, _ADVANCED, 0, True, "", ""

    # --- looks --------------------------------------------------------------------------------------------------------

    async def _look(self, look: Look) -> tuple[str, str, int, bool, str, str]:
        """Looks until what is expected is seen, or the time for it is over."""
        of = {name: self._text(text) for name, text in look.of.items()}
        wanted = {name: self._text(text) for name, text in look.expect.items()}
        until = trio.current_time() + look.within_s
        while True:
            found = await self._seen(look.what, of)
            for name in wanted:
                if name not in found and "refused" not in found and "refused" not in wanted:
                    raise InvalidInput(
                        f"{look.what} shows no {name!r}", hint=suggestion(name, list(found)), code="unknown_name"
                    )
            ok = all(_alike(found.get(name, ""), text) for name, text in wanted.items())
            if ok or trio.current_time() >= until:
                break
            await trio.sleep(_LOOK_AGAIN_S)
        shown = {name: found.get(name, "") for name in (wanted if ok or "refused" not in found else found)}
        return _told(wanted), _told(wanted if ok else shown), 0, ok, "", ""

    async def _seen(self, what: str, of: Mapping[str, str]) -> dict[str, str]:
        """What a node shows, in texts by name. A refusal is shown as ``refused`` with its code."""
        client = await self._client(of.get("reader", ""))
        while True:  # the node may be some milliseconds behind the one that told the last outcome
            if (await client.status()).final_height >= self.height:
                break
            await trio.sleep(_LOOK_AGAIN_S)
        try:
            return await _LOOKS[what](self, client, of)
        except RequestFailed as error:
            return {"refused": error.code}

    async def _see_holding(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        asset = asset_id(of["asset"])
        statement = (await client.positions(self._account(of["account"]))).statement
        account = self._account(of["account"])
        line = next((line for line in statement.lines if (line.account, line.asset) == (account, asset)), None)
        found = dict.fromkeys(("total", "free", "locked", "settling", "escrowed", "pending"), "0") | {"orders": "0"}
        if line is not None:
            found["total"] = amount_text(line.total, line.decimals)
            found["orders"] = str(len(line.orders))
            sums: dict[str, int] = {}
            for bucket in line.buckets:
                sums[bucket.bucket] = sums.get(bucket.bucket, 0) + bucket.amount
            found.update({name: amount_text(amount, line.decimals) for name, amount in sums.items()})
        return found

    async def _see_instruction(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        statement = (await client.instruction(bytes.fromhex(of["instruction"]))).statement
        moments = {moment.name: "yes" if moment.height else "no" for moment in statement.moments}
        line = statement.line
        return {
            "processing": line.processing,
            "matching": line.matching,
            "settlement": line.settlement,
            "code": line.code,
            "orders": str(len(statement.stopped_by)),
            **moments,
        }

    async def _see_forecast(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        found = (await client.forecast(bytes.fromhex(of["instruction"]))).statement
        return {"locked": "yes" if found.is_locked else "no", "outcome": Reason(found.code).title, "rule": found.rule}

    async def _see_tasks(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        lines = (await client.tasks(self._account(of["party"]))).statement.lines
        return {"count": str(len(lines)), "tasks": ", ".join(sorted({line.what for line in lines}))}

    async def _see_permission(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        code = operation_kind(of["what"]).code
        asset = asset_id(of["asset"]) if "asset" in of else b""
        amount = int(of.get("amount", "0"))
        decision = (await client.explain(self._account(of["who"]), code, asset, amount)).statement
        return {"allowed": "yes" if decision.is_allowed else "no", "rule": decision.rule}

    async def _see_investor(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        answer = await client.investor(self._account(of["reader"]), self._account(of["party"]))
        lines = answer.statement.lines
        held = {asset_text(line.asset): amount_text(line.free + line.encumbered, line.decimals) for line in lines}
        return {"seen_as": answer.statement.seen_as, "registers": str(len({line.register for line in lines})), **held}

    async def _see_through(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        asset = asset_id(of["asset"])
        answer = await client.beneficiaries(self._account(of["reader"]), self._account(of["account"]), asset)
        statement = answer.statement
        shares = {
            line.name or line.party.hex(): amount_text(line.amount, statement.decimals) for line in statement.lines
        }
        return {"seen_as": statement.seen_as, "total": amount_text(statement.total, statement.decimals), **shares}

    async def _see_supply(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        asset = asset_id(of["asset"])
        for line in (await client.money_supply()).statement.lines:
            if line.asset == asset:
                return {
                    "kind": line.kind,
                    "issued": amount_text(line.issued, line.decimals),
                    "circulating": amount_text(line.circulating, line.decimals),
                    "attested": amount_text(line.attested, line.decimals),
                    "waiting": amount_text(line.waiting, line.decimals),
                    "quarantined": "yes" if line.is_quarantined else "no",
                }
        raise InvalidInput(f"{of['asset']} is no money", code="unknown_asset")

    async def _see_proof(self, client: Client, of: Mapping[str, str]) -> dict[str, str]:
        """A counterparty gets the file and checks it alone, with the hash of the genesis and nothing else."""
        asset = asset_id(of["asset"])
        account, genesis = self._account(of["account"]), self.cluster.genesis
        data = await fetch_holding_proof(client, genesis, account, asset, least_height=self.height)
        proved = check_holding(data, self.cluster.genesis.hash)
        amount = units_of(of["amount"], proved.decimals, of["asset"])
        return {
            "unencumbered": "yes" if proved.is_unencumbered(amount) else "no",
            "free": amount_text(proved.free, proved.decimals),
            "why": proved.why_not(amount),
        }


_LOOKS: Final[Mapping[str, Callable[[_Player, Client, Mapping[str, str]], Awaitable[dict[str, str]]]]] = {
    "holding": _Player._see_holding,
    "instruction": _Player._see_instruction,
    "forecast": _Player._see_forecast,
    "tasks": _Player._see_tasks,
    "permission": _Player._see_permission,
    "investor": _Player._see_investor,
    "look_through": _Player._see_through,
    "supply": _Player._see_supply,
    "proof": _Player._see_proof,
}


def _expected_of(does: Act | Look | Advance) -> str:
    """What a step should come to, in words."""
    match does:
        case Act():
            return f"{does.expect}: {does.rule}" if does.rule else does.expect
        case Look():
            return _told(does.expect)
        case Advance():
            return _ADVANCED


def _told(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in values.items())


def _alike(found: str, wanted: str) -> bool:
    """Equal, as texts or as decimal numbers: 5 and 5.00, 1,000 and 1000."""
    return found == wanted or _number(found) == _number(wanted) != ""


def _number(text: str) -> str:
    """A decimal number in one form; empty for other texts."""
    plain = text.replace(",", "")
    if not re.fullmatch(r"\d+(\.\d+)?", plain):
        return ""
    whole, _, fraction = plain.partition(".")
    return f"{int(whole)}.{fraction.rstrip('0')}"
