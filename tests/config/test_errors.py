import pytest

from sidekey.config.errors import ConfigError, Loc, error_at, show
from sidekey.config.yaml_reader import parse

ROOT, _ = parse(
    "c.yaml", b"version: 1\nintegrations:\n  crm:\n    methods: [GET,\n      POST]\n    auth: {type: basic}\n"
)


def test_an_error_is_printed_as_compilers_do() -> None:
    """Editors jump to file:line:column."""
    assert str(ConfigError("c.yaml", 3, 5, "via", "must be true or false")) == "c.yaml:3:5: via: must be true or false"


def test_an_error_of_the_whole_file_says_so() -> None:
    """The path is never left out, so that the line splits the same way."""
    assert str(ConfigError("c.yaml", 1, 1, "", "the file is empty")) == "c.yaml:1:1: (file): the file is empty"


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
def test_every_path_has_a_place(loc: Loc, key: bool, place: tuple[int, int]) -> None:
    """That of the value, of its key, or of the mapping that lacks it."""
    error = error_at(ROOT, loc, "an error", key=key)
    assert (error.line, error.column) == place
    assert error.path == show(loc)


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
def test_a_path_shows_names_and_nothing_else(loc: Loc, text: str) -> None:
    """A key with other characters may be a mistake that took a secret into it."""
    assert show(loc) == text


def test_values_of_a_file_do_not_show_themselves() -> None:
    """A table's repr tells its size, for it may hold a secret."""
    root, _ = parse("c.yaml", b"password: {insecure_value: hunter2}\nlist: [hunter2]\n")
    assert repr(root) == "LocatedMapping(2 keys)"
    assert repr(root["list"]) == "Row(1 values)"
