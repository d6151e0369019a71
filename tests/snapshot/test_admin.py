"""Roles and the secrets of the admin listener."""

from __future__ import annotations

import pickle
from typing import get_args

import pytest

from sidekey.snapshot.admin import AdminToken, Permission, ServerCertificate, roles_with


def test_each_permission_has_its_roles() -> None:
    assert {permission: roles_with(permission) for permission in get_args(Permission)} == {
        "anonymous": ["viewer", "editor", "admin", "sender"],
        "self": ["viewer", "editor", "admin", "sender"],
        "send": ["editor", "admin", "sender"],
        "sends": ["viewer", "editor", "admin", "sender"],
        "viewer": ["viewer", "editor", "admin"],
        "editor": ["editor", "admin"],
        "admin": ["admin"],
    }


def test_token_and_key_are_not_shown_or_pickled() -> None:
    """Not even the token's hash."""
    for holder in (AdminToken(b"canary", "viewer"), ServerCertificate(b"chain", b"canary")):
        assert "canary" not in repr(holder)
        with pytest.raises(TypeError):
            pickle.dumps(holder)
