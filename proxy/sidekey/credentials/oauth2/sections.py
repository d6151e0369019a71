"""The mappings inside an `auth` block of the OAuth 2.0 kind: the token request, its response, the assertion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails
from pydantic_core.core_schema import ValidationInfo

from sidekey.core.parameters import Names
from sidekey.credentials.algorithms import OF_PAIRS, OF_SECRETS, Algorithm, check_library
from sidekey.credentials.base import SecretInput
from sidekey.credentials.destination import HARMLESS, GoesWith
from sidekey.credentials.fields import (
    FieldPath,
    Keys,
    PemSecret,
    PemText,
    Text,
    check_not_empty,
    literally,
    refuse_places,
)
from sidekey.credentials.header_values import CallHeaders
from sidekey.credentials.oauth2.parameters import (
    FurtherClaims,
    FurtherParameters,
    filled,
    references,
)

# joserfc comes with the extra `jwt`. Without it `check_library` refuses every key that needs it.
with suppress(ImportError):
    from sidekey.credentials import jose
    from sidekey.credentials.oauth2.assertion import Assertion


def refuse_keys(section: BaseModel, keys: tuple[str, ...], reason: str) -> None:
    """Raise pydantic's error with an error at each of `keys` that the config writes."""
    refuse_places(((key,) for key in keys if key in section.model_fields_set), reason)


def require_key(section: BaseModel, key: str) -> None:
    """Raise pydantic's error where the config leaves out a key that the model does not require."""
    if key not in section.model_fields_set:
        errors = [InitErrorDetails(type="missing", loc=(key,), input=None)]
        raise ValidationError.from_exception_data("config", errors, hide_input=True)


class _Section(BaseModel):
    """A mapping under `auth`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True, defer_build=True)


class TokenRequestSettings(_Section):
    """The request to the token endpoint."""

    method: Literal["POST", "GET"] = Field(
        default="POST", description="Method. With `GET`, all parameters go into the query."
    )
    format: Literal["form", "json"] = Field(default="form", description="How the body is encoded.")
    body: FurtherParameters = Field(
        default={},
        description="Further body parameters, such as `scope`: text, numbers, booleans, or secrets as references. "
        "Sidekey does not send an empty scope.",
    )
    query: FurtherParameters = Field(
        default={}, description="Further query parameters, written like `body`. None may be in both."
    )
    headers: CallHeaders = Field(
        default={},
        description="Further headers, such as an API key: a public text, or `{prefix: TEXT, secret: REFERENCE}`. "
        "Sidekey adds `Accept: application/json` if you set no `Accept`.",
    )

    @field_validator("query")
    @classmethod
    def _check_once(cls, query: FurtherParameters, info: ValidationInfo) -> FurtherParameters:
        body = Names(info.data.get("body", ()))
        twice = ((name,) for name in query if body.find(name) is not None)
        refuse_places(twice, "this parameter is also in the body: remove one")
        return query

    def places(self) -> Iterator[Keys]:
        """The place of each further parameter."""
        yield from (("body", name) for name in self.body)
        yield from (("query", name) for name in self.query)

    @model_validator(mode="after")
    def _check_get(self) -> Self:
        if self.method == "GET":
            keys = ("body", "format") if self.format == "json" else ("body",)
            refuse_keys(self, keys, "may not be used with GET, which has no body: write all parameters under query")
        return self


class TokenResponseSettings(_Section):
    """Fields of the token endpoint's response, with dots between the names of nested objects."""

    access_token: FieldPath = Field(default="access_token", description="The token.")
    expires_in: Annotated[FieldPath, HARMLESS] = Field(
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


class AssertionSettings(_Section):
    """A signed assertion (RFC 7523). Needs the extra `jwt`."""

    private_key: PemSecret | None = Field(
        default=None,
        description="The private key in PEM, without a passphrase, as a reference. `client_secret_jwt` needs none.",
    )
    key_id: Annotated[Text | None, HARMLESS] = Field(
        default=None, description="The key's identifier: the header `kid`."
    )
    algorithm: Algorithm = Field(
        default="RS256",
        description="The signature algorithm (RFC 7518 3.1, RFC 9864). With `client_secret_jwt`: `HS256`, `HS384` or "
        "`HS512`; otherwise any other.",
    )
    certificate: Annotated[PemText | None, HARMLESS, GoesWith("private_key")] = Field(
        default=None,
        description="The key's certificate in PEM, for the header `x5t#S256`, which Microsoft Entra requires.",
    )
    audience: Annotated[Text, literally(check_not_empty)] | None = Field(
        default=None, description="The audience (claim `aud`); default: the token endpoint."
    )
    issuer: Annotated[Text, literally(check_not_empty)] | None = Field(
        default=None, description="With grant `jwt_bearer`: the issuer (claim `iss`); default: the `client_id`."
    )
    subject: Annotated[Text, literally(check_not_empty)] | None = Field(
        default=None, description="With grant `jwt_bearer`: the subject (claim `sub`)."
    )
    claims: FurtherClaims = Field(default={}, description="Further claims, such as `scope`.")

    @model_validator(mode="after")
    def _check_library(self) -> Self:
        check_library("signed assertions")
        return self

    def check_by_key(self) -> None:
        """Raise pydantic's error where it cannot be signed by a private key."""
        if self.algorithm not in OF_PAIRS:
            refuse_keys(self, ("algorithm",), "may be used only with client_authentication client_secret_jwt")
        require_key(self, "private_key")

    def check_by_secret(self) -> None:
        """Raise pydantic's error where it cannot be signed by the client's secret."""
        refuse_keys(
            self, ("private_key", "certificate"), "may not be used with client_secret_jwt, which signs by client_secret"
        )
        if self.algorithm not in OF_SECRETS:
            refuse_places([("algorithm",)], f"must be one of {', '.join(OF_SECRETS)} with client_secret_jwt")

    def inputs(self) -> Iterator[SecretInput]:
        """The key, and every text that is given."""

        def check_key(pem: str) -> None:
            jose.load_key(pem, self.algorithm)

        if self.private_key is not None:
            yield SecretInput(("assertion", "private_key"), self.private_key, check_key)
        if self.certificate is not None:
            yield SecretInput(("assertion", "certificate"), self.certificate, jose.check_certificate)
        texts = {"key_id": self.key_id, "audience": self.audience, "issuer": self.issuer, "subject": self.subject}
        for name, text in texts.items():
            if text is not None:
                yield SecretInput(("assertion", name), text, check_not_empty)
        for key, reference in references(self.claims, "assertion", "claims"):
            yield SecretInput(key, reference)

    def mismatch(self, values: Mapping[Keys, str]) -> str | None:
        """Why key and certificate do not go together; None where they do, or one was not read."""
        certificate, key = (values.get(("assertion", name)) for name in ("certificate", "private_key"))
        if certificate is None or key is None:
            return None
        try:
            jose.check_pair(certificate, key)
        except ValueError as error:
            return str(error)
        return None

    def signer(self, values: Mapping[Keys, str], subject: str) -> Assertion:
        """What signs an assertion; `subject` is that of the client's own, empty where it is the grant."""

        def of(name: str, default: str = "") -> str:
            return values.get(("assertion", name), default)

        if self.private_key is None:
            key = jose.load_secret(values["client_secret",], "text", self.algorithm)
        else:
            key = jose.load_key(of("private_key"), self.algorithm)
        certificate = of("certificate")
        return Assertion(
            signer=jose.TokenSigner(
                key, self.algorithm, of("key_id"), jose.thumbprint(certificate) if certificate else ""
            ),
            issuer=of("issuer", values["client_id",]),
            subject=of("subject", subject),
            audience=of("audience", values["token_endpoint",].partition("?")[0]),
            claims=filled(self.claims, values, "assertion", "claims"),
        )
