"""HTTP Basic authentication (RFC 7617), always in UTF-8."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import (
    Credential,
    CredentialTraits,
    FixedCredential,
    Grant,
    InjectionPoints,
    KindSettings,
    Provider,
    SecretInput,
)
from sidekey.credentials.fields import Keys, Reference, Secret, SecretOrText, literal_check, raise_missing


def check_user_name(text: str) -> None:
    """Raise ValueError for a colon: the server would read the rest as the password (RFC 7617 2)."""
    if ":" in text:
        raise ValueError("must not contain a colon (RFC 7617 2)")


def build_basic(username: str, password: str) -> str:
    """Build the value of an `Authorization` header with the scheme Basic."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


class BasicSettings(KindSettings):
    """User name and password, sent as `Authorization: Basic`."""

    title: ClassVar[str] = "Basic"
    summary: ClassVar[str] = "User name and password"
    aliases: ClassVar[tuple[str, ...]] = (
        "HTTP Basic",
        "HTTP authentication",
        "Basic Auth",
        "log-in",
        "login",
    )
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"basic_auth", "http", "http_basic", "password"})
    plain_secrets: ClassVar[frozenset[str]] = frozenset({"username"})
    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"username": "unknown", "password": "{password}"}
    )

    # Pydantic validates in this order, and a validator sees only the keys above its own.
    type: Literal["basic"] = Field(description="The kind: HTTP Basic (RFC 7617).")
    provider: Provider = None
    username: Annotated[SecretOrText, literal_check(check_user_name)] = Field(
        description="User name, without a colon: a secret, or in a file also plain text."
    )
    password: Secret | None = Field(
        default=None,
        validate_default=True,
        description="Password, as a reference. If `username` is a reference, you may omit the password, and it is "
        "empty: some APIs accept their key as the user name.",
    )

    @field_validator("password")
    @classmethod
    def _check_password(cls, password: Reference | None, info: ValidationInfo) -> Reference | None:
        name = info.data.get("username")
        if password is None and (name is None or name.source == "plain"):
            raise_missing()
        return password

    @classmethod
    def hint(cls, key: str) -> str:
        """Return a hint for `secret_username`, which `username` replaced."""
        return "write this secret as username, which then needs no password" if key == "secret_username" else ""

    def traits(self) -> CredentialTraits:
        """Return the header `Authorization`."""
        return CredentialTraits(InjectionPoints(headers=("Authorization",)))

    def inputs(self) -> Iterator[SecretInput]:
        """Yield user name and password."""
        yield SecretInput(("username",), self.username, check_user_name)
        if self.password is not None:
            yield SecretInput(("password",), self.password)

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build a grant with one `Authorization` header.

        Sidekey also redacts user name and password alone, because an upstream decodes the pair and may repeat them. It
        does not redact a plain-text user name, which may be a word of any response.
        """
        name, password = values["username",], values.get(("password",), "")
        value = build_basic(name, password)
        pair = value.removeprefix("Basic ").encode("ascii")
        texts = (name, password) if self.username.is_secret else (password,)
        secrets = (text.encode() for text in texts if text)
        return FixedCredential(Grant(headers=(("Authorization", value),), secrets=(*secrets, pair)))
