"""The token endpoint's response: the keys of `token_response`, and the token or error in it (RFC 6749 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sidekey.credentials.base import CallError, Reply
from sidekey.credentials.calls import (
    DEFAULT_LIFE,
    error_of_status,
    find,
    is_success,
    is_token,
    json_object,
    life_of,
    retry_after,
)
from sidekey.credentials.destination import SAFE_TO_CHANGE
from sidekey.credentials.fields import FieldPath, Section, refuse_keys
from sidekey.credentials.secret_holder import SecretHolder

STEP = "token endpoint"

_CODES = frozenset(
    {
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)
"""The error codes of RFC 6749 5.2, each of which says that the config is wrong."""

_NUMBER = re.compile(r"(AADSTS[0-9]{1,9})(?!\w)")
"""The number that Microsoft Entra's `error_description` begins with, in every cloud: it tells a wrong secret (7000215)
from an expired one (7000222). With the codes above it is all that is ever repeated of a response."""

_BEARER = ("bearer", "bearertoken", "application access token", "user access token")
"""Token types in lower case: RFC 6749 5.1 and 7.1, and what Apigee and eBay say."""


@dataclass(frozen=True, slots=True, repr=False)
class Token(SecretHolder):
    """What was issued. `life` is in seconds; `base_url` is as it was returned, None where none is asked for."""

    value: str
    life: float
    base_url: str | None = None

    def __repr__(self) -> str:
        return f"Token({self.life:g} s, REDACTED)"


@dataclass(frozen=True, slots=True)
class ResponseShape:
    """Where the response contains what is needed: names, joined by dots where objects are nested.

    `bearer`: the token must be one of RFC 6750. `lifetime` is in seconds, where the response says none.
    """

    access_token: str = "access_token"  # noqa: S105 - the name of a field
    expires_in: str = "expires_in"
    base_url: str | None = None
    bearer: bool = True
    lifetime: float = DEFAULT_LIFE


def read_response(reply: Reply, shape: ResponseShape) -> Token:
    """The token of a response. Raises CallFault, whose reason repeats at most an error code and a number."""
    response = json_object(reply.body)
    code = None if response is None else response.get("error")
    known = code if isinstance(code, str) and code in _CODES else ""
    said = f"{known} {_number(response or {})}".strip()
    # RFC 6749 5.1 asks for 200; CrowdStrike, Harvest and Ostrom create tokens (RFC 9110 15.3.2). Whatever the success
    # is called, it counts by the token in it.
    if not is_success(reply.status):
        raise error_of_status(STEP, reply, said, settings=bool(known))
    if response is None:
        raise CallError("invalid", f"{STEP} did not return a JSON object")
    token = find(response, shape.access_token)
    if token is None and known:
        # Some return 200 for everything.
        reason = f"{STEP} returned {reply.status} {said}"
        raise CallError("refused", reason, retry_after=retry_after(reply.headers), settings=True)
    if not isinstance(token, str) or not is_token(token):
        raise CallError("invalid", f"{STEP} did not return a usable token under {shape.access_token}")
    if shape.bearer and not _is_bearer(response.get("token_type")):
        raise CallError("invalid", f"{STEP} returned a token that is not a bearer token")
    return Token(
        token,
        life_of(STEP, find(response, shape.expires_in), shape.lifetime),
        None if shape.base_url is None else _base_url(find(response, shape.base_url), shape.base_url),
    )


def read_refresh_token(reply: Reply) -> str | None:
    """The refresh token of a response (RFC 6749 5.1), whatever the rest; None where there is none."""
    response = json_object(reply.body) if is_success(reply.status) else None
    found = None if response is None else response.get("refresh_token")
    return found if isinstance(found, str) and is_token(found) else None


def names_successor(reply: Reply) -> bool:
    """Whether a response tells what to present next: a refresh token, or by naming none the same (RFC 6749 6)."""
    response = json_object(reply.body) if is_success(reply.status) else None
    return response is not None and ("refresh_token" not in response or read_refresh_token(reply) is not None)


def _number(response: dict[str, Any]) -> str:
    description = response.get("error_description")
    found = _NUMBER.match(description) if isinstance(description, str) else None
    return "" if found is None else found[1]


def _is_bearer(token_type: object) -> bool:
    """RFC 6749 7.1: a token of an unknown type is not used. The type is often left out, although it must not be."""
    return token_type is None or (isinstance(token_type, str) and token_type.lower() in _BEARER)


def _base_url(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise CallError("invalid", f"{STEP} did not return a base URL under {path}")
    return value


class TokenResponseSettings(Section):
    """Fields of the token endpoint's response, with dots between the names of nested objects."""

    access_token: FieldPath = Field(default="access_token", description="The token.")
    expires_in: Annotated[FieldPath, SAFE_TO_CHANGE] = Field(
        default="expires_in", description="The token's lifetime in seconds."
    )
    base_url: FieldPath | None = Field(
        default=None,
        description="The base URL of the API, if only the response contains it, such as `rest_instance_url`.",
    )
    pin_base_url: bool = Field(
        default=False,
        description="With `base_url`: after the first response, only the base URL's host is allowed, and requests "
        "for the token endpoint's host go there too. `allowed_domains` then only limits the base URL.",
    )

    @model_validator(mode="after")
    def _check_pin(self) -> Self:
        if self.pin_base_url and self.base_url is None:
            refuse_keys(self, ("pin_base_url",), "may be used only with base_url")
        return self
