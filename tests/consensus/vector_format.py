"""The form of the Simplex vectors (docs/simplex-vectors.md), and a player that runs one on an engine.

Whatever crosses the border between a vector and the engine does so here, as JSON: bytes in hexadecimal, messages in
their canonical encoding. So a recorder that writes vectors and a test that replays them can differ in nothing.
"""

from __future__ import annotations

from typing import Any

from p2pledger.consensus.engine import (
    BlockArrived,
    BlockRef,
    Broadcast,
    Build,
    Built,
    CertificateArrived,
    CertificateWanted,
    Check,
    Checked,
    Contradiction,
    Effect,
    EpochEnded,
    Evidence,
    Finalised,
    FinalReached,
    Input,
    Notarised,
    Offence,
    Persist,
    Proposal,
    ProposalArrived,
    Send,
    SetTimer,
    TimerFired,
    VoteArrived,
    WantBlock,
    WantCertificates,
    WorkChanged,
)
from p2pledger.consensus.simplex import Recovered, Simplex
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.records import BlockRecord, CertificateRecord, Record, VoteRecord
from p2pledger.primitives.validators import Validator, Validators
from p2pledger.primitives.votes import Certificate, Vote

SCHEMA = "p2pledger.simplex-vector/1"

Json = dict[str, Any]


# --- values ---------------------------------------------------------------------------------------------------------


def ref_json(ref: BlockRef) -> Json:
    return {
        "id": ref.id.hex(),
        "parent": ref.parent.hex(),
        "height": ref.height,
        "view": ref.view,
        "time_ms": ref.time_ms,
        "proposer": ref.proposer.hex(),
    }


def ref_of(values: Json) -> BlockRef:
    return BlockRef(
        bytes.fromhex(values["id"]),
        bytes.fromhex(values["parent"]),
        values["height"],
        values["view"],
        values["time_ms"],
        bytes.fromhex(values["proposer"]),
    )


def message_json(message: Proposal | Vote | Certificate) -> Json:
    match message:
        case Proposal(block, vote):
            return {"block": block.encode().hex(), "vote": vote.encode().hex()}
        case Vote():
            return {"vote": message.encode().hex()}
        case Certificate():
            return {"certificate": message.encode().hex()}


# --- inputs ---------------------------------------------------------------------------------------------------------


def input_json(event: Input) -> Json:
    match event:
        case ProposalArrived(sender, proposal):
            return {"type": "proposal", "sender": sender.hex(), **message_json(proposal)}
        case VoteArrived(sender, vote):
            return {"type": "vote", "sender": sender.hex(), **message_json(vote)}
        case CertificateArrived(sender, certificate):
            return {"type": "certificate", "sender": sender.hex(), **message_json(certificate)}
        case CertificateWanted(sender, from_view, to_view):
            return {"type": "certificates_wanted", "sender": sender.hex(), "from_view": from_view, "to_view": to_view}
        case BlockArrived():
            return {"type": "block", "block": event.block.encode().hex()}
        case Checked(view, block, ok):
            return {"type": "checked", "view": view, "block": block.hex(), "ok": ok}
        case Built(view, built):
            return {"type": "built", "view": view, "block": None if built is None else built.encode().hex()}
        case FinalReached(ref):
            return {"type": "final_reached", "block": ref_json(ref)}
        case WorkChanged(has_work):
            return {"type": "work", "has_work": has_work}
        case TimerFired():
            return {"type": "timer"}
        case _:
            raise TypeError(f"an input that no vector holds: {event!r}")


def input_of(values: Json) -> Input:
    """PeerFault where the bytes of a message have a bad form: an engine never sees them.

    ``start``, ``restart`` and ``next_epoch`` are no inputs of an engine; the player knows what to do.
    """
    match values["type"]:
        case "proposal":
            block, vote = Block.decode(bytes.fromhex(values["block"])), Vote.decode(bytes.fromhex(values["vote"]))
            return ProposalArrived(bytes.fromhex(values["sender"]), Proposal(block, vote))
        case "vote":
            return VoteArrived(bytes.fromhex(values["sender"]), Vote.decode(bytes.fromhex(values["vote"])))
        case "certificate":
            certificate = Certificate.decode(bytes.fromhex(values["certificate"]))
            return CertificateArrived(bytes.fromhex(values["sender"]), certificate)
        case "certificates_wanted":
            return CertificateWanted(bytes.fromhex(values["sender"]), values["from_view"], values["to_view"])
        case "block":
            return BlockArrived(Block.decode(bytes.fromhex(values["block"])))
        case "checked":
            return Checked(values["view"], bytes.fromhex(values["block"]), values["ok"])
        case "built":
            built = values["block"]
            return Built(values["view"], None if built is None else Block.decode(bytes.fromhex(built)))
        case "final_reached":
            return FinalReached(ref_of(values["block"]))
        case "work":
            return WorkChanged(values["has_work"])
        case "timer":
            return TimerFired()
        case other:
            raise ValueError(f"an input of unknown type {other!r}")


# --- effects --------------------------------------------------------------------------------------------------------


def record_json(record: Record) -> Json:
    match record:
        case VoteRecord():
            return {"type": "vote", "vote": record.data.hex()}
        case CertificateRecord():
            return {"type": "certificate", "certificate": record.data.hex()}
        case BlockRecord():
            return {"type": "block", "block": record.data.hex()}
        case _:
            raise TypeError(f"a record that no engine asks for: {record!r}")


def effect_json(effect: Effect) -> Json:
    match effect:
        case Persist(records):
            return {"type": "persist", "records": [record_json(record) for record in records]}
        case Broadcast(message):
            return {"type": "broadcast", **message_json(message)}
        case Send(to, message):
            return {"type": "send", "to": to.hex(), **message_json(message)}
        case WantCertificates(from_view, to_view):
            return {"type": "want_certificates", "from_view": from_view, "to_view": to_view}
        case WantBlock(block, signers):
            return {"type": "want_block", "block": block.hex(), "signers": [key.hex() for key in signers]}
        case SetTimer(at_ms):
            return {"type": "set_timer", "at_ms": at_ms}
        case Check():
            return {"type": "check", "block": effect.block.encode().hex()}
        case Build():
            parent = ref_json(effect.parent)
            return {
                "type": "build",
                "view": effect.view,
                "parent": parent,
                "needed": effect.needed,
                "closing": effect.closing,
            }
        case Notarised(ref, certificate):
            return {"type": "notarised", "block": ref_json(ref), "certificate": certificate.encode().hex()}
        case Finalised(ref, proof):
            assert proof is not None
            return {"type": "finalised", "block": ref_json(ref), "certificate": proof.encode().hex()}
        case EpochEnded(ref, closing):
            blocks = [block.encode().hex() for block in closing]
            return {"type": "epoch_ended", "block": ref_json(ref), "closing": blocks}
        case Evidence():
            return {"type": "evidence", "first": effect.first.hex(), "second": effect.second.hex()}
        case Contradiction(first, second):
            held = None if first is None else first.encode().hex()
            return {"type": "contradiction", "first": held, "second": second.encode().hex()}
        case Offence(sender, reason):
            return {"type": "offence", "sender": sender.hex(), "reason": reason}
        case _:
            raise TypeError(f"an effect that no vector holds: {effect!r}")


# --- the player -----------------------------------------------------------------------------------------------------


def validators_of(epoch: int, members: list[Json]) -> Validators:
    """They stand in the order of their keys, so that their places are their signers."""
    validators = Validators.of(epoch, [Validator(bytes.fromhex(each["key"]), each["weight"]) for each in members])
    assert [member.key.hex() for member in validators.members] == [each["key"] for each in members]
    return validators


class Player:
    """An engine made from the head of a vector. ``play`` runs one step on it."""

    def __init__(self, vector: Json) -> None:
        self.vector = vector
        self.validators = validators_of(vector["epoch"], vector["validators"])
        assert self.validators.quorum == vector["quorum"]
        self.last_height: int | None = vector["engine"]["last_height"]
        genesis = Block.decode(bytes.fromhex(vector["genesis"]))
        self.final = BlockRef.of(genesis.header)
        self.disk: list[Record] = []
        self.engine = self._make()

    def _make(self) -> Simplex:
        head = self.vector["engine"]
        return Simplex(
            network_id=bytes.fromhex(self.vector["network_id"]),
            validators=self.validators,
            keypair=None if head["seed"] is None else Keypair.from_seed(bytes.fromhex(head["seed"])),
            recovered=Recovered.of(self.final, self.disk),
            view_timeout_ms=head["view_timeout_ms"],
            view_timeout_cap_ms=head["view_timeout_cap_ms"],
            last_height=self.last_height,
            may_vote=head["may_vote"],
        )

    def play(self, step: Json) -> Json:
        """What comes of one step: ``effects``, or ``refused`` with the code of what is wrong with the bytes."""
        now_ms, values = step["at_ms"], step["input"]
        if values["type"] == "start":
            return self._obey(self.engine.start(now_ms))
        if values["type"] == "restart":
            # A crash: what is not on the disk is gone.
            self.engine = self._make()
            return self._obey(self.engine.start(now_ms))
        if values["type"] == "next_epoch":
            self.validators = validators_of(self.validators.epoch + 1, values["validators"])
            self.last_height = values["last_height"]
            self.engine = self.engine.succeed(self.validators, self.last_height)
            return self._obey(self.engine.start(now_ms))
        try:
            event = input_of(values)
        except PeerFault as fault:
            return {"refused": fault.code}
        return self._obey(self.engine.step(event, now_ms))

    def _obey(self, effects: Any) -> Json:
        found = []
        for effect in effects:
            found.append(effect_json(effect))
            if isinstance(effect, Persist):
                self.disk.extend(effect.records)
            elif isinstance(effect, Finalised):
                self.final = effect.block
        return {"effects": found}
