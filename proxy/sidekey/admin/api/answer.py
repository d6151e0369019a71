"""What the API responds: a status, JSON or YAML that is written already, and header fields."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

YAML: Final = "application/yaml"
"""RFC 9512."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. `body` is repeated nowhere: it may show a new token, once."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def of(cls, value: Mapping[str, Any], *, status: int = 200, version: int | None = None, location: str = "") -> Self:
        """JSON of a resource with its `version` and ETag, `location` the path of what was made. Slow for large ones."""
        headers = {} if version is None else {"ETag": etag(version, value)}
        if location:
            headers["Location"] = location
        return cls(status, _json(value), headers)

    @classmethod
    def of_yaml(cls, text: str, *, version: int | None = None) -> Self:
        """YAML of a resource. Its ETag differs from that of the JSON, which has more members (RFC 9110 8.8.3)."""
        headers = {} if version is None else {"ETag": f'"{version}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"'}
        return cls(200, text.encode(), headers, YAML)


_OBSERVED: Final = ("status", "problem", "usable", "expires_at", "failing_since", "last_used_at")
"""Members of a resource that may change while its version stays."""

_ENTITY_TAG: Final = re.compile(r'"([1-9][0-9]{0,17})(?:-[0-9a-f]{16})?"')


def etag(version: int, value: Mapping[str, Any]) -> str:
    """Return the entity tag of a resource (RFC 9110 8.8.3): its version, and a digest of what was observed, if any.

    A tag of the version alone would let 304 hide that an integration began to fail.
    """
    observed = {key: value[key] for key in _OBSERVED if value.get(key) not in (None, True, "ok")}
    if not observed:
        return f'"{version}"'
    return f'"{version}-{hashlib.sha256(_dumps(observed).encode()).hexdigest()[:16]}"'


def version_in(tag: str) -> int | None:
    """Return the version in an entity tag, or None if Sidekey has no such tags."""
    found = _ENTITY_TAG.fullmatch(tag)
    return None if found is None else int(found[1])


def _json(value: Mapping[str, Any]) -> bytes:
    """JSON of an object, whose lists are written item by item: `dumps` holds the interpreter until it is done."""
    return f"{{{','.join(f'{_dumps(key)}:{_member(each)}' for key, each in value.items())}}}".encode()


def _member(value: Any) -> str:
    return f"[{','.join(map(_dumps, value))}]" if isinstance(value, list) else _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
