"""Explain YAML syntax errors to the author of the file.

PyYAML reports where its grammar failed. The lines around that place show the actual mistake, such as an unclosed quote
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


class Place(NamedTuple):
    """A line and a column, both from 0."""

    line: int
    column: int


class SyntaxProblem(NamedTuple):
    """The error to report, and its place."""

    place: Place
    message: str


def explain(text: str, error: yaml.MarkedYAMLError, loader: Any) -> SyntaxProblem:
    """Explain the `error` of a parser. `loader` must be a new one of the same text."""
    problem = error.problem or ""
    return _Diagnosis(text, _place(error.problem_mark), _place(error.context_mark), loader).explain(problem)


def _place(mark: Any) -> Place:
    return Place(0, 0) if mark is None else Place(mark.line, mark.column)


class _Diagnosis:
    """The search for one mistake. The parser failed `at` a place, in a value or collection that begins at `since`."""

    def __init__(self, text: str, at: Place, since: Place, loader: Any) -> None:
        self._lines = text.splitlines()
        self._at = at
        self._since = since
        self._loader = loader

    def explain(self, problem: str) -> SyntaxProblem:
        """Find the mistake by parts of PyYAML's `problem` that both of its loaders have in common."""
        tab = _TABS.match(self._line(self._at.line))
        if tab is not None:
            return SyntaxProblem(
                Place(self._at.line, tab.end() - 1), "indentation must be spaces: there is a tab on this line"
            )
        for part, explain_part in (
            ("end of stream", self._open_quote),
            ("',' or", self._open_bracket),
            ("alphabetic or numeric", self._reference),
            ("cannot start any token", self._indicator),
            ("node content", self._indicator),
            ("escape", self._escape),
            ("mapping values", self._colon),
            ("expected ':'", self._no_colon),
            ("comment or", self._block_scalar),
            ("document start", self._columns),
            ("expected", self._end_of_block),
        ):
            if part in problem:
                return explain_part()
        return self._unclear()

    def _line(self, number: int) -> str:
        return self._lines[number] if number < len(self._lines) else ""

    def _above(self, number: int) -> Iterator[int]:
        """Yield the numbers of the lines above that are neither empty nor comments, the nearest first."""
        for above in range(min(number, len(self._lines)) - 1, -1, -1):
            if self._lines[above].strip() and not self._lines[above].lstrip().startswith("#"):
                yield above

    def _unclear(self) -> SyntaxProblem:
        rest = (self._line(self._at.line)[self._at.column :], *self._lines[self._at.line + 1 :])
        if not any(map(str.strip, rest)):
            last = max(0, len(self._lines) - 1)
            text = "must not end here: look for a quote or a bracket above that is not closed"
            return SyntaxProblem(Place(last, len(self._line(last))), text)
        return SyntaxProblem(
            self._at, "must be YAML: look at quotes, colons and indentation of this line and the one above"
        )

    def _open_quote(self) -> SyntaxProblem:
        quote = self._line(self._since.line)[self._since.column : self._since.column + 1]
        if quote not in ("'", '"'):
            return self._unclear()
        return SyntaxProblem(self._since, f"this quote is not closed: {quote} must also end the text")

    def _open_bracket(self) -> SyntaxProblem:
        bracket = self._line(self._since.line)[self._since.column : self._since.column + 1]
        closing = _CLOSING.get(bracket)
        if closing is None:
            return self._unclear()
        if self._at.line > self._since.line:
            text = f"this {bracket} is not closed: {closing} must follow the last entry, and a comma each one before"
            return SyntaxProblem(self._since, text)
        text = f"must have a comma or {closing} here; a text with any of : , {{ }} [ ] must be in quotes"
        return SyntaxProblem(self._at, text)

    def _indicator(self, at: Place | None = None) -> SyntaxProblem:
        at = self._at if at is None else at
        character = self._line(at.line)[at.column : at.column + 1]
        if not character or character not in "*&@`%|>,]}-?":
            return self._unclear()
        return SyntaxProblem(at, f"a text that begins with {character} must be in quotes")

    def _reference(self) -> SyntaxProblem:
        """Explain a `*` or `&` without a name after it."""
        return self._indicator(Place(self._at.line, max(0, self._at.column - 1)))

    def _escape(self) -> SyntaxProblem:
        text = r"in double quotes \ begins an escape: write \\ for a backslash, or put the text in single quotes"
        return SyntaxProblem(self._at, text)

    def _colon(self) -> SyntaxProblem:
        """Explain a colon that turns a value into a key."""
        line = self._line(self._at.line)
        key = _KEY.match(line, len(line) - len(line.lstrip()))
        if key is not None and key.end() <= self._at.column:
            return SyntaxProblem(self._at, "a text with a colon and a space in it must be in quotes")
        return self._continued()

    def _continued(self) -> SyntaxProblem:
        """Explain a key that YAML parsed as a continuation of the previous value."""
        indent = self._indent(self._at.line)
        for above in self._above(self._at.line):
            line = self._lines[above].strip().removeprefix("- ")
            if not _KEY.match(line):
                column = self._indent(above)
                return SyntaxProblem(Place(above, column), "must be a key, a colon and a space before its value")
            if self._indent(above) < indent:
                text = f"is indented too far: the key in line {above + 1} has its value already, so this one must begin"
                return SyntaxProblem(Place(self._at.line, indent), f"{text} in column {self._indent(above) + 1}")
            break
        return self._unclear()

    def _no_colon(self) -> SyntaxProblem:
        return SyntaxProblem(self._since, "must be a key, a colon and a space before its value")

    def _block_scalar(self) -> SyntaxProblem:
        return SyntaxProblem(
            self._at, "nothing may follow | or > on its line: the text begins on the next one, indented"
        )

    def _columns(self) -> SyntaxProblem:
        first = next((number for number, line in enumerate(self._lines) if line.strip() and line.lstrip()[0] != "#"), 0)
        if self._indent(first):
            text = "the keys of a file must all begin in the first column: this one is indented"
            return SyntaxProblem(Place(first, self._indent(first)), text)
        return self._unclear()

    def _end_of_block(self) -> SyntaxProblem:
        """Explain a line that is not another entry of its mapping or list."""
        line, indent = self._line(self._at.line), self._indent(self._at.line)
        if self._at.column > indent:
            closing = line[: self._at.column].rstrip()[-1:]
            if closing in ("'", '"'):
                return SyntaxProblem(self._at, self._after_quote(closing))
            if closing in ("}", "]"):
                return SyntaxProblem(self._at, f"nothing may follow the {closing} that ends a value")
            return self._unclear()
        open_columns = self._open_columns(self._at.line)
        if line.startswith(":", indent):
            return SyntaxProblem(self._at, "must be a key, a colon and a space before its value")
        if open_columns and indent not in open_columns:
            columns = " or ".join(str(column + 1) for column in open_columns)
            return SyntaxProblem(
                Place(self._at.line, indent), f"indentation does not fit: must begin in column {columns}"
            )
        if self._line(self._since.line)[self._since.column : self._since.column + 2] in ("- ", "-"):
            text = (
                f"each entry of the list that begins in line {self._since.line + 1} must begin with a dash and a space"
            )
            return SyntaxProblem(Place(self._at.line, indent), text)
        return self._unclear()

    def _after_quote(self, quote: str) -> str:
        opened = self._last_scalar()
        if opened is not None and opened.line < self._at.line:
            return f"nothing may follow a closing quote: the one that it closes is in line {opened.line + 1}"
        inside = "''" if quote == "'" else r"\""
        return f"nothing may follow a closing quote: write {inside} for a {quote} inside the text"

    def _last_scalar(self) -> Place | None:
        """Return the place of the last scalar that the loader can read."""
        last = None
        try:
            while True:
                event = self._loader.get_event()
                if event is None:
                    return last
                if isinstance(event, yaml.ScalarEvent):
                    last = _place(event.start_mark)
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
