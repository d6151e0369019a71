"""Additional parameters of a token request, and claims of an assertion: texts, numbers, booleans and secrets."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from operator import itemgetter
from typing import Annotated
from urllib.parse import parse_qsl

from pydantic import AfterValidator, WithJsonSchema

from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.fields import MAX_NAMES, REDACT, Keys, Reference, check_field_name, parse_scalar, shape_marker
from sidekey.policy.parameters import ParameterNames, Scalar, contains_parameter

Parameters = tuple[tuple[str, Scalar], ...]
"""Names and values before any encoding."""

ParameterValue = Reference | int | float | bool
"""The value of a parameter in the config. A text is a reference, too."""

RESERVED = frozenset(
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
"""Parameters that Sidekey sends itself, in lower case. The config must not override them."""

_RESERVED_NAMES = ParameterNames(RESERVED)
_SCOPE = ParameterNames(("scope",))

_RESERVED_CLAIMS = frozenset({"aud", "exp", "iat", "iss", "jti", "nbf", "sub"})


def parse_value(raw: object, context: Context) -> ParameterValue:
    """Parse the value of a parameter. Raises ValueError."""
    secret = "{file: PATH} or {env: NAME}" if context.is_file else "{value: SECRET}"
    return parse_scalar(raw, context, f"must be a text, a number, true, false, or a secret as {secret}")


def check_parameter_name(name: str) -> str:
    """Return the name of an additional parameter. Raises ValueError if a server may confuse it with a reserved one."""
    if _RESERVED_NAMES.find(check_field_name(name)) is not None:
        raise ValueError("this parameter may not be set: Sidekey sends it from the other keys")
    return name


def query_names(query: str) -> ParameterNames:
    """Return the names of the parameters in the query of a URL."""
    return ParameterNames(dict.fromkeys(name for name, _ in _parse_query(query)))


def _parse_query(query: str) -> list[tuple[str, str]]:
    """Parse names and values. Some servers accept a semicolon as a separator."""
    return parse_qsl(query.replace(";", "&"), keep_blank_values=True)


def check_query(query: str, other_names: Iterable[str] = ()) -> None:
    """Raise ValueError for a query with a reserved parameter, an empty scope, or one of `other_names`."""
    if contains_parameter(query, RESERVED):
        raise ValueError("the query must not contain a parameter that Sidekey sends from the other keys")
    if any(_is_empty_scope(name, value) for name, value in _parse_query(query)):
        raise ValueError("the query must not contain an empty scope: remove it")
    names = query_names(query)
    if any(names.find(name) is not None for name in other_names):
        raise ValueError("the query must not contain a parameter that token_request contains")


def _is_empty_scope(name: str, value: Scalar) -> bool:
    """Return True for a scope without a value, which would request a useless token."""
    return not str(value).strip() and _SCOPE.find(name) is not None


def _check_claim_name(name: str) -> str:
    if name in _RESERVED_CLAIMS:
        raise ValueError("this claim may not be set: Sidekey sets it, from issuer, subject and audience")
    return check_field_name(name)


def references(written: Mapping[str, ParameterValue], *place: str) -> Iterable[tuple[Keys, Reference]]:
    """Yield each reference with its location under `auth`."""
    for name, value in written.items():
        if isinstance(value, Reference):
            yield (*place, name), value


def fill_parameters(written: Mapping[str, ParameterValue], values: Mapping[Keys, str], *place: str) -> Parameters:
    """Build the parameters from the values of their references, without an empty scope."""
    parameters = [
        (name, values[*place, name] if isinstance(value, Reference) else value) for name, value in written.items()
    ]
    return tuple((name, value) for name, value in parameters if not _is_empty_scope(name, value))


def comparable(parameters: Parameters) -> tuple[Hashable, ...]:
    """Sort the parameters by name and add the type of each value, because True == 1."""
    return tuple((name, type(value).__name__, value) for name, value in sorted(parameters, key=itemgetter(0)))


_VALUE_SCHEMA = {
    "title": "Parameter",
    "oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, shape_marker("secret")],
}
_Value = Annotated[ParameterValue, parsed_by(parse_value), REDACT, WithJsonSchema(_VALUE_SCHEMA)]
FurtherParameters = Annotated[dict[Annotated[str, AfterValidator(check_parameter_name)], _Value], MAX_NAMES]
FurtherClaims = Annotated[dict[Annotated[str, AfterValidator(_check_claim_name)], _Value], MAX_NAMES]
