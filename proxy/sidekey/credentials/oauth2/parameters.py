"""Further parameters of a token request, and claims of an assertion: texts, numbers, true or false, and secrets."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from operator import itemgetter
from typing import Annotated
from urllib.parse import parse_qsl

from pydantic import AfterValidator, WithJsonSchema

from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.fields import NAMES, REDACT, Keys, Reference, check_field_name, marker, parse_scalar
from sidekey.policy.parameters import Names, Scalar, contains_parameter

Parameters = tuple[tuple[str, Scalar], ...]
"""Names and values before any encoding."""

Written = Reference | int | float | bool
"""A value as the config holds it."""

OWN = frozenset(
    {
        "assertion",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "grant_type",
        "refresh_token",
    }
)
"""Parameters that no further one may override, in lower case."""

_OWN_NAMES = Names(OWN)
_SCOPE = Names(("scope",))

_OWN_CLAIMS = frozenset({"aud", "exp", "iat", "iss", "jti", "nbf", "sub"})


def parse_value(raw: object, context: Context) -> Written:
    """Parse a value: a text, a number, true, false, or the reference to a secret. Raises ValueError."""
    secret = "{file: PATH} or {env: NAME}" if context.is_file else "{value: SECRET}"
    return parse_scalar(raw, context, f"must be a text, a number, true, false, or a secret as {secret}")


def check_parameter_name(name: str) -> str:
    """The name of a further parameter of a token request: none that a server may take for one that Sidekey sends."""
    if _OWN_NAMES.find(check_field_name(name)) is not None:
        raise ValueError("this parameter may not be set: Sidekey sends it from the other keys")
    return name


def names_in(query: str) -> Names:
    """Fold the names of the parameters in the query of a URL."""
    return Names(dict.fromkeys(name for name, _ in _pairs(query)))


def _pairs(query: str) -> list[tuple[str, str]]:
    """Names and values; some servers take a semicolon for a separator."""
    return parse_qsl(query.replace(";", "&"), keep_blank_values=True)


def check_query(query: str, further: Iterable[str] = ()) -> None:
    """Refuse the query of a URL that holds what Sidekey sends itself, an empty scope, or one of the `further` names."""
    if contains_parameter(query, OWN):
        raise ValueError("the query must not contain a parameter that Sidekey sends from the other keys")
    if any(_is_empty_scope(name, value) for name, value in _pairs(query)):
        raise ValueError("the query must not contain an empty scope: remove it")
    names = names_in(query)
    if any(names.find(name) is not None for name in further):
        raise ValueError("the query must not contain a parameter that token_request contains")


def _is_empty_scope(name: str, value: Scalar) -> bool:
    """It would ask for a useless token."""
    return not str(value).strip() and _SCOPE.find(name) is not None


def _check_claim_name(name: str) -> str:
    if name in _OWN_CLAIMS:
        raise ValueError("this claim may not be set: Sidekey sets it, from issuer, subject and audience")
    return check_field_name(name)


def references(written: Mapping[str, Written], *place: str) -> Iterable[tuple[Keys, Reference]]:
    """The values that must be read, each with its place under `auth`."""
    for name, value in written.items():
        if isinstance(value, Reference):
            yield (*place, name), value


def filled(written: Mapping[str, Written], values: Mapping[Keys, str], *place: str) -> Parameters:
    """The parameters with what was read for them, without an empty scope."""
    parameters = [
        (name, values[*place, name] if isinstance(value, Reference) else value) for name, value in written.items()
    ]
    return tuple((name, value) for name, value in parameters if not _is_empty_scope(name, value))


def compared(parameters: Parameters) -> tuple[Hashable, ...]:
    """Parameters as they are compared: whatever their order, and true is not 1."""
    return tuple((name, type(value).__name__, value) for name, value in sorted(parameters, key=itemgetter(0)))


_VALUE_SCHEMA = {
    "title": "Parameter",
    "oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, marker("secret")],
}
_Value = Annotated[Written, parsed_by(parse_value), REDACT, WithJsonSchema(_VALUE_SCHEMA)]
FurtherParameters = Annotated[dict[Annotated[str, AfterValidator(check_parameter_name)], _Value], NAMES]
FurtherClaims = Annotated[dict[Annotated[str, AfterValidator(_check_claim_name)], _Value], NAMES]
