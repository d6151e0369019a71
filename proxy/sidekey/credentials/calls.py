"""How what a config says is written into a call of Sidekey's own: into its query, a form, and its headers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_tz
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urlencode

from sidekey.credentials.base import CallError, Outcome, Pairs, Reply

Scalar: TypeAlias = "str | int | float | bool"
Parameters: TypeAlias = "Iterable[tuple[str, Scalar]]"
"""Names and values before any encoding."""

Format = Literal["form", "json"]

MEDIA_TYPES: Mapping[Format, str] = MappingProxyType(
    {"form": "application/x-www-form-urlencoded", "json": "application/json"}
)


def accepting(headers: Pairs, media_type: str) -> Pairs:
    """Headers of a call, with `Accept` where they do not have it."""
    return headers if any(name.lower() == "accept" for name, _ in headers) else (("Accept", media_type), *headers)


def with_query(url: str, parameters: Parameters) -> str:
    """A URL with further parameters behind its own query."""
    pairs = _texts(parameters)
    if not pairs:
        return url
    mark = "?" if "?" not in url else "" if url[-1] in "?&" else "&"
    # %20, not "+": only forms read a plus as a space.
    return f"{url}{mark}{urlencode(pairs, quote_via=quote)}"


def form(parameters: Parameters) -> str:
    """Parameters as a form, in US-ASCII."""
    return urlencode(_texts(parameters))


def _texts(parameters: Parameters) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in parameters]


def _text(value: Scalar) -> str:
    """A value in a form or query: true and false as the config writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# Visible US-ASCII: RFC 6749 A.12 allows a space as well, but a server reads that as the end of the token, or drops it
# (RFC 9110 5.5, 11.4); b64token (RFC 6750 2.1) would shut out what is in use, such as the `!` of Salesforce.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SECONDS = re.compile(r"[0-9]{1,9}")
_WHOLE = re.compile(r"-?[0-9]{1,9}")

DEFAULT_LIFE = 300.0
"""Seconds a token is used that does not say, or says absurdly, how long it lives, where the config does not say it."""

MAX_LIFETIME = 366 * 86400

LEAST_LIFE = 1.0
"""Seconds: with less left a token has expired. Platforms that return one token for its whole life say 0 at its end,
and another one after that."""


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that `body` is, None where it is anything else."""
    try:
        # RFC 8259 8.1: UTF-8 it is, and a byte order mark may be passed over.
        value = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def find(response: Mapping[str, Any], path: str) -> object:
    """The value at a path (`FieldPath`) of a JSON object; None where there is none."""
    found: object = response
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def is_token(value: object) -> bool:
    """Whether `value` is a token that may be put in a header."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def life_of(step: str, value: object, default: float) -> float:
    """Seconds that a token lives; digits may be text, as in Microsoft Entra's first version. Raises CallFault.

    `default` where `value` is no number, or an absurd one. A life below zero is over as well.
    """
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= MAX_LIFETIME:
        return default
    if value < LEAST_LIFE:
        raise CallError("invalid", f"{step} returned a token that has expired", retry_after=LEAST_LIFE, expired=True)
    return float(value)


def check_life(seconds: float) -> float:
    """Refuse a life that is over as soon as it begins."""
    if seconds < LEAST_LIFE:
        raise ValueError("must be at least 1s: with less left, a token counts as expired")
    return seconds


def sent_at(headers: Mapping[str, str]) -> float | None:
    """The response's own `Date` (RFC 9110 6.6.1), in seconds since the epoch; None where it cannot be read."""
    return _date(headers.get("date", ""))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds (RFC 9110 10.2.3), None where there is none that can be read.

    A date counts from the response's own `Date`: two readings of one clock, whatever its time.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until, sent = _date(value), sent_at(headers)
    return None if until is None or sent is None else max(0.0, until - sent)


def _date(text: str) -> float | None:
    parsed = parsedate_tz(text)
    if parsed is None:
        return None
    try:
        return datetime(*parsed[:6], tzinfo=UTC).timestamp() - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None


def is_success(status: int) -> bool:
    """RFC 9110 15.3: who does not know a status takes it by its first digit."""
    return 200 <= status < 300


def error_of_status(step: str, reply: Reply, word: str = "", *, settings: bool = False) -> CallError:
    """The error of a response that is not a success. `word` is our own remark on it."""
    status = reply.status
    outcome: Outcome = "invalid"
    if status == 429:
        outcome = "rate_limited"
    elif status >= 500:
        outcome = "unreachable"
    elif status >= 400:
        outcome = "refused"
        # These say that what was sent is not what the server knows.
        settings = settings or status in (400, 401, 403)
    reason = f"{step} returned {status} {word}".rstrip()
    # RFC 9110 15.6: of errors of the server only 503 says that it did not begin; what is behind a gateway may have.
    unspent = not is_success(status) and (status < 500 or status == 503)
    return CallError(outcome, reason, retry_after=retry_after(reply.headers), settings=settings, unspent=unspent)
