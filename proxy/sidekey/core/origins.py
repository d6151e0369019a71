"""Whether the integrations of a config send to several origins, so that one of them must not take all the room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidekey.core.policy import Domain, Policy
from sidekey.core.urls import Origin

Named = Origin | Domain | str
"""What counts as one origin: an origin, a wildcard domain, or by its ID an integration that sends to one that is not
known yet."""


def named(integration: str, policy: Policy, *, unresolved: bool) -> Iterator[Named]:
    """The origins that an integration names as those its requests go to.

    Its prefixes' where it has any, else its domains'. Where the base URL is `unresolved`, or is learnt, it is one that
    nobody else is known to have.
    """
    if unresolved or policy.placeholder_origin is not None:
        yield integration
    elif policy.prefixes:
        for prefix in policy.prefixes:
            yield prefix.origin
    else:
        for domain in policy.domains:
            yield domain if domain.wildcard else domain.origin


def several(origins: Iterable[Named]) -> bool:
    """Whether these are two or more."""
    remaining = iter(origins)
    first = next(remaining, None)
    return any(origin != first for origin in remaining)
