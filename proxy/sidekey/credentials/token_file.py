"""Tokens in files that another program replaces, such as the projected token of a Kubernetes ServiceAccount.

Sidekey reads the file before each call (`Reference.reread`), so a rotation needs no reload.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import WithJsonSchema

from sidekey.credentials.context import Context, FileOnly, parsed_by
from sidekey.credentials.fields import REDACT, Reference, external_reference, shape_marker, single_source
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.json_reader import parse_json

LEEWAY: Final = 60.0
"""Seconds after its expiry for which a token still counts as valid: the clocks of issuer and servers may differ."""

_REASON: Final = "reads a file of Sidekey's machine, which a stored integration may not"
_TOKEN = re.compile(r"[\x21-\x7e]+")
_LATEST: Final = 1e11
"""The largest `exp` that is a time in seconds: the year 5138."""

_API_SERVER: Final = "https://kubernetes.default.svc"
_LEGACY_ISSUER: Final = "kubernetes/serviceaccount"
"""The issuer of Kubernetes' tokens in Secrets. They have no audience and no expiry."""


def _parse_token_file(raw: object, context: Context) -> Reference:
    remedy = "write {file: PATH}: the token is read again for each call"
    if not context.is_file:
        raise ValueError(_REASON)
    if not isinstance(raw, Mapping):
        # pydantic reports ValueError.
        raise ValueError(f"must be a file: {remedy}")  # noqa: TRY004
    return replace(external_reference(*single_source(raw, ("file",), remedy)), reread=True)


TokenFile = Annotated[Reference, parsed_by(_parse_token_file), REDACT, WithJsonSchema(shape_marker("token_file"))]
"""A file with a token: only {file}, because a variable or a text cannot be replaced while Sidekey runs."""


def needs_file(remedy: str) -> FileOnly:
    """Return the mark of a key that only a config file may set, because it reads a file."""
    return FileOnly(f"{_REASON}: {remedy}")


@dataclass(frozen=True, slots=True, repr=False)
class FileToken(SecretHolder):
    """A token, and the path of its file as the config writes it."""

    path: str
    text: str

    def __repr__(self) -> str:
        return f"FileToken({self.path}, REDACTED)"

    @property
    def identity(self) -> tuple[str, ...]:
        """The path, and the claims that name the issuer and the subject: a rotation changes none of them."""
        claims = _read_claims(self.text)
        # In ASCII, because a claim may contain a lone surrogate, which cannot be encoded.
        return (self.path, *(ascii(claims.get(name)) for name in ("iss", "sub")))


def check_token(text: str) -> None:
    """Raise ValueError unless the text is visible ASCII, as JWTs and SAML assertions are.

    Also refuse a token for the API server of Kubernetes, because whoever receives it may act in the cluster.
    """
    if not _TOKEN.fullmatch(text):
        raise ValueError("must be a token: visible ASCII characters only")
    claims = _read_claims(text)
    audiences = claims.get("aud")
    audiences = audiences if isinstance(audiences, list) else [audiences]
    issuer = claims.get("iss")
    is_for_cluster = any(isinstance(item, str) and item.startswith(_API_SERVER) for item in audiences)
    # By default, the audience of the API server is its issuer.
    is_for_issuer = "kubernetes.io" in claims and issuer in audiences
    if is_for_cluster or is_for_issuer or issuer == _LEGACY_ISSUER:
        raise ValueError(
            "must not be a token for the Kubernetes API server, with which its receiver could act in the cluster: "
            "project a ServiceAccount token with the audience of the token endpoint"
        )


def check_expiry(path: str, text: str, now: float) -> None:
    """Raise ValueError if the token in a file is a JWT that has expired at `now`, in seconds since the epoch.

    The server verifies the token. This only names the cause, before a call.
    """
    expiry = _read_claims(text).get("exp")
    if isinstance(expiry, int | float) and 0 <= expiry < min(now - LEEWAY, _LATEST):
        moment = f"{datetime.fromtimestamp(expiry, UTC):%Y-%m-%d %H:%M:%S} UTC"
        raise ValueError(f"the token in {path} expired on {moment}: is the file still refreshed?")


def token_check(reference: Reference) -> Callable[[str], None]:
    """Return `check_token` for a file, whose path its errors name."""

    def check(text: str) -> None:
        try:
            check_token(text)
        except ValueError as error:
            raise ValueError(f"{reference.value} {error}") from None

    return check


def _read_claims(token: str) -> Mapping[str, Any]:
    """Return the claims of a JWS in compact form (RFC 7519), without verification, or none for any other token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = parse_json(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}
