"""The registry of kinds, and the union that the config makes of it."""

from __future__ import annotations

from typing import Any, Final, get_args

import pytest
from pydantic import TypeAdapter

from sidekey.config.profiles import expand
from sidekey.config.stored.document import with_new_ids
from sidekey.credentials.context import Context
from sidekey.credentials.registry import KINDS, AuthSettings
from support.stored import copied, documents


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_registered_under_its_type(name: str) -> None:
    """The table's key is what `type` says in a config."""
    assert get_args(KINDS[name].model_fields["type"].annotation) == (name,)


@pytest.mark.parametrize("name", KINDS)
def test_every_key_of_a_kind_is_described(name: str) -> None:
    """The reference is made of the descriptions."""
    assert all(field.description for field in KINDS[name].model_fields.values())


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_that_takes_profiles_has_a_key_for_the_provider(name: str) -> None:
    """And the keys that its profiles must bring are its own."""
    kind = KINDS[name]
    assert ("provider" in kind.model_fields) is bool(kind.placeholder_profile)
    assert kind.placeholder_profile.keys() <= kind.model_fields.keys()


def test_the_union_picks_the_kind_by_its_type() -> None:
    """`type` alone decides which model reads an auth block."""
    auth = {"type": "basic", "username": "svc", "password": {"env": "CRM"}}
    assert type(TypeAdapter(AuthSettings).validate_python(auth, context=Context("file"))) is KINDS["basic"]


BLOCKS: Final = [
    dict(expand(with_new_ids(copied(each)), Context("body")).table["auth"]) for each in documents().values()
]


@pytest.mark.parametrize("block", BLOCKS, ids=[*documents()])
def test_settings_are_those_that_were_validated(block: dict[str, Any]) -> None:
    """The same object, not an equal one: parts of the process compare by identity."""
    adapter: TypeAdapter[Any] = TypeAdapter(AuthSettings)
    found = adapter.validate_python(block, context=Context("body"))
    assert adapter.validate_python(found, context=Context("body")) is found
