import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sidekey import credentials
from sidekey.config.models import Config
from sidekey.credentials.context import Context

CONFIG = {
    "version": 1,
    "callers": {"billing": {"token": {"insecure_value": "hunter2"}}},
    "integrations": {
        "crm": {
            "endpoint_prefix": "https://api.example.com/v1",
            "auth": {"type": "basic", "username": "svc", "password": {"insecure_value": "hunter2"}},
        },
        "sms": {
            "endpoint_prefix": ["https://api.example.com/v1"],
            "auth": {"type": "headers", "headers": {"X-Key": {"secret": {"insecure_value": "hunter2"}}}},
        },
    },
}


@pytest.mark.parametrize(
    "show",
    [repr, str, lambda config: config.model_dump_json(), lambda config: repr(config.model_dump())],
    ids=["repr", "str", "json", "dump"],
)
def test_repr_and_dump_of_a_config_show_no_secret(show: type[str]) -> None:
    shown = show(Config.model_validate(CONFIG, context=Context("file")))
    assert "REDACTED" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "part",
    [
        {"callers": {"billing": {"token": "hunter2"}}},
        {"callers": {"billing": {"token": {"hunter2": "hunter2"}}}},
        {"integrations": {"crm": {"auth": {"type": "basic", "username": "hunter2:", "password": "hunter2"}}}},
        {"integrations": {"crm": {"auth": {"type": "headers", "headers": {"X-Key": {"insecure_value": "hunter2"}}}}}},
    ],
    ids=["a bare token", "a pasted key", "a bare password", "a secret as a header"],
)
def test_validation_error_shows_no_secret(part: dict[str, object]) -> None:
    """Sidekey never prints pydantic's text, but a traceback may contain it."""
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({**CONFIG, **part}, context=Context("file"))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)


def below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield all subclasses of `model` in Sidekey."""
    for subclass in model.__subclasses__():
        yield from below(subclass)
        if subclass.__module__.startswith("sidekey.") and not inspect.isabstract(subclass):
            yield subclass


def models() -> list[type[BaseModel]]:
    """Return the models of all parts of a config."""
    for module in pkgutil.walk_packages(credentials.__path__, f"{credentials.__name__}."):
        import_module(module.name)
    return sorted({*below(BaseModel)}, key=lambda model: (model.__module__, model.__name__))


def test_annotation_of_a_key_has_one_item_of_each_class() -> None:
    """pydantic does not document what it does with two, and before 2.12 it dropped one."""
    repeated = {
        f"{model.__name__}.{name}: {item.__name__}"
        for model in models()
        for name, field in model.model_fields.items()
        for item, count in Counter(map(type, field.metadata)).items()
        if count > 1
    }
    assert repeated == set()


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_any_value_of_a_key_is_valid_or_a_validation_error(model: type[BaseModel]) -> None:
    """No validator may raise something else, for example for null."""
    values: tuple[Any, ...] = (
        *(None, True, 3, 1.5, "", "x", " ", "\0", "\u00e9", [], [None], [[]], [{}], ["", 3]),
        *({}, {"a": None}, {"a": []}, {"value": None}, {"file": None}, {"value": 1, "x": 2}),
    )
    for name, field in model.model_fields.items():
        for value in values:
            try:
                model.model_validate({field.alias or name: value}, context=Context("file"))
            except ValidationError as error:
                assert error.errors()
