"""What was typed into inputs, by their names: the parts that fields of every widget have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

Sent = Mapping[str, str]
"""The fields of a form that was sent."""

BREAK: Final = re.compile(r"\r\n?|\n")
"""An end of a line, which a browser writes as CRLF, and which an input of one line loses."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,15}")
_FRACTION: Final = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}")
_ROW: Final = r"#(0|[1-9][0-9]{0,5})#"


def kept_in(sent: Sent, name: str, former: Any) -> Any:
    """What is stored, where it is said to be kept; else None."""
    return former if sent.get(f"{name}#do") == "keep" else None


def secret_in(sent: Sent, name: str, former: Any) -> Any:
    """A secret that was typed, or the one that is kept; None: there is none.

    One that is to be replaced by nothing is not removed: its value is said to be empty.
    """
    way = sent.get(f"{name}#do")
    if way != "remove" and (sent.get(name) or (way == "replace" and former is not None)):
        return {"value": BREAK.sub("\n", sent.get(name, ""))}
    return kept_in(sent, name, former)


def whole_in(text: str) -> int | None:
    """A whole number; None where it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


def number_in(text: str) -> float | None:
    """A number; None, which nothing takes, where it is none: as a text it would be saved as if it were meant."""
    return float(text) if _FRACTION.fullmatch(text) else whole_in(text)


def flag_in(text: str) -> bool | None:
    """True or false; None where it is neither."""
    return {"true": True, "false": False}.get(text)


def rows_in(sent: Sent, where: str, part: str) -> list[int]:
    """The numbers of the rows that have this part: a form may come in any order."""
    pattern = re.compile(re.escape(where) + _ROW + re.escape(part), re.ASCII)
    return sorted(int(found[1]) for found in map(pattern.fullmatch, sent) if found is not None)
