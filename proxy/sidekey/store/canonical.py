"""One spelling of a JSON value, whose bytes are authenticated: a change of it would make every store unreadable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"


def canonical(value: Json) -> str:
    """JSON with keys sorted by code point, without spaces, escaping only what RFC 8259 7 says must be.

    Raises ValueError for NaN, infinities, and text with a lone surrogate, which UTF-8 cannot hold.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate, which is not a character") from None
    return text
