"""The log of a node: lines that programs read and people understand."""

import json
from datetime import datetime
from pathlib import Path

from p2pledger.server.journal import Journal


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_its_time_level_event_and_fields(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.log", level="info")
    journal.write("warning", "session_refused", (("code", "unknown_node"), ("session", 7)))
    journal.write("debug", "too_much_detail")
    journal.close()
    [line] = lines_of(tmp_path / "node.log")
    assert datetime.fromisoformat(str(line.pop("time"))).tzinfo is not None
    assert line == {"level": "warning", "event": "session_refused", "code": "unknown_node", "session": 7}


def test_what_strangers_say_cannot_break_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.log", level="info")
    journal.write("info", "session_refused", (("name", 'x"\n{"level": "critical"}\x1b[31m %s'),))
    journal.close()
    [line] = lines_of(tmp_path / "node.log")
    assert line["name"] == 'x"\n{"level": "critical"}\x1b[31m %s'


def test_a_crash_keeps_its_traceback(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "node.log", level="info")
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        journal.crash(error)
    journal.close()
    [line] = lines_of(tmp_path / "node.log")
    assert line["event"] == "crashed"
    assert "by nothing" in str(line["traceback"])
