"""The references {command} and {file, format, key}, and where they may be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sidekey.credentials.context import Context
from sidekey.credentials.fields import ExternalSecret, FileEntry, GlobalSecret, Reference, Secret, SecretOrText, Text
from sidekey.credentials.json_values import JsonDocument, references

HIDDEN = "an-argument-that-may-be-a-secret"


def parse(kind: Any, raw: Any, where: Any = "file") -> Any:
    """Parse a value of the config."""
    return TypeAdapter(kind).validate_python(raw, context=Context(where))


def reason_of(kind: Any, raw: Any, where: Any = "file") -> str:
    """Return why a value is refused. It never shows an argument."""
    with pytest.raises(ValidationError) as caught:
        parse(kind, raw, where)
    assert HIDDEN not in str(caught.value)
    (details,) = caught.value.errors()
    return str(details["msg"]).removeprefix("Value error, ")


def test_command_has_defaults() -> None:
    for kind in (Secret, SecretOrText):
        reference = parse(kind, {"command": ["/bin/x", HIDDEN]})
        assert (reference.source, reference.value) == ("command", "/bin/x")
        command = reference.command
        assert (command.argv, command.ttl, command.timeout, command.env) == (("/bin/x", HIDDEN), 300, 10, ())
        assert HIDDEN not in repr(reference) + repr(command)


def test_limits_do_not_make_another_command() -> None:
    one = parse(Secret, {"command": ["/bin/x"], "ttl": "10s", "timeout": "30s", "env": ["A"]})
    other = parse(Secret, {"command": ["/bin/x"], "ttl": "1d", "env": ["A"]})
    assert one.command == other.command
    assert one.command != parse(Secret, {"command": ["/bin/x"]}).command


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"command": f"/bin/x {HIDDEN}"}, "command must be a list of texts: the absolute path of a program"),
        ({"command": []}, "command must be a list of texts: "),
        ({"command": ["/bin/x", 1]}, "command must be a list of texts: "),
        ({"command": ["x", HIDDEN]}, "command must begin with the absolute path of a program"),
        ({"command": ["/bin/"]}, "command must begin with the absolute path of a program"),
        ({"command": ["/bin/x\n"]}, "command must begin with the absolute path of a program"),
        ({"command": ["/bin/x", f"{HIDDEN}\0"]}, "an argument of command must not contain NUL or half a character"),
        ({"command": ["/bin/x", "\ud800"]}, "an argument of command must not contain NUL or half a character"),
        ({"command": ["/bin/x", *["a"] * 64]}, "command must have at most 64 items of at most 4096 characters"),
        ({"command": ["/bin/x"], "ttl": "9s"}, "ttl must be between 10s and 1d"),
        ({"command": ["/bin/x"], "ttl": 300}, "ttl the unit is missing: write"),
        ({"command": ["/bin/x"], "timeout": "31s"}, "timeout must be between 1s and 30s"),
        ({"command": ["/bin/x"], "env": ["A=b"]}, "env must be a list of names of Sidekey's environment variables"),
        ({"command": ["/bin/x"], "shell": True}, "a command may have the keys command, ttl, timeout and env only"),
        ({"command": ["/bin/x"], "file": "x"}, "a command may have the keys command, ttl, timeout and env only"),
        (
            {"command": ["/bin/x"], "tll": "5m"},
            "a command may have the keys command, ttl, timeout and env only: did you mean ttl?",
        ),
    ],
)
def test_invalid_command_has_a_reason(raw: Any, reason: str) -> None:
    assert reason_of(Secret, raw).startswith(reason)


@pytest.mark.parametrize("kind", [GlobalSecret, ExternalSecret, Text])
def test_only_secrets_of_integrations_may_be_commands(kind: Any) -> None:
    reason = reason_of(kind, {"command": ["/bin/x", HIDDEN]})
    assert reason.startswith("a command may provide secrets of integrations only; use ")


@pytest.mark.parametrize("where", ["body", "row"])
def test_stored_integration_runs_no_command(where: str) -> None:
    reason = reason_of(Secret, {"command": ["/bin/x", HIDDEN]}, where)
    assert reason.startswith("no program may be run in a stored integration: ")


@pytest.mark.parametrize("kind", [Secret, SecretOrText, GlobalSecret, ExternalSecret, Text])
def test_entry_of_a_file_is_a_reference(kind: Any) -> None:
    raw = {"file": "x.json", "format": "json", "key": "a.b"}
    expected = Reference("file", "x.json", entry=FileEntry("json", "a.b"))
    reference = parse(kind, raw)
    assert (reference.source, reference.value, reference.entry) == ("file", "x.json", expected.entry)


@pytest.mark.parametrize(
    "raw",
    [
        {"file": "x", "format": "json"},
        {"file": "x", "key": "a"},
        {"file": "x", "format": "toml", "key": "a"},
        {"file": "x", "format": "json", "key": "a", "more": "b"},
    ],
)
def test_entry_needs_file_format_and_key(raw: Any) -> None:
    reason = "a reference to an entry of a file has file, format and key: use {file: PATH, format: json, key: NAME}"
    for kind in (Secret, Text):
        assert reason_of(kind, raw).startswith(reason)


def test_document_has_references_only_with_all_their_keys() -> None:
    """A JSON body may have members that are called `command`, `file` or `key`."""
    tree = parse(
        JsonDocument,
        {
            "a": {"command": ["/bin/x"], "ttl": "1m"},
            "b": {"file": "x", "format": "json", "key": "k"},
            "c": {"command": "login", "key": "public"},
            "d": {"file": "x", "key": "public"},
            "e": {"command": ["login"], "user": "u"},
        },
    )
    assert [(place, reference.source) for place, reference in references(tree)] == [
        (("a",), "command"),
        (("b",), "file"),
    ]


def test_document_has_the_reason_at_an_invalid_command() -> None:
    with pytest.raises(ValidationError) as caught:
        parse(JsonDocument, {"a": {"command": ["x", HIDDEN]}})
    assert [error["loc"] for error in caught.value.errors()] == [("a",)]
    assert HIDDEN not in str(caught.value)
