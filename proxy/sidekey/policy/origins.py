"""Compare the origins of integrations: requests to several origins share the limit of requests in flight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidekey.policy.targets import Domain, Policy
from sidekey.policy.urls import Origin

OriginKey = Origin | Domain | str
"""Key of one destination: an origin, a wildcard domain, or the ID of an integration whose origin is not known yet."""


def target_origins(integration: str, policy: Policy, *, unresolved: bool) -> Iterator[OriginKey]:
    """Yield the origins of an integration's requests: those of its prefixes if it has any, else of its domains.

    An `unresolved` or discovered base URL counts as an origin that differs from all others.
    """
    if unresolved or policy.placeholder_origin is not None:
        yield integration
    elif policy.prefixes:
        for prefix in policy.prefixes:
            yield prefix.origin
    else:
        for domain in policy.domains:
            yield domain if domain.wildcard else domain.origin


def has_several(origins: Iterable[OriginKey]) -> bool:
    """Return True if at least two of the origins differ. A worker then limits each one's requests in flight."""
    remaining = iter(origins)
    first = next(remaining, None)
    return any(origin != first for origin in remaining)
