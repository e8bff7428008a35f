"""Files that tests write and people read: compared with what the code does now, or written again with --rewrite."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import pytest


def check_golden(path: Path, text: str, *, rewrite: bool) -> None:
    """Fails with a diff unless the file holds this text. With ``rewrite`` it does afterwards."""
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    if held == text:
        return
    if rewrite:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    held_lines, lines = held.splitlines(), text.splitlines()
    difference = unified_diff(held_lines, lines, f"{path.name} (held)", f"{path.name} (now)", lineterm="", n=2)
    pytest.fail("\n".join([*difference, "If this is right, write it: pytest --rewrite"]), pytrace=False)
