"""The form of an integration: which fields it has, and which of them are shown first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from sidekey.admin.api.schemas import components
from sidekey.admin.console.form.fields import Field, Reader
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles

_ABOUT: Final = frozenset({"id", "auth"})


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of an integration of one kind, by one provider or by none.

    `first` are needed; `more` may be left as they are. `when` has the pointers of fields that count only while another
    field has one of these values.
    """

    kind: str
    provider: str
    when: Mapping[str, tuple[str, tuple[str, ...]]]
    first: tuple[Field, ...]
    more: tuple[Field, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """All of them."""
        return (*self.first, *self.more)


@cache
def form_for(kind: str, provider: str = "") -> Form:
    """The form of a kind; `provider` names a profile, or is empty. Raises KeyError."""
    schemas = components()
    model = KINDS[kind]
    reader = Reader(schemas)
    auth = reader.fields(schemas[model.__name__], "/auth")
    common = [each for each in reader.fields(schemas["IntegrationDocument"], "") if each.key not in _ABOUT]
    profile = profiles.profile(provider) if provider else None
    parameters = {} if profile is None else profile.parameters
    brought: Mapping[str, Any] = {} if profile is None else profile.auth
    foreign = {name for each in profiles.names() for name in profiles.profile(each).parameters}
    foreign -= set(model.model_fields) | set(parameters)
    wanted = _wanted(schemas[model.__name__], model.form_first, provider)
    needed = {name for name, each in parameters.items() if each.required and each.default is None and not each.defaults}
    first: list[Field] = []
    more: list[Field] = []
    for field in auth:
        if field.key == "provider" or field.key in foreign:
            continue
        named = _as_parameter(_with_default(field, brought.get(field.key)), parameters.get(field.key))
        other, values = model.form_when.get(field.key, ("", ()))
        # Such as the refresh token, where the profile has chosen the grant that is by one.
        asked = field.widget == "secret" and brought.get(other) in values
        (first if asked or field.key in needed or field.key in wanted else more).append(named)
    for field in common:
        needs_prefix = field.key == "endpoint_prefix" and model.needs_prefix and profile is None
        (first if needs_prefix else more).append(field)
    if model.brings_certificate:
        more = [each for each in more if each.key != "client_certificate"]
    first.sort(key=lambda each: (each.pointer.startswith("/auth"), each.key not in needed))
    more.sort(key=lambda each: _ORDER.index(each.key) if each.key in _ORDER else len(_ORDER))
    when = {f"/auth/{key}": (f"/auth/{other}", values) for key, (other, values) in model.form_when.items()}
    return Form(kind, provider, when, tuple(first), tuple(more))


_ORDER: Final = ("description", "tags", "test", "endpoint_prefix", "allow_other_domains", "allowed_domains", "methods")


def _wanted(schema: Mapping[str, Any], first: tuple[str, ...], provider: str) -> set[str]:
    """What must be there: by the schema, by the branch of it that has the provider, and by the kind's own word."""
    required = set(schema.get("required", ())) | set(first)
    for branch in schema.get("anyOf", ()):
        names = set(branch["required"])
        by_hand = not provider and "type" in names and "provider" not in names
        if by_hand or provider in branch.get("properties", {}).get("provider", {}).get("enum", ()):
            required |= names
    return required - {"type", "provider"}


def _with_default(field: Field, brought: Any) -> Field:
    """A field whose default is what a profile brings."""
    if isinstance(brought, Mapping):
        return replace(field, parts=tuple(_with_default(each, brought.get(each.key)) for each in field.parts))
    return replace(field, default=brought) if isinstance(brought, str | bool | int) else field


def _as_parameter(field: Field, parameter: Any) -> Field:
    """A field of a profile's parameter, in the profile's words."""
    if parameter is None:
        return field
    needed = parameter.required and parameter.default is None and not parameter.defaults
    help_text = " ".join(each for each in (parameter.description, _example(parameter.example)) if each)
    return Field(
        pointer=field.pointer,
        label=field.label,
        widget=field.widget,
        help=help_text,
        required=needed,
        default=parameter.default,
    )


def _example(text: str) -> str:
    return f"Such as `{text}`." if text else ""
