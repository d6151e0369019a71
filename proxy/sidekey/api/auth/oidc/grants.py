"""Map the claims of a verified ID token to a role and presets, and serialize them for a session."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidekey.api.auth.oidc.errors import NoRole
from sidekey.snapshot.admin import OidcRules, Role
from sidekey.store.canonical_json import canonical

PREFIX: Final = "oidc:"
"""Prefix of the identities of people. The name of a token cannot contain a colon."""

_MAX_LABEL_LENGTH: Final = 100
_RANKS: Final[tuple[Role, ...]] = ("sender", "viewer", "editor", "admin")


@dataclass(frozen=True, slots=True)
class PersonGrant:
    """The role and presets of a person, from the maps in `admin.oidc`. `presets` is None unless the role is sender."""

    identity: str
    label: str
    role: Role
    presets: frozenset[str] | None

    def text(self, rules: OidcRules) -> str:
        """Serialize the grant for the row of a session."""
        return canonical(
            {
                "identity": self.identity,
                "label": self.label,
                "presets": None if self.presets is None else sorted(self.presets),
                "role": self.role,
                "rules": rules.digest,
            }
        )


def grant_in(text: str, rules: OidcRules | None) -> PersonGrant | None:
    """Parse the grant in the verified row of a session, or return None if `admin.oidc` has changed since."""
    members = json.loads(text)
    if rules is None or members["rules"] != rules.digest:
        return None
    presets = members["presets"]
    return PersonGrant(
        members["identity"], members["label"], members["role"], None if presets is None else frozenset(presets)
    )


def grant_by(claims: Mapping[str, Any], rules: OidcRules) -> PersonGrant:
    """Apply the maps in `admin.oidc` to the claims of a verified ID token. Raises NoRole."""
    roles = {rules.roles[value] for value in _values(claims, rules.roles_claim) if value in rules.roles}
    if not roles:
        raise NoRole("no value of the claim in `admin.oidc.roles` has a role")
    role = max(roles, key=_RANKS.index)
    presets = None
    if role == "sender":
        values = (value for value in _values(claims, rules.presets_claim) if value in rules.presets)
        presets = frozenset(name for value in values for name in rules.presets[value])
        if not presets:
            raise NoRole("no value of the claim in `admin.oidc.presets` has a preset, which a sender needs")
    label = next((text for name in ("name", "email") if (text := _label(claims.get(name)))), "")
    return PersonGrant(f"{PREFIX}{rules.issuer}#{claims['sub']}", label, role, presets)


def _values(claims: Mapping[str, Any], name: str) -> Iterator[str]:
    value = claims.get(name)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item


def _label(value: object) -> str:
    """Return a name to show, without control and formatting characters that could reorder the text beside it."""
    if not isinstance(value, str):
        return ""
    printable = (char for char in value if unicodedata.category(char)[0] != "C" and char not in "\u2028\u2029")
    return "".join(printable).strip()[:_MAX_LABEL_LENGTH]
