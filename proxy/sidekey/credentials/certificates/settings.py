"""The config of a client certificate: `client_certificate`, or keys of `auth` in kinds such as mtls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.destination import SAFE_TO_CHANGE, TiedToSecret
from sidekey.credentials.endpoint import check_endpoint
from sidekey.credentials.fields import (
    REDACT,
    Reference,
    Secret,
    Section,
    StoredForm,
    entered_id,
    external_reference,
    keeps_stored_secret,
    refuse_entered,
    refuse_file_reference,
    refuse_key,
    shape_marker,
    single_source,
    stored_secret,
    stored_secret_id,
)
from sidekey.credentials.units import Duration

MATERIAL = ("pem", "certificate", "private_key")
"""The keys that hold a certificate, a private key, or both."""

_CERTIFICATE_REMEDY = "use {file: PATH}, {env: NAME}, {url: URL} or {inline: PEM}"
_KEY_REMEDY = "use {file: PATH}, {env: NAME} or {url: URL}"
_SEND_PEM = "send {inline: PEM} or {url: URL}"
_SEND_KEY = "send {value: PEM} or {url: URL}, which are sealed"


def parse_certificate(raw: object, context: Context) -> Reference:
    """Parse the reference to a certificate: {url} or {inline}; in a file also {file} or {env}."""
    if not isinstance(raw, Mapping):
        reason = f"a certificate must be a reference: {_CERTIFICATE_REMEDY}"
        raise ValueError(reason if context.is_file else f"must not be a bare text: {_SEND_PEM}")  # noqa: TRY004
    if not context.is_file:
        refuse_file_reference(raw, _SEND_PEM)
        if "url" in raw:
            return _stored_url(raw, context)
        if "value" in raw:
            raise ValueError(f"a certificate is public, and not sealed: {_SEND_PEM}")
        if list(raw) != ["inline"]:
            raise ValueError(f"must have one key: {_SEND_PEM}")
    source, value = single_source(raw, ("file", "env", "url", "inline"), _CERTIFICATE_REMEDY)
    if source != "inline":
        return _parse_external(source, value, "inline")
    refuse_key(value, "write it under private_key or pem")
    return Reference("inline", _check_not_blank(value))


def parse_key(raw: object, context: Context) -> Reference:
    """Parse the reference to a private key, or to a PEM with both: {url}, or a secret."""
    if not isinstance(raw, Mapping):
        reason = f"a secret may not be written inline: {_KEY_REMEDY}"
        raise ValueError(reason if context.is_file else f"must not be a bare text: {_SEND_KEY}")  # noqa: TRY004
    if not context.is_file:
        return _stored_url(raw, context) if "url" in raw else stored_secret(raw, context, pem=True)
    source, value = single_source(raw, ("file", "env", "url", "insecure_value"), _KEY_REMEDY)
    if source != "insecure_value":
        return _parse_external(source, value)
    return Reference("insecure_value", _check_not_blank(value))


def _stored_url(raw: Mapping[str, Any], context: Context) -> Reference:
    """Parse the URL of a body or row. It is sealed, because the URL alone may give access."""
    if list(raw) != ["url"]:
        raise ValueError("must have one key, url, whose value is sealed")
    url = raw["url"]
    if isinstance(url, Mapping) and keeps_stored_secret(url):
        return Reference("stored_url", stored_secret_id(url))
    refuse_entered(context)
    if not isinstance(url, str):
        raise ValueError("url must be a text")  # noqa: TRY004 - pydantic reports ValueError
    _parse_external("url", url)
    return Reference("stored_url", entered_id(raw))


def _parse_external(source: str, value: str, form: StoredForm = "value") -> Reference:
    if source != "url":
        return external_reference(source, value, form=form)
    if not value.lower().startswith("https://"):
        raise ValueError("must be an https URL: http does not prove where a certificate or key comes from")
    check_endpoint(value)
    return Reference("url", value)


def _check_not_blank(text: str) -> str:
    # The certificate loader checks the content, and reports its errors as for a file.
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _at_least_a_minute(seconds: float) -> float:
    if seconds < 60:
        raise ValueError("must be at least 1m")
    return seconds


CertificateSource = Annotated[
    Reference,
    parsed_by(parse_certificate),
    REDACT,
    WithJsonSchema(shape_marker("certificate_source")),
]
KeySource = Annotated[
    Reference,
    parsed_by(parse_key),
    REDACT,
    WithJsonSchema(shape_marker("key_source")),
]


class CertificateSettings(Section):
    """The certificate that Sidekey sends to the upstream in the TLS handshake, in addition to what `auth` adds."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["pem"]}, {"required": ["certificate", "private_key"]}]}
    )

    # Pydantic validates in this order, and a validator sees only the keys above its own.
    pem: KeySource | None = Field(
        default=None,
        description="One PEM with certificate, chain and private key, instead of `certificate` and `private_key`.",
    )
    certificate: Annotated[CertificateSource | None, SAFE_TO_CHANGE, TiedToSecret(("private_key",))] = Field(
        default=None,
        validate_default=True,
        description="The certificate in PEM, with its intermediates in any order.",
    )
    private_key: KeySource | None = Field(
        default=None, validate_default=True, description="Its private key in PEM (PKCS#8, PKCS#1 or SEC 1)."
    )
    key_passphrase: Annotated[Secret | None, TiedToSecret(("private_key", "pem"))] = Field(
        default=None, description="Passphrase of an encrypted private key, as a reference."
    )
    allow_private_ca: Annotated[bool, SAFE_TO_CHANGE] = Field(
        default=False,
        description="Whether the certificate may be self-signed or issued by a CA that is not in Mozilla's bundle, "
        "such as a bank's own.",
    )
    refresh: Annotated[Duration, AfterValidator(_at_least_a_minute), SAFE_TO_CHANGE] = Field(
        default=3600.0, description="How often Sidekey fetches a `{url}` again; at least `1m`."
    )

    @field_validator("certificate", "private_key")
    @classmethod
    def _check_parts(cls, reference: Reference | None, info: ValidationInfo) -> Reference | None:
        if "pem" in info.data:
            has_pem = info.data["pem"] is not None
            if has_pem and reference is not None:
                raise ValueError("may not be used with pem, which contains both certificate and key: remove one")
            if not has_pem and reference is None:
                raise PydanticKnownError("missing")
        return reference

    @field_validator("refresh")
    @classmethod
    def _check_refresh(cls, seconds: float, info: ValidationInfo) -> float:
        references = [info.data[key] for key in MATERIAL if key in info.data]
        if len(references) == len(MATERIAL) and not any(
            reference is not None and reference.source in ("url", "stored_url") for reference in references
        ):
            raise ValueError("may be used only with {url}: files are watched")
        return seconds

    def references(self) -> dict[str, Reference]:
        """Return the configured references of `pem`, `certificate` and `private_key`, by key."""
        return {key: reference for key in MATERIAL if (reference := getattr(self, key)) is not None}
