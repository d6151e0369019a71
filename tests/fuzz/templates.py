"""Templates of presets: an editor's document, and the request that Sidekey builds from a caller's parameters."""

from __future__ import annotations

import json
from typing import Final
from xml.etree import ElementTree

from fuzz.target import Target
from sidekey.config.build.presets import parse_preset
from sidekey.diagnostics.preview import fill_preset
from sidekey.errors import Problem
from sidekey.presets.preset import FilledRequest
from sidekey.snapshot.snapshot import Snapshot
from support.plane import base_url, integration

_KINDS: Final = ("json", "form", "xml", "plain")
_VALUES: Final = {
    "text": "a/../b?c#d\"'<&>\\%2f\r\n{{n}}\u2028",
    "n": -1.50e3,
    "flag": True,
}
_PARAMETERS: Final = {
    "text": {"type": "text"},
    "n": {"type": "number"},
    "flag": {"type": "boolean"},
}
_SNAPSHOT: Final = Snapshot(integrations={"h": integration("h", base_url(1))})


def parse(data: bytes) -> FilledRequest | Problem | None:
    """Parse a preset and fill it. The first lines are its kind, path and header, the rest is its body."""
    kind, path, header, text = [*data.decode("utf-8", "replace").split("\n", 3), "", "", "", ""][:4]
    which = _KINDS[len(kind) % len(_KINDS)]
    body: dict[str, object] = {"text": text, "content_type": f"text/{which}"}
    if which in ("json", "form"):
        try:
            body = {which: json.loads(text)}
        except (ValueError, RecursionError):
            body = {which: {"a": text}}
    document = {
        "integration": "h",
        "url": base_url(1) + path,
        "headers": {"X-A": header},
        "parameters": _PARAMETERS,
        "body": body,
    }
    preset = parse_preset("hook", document).preset
    return None if preset is None else fill_preset(_SNAPSHOT, preset, json.dumps(_VALUES).encode())


def check(data: bytes) -> None:
    """Require that the filled text is well-formed, and the URL under the prefix."""
    filled = parse(data)
    if not isinstance(filled, FilledRequest):
        return
    assert filled.head.target.startswith(base_url(1).encode()), filled.head.target
    assert not set(b"\r\n ") & set(filled.head.target), filled.head.target
    for field in filled.head.fields:
        assert field.startswith(b"\r\n")
        assert not set(b"\r\n") & set(field[2:]), field
    if b"\r\nContent-Type: application/json" in filled.head.fields:
        json.loads(filled.body)
    elif b"\r\nContent-Type: text/xml" in filled.head.fields:
        ElementTree.fromstring(filled.body)


TARGET: Final = Target(
    (
        b"\n/{{text}}?q={{n}}\nx{{flag}}\n" + b'{"a": "{{text}}", "b": ["{{n}}", {"{{n}}": 1.0}], "c": "x {{n}}"}',
        b"1\n/a\n\n" + b'{"a": "{{text}}", "b": "{{n}}"}',
        b"11\n/a\n\n<a b='{{text}}'><!-- n -->{{n}}&#60;</a>",
        b"111\n/a/{{n}}\n\nHello {{text}}, {{ n }} {{{{ }}",
    ),
    parse,
    check,
    (
        b"{{text}}",
        b"{{n}}",
        b"{{flag}}",
        b"{{",
        b"}}",
        b"<![CDATA[",
        b"<!DOCTYPE a [",
        b"&#60;",
        b"\\u007b",
    ),
)
