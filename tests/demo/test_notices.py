"""What clients are told must fit together: settled once, alike everywhere, and nothing afterwards."""

from p2pledger.demo.notices import Notices
from p2pledger.primitives.messages import ProgressStatus

ONE, OTHER = b"1" * 32, b"2" * 32


def test_reverted_and_applied_again() -> None:
    notices = Notices()
    for identifier in (ONE, OTHER):
        notices.progress(1, ProgressStatus.PENDING, identifier)
        notices.progress(1, ProgressStatus.REVERTED, identifier)
    notices.progress(1, ProgressStatus.PENDING, ONE)
    notices.settled(1, ONE, 7, 0)
    assert (len(notices.reverted), notices.applied_again()) == (2, 1)
    notices.settled(2, ONE, 7, 0)  # another session had sent it too
    assert notices.findings == []


def test_settled_twice_or_otherwise_or_not_the_last_word() -> None:
    notices = Notices()
    notices.settled(1, ONE, 7, 0)
    notices.settled(1, ONE, 7, 0)
    notices.settled(2, ONE, 8, 0)
    notices.progress(1, ProgressStatus.REVERTED, ONE)
    twice, otherwise, later = notices.findings
    assert "settled twice" in twice
    assert "at height 8" in otherwise
    assert "reverted after it was settled" in later
    assert not notices.reverted
