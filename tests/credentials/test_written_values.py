"""Validation of a value that is a public text or {prefix, secret}."""

from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from sidekey.credentials.context import Context
from sidekey.credentials.fields import Entered
from sidekey.credentials.header_values import WrittenValue, normalize_value, written_schema

SECRET = {"insecure_value": "hunter2"}
ADAPTER: TypeAdapter[WrittenValue] = TypeAdapter(
    Annotated[WrittenValue, BeforeValidator(normalize_value), written_schema("Title", {"type": "number"})]
)


def value_of(raw: Any) -> WrittenValue:
    return ADAPTER.validate_python(raw, context=Context("file"))


@pytest.mark.parametrize(
    ("raw", "inputs", "joined"),
    [
        ("acme", ["place"], "acme"),
        ({"file": "a"}, ["place"], "a"),
        ({"secret": SECRET}, ["place.prefix", "place.secret"], "hunter2"),
        ({"prefix": "Key ", "secret": SECRET}, ["place.prefix", "place.secret"], "Key hunter2"),
    ],
)
def test_value_is_a_public_text_or_a_secret_with_a_prefix(raw: Any, inputs: list[str], joined: str) -> None:
    value = value_of(raw)
    values = {key: reference.value for key, reference in value.inputs("place")}
    assert [".".join(key) for key in values] == inputs
    assert value.joined(values, "place") == joined


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (SECRET, "must be a public text, or {prefix: TEXT, secret: {insecure_value: TEXT}}"),
        ({"prefix": "Bearer "}, "secret is missing: write {prefix: TEXT, secret: REFERENCE}"),
        (5, "must be a text"),
        ({"secret": SECRET, "other": 1}, "unknown key; known: prefix, secret"),
        ({"secret": "hunter2"}, "a secret may not be written inline"),
    ],
)
def test_other_mapping_is_refused_with_the_remedy(raw: Any, reason: str) -> None:
    """Nothing of it is repeated."""
    with pytest.raises(ValidationError) as caught:
        value_of(raw)
    (error,) = caught.value.errors(include_input=False)
    assert reason in error["msg"]
    assert "hunter2" not in error["msg"]


@pytest.mark.parametrize("key", ["value", "set"])
def test_stored_secret_cannot_replace_a_public_text(key: str) -> None:
    with pytest.raises(ValidationError, match=r"secret: \{value: TEXT\}"):
        ADAPTER.validate_python(Entered({key: "hunter2"}), context=Context("body"))
