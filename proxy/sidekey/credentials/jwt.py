"""The kind `jwt`: JSON Web Tokens (RFC 7519) that Sidekey signs itself."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import (
    Attempt,
    Call,
    CredentialTraits,
    Findings,
    Issued,
    KindSettings,
    Lineage,
    Provider,
    Reply,
    SecretInput,
    Verdict,
)
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs, Place
from sidekey.credentials.fields import (
    Keys,
    PemSecret,
    Reference,
    Secret,
    Text,
    check_not_empty,
    literal_check,
    refuse,
    require_exactly_if,
)
from sidekey.credentials.json_values import JsonDocument, Plain, Tree, fill_secrets, public_texts, references
from sidekey.credentials.jws_algorithms import KEY_PAIR_ALGORITHMS, SECRET_ALGORITHMS, Algorithm, check_library
from sidekey.credentials.key_formats import SecretEncoding
from sidekey.credentials.placement import Placement, TokenPlacement, placement_warnings
from sidekey.credentials.refresh_settings import RENEWAL_INTERVAL, RenewalInterval
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.units import Duration

# joserfc comes with the extra `jwt`. Without it `check_library` refuses every key that needs it.
with suppress(ImportError):
    from sidekey.credentials import jose

BACKDATING = 30
"""Seconds by which `iat` is in the past. An upstream whose clock is slow would reject a token from the future."""

DEFAULT_LIFETIME, MIN_LIFETIME, MAX_LIFETIME = 300.0, 60.0, 86_400.0
"""Seconds. Ghost accepts at most 5 minutes, GitHub 10, App Store Connect 20, and Snowflake an hour."""

_RESERVED_CLAIMS = frozenset({"exp", "iat", "jti", "nbf"})
_COMMON_CLAIMS = frozenset({"aud", "audience", "iss", "issuer", "scope", "sub", "subject"})
_KEY_PLACEHOLDER = "{public_key_sha256}"


def _check_lifetime(seconds: float) -> float:
    if not MIN_LIFETIME <= seconds <= MAX_LIFETIME:
        raise ValueError("must be 1m to 24h: another token is signed in time, and costs no call")
    return seconds


def _claim_errors(claims: Tree, algorithm: str | None) -> Iterator[tuple[Place, ValueError]]:
    for name in claims:
        if name in _RESERVED_CLAIMS:
            remedy = "for a random one write jti: true beside claims" if name == "jti" else "lifetime decides them"
            yield (name,), ValueError(f"this claim may not be set, since Sidekey sets iat and exp, or jti: {remedy}")
    for place, text in public_texts(claims):
        rest = text.replace(_KEY_PLACEHOLDER, "")
        if "{" in rest or "}" in rest:
            yield place, ValueError(f"must not contain braces, but in {_KEY_PLACEHOLDER}")
        elif rest != text and algorithm in SECRET_ALGORITHMS:
            yield place, ValueError(f"{_KEY_PLACEHOLDER} needs a private key: {algorithm} has a secret")


@dataclass(frozen=True, slots=True, repr=False)
class JwtCredential(SecretHolder):
    """Signs a token for each attempt. `claim_secrets` are the secrets among the claims: every token contains them."""

    calls_a_minute: ClassVar[int | None] = None

    signer: jose.TokenSigner
    claims: Mapping[str, Plain]
    claim_secrets: tuple[bytes, ...]
    lifetime: int
    random_id: bool
    placement: Placement
    lineage: Lineage

    def __repr__(self) -> str:
        return f"JwtCredential({self.signer!r})"

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Sign a token, without a call."""
        yield from ()
        issued_at = int(attempt.now) - BACKDATING
        expires_at = issued_at + self.lifetime
        claims: dict[str, Plain] = {**self.claims, "iat": issued_at, "exp": expires_at}
        if self.random_id:
            claims["jti"] = secrets.token_urlsafe(16)
        token = self.signer.sign(claims)
        lifetime = expires_at - attempt.now
        grant = self.placement.build_grant(token)
        return Issued(replace(grant, secrets=grant.secrets + self.claim_secrets), lifetime, renewed_after=lifetime / 2)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Return REJECTED for 401 (RFC 6750 3.1) with any scheme: a new token has other times and another ID."""
        del body
        return Verdict.REJECTED if status == 401 else Verdict.GOOD


class JwtSettings(KindSettings):
    """A JSON Web Token that Sidekey signs, and replaces before it expires. Needs the extra `jwt`."""

    title: ClassVar[str] = "Signed JWT"
    summary: ClassVar[str] = "A token that Sidekey signs"
    aliases: ClassVar[tuple[str, ...]] = (
        "JSON Web Token",
        "private key",
    )

    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType({"algorithm": "ES256", "claims": {}})

    filled_later: ClassVar[frozenset[str]] = frozenset({_KEY_PLACEHOLDER.strip("{}")})

    # Pydantic validates in this order, and a validator sees only the keys above its own.
    type: Literal["jwt"] = Field(description="The kind: a signed JWT (RFC 7519).")
    provider: Provider = None
    algorithm: Algorithm = Field(
        description="The signature algorithm (RFC 7518 3.1, RFC 8037, RFC 9864). `HS256`, `HS384` and `HS512` need a "
        "`secret`, the others a `private_key`."
    )
    private_key: PemSecret | None = Field(
        default=None,
        validate_default=True,
        description="The private key in PEM, without a passphrase, as a reference.",
    )
    secret: Secret | None = Field(
        default=None,
        validate_default=True,
        description="The secret, as a reference; at least as long as the hash (RFC 7518 3.2).",
    )
    secret_encoding: SecretEncoding = Field(default="text", description="The encoding of the secret. `text`: none.")
    key_id: Annotated[Annotated[Text, literal_check(check_not_empty)] | None, SAFE_TO_CHANGE] = Field(
        default=None, description="The key's identifier: the header `kid`."
    )
    lifetime: Annotated[Duration, AfterValidator(_check_lifetime), SAFE_TO_CHANGE] = Field(
        default=DEFAULT_LIFETIME,
        description="From `iat` to `exp`, `1m` to `24h`. `iat` is 30 seconds in the past, to allow for clock "
        "differences. Sidekey signs another token after half of the lifetime.",
    )
    claims: JsonDocument = Field(
        default={},
        description="The claims: text, numbers, booleans, lists, mappings, and secrets as references. "
        "`{public_key_sha256}` in a text is the base64 of the SHA-256 of the public key. You cannot set "
        "`iat`, `exp`, `nbf` and `jti`.",
    )
    jti: Annotated[bool, SAFE_TO_CHANGE] = Field(
        default=False, description="Whether each token has a random identifier, the claim `jti`."
    )
    token_placement: Annotated[TokenPlacement, ComparedAs(Placement.canonical)] = Field(
        default=Placement(),
        description="Where the token goes in a request: `header`, `body` or `query`, or `{in: header, name: "
        "Authorization, scheme: Bearer}`. `prefix` instead of `scheme` is any text.",
    )
    renewal_interval: RenewalInterval = RENEWAL_INTERVAL

    @field_validator("private_key")
    @classmethod
    def _check_private_key(cls, key: Reference | None, info: ValidationInfo) -> Reference | None:
        algorithm = info.data.get("algorithm")
        if algorithm is not None:
            require_exactly_if(
                key, algorithm in KEY_PAIR_ALGORITHMS, f"another algorithm: {algorithm} signs by a secret"
            )
        return key

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: Reference | None, info: ValidationInfo) -> Reference | None:
        algorithm = info.data.get("algorithm")
        if algorithm is not None:
            require_exactly_if(
                secret, algorithm in SECRET_ALGORITHMS, f"another algorithm: {algorithm} signs by a private_key"
            )
        return secret

    @field_validator("secret_encoding")
    @classmethod
    def _check_encoding(cls, encoding: SecretEncoding, info: ValidationInfo) -> SecretEncoding:
        if encoding != "text" and info.data.get("algorithm") in KEY_PAIR_ALGORITHMS:
            raise ValueError("may be used only with secret")
        return encoding

    @field_validator("claims")
    @classmethod
    def _check_claims(cls, claims: Tree, info: ValidationInfo) -> Tree:
        refuse(_claim_errors(claims, info.data.get("algorithm")))
        return claims

    @model_validator(mode="after")
    def _check_library(self) -> Self:
        check_library("signed tokens")
        return self

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield a warning for a token placement with disadvantages."""
        yield from placement_warnings(integration, "token_placement")

    @classmethod
    def hint(cls, key: str) -> str:
        """Return a hint for a claim that operators write as a key."""
        names = {"issuer": "iss", "audience": "aud", "subject": "sub"}
        return f"this is a claim: write claims: {{{names.get(key, key)}: ...}}" if key in _COMMON_CLAIMS else ""

    def traits(self) -> CredentialTraits:
        """Return the traits."""
        return CredentialTraits(
            self.token_placement.injection_points(),
            watched=frozenset({401}),
            renewal_interval=self.renewal_interval,
            signs_tokens=True,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield the key, its identifier, and the secrets among the claims."""

        def check_key(pem: str) -> None:
            jose.load_key(pem, self.algorithm)

        def check_secret(text: str) -> None:
            jose.load_secret(text, self.secret_encoding, self.algorithm)

        if self.private_key is not None:
            yield SecretInput(("private_key",), self.private_key, check_key)
        if self.secret is not None:
            yield SecretInput(("secret",), self.secret, check_secret)
        if self.key_id is not None:
            yield SecretInput(("key_id",), self.key_id, check_not_empty)
        yield from (SecretInput(key, reference) for key, reference in references(self.claims, "claims"))

    def credential(self, values: Mapping[Keys, str]) -> JwtCredential:
        """Build the credential."""
        key_id = values.get(("key_id",), "")
        if self.secret is not None:
            key = jose.load_secret(values["secret",], self.secret_encoding, self.algorithm)
            fill = fill_secrets
        else:
            pem = values["private_key",]
            key = jose.load_key(pem, self.algorithm)
            fingerprint = jose.public_key_sha256(pem)
            fill = partial(fill_secrets, convert_text=lambda text: text.replace(_KEY_PLACEHOLDER, fingerprint))
        claims = fill(self.claims, values, "claims")
        return JwtCredential(
            signer=jose.TokenSigner(key, self.algorithm, key_id),
            claims=claims,
            claim_secrets=tuple(values[key].encode() for key, _ in references(self.claims, "claims")),
            lifetime=int(self.lifetime),
            random_id=self.jti,
            placement=self.token_placement,
            lineage=self._lineage(values, claims),
        )

    def _lineage(self, values: Mapping[Keys, str], claims: Mapping[str, Plain]) -> Lineage:
        """Return the token's identity. Any change replaces the token, because a new one costs no call."""
        key = (values.get(("private_key",)), values.get(("secret",)), self.secret_encoding, values.get(("key_id",)))
        content = (json.dumps(claims, sort_keys=True), self.jti, self.lifetime, self.token_placement)
        return Lineage(client=("jwt", self.algorithm, *key), token=content, proof=())
