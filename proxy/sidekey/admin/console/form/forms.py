"""The form of an integration: which fields it has, and which of them are shown first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from sidekey.admin.api.schemas import components
from sidekey.admin.console.form.fields import Condition, Field, Reader, every
from sidekey.admin.console.form.typed import Sent
from sidekey.credentials.base import Conditions
from sidekey.credentials.registry import KINDS, SUPPLEMENTS
from sidekey.settings import profiles

_ABOUT: Final = frozenset({"id", "auth"})


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of an integration of one kind, by one provider or by none.

    `first` are needed; `more` may be left as they are. `when` has the pointers of fields that count only while one of
    these conditions is met.
    """

    kind: str
    provider: str
    when: Mapping[str, tuple[Condition, ...]]
    first: tuple[Field, ...]
    more: tuple[Field, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """All of them."""
        return (*self.first, *self.more)

    def hidden(self, sent: Sent) -> frozenset[str]:
        """The pointers of fields that do not count with what was chosen elsewhere, where that counts itself.

        The page hides them, so that nobody could remove there what is in them.
        """
        defaults = {each.pointer: each.default for each in every(self.fields)}

        def counts(where: str) -> bool:
            conditions = self.when.get(where)
            return conditions is None or any(
                (sent.get(other) or defaults.get(other)) in values and counts(other) for other, values in conditions
            )

        return frozenset(where for where in self.when if not counts(where))


_SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "About": ("description", "tags", "test"),
    "Where it may send": (
        "endpoint_prefix",
        "allow_other_domains",
        "allowed_domains",
        "methods",
        "redact_response",
    ),
    "Credential": ("/auth",),
    "Beside the credential": ("add", "signature"),
    "Connection": ("client_certificate", "trusted_ca", "source_address", "limits"),
}
"""What may be left as it is, under headings; what none of them names is under the last."""

_HELP: Final[Mapping[str, str]] = {
    "description": "For people.",
    "tags": "Words to find it with.",
    "endpoint_prefix": "The URL it may send to, such as `https://api.example.com/v1`: itself, and what is below it.",
    "allow_other_domains": "For hosts beside the one that the credential itself names; list them below.",
    "allowed_domains": "Base URLs, such as `https://api.example.com` or `https://*.example.com`.",
    "test": "Sent with an empty body; only 200 is success.",
    "trusted_ca": "Which CAs the certificate of the upstream is checked by.",
    "add": "Sent with each request beside the credential, such as the ID of a tenant or a second key.",
    "add.headers": "A secret may have a public word before it, with its space.",
    "add.query": "Parameters of the URL. Servers log them: prefer a header where the API takes both.",
    "add.body": "Added to each body, which must be a form or a JSON object.",
    "signature": "A signature over each request, with all that the credential brings into it.",
    "client_certificate": "Sent in the TLS handshake, beside what the credential adds.",
}
"""What a form says of a key of every integration, where its description is for whoever writes a file."""


def section_of(field: Field) -> str:
    """The heading of a field that may be left as it is."""
    own = "/auth" if field.pointer.startswith("/auth/") else field.key
    return next((title for title, keys in _SECTIONS.items() if own in keys), [*_SECTIONS][-1])


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
    secrets = {} if profile is None else profile.secrets
    brought: Mapping[str, Any] = {} if profile is None else profile.brought
    brought_auth: Mapping[str, Any] = brought.get("auth", {})
    foreign = {name for each in profiles.names() for name in profiles.profile(each).names}
    foreign -= {*model.model_fields, *parameters, *secrets}
    required = _required(schemas[model.__name__], provider)
    needed = {name for name, each in parameters.items() if each.required and each.default is None and not each.defaults}
    needed |= secrets.keys()
    fields = [_with_default(each, brought_auth.get(each.key)) for each in auth]
    values = {each.key: each.default for each in fields}
    first: list[Field] = []
    more: list[Field] = []
    for field in fields:
        if field.key == "provider" or field.key in foreign:
            continue
        named = _as_parameter(_helped(field, model.form_help), parameters.get(field.key))
        if field.key in secrets:
            named = replace(named, help=secrets[field.key], required=True)
        if field.key in required and field.key not in brought_auth:
            named = replace(named, required=True)
        chosen = field.key in brought_auth and field.widget != "group"
        conditions = None if chosen else model.form_first.get(field.key)
        # What is always shown is the credential, which a profile with a secret of its own brings.
        at_once = conditions is not None and bool(conditions or not secrets) and _met(conditions, values)
        (first if field.key in needed | required or at_once else more).append(named)
    for field in common:
        named = _helped(field, _HELP)
        needs_prefix = field.key == "endpoint_prefix" and model.needs_prefix and field.key not in brought
        if profile is not None and field.key in brought:
            named = replace(named, help=f"{named.help} Left empty: {_shown(brought[field.key])}.".strip())
        (first if needs_prefix else more).append(replace(named, required=True) if needs_prefix else named)
    elsewhere = {"client_certificate": model.brings_certificate, "add": model.brings_added}
    more = [each for each in more if not elsewhere.get(each.key, False)]
    order = [*parameters, *secrets]
    first.sort(
        key=lambda each: (
            each.pointer.startswith("/auth"),
            order.index(each.key) if each.key in needed else len(order),
        )
    )
    more.sort(key=_place)
    when = {each.pointer: each.when for each in every((*first, *more)) if each.when}
    when |= {
        f"/{part.SECTION}/{key}": tuple((f"/{part.SECTION}/{other}", values) for other, values in conditions)
        for part in (model, *SUPPLEMENTS)
        for key, conditions in part.form_when.items()
    }
    return Form(kind, provider, when, tuple(first), tuple(more))


def _met(conditions: Conditions, values: Mapping[str, Any]) -> bool:
    """Whether one of the conditions holds, or may hold once a value is chosen, or there is none."""
    return not conditions or any(values.get(other) in (None, *wanted) for other, wanted in conditions)


def _place(field: Field) -> tuple[int, int]:
    """Where a field is among those that may be left as they are."""
    title = section_of(field)
    keys = _SECTIONS[title]
    return [*_SECTIONS].index(title), keys.index(field.key) if field.key in keys else len(keys)


def _helped(field: Field, words: Mapping[str, str], above: str = "") -> Field:
    """A field with what a form says of it; nothing, where that is only its label again."""
    key = f"{above}{field.key}"
    text = words.get(key, field.help)
    help_text = "" if text.rstrip(".").lower() == field.label.lower() else text
    return replace(field, help=help_text, parts=tuple(_helped(each, words, f"{key}.") for each in field.parts))


def _required(schema: Mapping[str, Any], provider: str) -> set[str]:
    """What must be there: by the schema, and by its branch for the provider, or the first that needs none."""
    required = set(schema.get("required", ()))
    for branch in schema.get("anyOf", ()):
        by_hand = not provider and "type" in branch["required"] and "provider" not in branch["required"]
        if by_hand or provider in branch.get("properties", {}).get("provider", {}).get("enum", ()):
            required |= {*branch["required"]}
            break
    return required - {"type", "provider"}


def _with_default(field: Field, brought: Any) -> Field:
    """A field whose default is what a profile brings."""
    if isinstance(brought, Mapping):
        parts = tuple(_with_default(each, brought.get(each.key)) for each in field.parts)
        return replace(field, parts=parts, required=False)
    if isinstance(brought, str) and "{" in brought:
        # What it will be is only known with the parameters.
        return replace(field, required=False)
    return replace(field, default=brought, required=False) if isinstance(brought, str | bool | int) else field


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


def _shown(brought: Any) -> str:
    """What a profile brings, for people; parameters are in it by their names."""
    if isinstance(brought, Mapping):
        return "what the provider brings"
    texts = brought if isinstance(brought, list) else [brought]
    return ", ".join(f"`{str(each).lower() if isinstance(each, bool) else each}`" for each in texts)


def _example(text: str) -> str:
    return f"Such as `{text}`." if text else ""
