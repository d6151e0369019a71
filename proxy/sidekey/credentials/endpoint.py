"""URLs that kinds call to obtain a credential: token endpoints and logins."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from sidekey.credentials.fields import Reference
from sidekey.policy import paths
from sidekey.policy.addresses import is_loopback_host, parse_address
from sidekey.policy.targets import Forbidden
from sidekey.policy.urls import InvalidTarget, Origin, Target, parse_target

_SERVICES: Final = ("sts", "iamcredentials")
_GOOGLE: Final = re.compile(rf"(?:{'|'.join(_SERVICES)})((?:\.[a-z0-9-]+)*\.googleapis\.com)")

MAX_URL_LENGTH: Final = 8_000
"""Characters of a URL. Every server should accept that many (RFC 9110 4.1)."""


def parse_endpoint(text: str, *, allow_loopback_http: bool = False) -> Target:
    """Parse the https URL of an endpoint. A query is allowed. Raises ValueError with the reason.

    With `allow_loopback_http`, the URL of a loopback address or `localhost` may be http. The caller must then dial
    loopback addresses only.
    """
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"must have at most {MAX_URL_LENGTH} characters (RFC 9110 4.1)")
    return _parse(text, allow_loopback_http)


@lru_cache(maxsize=64)
def _parse(text: str, allow_loopback_http: bool) -> Target:
    """Parse a URL. It is cached because many integrations share few endpoints."""
    if "#" in text:
        raise ValueError("must not contain a fragment")
    try:
        target = parse_target(text)
        paths.final_form(target.path)
    except InvalidTarget as error:
        raise ValueError(str(error).replace("the target", "the URL")) from None
    except paths.UnreadablePath as error:
        raise ValueError(str(error)) from None
    host = target.origin.host
    if target.origin.scheme != "https" and not (allow_loopback_http and is_loopback_host(host)):
        raise ValueError("must be an https URL: the secret would travel in the clear (RFC 6749 3.2)")
    if host.endswith("."):
        raise ValueError("the host must not end in a dot")
    address = parse_address(host)
    if address is not None and str(address) != host:
        raise ValueError(f"the address must be written as {address}")
    return target


def token_services(origin: Origin) -> tuple[Forbidden, ...]:
    """Return Google's hosts that only return tokens, if `origin` is one of them.

    With a token of one service, a caller could obtain others at many paths of both.
    """
    match = _GOOGLE.fullmatch(origin.host)
    if match is None:
        return ()
    return tuple(Forbidden(Origin("https", f"{name}{match[1]}", 443), "/", below=True) for name in _SERVICES)


def canonical_endpoint(endpoint: Reference) -> str:
    """Return the URL of an endpoint in canonical form, as for targets."""
    target = parse_endpoint(endpoint.value, allow_loopback_http=True)
    return f"{target.origin}{target.request_target}"


def check_endpoint(text: str) -> None:
    """Raise ValueError if `parse_endpoint` refuses the URL."""
    parse_endpoint(text)
