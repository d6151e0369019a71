"""Canonical JSON, whose bytes are authenticated. A change of the format would make every store unreadable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"

_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Json) -> str:
    """Serialize with keys sorted by code point, without spaces and with the minimal escapes of RFC 8259 7.

    Raises ValueError for NaN, infinities, and a lone surrogate, which UTF-8 cannot encode.
    """
    text = _ENCODER.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate, which is not a character") from None
    return text


def equal(first: Json, second: Json) -> bool:
    """Return True if both have the same canonical text. Unlike in Python, 1, 1.0 and True differ."""
    return canonical(first) == canonical(second)
