"""Complete integrations of provider profiles, with example parameters and open credentials."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidekey.config.profiles import Profile, profile
from support.oauth import signer

SECRET: Mapping[str, Any] = {"env": "SECRET"}
KEY: Mapping[str, Any] = {"env": "KEY"}
EC_KEY: Mapping[str, Any] = {"env": "EC_KEY"}
"""References to private keys."""
TOKEN_FILE: Mapping[str, Any] = {"file": "token"}
"""A file beside the config."""
HEX: Mapping[str, Any] = {"env": "HEX"}


@cache
def environment() -> dict[str, str]:
    """Return the variables of the references."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {"SECRET": "hunter2", "KEY": signer().private_pem.decode(), "EC_KEY": pem, "HEX": "ab" * 32}


def auth_of(name: str, *, optional: bool = True, **given: object) -> dict[str, Any]:
    """Build an `auth` block with a profile and all its parameters."""
    selected = profile(name)
    examples = {
        key: parameter.example for key, parameter in selected.parameters.items() if optional or parameter.required
    }
    return {
        "type": selected.kind,
        "provider": name,
        **examples,
        **{key: _secret(selected, key) for key in selected.secrets},
        **_open(selected),
        **given,
    }


def _secret(result: Profile, name: str) -> Mapping[str, Any]:
    if result.only_in_files:
        return TOKEN_FILE
    return KEY if result.is_pem(name) else SECRET


def _open(result: Profile) -> dict[str, Any]:
    """Return the credentials of the kind that the profile does not add."""
    needed: dict[str, Any] = {}
    if result.kind == "basic" and "username" not in result.auth:
        needed = {"username": "svc", "password": SECRET}
    if result.kind == "oauth2":
        exchanges = _type_of(result.auth.get("grant")) == "token_exchange"
        needed = {} if exchanges else {"client_id": "id", "client_secret": SECRET}
        for section, member in (("grant", "jwt_bearer"), ("client_authentication", "private_key_jwt")):
            if _type_of(result.auth.get(section)) == member:
                needed = {"client_id": "id", section: {"type": member, "private_key": KEY}}
        if _type_of(result.auth.get("grant")) == "password":
            needed |= {"grant": {"type": "password", "username": "svc", "password": SECRET}}
    if result.kind == "jwt":
        by_secret = result.auth["algorithm"].startswith("HS")
        needed = {
            "key_id": "k1",
            **(
                {"secret": HEX}
                if by_secret
                else {"private_key": EC_KEY if result.auth["algorithm"] == "ES256" else KEY}
            ),
        }
    return {key: value for key, value in needed.items() if isinstance(value, dict) or key not in result.auth}


def _type_of(member: object) -> object:
    return member.get("type") if isinstance(member, dict) else member
