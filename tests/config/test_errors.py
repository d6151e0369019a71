"""Errors of a config, with their places."""

import pytest

from sidekey.config.errors import Loc, error_at, format_loc
from sidekey.config.yaml_reader import parse

ROOT, _ = parse(
    "c.yaml", b"version: 1\nintegrations:\n  crm:\n    methods: [GET,\n      POST]\n    auth: {type: basic}\n"
)


@pytest.mark.parametrize(
    ("loc", "key", "place"),
    [
        ((), False, (1, 1)),
        (("version",), False, (1, 10)),
        (("version",), True, (1, 1)),
        (("integrations", "crm"), True, (3, 3)),
        (("integrations", "crm"), False, (4, 5)),
        (("integrations", "crm", "methods", 1), False, (5, 7)),
        (("integrations", "crm", "auth", "type"), False, (6, 18)),
        (("integrations", "crm", "auth", "username"), False, (6, 11)),
        (("integrations", "crm", "methods", 7), False, (4, 14)),
        (("nowhere", "at", "all"), False, (1, 1)),
    ],
)
def test_error_points_at_the_value_its_key_or_the_nearest_parent(loc: Loc, key: bool, place: tuple[int, int]) -> None:
    error = error_at(ROOT, loc, "an error", at_key=key)
    assert (error.line, error.column) == place
    assert error.path == format_loc(loc)


@pytest.mark.parametrize(
    ("loc", "text"),
    [
        (("integrations", "crm", "methods", 0), "integrations.crm.methods[0]"),
        (("network", "hosts", "api.example.com", 1), 'network.hosts."api.example.com"[1]'),
        (("auth", "password:hunter2"), "auth.?"),
        (("auth", "hunter2\nvia: true"), "auth.?"),
        (("auth", "a" * 65), "auth.?"),
    ],
)
def test_path_hides_keys_with_unusual_characters(loc: Loc, text: str) -> None:
    """Such a key may be a mistake that contains a secret."""
    assert format_loc(loc) == text


def test_repr_of_a_mapping_or_sequence_hides_its_values() -> None:
    root, _ = parse("c.yaml", b"password: {insecure_value: hunter2}\nlist: [hunter2]\n")
    assert repr(root) == "LocatedMapping(2 keys)"
    assert repr(root["list"]) == "LocatedList(1 values)"
