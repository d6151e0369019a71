"""The registry of kinds, and the config's union of them."""

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
def test_kind_is_registered_under_its_type(name: str) -> None:
    assert get_args(KINDS[name].model_fields["type"].annotation) == (name,)


@pytest.mark.parametrize("name", KINDS)
def test_every_key_of_a_kind_has_a_description(name: str) -> None:
    """The config reference shows it."""
    assert all(field.description for field in KINDS[name].model_fields.values())


@pytest.mark.parametrize("name", KINDS)
def test_kind_with_profiles_has_the_key_provider(name: str) -> None:
    """Its placeholder profile uses only keys of the kind."""
    kind = KINDS[name]
    assert ("provider" in kind.model_fields) is bool(kind.placeholder_profile)
    assert kind.placeholder_profile.keys() <= kind.model_fields.keys()


def test_union_selects_the_kind_by_its_type() -> None:
    auth = {"type": "basic", "username": "svc", "password": {"env": "CRM"}}
    assert type(TypeAdapter(AuthSettings).validate_python(auth, context=Context("file"))) is KINDS["basic"]


BLOCKS: Final = [
    dict(expand(with_new_ids(copied(item)), Context("body")).table["auth"]) for item in documents().values()
]


@pytest.mark.parametrize("block", BLOCKS, ids=[*documents()])
def test_validated_settings_are_returned_unchanged(block: dict[str, Any]) -> None:
    """The same object: parts of the process compare by identity."""
    adapter: TypeAdapter[Any] = TypeAdapter(AuthSettings)
    result = adapter.validate_python(block, context=Context("body"))
    assert adapter.validate_python(result, context=Context("body")) is result
