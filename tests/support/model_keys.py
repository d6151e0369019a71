"""Find the keys of an integration and of each kind in the models, for tests of every key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from sidekey.config.models import IntegrationSettings
from sidekey.credentials.context import FileOnly
from sidekey.credentials.destination import SAFE_TO_CHANGE, TiedToSecret
from sidekey.credentials.fields import DocumentType
from sidekey.credentials.registry import KINDS

SECRETS: Final = frozenset(
    {
        "client_secret",
        "key",
        "key_passphrase",
        "password",
        "pem",
        "private_key",
        "refresh_token",
        "secret",
        "secret_access_key",
        "session_token",
        "username",
    }
)
"""Keys of secrets: each is kept, entered or removed for itself."""


class ModelKey(NamedTuple):
    """A key of a stored document, named `KIND.KEY` below `auth`, without the tags of unions."""

    name: str
    secret: bool
    safe_to_change: bool
    certificate: bool


def keys_of_integrations() -> Iterator[ModelKey]:
    """Find each key of an integration and of each kind."""
    yield from (key for key in _keys_in(IntegrationSettings, "") if not key.name.startswith("auth"))
    for kind, model in KINDS.items():
        yield from _keys_in(model, f"{kind}.")


def _keys_in(model: type[BaseModel], above: str) -> Iterator[ModelKey]:
    for attribute, field in model.model_fields.items():
        key = field.alias or attribute
        name = f"{above}{key}"
        marks = [*field.metadata, *(mark for argument in get_args(field.annotation) for mark in _marks_of(argument))]
        if any(isinstance(item, FileOnly) for item in marks):
            continue
        models = [] if any(isinstance(item, DocumentType) for item in marks) else [*_models_of(field.annotation)]
        if len(models) != 1:
            certificate = any(isinstance(item, TiedToSecret) for item in marks)
            yield ModelKey(name, key in SECRETS, SAFE_TO_CHANGE in marks, certificate)
        for item in models:
            inner = _keys_in(item, f"{name}.")
            # The tag of a union changes with the key that the union is at.
            yield from (inner_key for inner_key in inner if len(models) == 1 or inner_key.name != f"{name}.type")


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the models of a key: itself, or the members of a union. Names in a mapping are arbitrary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) not in (dict, list):
        for argument in get_args(annotation):
            yield from _models_of(argument)


def _marks_of(annotation: Any) -> tuple[Any, ...]:
    return annotation.__metadata__ if get_origin(annotation) is Annotated else ()
