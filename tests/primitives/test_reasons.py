"""One table of reasons: Python, the reference core and the documentation say the same."""

import re
from pathlib import Path

from p2pledger import _reference
from p2pledger.primitives.reasons import REASONS, WHOLE_TRANSACTION, Reason, rule_named, sentence_of

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_the_table_and_the_enumeration_agree() -> None:
    assert [(code, name) for code, name, _ in REASONS] == [(int(reason), reason.title) for reason in Reason]
    assert len({code for code, _, _ in REASONS}) == len(REASONS)


def test_every_reason_is_one_whole_sentence() -> None:
    for code, _, sentence in REASONS:
        assert sentence_of(code) == sentence
        assert sentence[0].isupper()
        assert sentence.endswith(".")
    assert sentence_of(99) == "Unknown reason code 99."


def test_the_protocol_lists_exactly_the_reasons_of_receipts() -> None:
    section = PROTOCOL.read_text(encoding="utf-8").split("### 4.2")[1].split("\n###")[0]
    listed = {int(code): name for code, name in re.findall(r"\| (\d+) \| (\w+)", section)}
    assert listed == {int(reason): reason.title for reason in Reason if reason < 100}


def test_the_core_uses_the_same_codes() -> None:
    codes = {name[7:].lower(): value for name, value in vars(_reference).items() if name.startswith("REASON_")}
    assert codes == {title: code for code, title, _ in REASONS if title in codes}
    assert len(codes) >= 13
    assert _reference.WHOLE_TRANSACTION == WHOLE_TRANSACTION


def test_every_refusal_has_a_rule_with_a_name() -> None:
    assert rule_named(0, "", "transfer") == ""
    assert rule_named(Reason.NOT_PERMITTED, "no transfers", "transfer") == "no transfers"
    assert rule_named(Reason.INSUFFICIENT_FREE, "", "transfer") == "transfer"
    assert rule_named(Reason.UNAUTHORISED, "", "transfer") == "who signs transfer"
    assert rule_named(Reason.DUPLICATE, "", "transfer") == "replay of transactions"
    for reason in Reason:
        assert reason == Reason.OK or rule_named(reason, "")
