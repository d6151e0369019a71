"""Whole integrations of provider profiles: their examples for parameters, and the credentials that they leave open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidekey.settings.profiles import Profile, profile

SECRET: Mapping[str, Any] = {"env": "SECRET"}
KEY: Mapping[str, Any] = {"env": "KEY"}
"""A reference to a private key."""


def auth_of(name: str, *, optional: bool = True, **given: object) -> dict[str, Any]:
    """An `auth` block by a profile, with all that it asks for."""
    found = profile(name)
    examples = {key: each.example for key, each in found.parameters.items() if optional or each.required}
    return {
        "type": found.kind,
        "provider": name,
        **examples,
        **dict.fromkeys(found.secrets, SECRET),
        **_open(found),
        **given,
    }


def _open(found: Profile) -> dict[str, Any]:
    """The credentials that are keys of the kind, as far as the profile does not bring them."""
    needed: dict[str, Any] = {}
    if found.kind == "basic" and "secret_username" not in found.auth:
        needed = {"username": "svc", "password": SECRET}
    if found.kind == "oauth2":
        needed = {"client_id": "id", "client_secret": SECRET}
        if found.auth.get("grant") == "jwt_bearer" or found.auth.get("client_authentication") == "private_key_jwt":
            needed = {"client_id": "id", "assertion": {"private_key": KEY}}
        if found.auth.get("grant") == "refresh_token":
            needed |= {"refresh_token": SECRET}
    return {key: value for key, value in needed.items() if key == "assertion" or key not in found.auth}
