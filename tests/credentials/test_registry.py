from __future__ import annotations

import json
import subprocess
import sys
from typing import Annotated, Any, Final, Union, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from sidekey.credentials.registry import KINDS, AuthSettings
from sidekey.settings.profiles import expand
from sidekey.settings.stored.document import located
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
    assert type(TypeAdapter(AuthSettings).validate_python(auth)) is KINDS["basic"]


OURS: Final[TypeAdapter[Any]] = TypeAdapter(AuthSettings)
_EVERY: Any = Union[tuple(KINDS.values())]  # noqa: UP007 - the table decides at run time
PLAIN: Final[TypeAdapter[Any]] = TypeAdapter(Annotated[_EVERY, Field(discriminator="type")])

BLOCKS: Final = [dict(expand(located(copied(each))).table["auth"]) for each in documents().values()]
KEYS: Final = sorted({key for block in BLOCKS for key in block})
VALUES: Final = st.one_of(
    st.sampled_from([value for block in BLOCKS for value in block.values()]),
    st.sampled_from([*KINDS, None, "Basic", "", True, 7, 0.5, b"basic", ["basic"], {"type": "basic"}]),
    st.text(max_size=3),
)


@st.composite
def blocks(draw: st.DrawFn) -> Any:
    """An `auth` block, mostly with a few keys that are left out, foreign or of another type; or no block at all."""
    if draw(st.integers(0, 20)) == 0:
        return draw(VALUES)
    block = dict(draw(st.sampled_from(BLOCKS)))
    for key in draw(st.lists(st.sampled_from([*KEYS, "type", "absent"]), max_size=3)):
        if draw(st.booleans()):
            block.pop(key, None)
        else:
            block[key] = draw(VALUES)
    return block


def result(adapter: TypeAdapter[Any], block: Any) -> tuple[Any, ...]:
    """What becomes of a block: the settings and what of them was written, or all errors."""
    try:
        found: BaseModel = adapter.validate_python(block)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return tuple((each["type"], each["loc"], each["msg"], each["input"]) for each in details)
    return type(found), found, found.model_fields_set, repr(adapter.validate_python(found))


@given(blocks())
def test_a_block_is_validated_as_by_the_plain_union_of_all_kinds(block: Any) -> None:
    """With the same errors in the same places, which findings are made of."""
    assert result(OURS, block) == result(PLAIN, block)


@pytest.mark.parametrize("block", BLOCKS, ids=[*documents()])
def test_settings_are_those_that_were_validated(block: dict[str, Any]) -> None:
    """The same object, not an equal one: parts of the process compare by identity."""
    found = OURS.validate_python(block)
    assert OURS.validate_python(found) is found


def test_the_schema_is_that_of_the_plain_union() -> None:
    """In every mode."""
    assert OURS.json_schema() == PLAIN.json_schema()
    assert OURS.json_schema(mode="serialization") == PLAIN.json_schema(mode="serialization")


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
