"""What the API responds: a status, JSON that is written already, and header fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. `body` is repeated nowhere: it may show a new token, once."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def of(cls, value: Mapping[str, Any], *, status: int = 200, version: int | None = None, location: str = "") -> Self:
        """JSON of an object; `version` is its ETag, `location` the path of what was made. Slow where it is large."""
        headers = {} if version is None else {"ETag": etag(version)}
        if location:
            headers["Location"] = location
        return cls(status, _json(value), headers)


def etag(version: int) -> str:
    """The entity tag of a row's version (RFC 9110 8.8.3)."""
    return f'"{version}"'


def _json(value: Mapping[str, Any]) -> bytes:
    """JSON of an object, whose lists are written item by item: `dumps` holds the interpreter until it is done."""
    return f"{{{','.join(f'{_dumps(key)}:{_member(each)}' for key, each in value.items())}}}".encode()


def _member(value: Any) -> str:
    return f"[{','.join(map(_dumps, value))}]" if isinstance(value, list) else _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
