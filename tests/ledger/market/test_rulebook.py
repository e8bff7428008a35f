"""The rulebook names every operation once, by names short enough to stand in a receipt."""

import re
from pathlib import Path

import pytest

from p2pledger.ledger.market.rulebook import ARTICLES, BOOK, Article, article_of, name_of
from p2pledger.ledger.rule import MOST_RULE_BYTES
from p2pledger.primitives.transactions import OPERATIONS

PROTOCOL = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"


def test_every_operation_stands_under_exactly_one_article() -> None:
    named = [operation for article in ARTICLES for operation in article.operations]
    assert len(set(named)) == len(named)
    assert set(named) == {name_of(code) for code in OPERATIONS}
    for code in OPERATIONS:
        assert article_of(code) is BOOK[str(name_of(code))]


@pytest.mark.parametrize("article", ARTICLES, ids=lambda article: article.name)
def test_names_fit_into_a_receipt(article: Article) -> None:
    assert len(article.name.encode()) <= MOST_RULE_BYTES
    assert sum(other.name == article.name for other in ARTICLES) == 1


def test_there_is_no_operation_without_a_code() -> None:
    assert name_of(31) is None
    with pytest.raises(AssertionError, match="says nothing"):
        article_of(31)


def test_the_protocol_prints_the_rulebook() -> None:
    section = PROTOCOL.read_text(encoding="utf-8").split("#### 4.3.2")[1].split("#### 4.3.3")[0]
    printed = [
        (name, tuple(operations.split(", ")), frozenset(who.split(", ")), fixed)
        for name, operations, who, fixed in re.findall(
            r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| (yes)? ?\|$", section, re.M
        )
        if name not in ("article", "---")
    ]
    assert printed == [
        (
            article.name,
            article.operations,
            frozenset(
                [*article.roles, *(["the keeper of the register"] if article.keeper else [])] or ["whoever signs"]
            ),
            "yes" if article.fixed else "",
        )
        for article in ARTICLES
    ]
