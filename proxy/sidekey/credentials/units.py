"""Durations and sizes in the config: a whole number and a unit."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_QUANTITY = re.compile(r"(0|[1-9][0-9]{0,14})([A-Za-z]+)")

MAX_DURATION = 365 * 86_400.0
"""Seconds. A longer duration is a mistake. If a key allows "no limit", that is 0s."""

MAX_RETENTION = 10 * MAX_DURATION
"""Seconds, for retention periods."""

MAX_SIZE = 1 << 40
"""Bytes."""


def parse_duration(raw: object, maximum: float = MAX_DURATION) -> float:
    """Parse a text such as `5s` or `250ms` into seconds. Raises ValueError with the rule."""
    seconds = _parse(raw, _MILLISECONDS, "a whole number and a unit (ms, s, m, h or d), such as 5s") / 1000
    if seconds > maximum:
        raise ValueError(f"must be at most {format_duration(maximum)}")
    return seconds


def parse_size(raw: object) -> int:
    """Parse a text such as `64KiB` into bytes. Raises ValueError with the rule."""
    size = _parse(raw, _BYTES, "a whole number and a unit (B, KiB, MiB or GiB), such as 64KiB")
    if size > MAX_SIZE:
        raise ValueError("must be at most 1024GiB")
    return size


def _parse(raw: object, units: dict[str, int], form: str) -> int:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        raise ValueError(f"the unit is missing: write {form}")  # noqa: TRY004 - pydantic reports ValueError
    match = _QUANTITY.fullmatch(raw) if isinstance(raw, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"must be {form}")
    return int(match[1]) * units[match[2]]


def format_duration(seconds: float) -> str:
    """Write a duration in the largest unit that divides it."""
    return _format(round(seconds * 1000), _MILLISECONDS, "0s")


def format_size(size: int) -> str:
    """Write a size in the largest unit that divides it."""
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
"""Seconds; the config writes a unit."""

Retention = Annotated[
    float,
    PlainValidator(partial(parse_duration, maximum=MAX_RETENTION)),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_schema(_MILLISECONDS, "Duration")),
]
"""A `Duration` with a longer maximum."""

Size = Annotated[
    int,
    PlainValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema(_schema(_BYTES, "Size")),
]
"""Bytes; the config writes a unit."""
