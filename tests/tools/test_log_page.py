"""docs/logs.md has every key and every event of the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import sidekey
from sidekey.observe.exceptions import describe
from tools.log_page import CHANGE_FIELDS, REQUEST_FIELDS, USE_FIELDS, events, page

PACKAGE = Path(sidekey.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical"}
EVENTS = {event.text: event for event in events()}


@cache
def logged_in_code() -> tuple[list[tuple[str, ast.Call]], set[str]]:
    """Return each call of a logger in the code with its level, and every text in the code."""
    calls, texts = [], set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                logger = ast.unparse(node.func.value)
                if logger.endswith(("log", "get_logger()")):
                    calls.append((node.func.attr, node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return calls, texts


def pattern_of(text: ast.expr) -> str | None:
    """Return a regular expression for an event's text, or None if the text is a variable."""
    if isinstance(text, ast.Constant):
        return re.escape(str(text.value))
    if isinstance(text, ast.JoinedStr):
        return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in text.values)
    return None


def test_every_key_and_every_event_has_a_row() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| ")]
    for key, words in (*REQUEST_FIELDS, *USE_FIELDS, *CHANGE_FIELDS):
        assert f"| `{key}` | {words} |" in rows
    for event in events():
        assert any(event.text in row and f"| {event.level} |" in row for row in rows)
    assert len(EVENTS) == len(list(events()))


def test_every_event_of_the_code_is_on_the_page_with_its_level_and_keys() -> None:
    """The keys of `**` are those of an exception, or of the local CA."""
    matches: set[str] = set()
    described = set(describe(ValueError()))
    calls, _ = logged_in_code()
    for level, call in calls:
        pattern = pattern_of(call.args[0])
        keys = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
        if pattern is None:
            assert keys <= {key for event in EVENTS.values() for key in event.keys}, ast.unparse(call)
            continue
        events = [event for text, event in EVENTS.items() if re.fullmatch(pattern, text)]
        assert events, ast.unparse(call)
        for event in events:
            matches.add(event.text)
            assert event.level == level, event
            assert keys <= set(event.keys), event
            if any(keyword.arg is None and "describe" in ast.unparse(keyword.value) for keyword in call.keywords):
                assert described <= set(event.keys), event
    assert len(matches) > 40


def test_every_event_of_the_page_is_in_the_code() -> None:
    _, texts = logged_in_code()
    chosen = {text for text in EVENTS if text not in texts}
    assert chosen == {text for text in EVENTS if text.startswith("a stored ")}
