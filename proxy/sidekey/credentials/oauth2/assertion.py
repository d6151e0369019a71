"""Signed assertions (RFC 7523), which authenticate a client or are the grant (type `jwt_bearer`)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from sidekey.credentials.base import SecretInput
from sidekey.credentials.destination import SAFE_TO_CHANGE, TiedToSecret
from sidekey.credentials.fields import (
    Keys,
    PemSecret,
    PemText,
    Reference,
    Section,
    Text,
    check_not_empty,
    literal_check,
)
from sidekey.credentials.jws_algorithms import Algorithm, KeyPairAlgorithm, check_library
from sidekey.credentials.oauth2.parameters import FurtherClaims, Parameters, fill_parameters, references
from sidekey.credentials.secret_holder import SecretHolder

# joserfc comes with the extra `jwt`. Without it `check_library` refuses every key that needs it.
with suppress(ImportError):
    from sidekey.credentials import jose

LIFETIME = 120
"""Seconds. Servers accept five minutes, but their clock may differ."""


@dataclass(frozen=True, slots=True, repr=False)
class Assertion(SecretHolder):
    """Signs a new assertion for each request. It omits an empty `subject`."""

    signer: jose.TokenSigner
    issuer: str
    subject: str
    audience: str
    claims: Parameters = ()

    def __repr__(self) -> str:
        return f"Assertion({self.signer!r})"

    def sign(self, now: float) -> str:
        """Return a new assertion as a compact JWS. `now` is in seconds since the epoch."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "iat": int(now),
            "exp": int(now) + LIFETIME,
            # RFC 7523 3: a server may refuse an assertion that it has seen before.
            "jti": secrets.token_urlsafe(16),
            **dict(self.claims),
        }
        if self.subject:
            claims["sub"] = self.subject
        return self.signer.sign(claims)


class AssertionSettings(Section):
    """The keys that every assertion has. Needs the extra `jwt`."""

    SECTION: ClassVar[str]
    """The section's key under `auth`."""

    type: str
    algorithm: Algorithm
    key_id: Annotated[Text | None, SAFE_TO_CHANGE] = Field(
        default=None, description="The key's identifier: the header `kid`."
    )
    audience: Annotated[Text, literal_check(check_not_empty)] | None = Field(
        default=None, description="The audience (claim `aud`); default: the token endpoint."
    )
    claims: FurtherClaims = Field(default={}, description="Further claims, such as `scope`.")

    @model_validator(mode="after")
    def _check_library(self) -> Self:
        check_library("signed assertions")
        return self

    def texts(self) -> dict[str, Reference | None]:
        """Return the public texts by key."""
        return {"key_id": self.key_id, "audience": self.audience}

    def inputs(self) -> Iterator[SecretInput]:
        """Yield every text and secret that is set."""
        for name, text in self.texts().items():
            if text is not None:
                yield SecretInput((self.SECTION, name), text, check_not_empty)
        for key, reference in references(self.claims, self.SECTION, "claims"):
            yield SecretInput(key, reference)

    def find_mismatch(self, values: Mapping[Keys, str]) -> str | None:
        """Return an error if key and certificate do not belong together."""
        certificate, key = (values.get((self.SECTION, name)) for name in ("certificate", "private_key"))
        if certificate is None or key is None:
            return None
        try:
            jose.check_pair(certificate, key)
        except ValueError as error:
            return str(error)
        return None

    def build_assertion(self, values: Mapping[Keys, str], subject: str) -> Assertion:
        """Build the assertion. `subject` is the default for the claim `sub`, and may be empty."""

        def value_of(name: str, default: str = "") -> str:
            return values.get((self.SECTION, name), default)

        pem, certificate = value_of("private_key"), value_of("certificate")
        if pem:
            key = jose.load_key(pem, self.algorithm)
        else:
            key = jose.load_secret(values["client_secret",], "text", self.algorithm)
        return Assertion(
            signer=jose.TokenSigner(
                key, self.algorithm, value_of("key_id"), jose.thumbprint(certificate) if certificate else ""
            ),
            issuer=value_of("issuer", values["client_id",]),
            subject=value_of("subject", subject),
            audience=value_of("audience", values["token_endpoint",].partition("?")[0]),
            claims=fill_parameters(self.claims, values, self.SECTION, "claims"),
        )


class KeyAssertionSettings(AssertionSettings):
    """An assertion that a private key signs."""

    algorithm: KeyPairAlgorithm = Field(
        default="RS256", description="The signature algorithm (RFC 7518 3.1, RFC 9864)."
    )
    private_key: PemSecret = Field(description="The private key in PEM, without a passphrase, as a reference.")
    certificate: Annotated[PemText | None, SAFE_TO_CHANGE, TiedToSecret(("private_key",))] = Field(
        default=None,
        description="The key's certificate in PEM, for the header `x5t#S256`. Microsoft Entra requires it, with the "
        "algorithm `PS256`.",
    )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the key, its certificate, and the texts and secrets of every assertion."""

        def check_key(pem: str) -> None:
            jose.load_key(pem, self.algorithm)

        yield SecretInput((self.SECTION, "private_key"), self.private_key, check_key)
        if self.certificate is not None:
            yield SecretInput((self.SECTION, "certificate"), self.certificate, jose.check_certificate)
        yield from super().inputs()
