"""Temporary access keys by web identity: one call to STS (AssumeRoleWithWebIdentity) for each."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from sidekey.core.sigv4 import AccessKey, Scope, SigV4Signer
from sidekey.credentials.aws.sts_response import STEP, read_key
from sidekey.credentials.base import Attempt, Call, Grant, Issued, Lineage, Reply, Verdict
from sidekey.credentials.secret_holder import SecretHolder

_TOKEN = re.compile(r"[\x21-\x7e]+")


def check_token(text: str) -> None:
    """Refuse what is no token: JWTs and SAML assertions are visible ASCII."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("must be a token: visible ASCII characters only")


@dataclass(frozen=True, slots=True, repr=False)
class WebIdentity(SecretHolder):
    """Who asks for which role, and where."""

    endpoint: str
    role_arn: str
    session_name: str
    token: str

    def __repr__(self) -> str:
        return f"WebIdentity({self.role_arn}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class WebIdentityCredential(SecretHolder):
    """Obtains an access key and signs with it; `payload`: whether the body is signed."""

    calls_a_minute: ClassVar[int | None] = None

    identity: WebIdentity
    scope: Scope
    payload: bool

    def __repr__(self) -> str:
        return f"WebIdentityCredential({self.identity!r})"

    @property
    def lineage(self) -> Lineage:
        """A key is the role's; a new token of the same identity only proves it again."""
        identity = self.identity
        client = ("aws_sigv4", identity.endpoint, identity.role_arn, identity.session_name)
        return Lineage(client, (*self.scope, self.payload), (identity.token,))

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """One call. Raises CallFault."""
        identity = self.identity
        fields = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": identity.role_arn,
            "RoleSessionName": identity.session_name,
            "WebIdentityToken": identity.token,
        }
        headers = (("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded"))
        reply = yield Call(STEP, "POST", identity.endpoint, headers, urlencode(fields).encode("ascii"))
        return self._issued(read_key(reply, attempt.now))

    def _issued(self, found: tuple[AccessKey, float]) -> Issued:
        key, life = found
        return Issued(grant_of(key, self.scope, payload=self.payload), life)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Nothing is watched: AWS refuses an expired key by 400 or 403, as it refuses much else."""
        del status, body
        return Verdict.GOOD


def grant_of(key: AccessKey, scope: Scope, *, payload: bool) -> Grant:
    """A grant that signs; of the key only the session token is ever sent."""
    secrets = () if key.token is None else (key.token,)
    return Grant(secrets=secrets, signer=SigV4Signer(key, scope, payload=payload))
