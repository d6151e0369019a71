"""Templates of presets: what an editor writes, and what is made of a caller's parameters."""

from __future__ import annotations

import json
from typing import Final
from xml.etree import ElementTree

from fuzz.target import Target
from sidekey.core.presets import Filled
from sidekey.errors import Problem
from sidekey.preset_preview import made
from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.presets import read_preset
from support.plane import base_url, integration

_TYPES: Final = ("application/json", "application/x-www-form-urlencoded", "application/xml", "text/plain")
_VALUES: Final = {
    "text": "a/../b?c#d\"'<&>\\%2f\r\n{{n}}\u2028",
    "n": -1.50e3,
    "list": ["<", {"a": None}],
    "flag": True,
}
_PARAMETERS: Final = {
    "text": {"type": "text"},
    "n": {"type": "number"},
    "list": {"type": "list"},
    "flag": {"type": "boolean"},
}
_SNAPSHOT: Final = Snapshot(integrations={"h": integration("h", base_url(1))})


def parse(data: bytes) -> Filled | Problem | None:
    """Read a preset of these bytes, and fill it in. The first line is its kind, path, header; the rest its body."""
    kind, path, header, body = [*data.decode("utf-8", "replace").split("\n", 3), "", "", "", ""][:4]
    content_type = _TYPES[len(kind) % len(_TYPES)]
    written: object = body
    if "json" in content_type or "form" in content_type:
        try:
            written = json.loads(body)
        except (ValueError, RecursionError):
            written = {"a": body}
    document = {
        "integration": "h",
        "url": base_url(1) + path,
        "content_type": content_type,
        "headers": {"X-A": header},
        "parameters": _PARAMETERS,
        "body": written,
    }
    preset = read_preset("hook", document).preset
    return None if preset is None else made(_SNAPSHOT, preset, json.dumps(_VALUES).encode())


def check(data: bytes) -> None:
    """Require that what is filled in is well-formed, and stays below the prefix."""
    filled = parse(data)
    if not isinstance(filled, Filled):
        return
    assert filled.head.target.startswith(base_url(1).encode()), filled.head.target
    assert not set(b"\r\n ") & set(filled.head.target), filled.head.target
    for field in filled.head.fields:
        assert field.startswith(b"\r\n")
        assert not set(b"\r\n") & set(field[2:]), field
    kind = data.split(b"\n", 1)[0]
    content_type = _TYPES[len(kind.decode("utf-8", "replace")) % len(_TYPES)]
    if content_type == "application/json":
        json.loads(filled.body)
    elif content_type == "application/xml":
        ElementTree.fromstring(filled.body)


TARGET: Final = Target(
    (
        b"\n/{{text}}?q={{n}}\nx{{flag}}\n" + b'{"a": "{{text}}", "b": ["{{list}}", {"{{n}}": 1.0}], "c": "x {{n}}"}',
        b"1\n/a\n\n" + b'{"a": "{{text}}", "b": "{{n}}"}',
        b"11\n/a\n\n<a b='{{text}}'><!-- {{n}} --><![CDATA[{{text}}]]>{{n}}</a>",
        b"111\n/a/{{n}}\n\nHello {{text}}, {{ n }} {{{{ }}",
    ),
    parse,
    check,
    (
        b"{{text}}",
        b"{{n}}",
        b"{{list}}",
        b"{{flag}}",
        b"{{",
        b"}}",
        b"<![CDATA[",
        b"<!DOCTYPE a [",
        b"&#60;",
        b"\\u007b",
    ),
)
