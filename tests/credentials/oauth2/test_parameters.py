"""Additional parameters of a token request."""

from collections.abc import Callable
from urllib.parse import quote

import pytest

from sidekey.credentials.context import Context
from sidekey.credentials.fields import Reference
from sidekey.credentials.oauth2 import parameters
from sidekey.policy.parameters import ParameterNames

OWN = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "refresh_token",
]


@pytest.mark.parametrize("value", [510, -1, 0.5, True, False])
def test_numbers_and_booleans_keep_their_type(value: object) -> None:
    assert parameters.parse_value(value, Context("file")) is value


def test_texts_and_secrets_are_references() -> None:
    """No repr shows them."""
    assert parameters.parse_value("a b", Context("file")) == Reference("text", "a b")
    assert parameters.parse_value({"env": "KEY"}, Context("file")) == Reference("env", "KEY")


@pytest.mark.parametrize("value", [None, [], ["a"], float("nan"), float("inf"), {}, {"secret": "x"}, "a\nb", "\ud800"])
def test_invalid_value_is_an_error(value: object) -> None:
    """JSON has neither NaN nor lone surrogates."""
    with pytest.raises(ValueError, match=r"must be|reference|the value"):
        parameters.parse_value(value, Context("file"))


def error_of(check: Callable[[str], object], text: str) -> str:
    """Return why the name is refused, or an empty string."""
    try:
        check(text)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("spelling", ["{}", "{}[]", "{}[0]", " {}", "{} ", "[{}]", "a;{}", "a&{}", "%63{}", "{}%00x"])
def test_reserved_parameter_cannot_be_overridden(spelling: str) -> None:
    """Servers ignore case, cut names at brackets and NUL, trim them, and interpret semicolons."""
    names = [
        spelling.replace("%63{}", f"%{ord(name[0]):x}{name[1:]}").format(spelled)
        for name in OWN
        for spelled in (name, name.upper(), name.title(), name.replace("_", "."))
    ]
    assert [name for name in names if "may not be set" not in error_of(parameters.check_parameter_name, name)] == []
    queries = [f"a=b&{written}=c" for name in names for written in (name, quote(name, safe=""))]
    assert [query for query in queries if "Sidekey sends" not in error_of(parameters.check_query, query)] == []
    assert set(OWN) == parameters.RESERVED


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("scope", "Scope", True),
        ("scope", "scope[]", True),
        ("a b", "a b", True),
        ("a b", "a_b", True),
        ("t\u00f6k\u0456n", "t\u00f6k\u0456n", True),
        ("scope", "scopes", False),
        ("a-b", "a_b", False),
    ],
)
def test_names_that_a_server_may_confuse_are_equal(first: str, second: str, expected: bool) -> None:
    """In either order, also in the query of a URL."""
    assert (
        (ParameterNames([second]).find(first) == second)
        is (ParameterNames(["x", first]).find(second) == first)
        is expected
    )
    assert (parameters.query_names(f"x&{quote(first)}=y").find(second) is not None) is expected


@pytest.mark.parametrize("query", ["scope=", "scope", "a=b&Scope=%20", "SCOPE=+&a=b", "a=b;scope=", "scope[]="])
def test_empty_scope_in_a_url_is_an_error(query: str) -> None:
    """It would be sent unchanged."""
    with pytest.raises(ValueError, match="an empty scope: remove it"):
        parameters.check_query(query)
    parameters.check_query(query.replace("scope", "scopes").replace("Scope", "x").replace("SCOPE", "x"))


def test_query_cannot_repeat_parameters_of_the_request() -> None:
    parameters.check_query("resource=a&resource=b", ("scope", "account"))
    with pytest.raises(ValueError, match="token_request contains"):
        parameters.check_query("a=b&Resource=c", ("scope", "resource"))


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800"])
def test_empty_name_or_control_character_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="the name must not be empty"):
        parameters.check_parameter_name(name)


@pytest.mark.parametrize("name", ["scope", "resource", "account_id", "X-Y", "grant-type"])
def test_parameter_may_have_any_other_name(name: str) -> None:
    assert parameters.check_parameter_name(name) == name
    parameters.check_query(f"{name}=grant_type")


def test_values_are_filled_in_the_order_of_the_config() -> None:
    written = {"scope": Reference("text", "a"), "account": 5, "key": Reference("env", "KEY")}
    assert [key for key, _ in parameters.references(written, "x", "body")] == [
        ("x", "body", "scope"),
        ("x", "body", "key"),
    ]
    values = {("x", "body", "scope"): "a", ("x", "body", "key"): "hunter2"}
    assert parameters.fill_parameters(written, values, "x", "body") == (
        ("scope", "a"),
        ("account", 5),
        ("key", "hunter2"),
    )


@pytest.mark.parametrize("name", ["scope", "Scope", "SCOPE", "scope[]"])
@pytest.mark.parametrize("scope", ["", " "])
def test_empty_scope_is_omitted(scope: str, name: str) -> None:
    """Salesforce Marketing Cloud would issue a token without permissions."""
    written = {name: Reference("text", scope), "resource": Reference("text", "")}
    assert parameters.fill_parameters(written, {(name,): scope, ("resource",): ""}) == (("resource", ""),)
