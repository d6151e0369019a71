"""HTTP Basic authentication (RFC 7617), always in UTF-8."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sidekey.credentials.base import Credential, FixedCredential, Grant, KindSettings, Places, SecretInput, Traits
from sidekey.credentials.destination import HARMLESS
from sidekey.credentials.fields import Keys, Secret, Text, literally


def check_user_name(text: str) -> None:
    """Refuse a colon: the server would take the rest for the password (RFC 7617 2)."""
    if ":" in text:
        raise ValueError("must not contain a colon (RFC 7617 2)")


def basic(username: str, password: str) -> str:
    """The value of `Authorization`, in UTF-8."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


class BasicSettings(KindSettings):
    """User name and password, sent as `Authorization: Basic`."""

    title: ClassVar[str] = "Basic"

    type: Literal["basic"] = Field(description="The kind: HTTP Basic (RFC 7617).")
    username: Annotated[Text, literally(check_user_name), HARMLESS] = Field(description="User name, without a colon.")
    password: Secret = Field(description="Password, as a reference.")

    def traits(self) -> Traits:
        """One header."""
        return Traits(Places(headers=("Authorization",)))

    def inputs(self) -> Iterator[SecretInput]:
        """User name and password."""
        yield SecretInput(("username",), self.username, check_user_name)
        yield SecretInput(("password",), self.password)

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """One `Authorization` header; the password alone is a secret as well, since an upstream decodes the pair."""
        username, password = values["username",], values["password",]
        value = basic(username, password)
        pair = value.removeprefix("Basic ").encode("ascii")
        return FixedCredential(Grant(headers=(("Authorization", value),), secrets=(password.encode(), pair)))
