"""Requests and results of the API, as its handlers see them."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from pydantic import BaseModel

from sidekey.api.auth.operators import Operator
from sidekey.config.errors import LocatedMapping
from sidekey.config.yaml_writer import write
from sidekey.store.audit import AuditEntry

JSON: Final = "application/json"
YAML: Final = "application/yaml"
"""RFC 9512."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Precondition of a change (RFC 9110 13.1).

    `versions` are those in If-Match, or None for `*`. `absent` is `If-None-Match: *`: the resource must not exist. The
    default allows no version.
    """

    versions: frozenset[int] | None = frozenset()
    absent: bool = False

    def allows(self, version: int) -> bool:
        """Return True if a row of this version may be changed."""
        return not self.absent and (self.versions is None or version in self.versions)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as handlers receive it.

    `optional_operator` is None if an anonymous route received no valid credential. The audit lists `action` and
    `resource`, which are empty for a request that changes nothing. `query` is the query model of the route. `body` is
    None if the route takes none. `yaml_table` is a YAML body with the positions of its values. `source` is the address
    of the client.
    """

    optional_operator: Operator | None
    action: str = ""
    resource: str = ""
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    query: Any = None
    condition: Condition = Condition()
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    yaml_table: LocatedMapping | None = field(default=None, repr=False)
    as_yaml: bool = False
    idempotency_key: str = ""
    source: str = ""
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def operator(self) -> Operator:
        """The operator. Raises RuntimeError on an anonymous route: use `optional_operator` there."""
        if self.optional_operator is None:
            raise RuntimeError("the route is anonymous")
        return self.optional_operator

    @property
    def document(self) -> Mapping[str, Any]:
        """The body. Raises RuntimeError on a route that takes none."""
        if self.body is None:
            raise RuntimeError("the route takes no body")
        return self.body

    def audit_entry(self) -> AuditEntry:
        """Build an audit entry of this request. The caller adds the ID and the row of the resource."""
        operator = self.operator
        return AuditEntry(
            who=operator.name, label=operator.label, action=self.action, kind=self.resource, source=self.source
        )


@dataclass(frozen=True, slots=True)
class ApiResult:
    """A response. `cookies` are values of Set-Cookie, and `compressed` is the body in gzip, or empty if it has secrets.

    `repr` omits body and cookies, which may contain secrets.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    cookies: tuple[str, ...] = field(default=(), repr=False)
    compressed: bytes = field(default=b"", repr=False)

    @classmethod
    def of_public(cls, value: BaseModel) -> Self:
        """Serialize a model that contains no secret, and compress it.

        The size of a compressed response reveals parts of its content (BREACH), so no other response is compressed.
        """
        result = cls.of(value)
        return replace(result, compressed=gzip.compress(result.body, 6, mtime=0))

    @classmethod
    def of(
        cls,
        value: BaseModel,
        document: Mapping[str, Any] | None = None,
        *,
        status: int = 200,
        version: int | None = None,
        location: str = "",
    ) -> Self:
        """Serialize a model, followed by the keys of a `document`. Call it in a thread for large ones.

        `version` sets the ETag, and `location` the path of a new resource.
        """
        headers = {} if version is None else {"ETag": etag(version, value)}
        if location:
            headers["Location"] = location
        if document is None:
            body = value.model_dump_json(by_alias=True, exclude_unset=True)
        else:
            body = _dumps({**value.model_dump(mode="json", by_alias=True, exclude_unset=True), **document})
        return cls(status, body.encode(), headers)

    @classmethod
    def of_yaml(cls, name: str, document: Mapping[str, Any], version: int | None) -> Self:
        """Write a document as YAML, with its ID. Its ETag differs from that of the JSON (RFC 9110 8.8.3)."""
        body = write({"id": name, **document}).encode()
        headers = {} if version is None else {"ETag": f'"{version}-{hashlib.sha256(body).hexdigest()[:16]}"'}
        return cls(200, body, headers, YAML)


_OBSERVED: Final = ("status", "problem", "expires_at", "failing_since", "last_used_at")
"""Members of a resource that may change without a new version."""

_ENTITY_TAG: Final = re.compile(r'"([1-9][0-9]{0,17})(?:-[0-9a-f]{16})?"')


def etag(version: int, value: BaseModel) -> str:
    """Return the entity tag of a resource (RFC 9110 8.8.3): its version, and a digest of `_OBSERVED` members, if any.

    With the version alone, a 304 would hide that an integration has begun to fail.
    """
    observed = {name: member for name in _OBSERVED if (member := getattr(value, name, None)) not in (None, "ok")}
    if not observed:
        return f'"{version}"'
    return f'"{version}-{hashlib.sha256(_dumps(observed).encode()).hexdigest()[:16]}"'


def version_in(tag: str) -> int | None:
    """Return the version in an entity tag, or None if Sidekey did not issue the tag."""
    match = _ENTITY_TAG.fullmatch(tag)
    return None if match is None else int(match[1])


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
