"""What is shown while it runs: a live view where there is a terminal, lines elsewhere."""

import io

import pytest

from p2pledger.demo.live import LiveView, NodeView, PlainView, Snapshot, view_for

SNAPSHOT = Snapshot(
    1.0, 20.0, 42, 100, 90, 1, 95.0, 123.4,
    (NodeView("CCDC", "running", 42, 0.25, 50.0, 2_048), NodeView("CSDC", "killed", 40, 0.0, 0.0, 0)),
    ("broker-1 to broker-2: 100 X@CSDC against 1.00 CNY@ICBC",),
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_every_few_seconds_and_without_escapes() -> None:
    file = io.StringIO()
    view = PlainView(file)
    view.say("starting")
    view.show(SNAPSHOT)
    view.show(SNAPSHOT)
    view.close()
    first, second = file.getvalue().splitlines()
    assert first == "starting"
    assert "height 42, 100 sent, 90 committed, 1 rejected, 95/s, finality 123 ms" in second
    assert "\x1b" not in file.getvalue()


def test_a_live_view_shows_nodes_and_trades() -> None:
    file = Terminal()
    view = LiveView(file)
    view.say("killed CSDC (SIGKILL)")
    view.show(SNAPSHOT)
    shown = file.getvalue()
    view.close()
    for part in ("height 42", "123 ms", "CCDC", "killed", "broker-1 to broker-2", "SIGKILL"):
        assert part in shown


@pytest.mark.parametrize(
    ("file", "term", "kind"),
    [(Terminal(), "xterm", LiveView), (Terminal(), "dumb", PlainView), (io.StringIO(), "xterm", PlainView)],
)
def test_the_view_fits_where_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, file: io.StringIO, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)
    view = view_for(file)
    assert isinstance(view, kind)
    view.close()
