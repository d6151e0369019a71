"""The token endpoint's response: the keys of `token_response`, and the token or error in it (RFC 6749 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sidekey.credentials.base import CallError, Reply
from sidekey.credentials.calls import (
    DEFAULT_LIFETIME,
    error_of_status,
    find_path,
    is_success,
    is_token,
    parse_json_object,
    read_lifetime,
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
        "invalid_target",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)
"""The error codes of RFC 6749 5.2 and RFC 8693 2.2.2. Each means that the config is wrong."""

_NUMBER = re.compile(r"(AADSTS[0-9]{1,9})(?!\w)")
"""The number at the start of Microsoft Entra's `error_description`. It distinguishes a wrong secret (7000215) from an
expired one (7000222). Messages repeat only this number and the codes above."""

_BEARER = ("bearer", "bearertoken", "application access token", "user access token")
"""Bearer token types in lower case: of RFC 6749 5.1 and 7.1, Apigee and eBay."""


@dataclass(frozen=True, slots=True, repr=False)
class Token(SecretHolder):
    """A new access token. `lifetime` is in seconds. `base_url` is None unless the config names its field."""

    value: str
    lifetime: float
    base_url: str | None = None

    def __repr__(self) -> str:
        return f"Token({self.lifetime:g} s, REDACTED)"


@dataclass(frozen=True, slots=True)
class ResponseShape:
    """The paths of the fields to read from a token response (`TokenResponseSettings`), and the rules for them.

    `bearer`: the token must be a bearer token (RFC 6750). `default_lifetime` is in seconds.
    """

    access_token: str = "access_token"  # noqa: S105 - the name of a field
    expires_in: str = "expires_in"
    base_url: str | None = None
    bearer: bool = True
    default_lifetime: float = DEFAULT_LIFETIME


def read_response(reply: Reply, shape: ResponseShape) -> Token:
    """Read the token of a response. Raises CallError, whose reason contains at most a known error code and a number."""
    response = parse_json_object(reply.body)
    code = None if response is None else response.get("error")
    known_code = code if isinstance(code, str) and code in _CODES else ""
    remark = f"{known_code} {_entra_number(response or {})}".strip()
    # RFC 6749 5.1 requires 200, but CrowdStrike, Harvest and Ostrom return 201. Any 2xx with a token is a success.
    if not is_success(reply.status):
        raise error_of_status(STEP, reply, remark, needs_config_change=bool(known_code))
    if response is None:
        raise CallError("invalid", f"{STEP} did not return a JSON object")
    token = find_path(response, shape.access_token)
    if token is None and known_code:
        # Some servers return 200 for errors.
        reason = f"{STEP} returned {reply.status} {remark}"
        raise CallError("refused", reason, retry_after=retry_after(reply.headers), needs_config_change=True)
    if not isinstance(token, str) or not is_token(token):
        raise CallError("invalid", f"{STEP} did not return a usable token under {shape.access_token}")
    if shape.bearer and not _is_bearer(response.get("token_type")):
        raise CallError("invalid", f"{STEP} returned a token that is not a bearer token")
    return Token(
        token,
        read_lifetime(STEP, find_path(response, shape.expires_in), shape.default_lifetime),
        None if shape.base_url is None else _check_base_url(find_path(response, shape.base_url), shape.base_url),
    )


def read_refresh_token(reply: Reply) -> str | None:
    """Return the refresh token of a response (RFC 6749 5.1), even if the rest is unusable. None if there is none."""
    response = parse_json_object(reply.body) if is_success(reply.status) else None
    token = None if response is None else response.get("refresh_token")
    return token if isinstance(token, str) and is_token(token) else None


def determines_next_token(reply: Reply) -> bool:
    """Return True if the response is clear about the refresh token of the next request (RFC 6749 6).

    It contains a usable new token, or no token at all, so the current token stays valid.
    """
    response = parse_json_object(reply.body) if is_success(reply.status) else None
    return response is not None and ("refresh_token" not in response or read_refresh_token(reply) is not None)


def _entra_number(response: dict[str, Any]) -> str:
    description = response.get("error_description")
    match = _NUMBER.match(description) if isinstance(description, str) else None
    return "" if match is None else match[1]


def _is_bearer(token_type: object) -> bool:
    """Return True for a bearer token. RFC 6749 7.1 forbids unknown types; many servers omit the required type."""
    return token_type is None or (isinstance(token_type, str) and token_type.lower() in _BEARER)


def _check_base_url(value: object, path: str) -> str:
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
