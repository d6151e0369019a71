"""Temporary access keys by web identity: one call to STS (AssumeRoleWithWebIdentity) for each."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import urlencode
from xml.parsers import expat

from sidekey.credentials.aws.sigv4 import AccessKey, CredentialScope, SigV4Signer
from sidekey.credentials.base import Attempt, Call, CallError, Grant, Issued, Lineage, Reply, Verdict
from sidekey.credentials.calls import error_of_status, is_token, json_object, retry_after, sent_at
from sidekey.credentials.secret_holder import SecretHolder

STEP = "AWS STS"

_CODES = frozenset(
    {
        "AccessDenied",
        "ExpiredTokenException",
        "IDPCommunicationError",
        "IDPRejectedClaim",
        "InvalidAction",
        "InvalidIdentityToken",
        "InvalidParameterValue",
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
        "RegionDisabledException",
        "Throttling",
        "ThrottlingException",
        "ValidationError",
    }
)
"""Its error codes, which are all that is ever repeated of a response."""

_THROTTLED = frozenset({"Throttling", "ThrottlingException"})
_ELSEWHERE = frozenset({"IDPCommunicationError"})
"""What may pass without a change: the identity provider could not be reached."""

_IDENTITY = re.compile(r"[A-Za-z0-9]{4,128}")
_MAX_LIFETIME = 43_200.0
"""Seconds: no role session is longer."""


def read_key(reply: Reply, now: float) -> tuple[AccessKey, float]:
    """The key, and how many seconds it lives. Raises CallFault.

    Its end is compared with the response's own Date: two readings of one clock, whatever the time here.
    """
    values = _values(reply.body)
    if reply.status != 200:
        raise _error(reply, values)
    identity, secret, token = (values.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise CallError("invalid", f"{STEP} did not return an access key")
    if not isinstance(secret, str) or not is_token(secret) or not isinstance(token, str) or not is_token(token):
        raise CallError("invalid", f"{STEP} did not return a secret access key and a session token")
    until = _moment(values.get("Expiration"))
    if until is None:
        raise CallError("invalid", f"{STEP} did not return when the access key expires")
    sent = sent_at(reply.headers)
    life = min(until - (now if sent is None else sent), _MAX_LIFETIME)
    return AccessKey(identity.encode(), secret.encode(), token.encode()), life


def _error(reply: Reply, values: Mapping[str, Any]) -> CallError:
    code = values.get("Code")
    if not isinstance(code, str) or code not in _CODES:
        return error_of_status(STEP, reply)
    if code in _THROTTLED:
        return CallError(
            "rate_limited", f"{STEP} returned {reply.status} ({code})", retry_after=retry_after(reply.headers)
        )
    if code in _ELSEWHERE:
        return CallError("unreachable", f"{STEP} returned {reply.status} ({code})")
    return error_of_status(STEP, reply, f"({code})", settings=True)


def _moment(value: object) -> float | None:
    """Seconds since the epoch: JSON has a number, XML a date in ISO 8601."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return None if math.isnan(value) else float(value)
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _values(body: bytes) -> Mapping[str, Any]:
    """The members of `Credentials`, or of `Error`; none where it is neither."""
    document = json_object(body)
    if document is None:
        return _of_xml(body)
    found: Any = document
    for name in ("AssumeRoleWithWebIdentityResponse", "AssumeRoleWithWebIdentityResult", "Credentials"):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        found = document.get("Error")
    return found if isinstance(found, dict) else {}


class _Leaves(SecretHolder):
    """Collects the texts of the elements directly in `Credentials` or `Error`, whatever their namespace."""

    __slots__ = ("_open", "found")

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._open: list[str] = []

    def __repr__(self) -> str:
        return "_Leaves(REDACTED)"

    def begin(self, name: str, _: dict[str, str]) -> None:
        self._open.append(name)

    def end(self, _: str) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        if len(self._open) > 1 and self._open[-2] in ("Credentials", "Error"):
            name = self._open[-1]
            self.found[name] = self.found.get(name, "") + text

    def refuse(self, *_: object) -> None:
        """Refuse a document type: with it would come entities."""
        raise ValueError("a response has no document type")


def _of_xml(body: bytes) -> Mapping[str, Any]:
    leaves = _Leaves()
    parser = expat.ParserCreate("utf-8")
    # Else each line end is a text of its own, and joining them one by one takes the square of their number.
    parser.buffer_text = True
    parser.StartElementHandler = leaves.begin
    parser.EndElementHandler = leaves.end
    parser.CharacterDataHandler = leaves.text
    parser.StartDoctypeDeclHandler = leaves.refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError):
        return {}
    return {name: text.strip() for name, text in leaves.found.items()}


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
    scope: CredentialScope
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


def grant_of(key: AccessKey, scope: CredentialScope, *, payload: bool) -> Grant:
    """A grant that signs; of the key only the session token is ever sent."""
    secrets = () if key.token is None else (key.token,)
    return Grant(secrets=secrets, signer=SigV4Signer(key, scope, payload=payload))
