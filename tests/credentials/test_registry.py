from __future__ import annotations

import json
import subprocess
import sys
from typing import get_args

import pytest
from pydantic import TypeAdapter

from sidekey.credentials.registry import KINDS, AuthSettings


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


@pytest.mark.parametrize("name", KINDS)
def test_what_a_kind_documents_are_its_keys(name: str) -> None:
    """A section that is left behind would have nothing to say."""
    assert KINDS[name].documentation.sections.keys() <= KINDS[name].model_fields.keys()


def test_the_union_picks_the_kind_by_its_type() -> None:
    """`type` alone decides which model reads an auth block."""
    auth = {"type": "basic", "username": "svc", "password": {"env": "CRM"}}
    assert type(TypeAdapter(AuthSettings).validate_python(auth)) is KINDS["basic"]


_LOOK = """
import json, sys
from pydantic import TypeAdapter
import sidekey.settings.load
from sidekey.credentials.registry import KINDS, AuthSettings

def modules():
    return sorted(name for name, kind in places.items() if kind in sys.modules)

places = json.loads(sys.argv[1])
found = [modules()]
known = len(KINDS), list(KINDS) == list(places), "basic" in KINDS, KINDS.get("absent")
found.append(modules())
TypeAdapter(AuthSettings).validate_python({"type": "basic", "username": "svc", "password": {"env": "CRM"}})
found.append(modules())
print(json.dumps([found, known]))
"""


def test_a_kind_is_imported_when_it_is_first_used() -> None:
    """Neither by what loads a config nor by a look at the names: each is memory of an idle process."""
    places = {name: kind.__module__ for name, kind in KINDS.items()}
    command = [sys.executable, "-c", _LOOK, json.dumps(places)]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert found == [[[], [], ["basic"]], [len(KINDS), True, True, None]]
