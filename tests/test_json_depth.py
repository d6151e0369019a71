"""JSON and YAML from outside Sidekey are refused if they are nested too deeply, on each Python for the same reason."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable

import pytest

from sidekey.ca.authorities import Authorities
from sidekey.config import yaml_reader
from sidekey.config.file_entries import find_entry
from sidekey.config.programs import parse_output
from sidekey.config.stored.document import MalformedError, SavedDocument, parse
from sidekey.config.yaml_reader import Malformed
from sidekey.credentials.calls import parse_json_object
from sidekey.credentials.certificates.pem_der import describe_data
from sidekey.credentials.fields import FileEntry
from sidekey.credentials.jws import parse_part
from sidekey.policy.json_reader import MAX_DEPTH, TooDeepError, parse_json
from sidekey.policy.parameters import JSON, UnsupportedBody, check_body
from sidekey.presets.preset import Parameter, read_parameters

DEPTHS = [9_000, 900, MAX_DEPTH + 1]
TOO_DEEP = f"must not be nested deeper than {MAX_DEPTH} levels"
DOCUMENT_TOO_DEEP = f"must not be nested deeper than {yaml_reader.MAX_DEPTH} levels"


def nested(depth: int) -> str:
    """Return an object of this depth, whose strings contain brackets that do not count."""
    return '{"value": "x", "a": ["]]]", ' + "[" * (depth - 2) + '"\\"[[["' + "]" * (depth - 1) + "}"


def jwt(text: str) -> str:
    return f"e30.{urlsafe_b64encode(text.encode()).decode().rstrip('=')}.e30"


def parse_yaml(text: str) -> object:
    try:
        return yaml_reader.parse("c.yaml", text.encode())
    except Malformed:
        # libyaml may find more levels than it allows before it returns the first bracket.
        raise MalformedError("YAML") from None


TEXT = object()
"""The whole text is the result."""

READERS: dict[str, tuple[Callable[[str], object], object]] = {
    "body of the API": (lambda text: parse(text.encode()), MalformedError(DOCUMENT_TOO_DEEP)),
    "YAML of the API, config or bundle": (parse_yaml, MalformedError("YAML")),
    "row of the store": (SavedDocument.load, MalformedError("saves")),
    "parameters of a preset": (
        lambda text: read_parameters({"a": Parameter("text")}, text.encode()),
        ({}, [("", f"the parameters {TOO_DEEP}")]),
    ),
    "body that parameters are added to": (
        lambda text: check_body(text.encode(), JSON, ["b"]),
        UnsupportedBody(f"the body {TOO_DEEP}"),
    ),
    "token response, JWKS or OpenID configuration": (lambda text: parse_json_object(text.encode()), None),
    "claims of a JWT": (lambda text: parse_part(jwt(text), 1), None),
    "output of a secret's command": (lambda text: parse_output(text.encode()).value, TEXT),
    "file with several secrets": (lambda text: find_entry(FileEntry("json", "value"), text), TooDeepError(TOO_DEEP)),
    "file in place of a certificate": (
        lambda text: describe_data(text.encode()),
        "not PEM: no line begins with -----BEGIN",
    ),
    "local CAs": (Authorities.from_json, ValueError("is not what Sidekey has written")),
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("reader", READERS)
def test_deep_nesting_is_refused(reader: str, depth: int) -> None:
    read, expected = READERS[reader]
    if isinstance(expected, Exception):
        with pytest.raises(type(expected), match=re.escape(str(expected))):
            read(nested(depth))
    else:
        assert read(nested(depth)) == (nested(depth) if expected is TEXT else expected)


@pytest.mark.parametrize("depth", [3, MAX_DEPTH])
def test_nesting_within_the_limit_is_read(depth: int) -> None:
    text = nested(depth)
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)
    assert parse_json(f"[{','.join(['[]'] * 1_000)}]") == [[]] * 1_000


@pytest.mark.parametrize("text", ["]" * 999 + "[" * 30_000, '"' + "[" * 30_000, '["\\' + "[" * 30_000, "{]" * 30_000])
def test_invalid_json_is_not_parsed_deeply(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_other_encodings_are_refused() -> None:
    """`json.loads` detects them, and a search for brackets would not."""
    with pytest.raises(ValueError):
        parse_json(("[" * 30_000 + "]" * 30_000).encode("utf-16"))
