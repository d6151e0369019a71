"""One spelling of a JSON value, whose bytes are authenticated: a change of it would make every store unreadable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"

_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Json) -> str:
    """JSON with keys sorted by code point, without spaces, escaping only what RFC 8259 7 says must be.

    Raises ValueError for NaN, infinities, and text with a lone surrogate, which UTF-8 cannot hold.
    """
    text = _ENCODER.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate, which is not a character") from None
    return text


def same(one: Json, other: Json) -> bool:
    """Return True if both have the same canonical text: 1, 1.0 and True, which Python holds equal, differ."""
    return canonical(one) == canonical(other)
