"""How what a config says is written into a call of Sidekey's own: into its query, a form, and its headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode

from sidekey.credentials.base import Pairs

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
