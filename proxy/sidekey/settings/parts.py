"""The parts of an integration that bring something into its requests: `auth`, and what supplements its grants."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from sidekey.core.signing import SigningRules, SuccessiveRules
from sidekey.credentials.base import (
    Credential,
    FixedCredential,
    Grant,
    Pairs,
    PartSettings,
    ReadReference,
    Reasons,
    Supplemented,
    SupplementSettings,
    Traits,
)
from sidekey.credentials.fields import Keys
from sidekey.credentials.registry import SUPPLEMENTS
from sidekey.settings.models import IntegrationSettings


def supplements_of(settings: IntegrationSettings) -> list[SupplementSettings]:
    """The parts beside `auth` that there are, in the order in which they supplement a grant."""
    return [part for model in SUPPLEMENTS if (part := getattr(settings, model.SECTION)) is not None]


def parts_of(settings: IntegrationSettings) -> list[PartSettings]:
    """All parts, `auth` first."""
    return [settings.auth, *supplements_of(settings)]


def traits_of(settings: IntegrationSettings) -> Traits:
    """What is known of the credential before anything is read, with all that supplements it."""
    found = settings.auth.traits()
    for part in supplements_of(settings):
        signing = _successive(found.signing, part.signing())
        found = found._replace(places=part.places().beside(found.places), signing=signing)
    return found


def public_headers_of(settings: IntegrationSettings) -> Pairs:
    """The headers of all parts whose values stand in the document."""
    return tuple(pair for part in parts_of(settings) for pair in part.public_headers())


def _successive(first: SigningRules | None, second: SigningRules | None) -> SigningRules | None:
    return first or second if first is None or second is None else SuccessiveRules(first, second)


def read_parts(
    settings: IntegrationSettings, read: ReadReference, known: Mapping[Keys, str]
) -> tuple[dict[Keys, str], Reasons]:
    """Read what is not known yet: what could be read, by places in the integration, and why the others could not."""
    values: dict[Keys, str] = {}
    reasons: Reasons = ()
    for part in parts_of(settings):
        found, unread = part.read(read, values_of(part, known))
        values |= {(part.SECTION, *key): value for key, value in found.items()}
        reasons += unread
    return values, reasons


def values_of(part: PartSettings, values: Mapping[Keys, str]) -> dict[Keys, str]:
    """Those of one part, by its own keys."""
    return {key[1:]: value for key, value in values.items() if key[0] == part.SECTION}


def credential_of(settings: IntegrationSettings, values: Mapping[Keys, str]) -> Credential | Supplemented:
    """The credential made of all values, with what supplements it."""
    credential = settings.auth.credential(values_of(settings.auth, values))
    supplements = [part.supplement(values_of(part, values)) for part in supplements_of(settings)]
    if not supplements:
        return credential
    supplement = reduce(Grant.supplemented, supplements)
    if isinstance(credential, FixedCredential):
        return FixedCredential(credential.grant.supplemented(supplement))
    return Supplemented(credential, supplement)
