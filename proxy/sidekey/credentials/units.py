"""Durations and sizes as the config writes them: a whole number and its unit."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_QUANTITY = re.compile(r"(0|[1-9][0-9]{0,14})([A-Za-z]+)")

MAX_DURATION = 365 * 86_400.0
"""Seconds. A longer duration is a mistake; "no limit" is 0s where a key allows it."""

MAX_RETENTION = 10 * MAX_DURATION
"""Seconds, of what is kept for a time."""

MAX_SIZE = 1 << 40
"""Bytes."""


def parse_duration(raw: object, longest: float = MAX_DURATION) -> float:
    """Seconds of a text such as `5s` or `250ms`. Raises ValueError, which says what must be true."""
    seconds = _parse(raw, _MILLISECONDS, "a whole number and a unit (ms, s, m, h or d), such as 5s") / 1000
    if seconds > longest:
        raise ValueError(f"must be at most {format_duration(longest)}")
    return seconds


def parse_size(raw: object) -> int:
    """Bytes of a text such as `64KiB`. Raises ValueError, which says what must be true."""
    size = _parse(raw, _BYTES, "a whole number and a unit (B, KiB, MiB or GiB), such as 64KiB")
    if size > MAX_SIZE:
        raise ValueError("must be at most 1024GiB")
    return size


def _parse(raw: object, units: dict[str, int], way_out: str) -> int:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        raise ValueError(f"the unit is missing: write {way_out}")  # noqa: TRY004 - pydantic reports ValueError
    match = _QUANTITY.fullmatch(raw) if isinstance(raw, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"must be {way_out}")
    return int(match[1]) * units[match[2]]


def format_duration(seconds: float) -> str:
    """The shortest spelling in the largest unit that divides it."""
    return _format(round(seconds * 1000), _MILLISECONDS, "0s")


def format_size(size: int) -> str:
    """The shortest spelling in the largest unit that divides it."""
    return _format(size, _BYTES, "0B")


def _format(quantity: int, units: dict[str, int], zero: str) -> str:
    if quantity == 0:
        return zero
    unit, factor = next((unit, factor) for unit, factor in reversed(units.items()) if quantity % factor == 0)
    return f"{quantity // factor}{unit}"


def _schema(units: dict[str, int], title: str) -> dict[str, Any]:
    return {"title": title, "type": "string", "pattern": f"^(0|[1-9][0-9]{{0,14}})({'|'.join(units)})$"}


Duration = Annotated[
    float,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_schema(_MILLISECONDS, "Duration")),
]
"""Seconds at run time; written with a unit."""

Retention = Annotated[
    float,
    PlainValidator(partial(parse_duration, longest=MAX_RETENTION)),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_schema(_MILLISECONDS, "Duration")),
]
"""As `Duration`, of what is kept for a time."""

Size = Annotated[
    int,
    PlainValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema(_schema(_BYTES, "Size")),
]
"""Bytes at run time; written with a unit."""
