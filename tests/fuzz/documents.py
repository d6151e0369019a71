"""JSON: bodies of the API, and parameters that callers send to presets."""

from __future__ import annotations

import json
from typing import Any, Final

from fuzz.target import Target
from sidekey.config.stored.document import MalformedError
from sidekey.config.stored.document import parse as read_document
from sidekey.policy.parameters import UnreadableNames, check_body
from sidekey.presets.preset import Parameter, read_parameters


def parse(data: bytes) -> tuple[dict[str, Any] | None, bool]:
    """Read the bytes as a body of the API, as parameters, and as a body to which credentials are added."""
    try:
        document = read_document(data)
    except MalformedError:
        document = None
    values, _ = read_parameters({name: Parameter("text", "") for name in ("a", "id")}, data)
    is_read = bool(values)
    try:
        check_body(data, "json", ("token", "api_key"))
    except (UnreadableNames, ValueError):
        return document, is_read
    return document, is_read


def check(data: bytes) -> None:
    """Require that the standard library reads accepted bytes the same way, with each key once."""
    document, is_read = parse(data)
    if document is not None:
        assert document == json.loads(data)
    if is_read:
        json.loads(data)


TARGET: Final = Target(
    (
        b'{"id": "a", "auth": {"password": {"value": "x"}}, "tags": ["a", 1.5e3, -0, true, null]}',
        b'{"a": {"a": "\\ud83d\\ude00\\u0000\\/"}, "token": 1}',
        b"[" * 40 + b"]" * 40,
        b'{"a": NaN, "a": 1E400, "b": 123456789012345678901234567890}',
        b'\xef\xbb\xbf{"a": "\xff"}',
    ),
    parse,
    check,
    (b'{"', b'":', b"[", b"]", b"}", b"\\ud83d", b"\\u0000", b"1e999", b"NaN", b'"token":'),
)
