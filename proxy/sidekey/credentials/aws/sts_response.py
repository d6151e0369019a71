"""What STS returned: an access key and when it ends, or why there is none. JSON, where it knows that; else XML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from xml.parsers import expat

from sidekey.core.sigv4 import AccessKey
from sidekey.credentials.base import CallFault, Reply
from sidekey.credentials.endpoint_reply import error_of_status, is_token, json_object, retry_after, sent_at
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
_LONGEST_LIFE = 43_200.0
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
        raise CallFault("invalid", f"{STEP} did not return an access key")
    if not isinstance(secret, str) or not is_token(secret) or not isinstance(token, str) or not is_token(token):
        raise CallFault("invalid", f"{STEP} did not return a secret access key and a session token")
    until = _moment(values.get("Expiration"))
    if until is None:
        raise CallFault("invalid", f"{STEP} did not return when the access key expires")
    sent = sent_at(reply.headers)
    life = min(until - (now if sent is None else sent), _LONGEST_LIFE)
    return AccessKey(identity.encode(), secret.encode(), token.encode()), life


def _error(reply: Reply, values: Mapping[str, Any]) -> CallFault:
    code = values.get("Code")
    if not isinstance(code, str) or code not in _CODES:
        return error_of_status(STEP, reply)
    if code in _THROTTLED:
        return CallFault(
            "rate_limited", f"{STEP} returned {reply.status} ({code})", retry_after=retry_after(reply.headers)
        )
    if code in _ELSEWHERE:
        return CallFault("unreachable", f"{STEP} returned {reply.status} ({code})")
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
