"""HTTP Basic authentication (RFC 7617), always in UTF-8."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import (
    Conditions,
    Credential,
    Documentation,
    FixedCredential,
    Grant,
    KindSettings,
    Places,
    Provider,
    SecretInput,
    Traits,
)
from sidekey.credentials.destination import HARMLESS
from sidekey.credentials.fields import Keys, Reference, Secret, Text, literally

_PROFILE_EXAMPLE = """\
lists:
  auth: {type: basic, provider: mailchimp, dc: us6, key: {file: /run/secrets/mailchimp}}
"""


def check_user_name(text: str) -> None:
    """Refuse a colon: the server would take the rest for the password (RFC 7617 2)."""
    if ":" in text:
        raise ValueError("must not contain a colon (RFC 7617 2)")


def basic(username: str, password: str) -> str:
    """The value of `Authorization`, in UTF-8."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


class BasicSettings(KindSettings):
    """User name and password, sent as `Authorization: Basic`."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["type", "username", "password"]}, {"required": ["type", "secret_username"]}]
        }
    )

    title: ClassVar[str] = "Basic"
    also_called: ClassVar[frozenset[str]] = frozenset({"basic_auth", "http", "http_basic", "password"})
    form_first: ClassVar[Mapping[str, Conditions]] = MappingProxyType({"username": (), "password": ()})
    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"username": "unknown", "password": MappingProxyType({"env": "PASSWORD"})}
    )
    documentation: ClassVar[Documentation] = Documentation(
        "[Provider profiles](providers.md) bring what is not secret for the platforms they are made for.",
        profile_example=_PROFILE_EXAMPLE,
    )

    # The order counts: each check sees the keys above its own.
    type: Literal["basic"] = Field(description="The kind: HTTP Basic (RFC 7617).")
    provider: Provider = None
    secret_username: Annotated[Secret, literally(check_user_name)] | None = Field(
        default=None,
        description="In place of `username` where the name is the secret, such as an API key; `password` may then be "
        "left out, and is empty.",
    )
    username: Annotated[Annotated[Text, literally(check_user_name)] | None, HARMLESS] = Field(
        default=None, validate_default=True, description="User name, without a colon."
    )
    password: Secret | None = Field(default=None, validate_default=True, description="Password, as a reference.")

    @field_validator("username")
    @classmethod
    def _check_one_name(cls, name: Reference | None, info: ValidationInfo) -> Reference | None:
        if "secret_username" not in info.data:
            return name
        secret = info.data["secret_username"]
        if name is None and secret is None:
            raise PydanticKnownError("missing")
        if name is not None and secret is not None:
            raise ValueError("may not be used with secret_username: there is one user name")
        return name

    @field_validator("password")
    @classmethod
    def _check_password(cls, password: Reference | None, info: ValidationInfo) -> Reference | None:
        if password is None and info.data.get("secret_username", "") is None:
            raise PydanticKnownError("missing")
        return password

    def traits(self) -> Traits:
        """One header."""
        return Traits(Places(headers=("Authorization",)))

    def inputs(self) -> Iterator[SecretInput]:
        """User name and password."""
        if self.username is not None:
            yield SecretInput(("username",), self.username, check_user_name)
        if self.secret_username is not None:
            yield SecretInput(("secret_username",), self.secret_username, check_user_name)
        if self.password is not None:
            yield SecretInput(("password",), self.password)

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """One `Authorization` header; each half that is secret is one alone as well: an upstream decodes the pair."""
        name = values.get(("username",)) or values.get(("secret_username",), "")
        value = basic(name, values.get(("password",), ""))
        pair = value.removeprefix("Basic ").encode("ascii")
        secret = (values.get((key,), "") for key in ("secret_username", "password"))
        halves = (each.encode() for each in secret if each)
        return FixedCredential(Grant(headers=(("Authorization", value),), secrets=(*halves, pair)))
