"""Explain YAML syntax errors to the author of the file.

PyYAML reports where its grammar failed. The lines around it show the actual mistake, such as an unclosed quote
some lines above. No message repeats text of the file, since any line may contain a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

_KEY: Final = re.compile(r"""(?:[^\s"'{}\[\],#][^"'{}\[\],#]*?|"[^"]*"[ \t]*|'[^']*'[ \t]*):(?=[ \t]|\Z)""")
"""A key and its colon at the beginning of a line."""

_TABS: Final = re.compile(r" *\t")
_CLOSING: Final = {"{": "}", "[": "]"}


class Position(NamedTuple):
    """A line and a column, both from 0."""

    line: int
    column: int


class Explanation(NamedTuple):
    """The error to report, and its position."""

    position: Position
    message: str


def explain(text: str, error: yaml.MarkedYAMLError, loader: Any) -> Explanation:
    """Explain the `error` of a parser. `loader` must be a new one of the same text."""
    problem = error.problem or ""
    return _Diagnosis(text, _position(error.problem_mark), _position(error.context_mark), loader).explain(problem)


def _position(mark: Any) -> Position:
    return Position(0, 0) if mark is None else Position(mark.line, mark.column)


class _Diagnosis:
    """The search for one mistake. The parser failed at `failed_at`, inside a value that starts at `started_at`."""

    def __init__(self, text: str, failed_at: Position, started_at: Position, loader: Any) -> None:
        self._lines = text.splitlines()
        self._failed_at = failed_at
        self._started_at = started_at
        self._loader = loader

    def explain(self, problem: str) -> Explanation:
        """Find the mistake by words that the `problem` texts of both PyYAML loaders contain."""
        tab = _TABS.match(self._line(self._failed_at.line))
        if tab is not None:
            return Explanation(
                Position(self._failed_at.line, tab.end() - 1), "indentation must be spaces: there is a tab on this line"
            )
        for part, explain_part in (
            ("end of stream", self._explain_open_quote),
            ("',' or", self._explain_open_bracket),
            ("alphabetic or numeric", self._explain_missing_name),
            ("cannot start any token", self._explain_indicator),
            ("node content", self._explain_indicator),
            ("escape", self._explain_escape),
            ("mapping values", self._explain_colon),
            ("expected ':'", self._explain_missing_colon),
            ("comment or", self._explain_block_scalar),
            ("document start", self._explain_first_column),
            ("expected", self._explain_end_of_block),
        ):
            if part in problem:
                return explain_part()
        return self._explain_unclear()

    def _line(self, number: int) -> str:
        return self._lines[number] if number < len(self._lines) else ""

    def _above(self, number: int) -> Iterator[int]:
        """Yield the numbers of the lines above that are neither empty nor comments, the nearest first."""
        for above in range(min(number, len(self._lines)) - 1, -1, -1):
            if self._lines[above].strip() and not self._lines[above].lstrip().startswith("#"):
                yield above

    def _explain_unclear(self) -> Explanation:
        rest = (self._line(self._failed_at.line)[self._failed_at.column :], *self._lines[self._failed_at.line + 1 :])
        if not any(map(str.strip, rest)):
            last = max(0, len(self._lines) - 1)
            text = "must not end here: look for a quote or a bracket above that is not closed"
            return Explanation(Position(last, len(self._line(last))), text)
        return Explanation(
            self._failed_at, "must be YAML: look at quotes, colons and indentation of this line and the one above"
        )

    def _explain_open_quote(self) -> Explanation:
        quote = self._line(self._started_at.line)[self._started_at.column : self._started_at.column + 1]
        if quote not in ("'", '"'):
            return self._explain_unclear()
        return Explanation(self._started_at, f"this quote is not closed: {quote} must also end the text")

    def _explain_open_bracket(self) -> Explanation:
        bracket = self._line(self._started_at.line)[self._started_at.column : self._started_at.column + 1]
        closing = _CLOSING.get(bracket)
        if closing is None:
            return self._explain_unclear()
        if self._failed_at.line > self._started_at.line:
            text = f"this {bracket} is not closed: {closing} must follow the last entry, and a comma each one before"
            return Explanation(self._started_at, text)
        text = f"must have a comma or {closing} here; a text with any of : , {{ }} [ ] must be in quotes"
        return Explanation(self._failed_at, text)

    def _explain_indicator(self, position: Position | None = None) -> Explanation:
        position = self._failed_at if position is None else position
        character = self._line(position.line)[position.column : position.column + 1]
        if not character or character not in "*&@`%|>,]}-?":
            return self._explain_unclear()
        return Explanation(position, f"a text that begins with {character} must be in quotes")

    def _explain_missing_name(self) -> Explanation:
        """Explain a `*` or `&` without a name after it."""
        return self._explain_indicator(Position(self._failed_at.line, max(0, self._failed_at.column - 1)))

    def _explain_escape(self) -> Explanation:
        text = r"in double quotes \ begins an escape: write \\ for a backslash, or put the text in single quotes"
        return Explanation(self._failed_at, text)

    def _explain_colon(self) -> Explanation:
        """Explain a colon that turns a value into a key."""
        line = self._line(self._failed_at.line)
        key = _KEY.match(line, len(line) - len(line.lstrip()))
        if key is not None and key.end() <= self._failed_at.column:
            return Explanation(self._failed_at, "a text with a colon and a space in it must be in quotes")
        return self._explain_continuation()

    def _explain_continuation(self) -> Explanation:
        """Explain a key that YAML parsed as a continuation of the previous value."""
        indent = self._indent(self._failed_at.line)
        for above in self._above(self._failed_at.line):
            line = self._lines[above].strip().removeprefix("- ")
            if not _KEY.match(line):
                column = self._indent(above)
                return Explanation(Position(above, column), "must be a key, a colon and a space before its value")
            if self._indent(above) < indent:
                text = f"is indented too far: the key in line {above + 1} has its value already, so this one must begin"
                return Explanation(
                    Position(self._failed_at.line, indent), f"{text} in column {self._indent(above) + 1}"
                )
            break
        return self._explain_unclear()

    def _explain_missing_colon(self) -> Explanation:
        return Explanation(self._started_at, "must be a key, a colon and a space before its value")

    def _explain_block_scalar(self) -> Explanation:
        return Explanation(
            self._failed_at, "nothing may follow | or > on its line: the text begins on the next one, indented"
        )

    def _explain_first_column(self) -> Explanation:
        first = next((number for number, line in enumerate(self._lines) if line.strip() and line.lstrip()[0] != "#"), 0)
        if self._indent(first):
            text = "the keys of a file must all begin in the first column: this one is indented"
            return Explanation(Position(first, self._indent(first)), text)
        return self._explain_unclear()

    def _explain_end_of_block(self) -> Explanation:
        """Explain a line that is not another entry of its mapping or list."""
        line, indent = self._line(self._failed_at.line), self._indent(self._failed_at.line)
        if self._failed_at.column > indent:
            closing = line[: self._failed_at.column].rstrip()[-1:]
            if closing in ("'", '"'):
                return Explanation(self._failed_at, self._after_quote(closing))
            if closing in ("}", "]"):
                return Explanation(self._failed_at, f"nothing may follow the {closing} that ends a value")
            return self._explain_unclear()
        open_columns = self._open_columns(self._failed_at.line)
        if line.startswith(":", indent):
            return Explanation(self._failed_at, "must be a key, a colon and a space before its value")
        if open_columns and indent not in open_columns:
            columns = " or ".join(str(column + 1) for column in open_columns)
            return Explanation(
                Position(self._failed_at.line, indent), f"indentation does not fit: must begin in column {columns}"
            )
        start = self._started_at
        if self._line(start.line)[start.column : start.column + 2] in ("- ", "-"):
            text = f"each entry of the list that begins in line {start.line + 1} must begin with a dash and a space"
            return Explanation(Position(self._failed_at.line, indent), text)
        return self._explain_unclear()

    def _after_quote(self, quote: str) -> str:
        opened = self._last_scalar()
        if opened is not None and opened.line < self._failed_at.line:
            return f"nothing may follow a closing quote: the one that it closes is in line {opened.line + 1}"
        inside = "''" if quote == "'" else r"\""
        return f"nothing may follow a closing quote: write {inside} for a {quote} inside the text"

    def _last_scalar(self) -> Position | None:
        """Return the position of the last scalar that the loader can read."""
        last = None
        try:
            while True:
                event = self._loader.get_event()
                if event is None:
                    return last
                if isinstance(event, yaml.ScalarEvent):
                    last = _position(event.start_mark)
        except yaml.YAMLError:
            return last

    def _open_columns(self, number: int) -> list[int]:
        """Return the columns in which a line may begin below the lines above it, the deepest first."""
        columns: list[int] = []
        for above in self._above(number):
            indent = self._indent(above)
            if not columns or indent < columns[-1]:
                columns.append(indent)
        return columns

    def _indent(self, number: int) -> int:
        line = self._line(number)
        return len(line) - len(line.lstrip(" "))
