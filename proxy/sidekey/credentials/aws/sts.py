"""Temporary access keys from a web identity, one call of AssumeRoleWithWebIdentity to AWS STS for each key."""

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
from sidekey.credentials.calls import error_of_status, is_token, parse_json_object, retry_after, sent_at
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.token_file import FileToken

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
"""Error codes of STS that messages contain. They contain nothing else of a response."""

_THROTTLED = frozenset({"Throttling", "ThrottlingException"})
_TEMPORARY = frozenset({"IDPCommunicationError"})
"""Errors that may go away by themselves, such as an unreachable identity provider."""

_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9]{4,128}")
_MAX_LIFETIME = 43_200.0
"""The longest role session that AWS allows, in seconds."""


def parse_response(reply: Reply, now: float) -> tuple[AccessKey, float]:
    """Parse the access key and its lifetime in seconds. Raises CallError.

    The lifetime counts from the response's Date: the same clock set the expiry.
    """
    values = _read_members(reply.body)
    if reply.status != 200:
        raise _build_error(reply, values)
    identity, secret, token = (values.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    if not isinstance(identity, str) or not _ACCESS_KEY_ID.fullmatch(identity):
        raise CallError("invalid", f"{STEP} did not return an access key")
    if not isinstance(secret, str) or not is_token(secret) or not isinstance(token, str) or not is_token(token):
        raise CallError("invalid", f"{STEP} did not return a secret access key and a session token")
    until = _parse_time(values.get("Expiration"))
    if until is None:
        raise CallError("invalid", f"{STEP} did not return when the access key expires")
    sent = sent_at(reply.headers)
    lifetime = min(until - (now if sent is None else sent), _MAX_LIFETIME)
    return AccessKey(identity.encode(), secret.encode(), token.encode()), lifetime


def _build_error(reply: Reply, values: Mapping[str, Any]) -> CallError:
    code = values.get("Code")
    if not isinstance(code, str) or code not in _CODES:
        return error_of_status(STEP, reply)
    if code in _THROTTLED:
        return CallError(
            "rate_limited", f"{STEP} returned {reply.status} ({code})", retry_after=retry_after(reply.headers)
        )
    if code in _TEMPORARY:
        return CallError("unreachable", f"{STEP} returned {reply.status} ({code})")
    return error_of_status(STEP, reply, f"({code})", needs_config_change=True)


def _parse_time(value: object) -> float | None:
    """Parse seconds since the epoch from a number (JSON) or a date in ISO 8601 (XML)."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return None if math.isnan(value) else float(value)
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _read_members(body: bytes) -> Mapping[str, Any]:
    """Return the members of `Credentials` or `Error`, or none if the body has neither."""
    document = parse_json_object(body)
    if document is None:
        return _read_xml_members(body)
    value: Any = document
    for name in ("AssumeRoleWithWebIdentityResponse", "AssumeRoleWithWebIdentityResult", "Credentials"):
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        value = document.get("Error")
    return value if isinstance(value, dict) else {}


class _Leaves(SecretHolder):
    """Collects the texts of the elements directly in `Credentials` or `Error`, in any namespace."""

    __slots__ = ("_open", "texts")

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
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
            self.texts[name] = self.texts.get(name, "") + text

    def refuse(self, *_: object) -> None:
        """Refuse a document type, because it may define entities."""
        raise ValueError("a response has no document type")


def _read_xml_members(body: bytes) -> Mapping[str, Any]:
    leaves = _Leaves()
    parser = expat.ParserCreate("utf-8")
    # Without the buffer, each line end is a separate text, and joining them takes quadratic time.
    parser.buffer_text = True
    parser.StartElementHandler = leaves.begin
    parser.EndElementHandler = leaves.end
    parser.CharacterDataHandler = leaves.text
    parser.StartDoctypeDeclHandler = leaves.refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError):
        return {}
    return {name: text.strip() for name, text in leaves.texts.items()}


@dataclass(frozen=True, slots=True, repr=False)
class WebIdentity(SecretHolder):
    """A role at an endpoint of STS, and the token that proves the identity."""

    endpoint: str
    role_arn: str
    session_name: str
    token: FileToken

    def __repr__(self) -> str:
        return f"WebIdentity({self.role_arn}, REDACTED)"


@dataclass(frozen=True, slots=True, repr=False)
class WebIdentityCredential(SecretHolder):
    """Obtains temporary access keys from STS. It signs the body of requests if `sign_payload` is true."""

    calls_a_minute: ClassVar[int | None] = None

    identity: WebIdentity
    scope: CredentialScope
    sign_payload: bool

    def __repr__(self) -> str:
        return f"WebIdentityCredential({self.identity!r})"

    @property
    def lineage(self) -> Lineage:
        """The identity of the access keys: the role is the client, and the identity of the token its proof.

        A rotated token keeps the access key.
        """
        identity = self.identity
        client = ("aws_sigv4", identity.endpoint, identity.role_arn, identity.session_name)
        return Lineage(client, (*self.scope, self.sign_payload), identity.token.identity)

    def obtain(self, attempt: Attempt) -> Generator[Call, Reply, Issued]:
        """Call STS. Raises CallError."""
        identity = self.identity
        fields = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": identity.role_arn,
            "RoleSessionName": identity.session_name,
            "WebIdentityToken": identity.token.text,
        }
        headers = (("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded"))
        reply = yield Call(STEP, "POST", identity.endpoint, headers, urlencode(fields).encode("ascii"))
        key, lifetime = parse_response(reply, attempt.now)
        return Issued(signing_grant(key, self.scope, sign_payload=self.sign_payload), lifetime)

    def verdict(self, status: int, body: bytes | None) -> Verdict:
        """Accept every response: AWS refuses an expired key with 400 or 403, as it refuses other requests."""
        del status, body
        return Verdict.GOOD


def signing_grant(key: AccessKey, scope: CredentialScope, *, sign_payload: bool) -> Grant:
    """Build a grant that signs. Requests contain no secret but the session token of the key."""
    secrets = () if key.token is None else (key.token,)
    return Grant(secrets=secrets, signer=SigV4Signer(key, scope, sign_payload=sign_payload))
