"""The published vectors (docs/simplex-vectors.md): the engine does what they say, and they say what the scripts record.

    pytest tests/consensus/test_vectors.py --rewrite

records them again. Whoever changes the engine looks at the difference before it is committed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.consensus.vector_format import SCHEMA, Json, Player
from tests.consensus.vector_scripts import SCRIPTS, Recorder, name_of, text_of
from tests.golden import check_golden

FOLDER = Path(__file__).parent / "vectors"
REPOSITORY = FOLDER.parent.parent.parent


def vectors() -> list[Json]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_records_what_its_file_holds(script: Callable[[], Recorder], rewrite: bool) -> None:
    check_golden(FOLDER / f"{name_of(script)}.json", text_of(script), rewrite=rewrite)


def test_there_is_one_file_for_each_script(rewrite: bool) -> None:
    names = {name_of(script) for script in SCRIPTS}
    for path in FOLDER.glob("*.json"):
        if rewrite and path.stem not in names:
            path.unlink()
    assert {path.stem for path in FOLDER.glob("*.json")} == names


@pytest.mark.parametrize("name", [name_of(script) for script in SCRIPTS])
def test_the_engine_does_what_a_vector_says(name: str) -> None:
    """From the file alone, as another implementation would."""
    vector = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert vector["schema"] == SCHEMA
    player = Player(vector)
    for number, step in enumerate(vector["steps"]):
        expected = {key: step[key] for key in ("effects", "refused") if key in step}
        assert player.play(step) == expected, f"step {number}: {step['note']}"


def test_a_wrong_vector_is_noticed() -> None:
    vector = json.loads((FOLDER / "happy-path.json").read_text(encoding="utf-8"))
    player = Player(vector)
    differences = 0
    for step in vector["steps"]:
        if step["input"]["type"] == "vote":
            step["input"]["vote"] = step["input"]["vote"][:-2] + "00"
        differences += player.play(step)["effects"] != step["effects"]
    assert differences


def test_the_vectors_cover_every_input_effect_and_reason() -> None:
    steps = [step for vector in vectors() for step in vector["steps"]]
    effects = [effect for step in steps for effect in step.get("effects", ())]
    assert {step["input"]["type"] for step in steps} == {
        "block", "built", "certificate", "certificates_wanted", "checked", "final_reached", "next_epoch",
        "proposal", "restart", "start", "timer", "vote", "work",
    }  # fmt: skip
    assert {effect["type"] for effect in effects} == {
        "broadcast", "build", "check", "contradiction", "epoch_ended", "evidence", "finalised", "notarised", "offence",
        "persist", "send", "set_timer", "want_block", "want_certificates",
    }  # fmt: skip
    # What the code can say, bad_certificate apart: its three cases are refused by the decoder already.
    floor = REPOSITORY / "p2pledger" / "consensus"
    files = [floor / "tally.py", *floor.glob("simplex/*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    reasons = set(re.findall(r'Offence\([^\n]*, "(\w+)"\)', code)) | set(re.findall(r'return "(\w+)"\n', code))
    assert {effect["reason"] for effect in effects if effect["type"] == "offence"} == reasons - {"bad_certificate"}
    assert {step["refused"] for step in steps if "refused" in step} == {
        "malformed", "unknown_version", "duplicate_batch", "bad_batches_root",
    }  # fmt: skip


def test_no_vector_breaks_a_promise() -> None:
    """Of an honest validator, whatever it is told: the vectors themselves must be right, not only repeatable."""
    for vector in vectors():
        before_sending: set[str] = set()
        for step in vector["steps"]:
            kinds = [effect["type"] for effect in step.get("effects", ())]
            assert "persist" not in kinds[1:], "records come first, and once"
            for effect in step.get("effects", ()):
                if effect["type"] == "persist":
                    before_sending |= {record["vote"] for record in effect["records"] if record["type"] == "vote"}
                if effect["type"] == "broadcast" and "vote" in effect and "block" not in effect:
                    assert effect["vote"] in before_sending, f"{vector['name']}: a vote was sent before it was kept"


def test_the_page_names_every_vector_type_and_reason() -> None:
    page = (REPOSITORY / "docs" / "simplex-vectors.md").read_text(encoding="utf-8")
    steps = [step for vector in vectors() for step in vector["steps"]]
    effects = [effect for step in steps for effect in step.get("effects", ())]
    words = {name_of(script) for script in SCRIPTS} | {SCHEMA}
    words |= {item["type"] for item in [*effects, *(step["input"] for step in steps)]}
    words |= {effect["reason"] for effect in effects if "reason" in effect}
    words |= {step["refused"] for step in steps if "refused" in step}
    assert not {word for word in words if f"`{word}`" not in page}
