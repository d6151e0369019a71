"""Further parameters of a token request, and claims of an assertion: texts, numbers, true or false, and secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from sidekey.credentials.fields import REDACT, SECRET_SCHEMA, Keys, Reference, parse_secret, parse_text

Scalar = str | int | float | bool
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

_OWN_CLAIMS = frozenset({"aud", "exp", "iat", "iss", "jti", "nbf", "sub"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def parse_value(raw: object) -> Written:
    """Read a value: a text, a number, true, false, or the reference to a secret. Raises ValueError."""
    if isinstance(raw, Mapping):
        return parse_secret(raw)
    if isinstance(raw, str):
        return parse_text(raw)
    if isinstance(raw, bool | int) or (isinstance(raw, float) and math.isfinite(raw)):
        return raw
    raise ValueError("write a text, a number, true, false, or a secret as {file: PATH} or {env: NAME}")


def check_field_name(name: str) -> str:
    """A name that a parameter may have."""
    if not name or _CONTROL.search(name):
        raise ValueError("a name is not empty and holds no control character")
    return name


def check_parameter_name(name: str) -> str:
    """The name of a further parameter of a token request: none that Sidekey sends itself (case does not count)."""
    if name.lower() in OWN:
        raise ValueError("this parameter cannot be overridden: Sidekey sends it from the other keys")
    return check_field_name(name)


def check_query(query: str) -> None:
    """Refuse a query that holds what Sidekey sends itself."""
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name.lower() in OWN:
            raise ValueError("the query of the URL holds a parameter that Sidekey sends from the other keys")


def _check_claim_name(name: str) -> str:
    if name in _OWN_CLAIMS:
        raise ValueError("this claim cannot be overridden: Sidekey sets it, from issuer, subject and audience")
    return check_field_name(name)


def references(written: Mapping[str, Written], *place: str) -> Iterable[tuple[Keys, Reference]]:
    """The values that must be read, each with its place under `auth`."""
    for name, value in written.items():
        if isinstance(value, Reference):
            yield (*place, name), value


def filled(written: Mapping[str, Written], values: Mapping[Keys, str], *place: str) -> Parameters:
    """The parameters with what was read for them. An empty scope is left out: it would ask for a token of no use."""
    parameters = [
        (name, values[*place, name] if isinstance(value, Reference) else value) for name, value in written.items()
    ]
    return tuple((name, value) for name, value in parameters if name != "scope" or str(value).strip())


_VALUE_SCHEMA = {
    "title": "Parameter",
    "oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, SECRET_SCHEMA],
}
_Value = Annotated[Written, PlainValidator(parse_value), REDACT, WithJsonSchema(_VALUE_SCHEMA)]
FurtherParameters = dict[Annotated[str, AfterValidator(check_parameter_name)], _Value]
FurtherClaims = dict[Annotated[str, AfterValidator(_check_claim_name)], _Value]
