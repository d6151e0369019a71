"""Encode token calls (query, form, headers), and parse their responses (JSON, lifetime, Retry-After, errors)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_tz
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urlencode

from sidekey.credentials.base import CallError, Outcome, Pairs, Reply
from sidekey.policy.json_reader import parse_json
from sidekey.policy.parameters import Scalar

Parameters: TypeAlias = "Iterable[tuple[str, Scalar]]"
"""Names and values before any encoding."""

Format = Literal["form", "json"]

MEDIA_TYPES: Mapping[Format, str] = MappingProxyType(
    {"form": "application/x-www-form-urlencoded", "json": "application/json"}
)


def with_accept(headers: Pairs, media_type: str) -> Pairs:
    """Add `Accept` to the headers of a call if it is missing."""
    return headers if any(name.lower() == "accept" for name, _ in headers) else (("Accept", media_type), *headers)


def with_query(url: str, parameters: Parameters) -> str:
    """Append parameters to the query of a URL."""
    pairs = _to_text_pairs(parameters)
    if not pairs:
        return url
    separator = "?" if "?" not in url else "" if url[-1] in "?&" else "&"
    # %20, not "+": only forms read a plus as a space.
    return f"{url}{separator}{urlencode(pairs, quote_via=quote)}"


def encode_form(parameters: Parameters) -> str:
    """Encode parameters as a form, in US-ASCII."""
    return urlencode(_to_text_pairs(parameters))


def _to_text_pairs(parameters: Parameters) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in parameters]


def _text(value: Scalar) -> str:
    """Write a value for a form or query: booleans as `true` and `false`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# Visible US-ASCII. RFC 6749 A.12 also allows a space, but servers end the token there or drop it (RFC 9110 5.5, 11.4).
# The b64token of RFC 6750 2.1 would exclude tokens in use, such as Salesforce's with a `!`.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SECONDS = re.compile(r"[0-9]{1,9}")
_INTEGER = re.compile(r"-?[0-9]{1,9}")

DEFAULT_LIFETIME = 300.0
"""Seconds to use a token if neither its response nor the config has a usable lifetime."""

MAX_LIFETIME = 366 * 86400

MIN_LIFETIME = 1.0
"""Seconds. A token with less has expired. Platforms that return one token until it expires send 0 at its end, and
then another token."""


def parse_json_object(body: bytes) -> dict[str, Any] | None:
    """Parse a JSON object. Return None for anything else."""
    try:
        # RFC 8259 8.1: JSON is UTF-8, and a parser may ignore a byte order mark.
        value = parse_json(body.decode("utf-8-sig"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def find_path(response: Mapping[str, Any], path: str) -> object:
    """Return the value at a path (`FieldPath`) of a JSON object, or None."""
    value: object = response
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def is_token(value: object) -> bool:
    """Return True if `value` is a token that is valid in a header."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def read_lifetime(step: str, value: object, default: float) -> float:
    """Return a token's lifetime in seconds. `value` may be a string of digits, as Microsoft Entra v1 sends it.

    Return `default` if `value` is not a number or too large. Raises CallError if the token has expired.
    """
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= MAX_LIFETIME:
        return default
    if value < MIN_LIFETIME:
        raise CallError("invalid", f"{step} returned a token that has expired", retry_after=MIN_LIFETIME, expired=True)
    return float(value)


def check_lifetime(seconds: float) -> float:
    """Raise ValueError for a lifetime below `MIN_LIFETIME`."""
    if seconds < MIN_LIFETIME:
        raise ValueError("must be at least 1s: with less left, a token counts as expired")
    return seconds


def sent_at(headers: Mapping[str, str]) -> float | None:
    """Parse `Date` (RFC 9110 6.6.1) into seconds since the epoch. Return None if it is missing or invalid."""
    return _date(headers.get("date", ""))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse `Retry-After` into seconds (RFC 9110 10.2.3). Return None if it is missing or invalid.

    A date counts from the response's `Date`, so the server's clock may be wrong.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    retry_at, sent = _date(value), sent_at(headers)
    return None if retry_at is None or sent is None else max(0.0, retry_at - sent)


def _date(text: str) -> float | None:
    parsed = parsedate_tz(text)
    if parsed is None:
        return None
    try:
        return datetime(*parsed[:6], tzinfo=UTC).timestamp() - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None


def is_success(status: int) -> bool:
    """Return True for 2xx: the first digit decides for an unknown status (RFC 9110 15)."""
    return 200 <= status < 300


def error_of_status(step: str, reply: Reply, remark: str = "", *, needs_config_change: bool = False) -> CallError:
    """Build the error for an unsuccessful response. `remark` follows its status in the reason."""
    status = reply.status
    outcome: Outcome = "invalid"
    if status == 429:
        outcome = "rate_limited"
    elif status >= 500:
        outcome = "unreachable"
    elif status >= 400:
        outcome = "refused"
        # The server rejects the configured credential or request.
        needs_config_change = needs_config_change or status in (400, 401, 403)
    reason = f"{step} returned {status} {remark}".rstrip()
    # RFC 9110 15.6: of 5xx only 503 means that nothing was processed. Behind a gateway, a server may have acted.
    unspent = not is_success(status) and (status < 500 or status == 503)
    return CallError(
        outcome,
        reason,
        retry_after=retry_after(reply.headers),
        needs_config_change=needs_config_change,
        unspent=unspent,
    )
