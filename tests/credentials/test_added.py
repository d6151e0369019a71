from typing import Any

from sidekey.credentials.added import AddedSettings
from sidekey.credentials.base import Grant, Places
from sidekey.credentials.context import Context
from support.stored import BASIC, destination, harmless

SECRET = {"secret": {"insecure_value": "hunter2"}}


def test_what_is_added_is_a_grant_of_its_own() -> None:
    """It is put before the grant of the kind, and signs nothing."""
    settings = AddedSettings.model_validate(
        {"headers": {"X-Tenant": "acme"}, "query": {"key": SECRET}}, context=Context("file")
    )
    values, reasons = settings.read(lambda reference: reference.value, {})
    assert reasons == ()
    assert values == {
        ("headers", "X-Tenant"): "acme",
        ("query", "key", "prefix"): "",
        ("query", "key", "secret"): "hunter2",
    }
    assert settings.supplement(values) == Grant((("X-Tenant", "acme"),), (("key", "hunter2"),), secrets=(b"hunter2",))
    assert settings.places() == Places(("X-Tenant",), ("key",))
    assert settings.signing() is None


def test_a_value_that_cannot_be_read_is_named_by_its_place_in_the_integration() -> None:
    """As `sidekey check` and the response of a request say it."""

    def read(_: object) -> str:
        raise ValueError("it is not set")

    settings = AddedSettings.model_validate(
        {"query": {"key": {"secret": {"env": "KEY"}}}, "body": {"n": 5}}, context=Context("file")
    )
    _, reasons = settings.read(read, {("query", "key", "prefix"): ""})
    assert reasons == ((("add", "query", "key", "secret"), "it is not set"),)


def test_all_that_is_added_moves_stored_secrets_but_the_secrets_themselves() -> None:
    """Whoever adds a secret value need not know the password; so its name counts."""
    assert harmless(AddedSettings) == set()
    add: dict[str, Any] = {
        "headers": {"X-Tenant": "acme"},
        "query": {"key": {"secret": {"value": "x"}}},
        "body": {"n": 5},
    }
    assert destination({**BASIC, "add": add})["add"] == {
        "headers": {"X-Tenant": {"text": "acme"}},
        "query": {"key": {}},
        "body": {"n": {"scalar": 5}},
    }
