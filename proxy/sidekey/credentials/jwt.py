"""Tokens that are signed here: JSON Web Tokens (RFC 7519) that an upstream knows by their signature alone."""

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
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs
from sidekey.credentials.fields import (
    Keys,
    PemSecret,
    Reference,
    Secret,
    Text,
    check_both_ways,
    check_not_empty,
    literally,
    refuse,
)
from sidekey.credentials.jose import OF_PAIRS, OF_SECRETS, Algorithm, check_library
from sidekey.credentials.json_values import Place, Plain, Tree, WrittenTree, filled, references, texts
from sidekey.credentials.key_formats import SecretEncoding
from sidekey.credentials.placement import Placement, TokenPlacement, placement_warnings
from sidekey.credentials.refresh_settings import RENEWAL_INTERVAL, RenewalInterval
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.units import Duration

# joserfc comes with the extra `jwt`. Without it `check_library` refuses every key that needs it.
with suppress(ImportError):
    from sidekey.credentials import jose

BACK = 30
"""Seconds by which `iat` is in the past: an upstream whose clock is behind would not accept what is issued later."""

LIFE, LEAST_LIFE, LONGEST_LIFE = 300.0, 60.0, 86_400.0
"""Seconds. Ghost takes no token of more than 5 minutes, GitHub of 10, App Store Connect of 20, Snowflake of an hour."""

_OWN = frozenset({"exp", "iat", "jti", "nbf"})
_OFTEN_CLAIMS = frozenset({"aud", "audience", "iss", "issuer", "scope", "sub", "subject"})
_FINGERPRINT = "{public_key_sha256}"


def _check_life(seconds: float) -> float:
    if not LEAST_LIFE <= seconds <= LONGEST_LIFE:
        raise ValueError("must be 1m to 24h: another token is signed in time, and costs no call")
    return seconds


def _claim_errors(claims: Tree, algorithm: str | None) -> Iterator[tuple[Place, ValueError]]:
    for name in claims:
        if name in _OWN:
            way_out = "for a random one write jti: true beside claims" if name == "jti" else "lifetime decides them"
            yield (name,), ValueError(f"this claim may not be set, since Sidekey sets iat and exp, or jti: {way_out}")
    for place, text in texts(claims):
        rest = text.replace(_FINGERPRINT, "")
        if "{" in rest or "}" in rest:
            yield place, ValueError(f"must not contain braces, but in {_FINGERPRINT}")
        elif rest != text and algorithm in OF_SECRETS:
            yield place, ValueError(f"{_FINGERPRINT} needs a private key: {algorithm} has a secret")


@dataclass(frozen=True, slots=True, repr=False)
class JwtCredential(SecretHolder):
    """What is signed each time, and by whom. `claimed` are the secrets among the claims, which each token tells."""

    calls_a_minute: ClassVar[int | None] = None

    signer: jose.TokenSigner
    claims: Mapping[str, Plain]
    claimed: tuple[bytes, ...]
    lifetime: int
    random_id: bool
    placement: Placement
    lineage: Lineage

    def __repr__(self) -> str:
        return f"JwtCredential({self.signer!r})"

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """No call: a token is signed."""
        yield from ()
        issued_at = int(attempt.now) - BACK
        expires_at = issued_at + self.lifetime
        own: dict[str, Plain] = {"iat": issued_at, "exp": expires_at}
        if self.random_id:
            own["jti"] = secrets.token_urlsafe(16)
        token = self.signer.sign({**self.claims, **own})
        left = expires_at - attempt.now
        grant = self.placement.grant(token)
        return Issued(replace(grant, secrets=grant.secrets + self.claimed), left, renewed_after=left / 2)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """RFC 6750 3.1, also under other schemes: another token has other times, and another ID."""
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

    filled_later: ClassVar[frozenset[str]] = frozenset({_FINGERPRINT.strip("{}")})

    # The order counts: each check sees the keys above its own.
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
    key_id: Annotated[Annotated[Text, literally(check_not_empty)] | None, SAFE_TO_CHANGE] = Field(
        default=None, description="The key's identifier: the header `kid`."
    )
    lifetime: Annotated[Duration, AfterValidator(_check_life), SAFE_TO_CHANGE] = Field(
        default=LIFE,
        description="From `iat` to `exp`, `1m` to `24h`. `iat` is 30 seconds in the past, to allow for clock "
        "differences. Sidekey signs another token after half of the lifetime.",
    )
    claims: WrittenTree = Field(
        default={},
        description="The claims: text, numbers, booleans, lists, mappings, and secrets as references. "
        "`{public_key_sha256}` in a text is the base64 of the SHA-256 of the public key. You cannot set "
        "`iat`, `exp`, `nbf` and `jti`.",
    )
    jti: Annotated[bool, SAFE_TO_CHANGE] = Field(
        default=False, description="Whether each token has a random identifier, the claim `jti`."
    )
    token_placement: Annotated[TokenPlacement, ComparedAs(Placement.spelled)] = Field(
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
            check_both_ways(key, algorithm in OF_PAIRS, f"another algorithm: {algorithm} signs by a secret")
        return key

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: Reference | None, info: ValidationInfo) -> Reference | None:
        algorithm = info.data.get("algorithm")
        if algorithm is not None:
            check_both_ways(secret, algorithm in OF_SECRETS, f"another algorithm: {algorithm} signs by a private_key")
        return secret

    @field_validator("secret_encoding")
    @classmethod
    def _check_encoding(cls, encoding: SecretEncoding, info: ValidationInfo) -> SecretEncoding:
        if encoding != "text" and info.data.get("algorithm") in OF_PAIRS:
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
        """A placement of the token that has disadvantages."""
        yield from placement_warnings(integration, "token_placement")

    @classmethod
    def hint(cls, key: str) -> str:
        """A claim that many libraries take as a parameter."""
        names = {"issuer": "iss", "audience": "aud", "subject": "sub"}
        return f"this is a claim: write claims: {{{names.get(key, key)}: ...}}" if key in _OFTEN_CLAIMS else ""

    def traits(self) -> CredentialTraits:
        """One place; it calls nowhere."""
        return CredentialTraits(
            self.token_placement.places(),
            watched=frozenset({401}),
            renewal_interval=self.renewal_interval,
            signs=True,
        )

    def inputs(self) -> Iterator[SecretInput]:
        """The key, its identifier, and the secrets among the claims."""

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
        yield from (SecretInput(*each) for each in references(self.claims, "claims"))

    def credential(self, values: Mapping[Keys, str]) -> JwtCredential:
        """The credential with everything read."""
        key_id = values.get(("key_id",), "")
        if self.secret is not None:
            key = jose.load_secret(values["secret",], self.secret_encoding, self.algorithm)
            fill = filled
        else:
            pem = values["private_key",]
            key = jose.load_key(pem, self.algorithm)
            fingerprint = jose.public_key_sha256(pem)
            fill = partial(filled, text=lambda text: text.replace(_FINGERPRINT, fingerprint))
        claims = fill(self.claims, values, "claims")
        return JwtCredential(
            signer=jose.TokenSigner(key, self.algorithm, key_id),
            claims=claims,
            claimed=tuple(values[key].encode() for key, _ in references(self.claims, "claims")),
            lifetime=int(self.lifetime),
            random_id=self.jti,
            placement=self.token_placement,
            lineage=self._lineage(values, claims),
        )

    def _lineage(self, values: Mapping[Keys, str], claims: Mapping[str, Plain]) -> Lineage:
        """One that costs nothing is not worth keeping where anything of it has changed."""
        key = (values.get(("private_key",)), values.get(("secret",)), self.secret_encoding, values.get(("key_id",)))
        said = (json.dumps(claims, sort_keys=True), self.jti, self.lifetime, self.token_placement)
        return Lineage(client=("jwt", self.algorithm, *key), token=said, proof=())
